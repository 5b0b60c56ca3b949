"""How long from "stop" until every process serves the status quo: ``python -m tests.benchmarks.kill_switch [STOPS]``.

The real site with two processes; a visitor who is in the heuristic's arm asks for pages without a pause on connections of its own,
so that both processes answer. Counts from the moment the command returns its plan to the last page that still had recommendations.
"""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from experiments.lifecycle import Step, publish_plan, stop
from tests.faults.site import ARTICLES, begin, enrolled, serving, with_experiment

AFTER_S = 1.5  # for which pages are asked for after a stop
VISITORS = 4


def main(stops: int) -> int:
    """Print the median, the 99th percentile and the longest; returns 1 when that percentile is over a second."""
    waits = []
    with tempfile.TemporaryDirectory() as name:
        home = Path(name) / "home"
        engine = with_experiment(home)
        with serving(home) as (_, port):
            for number in range(stops):
                experiment = "related" if number == 0 else f"related-{number}"
                if number:
                    begin(home, engine, experiment)
                    time.sleep(AFTER_S)
                visitors = [enrolled(port) for _ in range(VISITORS)]
                for visitor in visitors:
                    visitor.start()
                    visitor.read(ARTICLES[0])
                asked = time.time()
                stop(engine, experiment, Step("bench", datetime.now(UTC), "stopped by the benchmark"))
                publish_plan(home, engine, at=datetime.now(UTC))
                time.sleep(AFTER_S)
                for visitor in visitors:
                    visitor.over.set()
                for visitor in visitors:
                    visitor.join()
                assert all(visitor.pages > 1 and not visitor.errors for visitor in visitors)
                waits.append(max(0.0, *(visitor.last_slot_s - asked for visitor in visitors)))
    waits.sort()
    p99 = waits[min(len(waits) - 1, int(0.99 * len(waits)))]
    sys.stdout.write(
        f"{stops} stops, {VISITORS} readers: half within {waits[stops // 2]:.2f} s, 99 in 100 within {p99:.2f} s, longest {waits[-1]:.2f} s\n"
    )
    return int(p99 > 1.0)


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 40))
