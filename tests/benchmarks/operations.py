"""What the look of every ten seconds at the two arms of a test, or at a decided one, costs: ``python -m tests.benchmarks.operations [PAGES]``.

CPU of a look at so many new pages (ten seconds of a site of 100 pages a second), of one at nothing new, and of one while no test
runs, beside what loading the same events took in the same run; then of one at as many pages outside of tests.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from msgspec.structs import replace

from experiments.events.event import Event
from experiments.experiment import Arm, Experiment
from experiments.ladder import approve, propose
from experiments.lifecycle import Step, decide, draft, stop
from experiments.migrate import migrate
from experiments.tables import control_engine
from tests.events.story import Story, send
from tests.web.test_ladder import BEGAN
from web.operations import Operations

ARMS = (Arm("status_quo", "status_quo", 0.4), Arm("front", "heuristic", 0.3), Arm("newest", "heuristic", 0.3))
PLAN = Experiment("related", "Does it pay?", "status_quo", ARMS)
ROUNDS = 5


def cpu_s(work: Callable[[], object]) -> float:
    """Seconds of CPU of this process that ``work`` takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def pages(round_: int, n: int) -> list[Event]:
    """Pages of a view, an exposure and an impression of six articles; two pages a reader."""
    story = Story()
    for number in range(n):
        reader, minute, arm = f"r{round_}-{number // 2}", round_ + number / n / 6, ("front", "newest")[number // 2 % 2]
        page = story.exposed(reader, minute, arm)
        items = [{"article": f"a{k:04d}", "propensity": 1.0, "rung": 0, "score": 0.5, "source": "heat", "pinned": False} for k in range(6)]
        body = {"slot": "article.related", "articles": [f"a{k:04d}" for k in range(6)], "items": items, "cause": "", "own": 6}
        story.add("impression", page, reader, minute, key="article.related", arm=arm, body=body)
    return story.events


def outside(events: list[Event]) -> list[Event]:
    """The same pages, as they are once the test is decided."""
    return [
        replace(one, experiment="", arm="", body={**one.body, "outcome": "served"}) if one.kind == "impression" else one
        for one in events
        if one.kind != "exposure"
    ]


def main(n: int) -> int:
    """Print the least of five rounds of each."""
    step = Step("bench", BEGAN, "a benchmark")
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        migrate(home)
        engine = control_engine(home)
        draft(engine, PLAN, step)
        approve(engine, propose(engine, "related", "newest", shares=[0.2], version="", step=step), Step("eve", BEGAN, "go"))
        operations = Operations(home, engine, lambda: round((BEGAN + timedelta(hours=1)).timestamp() * 1e6), source="live")
        loading, looking, nothing = [], [], []
        for round_ in range(ROUNDS):
            events = pages(round_, n)
            loading.append(cpu_s(lambda events=events: send(home, events)))  # type: ignore[misc]
            looking.append(cpu_s(operations.look))
            nothing.append(cpu_s(operations.look))
        stop(engine, "related", step)
        operations.look()
        without = min(cpu_s(operations.look) for _ in range(ROUNDS))
        decide(engine, "related", "newest", step)
        decided = []
        for round_ in range(ROUNDS, 2 * ROUNDS):
            send(home, outside(pages(round_, n)))
            decided.append(cpu_s(operations.look))
        operations.close()
    sys.stdout.write(
        f"{n:,} new pages: {1000 * min(looking):.0f} ms of CPU a look ({min(looking) / 10:.2%} of a core), {min(looking) / min(loading):.0%} of writing and"
        f" loading their events; nothing new: {1000 * min(nothing):.1f} ms; no test runs: {1000 * without:.1f} ms\n"
        f"{n:,} new pages of a decided arm: {1000 * min(decided):.0f} ms\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000))
