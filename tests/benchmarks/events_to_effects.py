"""From sealed events to the effects of ten metrics in three arms, beside one query written by hand over the same files.

``python -m tests.benchmarks.events_to_effects 1 10 100`` takes millions of events; each side runs in a process of its own.
``growth 10 100`` lets a large run and small runs, one after another, have the machine in turns of a second: shared machines change
their speed by a quarter within a minute, and both sides must meet the same machine.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import duckdb

from analysis.effect import arm_value, compare
from analysis.totals import metrics_of, totals
from experiments.events.sealed import sealed_folder
from tests.benchmarks.sealed_site import ARMS, PLAN, UNTIL_US, build

BY_HAND = Path(__file__).with_name("by_hand.sql")
MORE = (("count_click", "count_session"), ("count_impression", "count_session"))
MEMORY = "3GB"
SLICE_S = 1.0


def ours(home: Path) -> list[Any]:
    """Totals and every comparison of the plan; returns readers per arm and the first column's sums."""
    found = totals(home, PLAN, until_us=UNTIL_US, source="live")
    pairs = [(m.numerator.key, m.denominator.key) for m in metrics_of(PLAN)] + list(MORE)
    assert len(pairs) == 10
    for numerator, denominator in pairs:
        values = {
            arm: arm_value(found.moments, arm, numerator=numerator, denominator=denominator, shares=dict.fromkeys(found.phases, 1.0))
            for arm in ARMS
        }
        for arm, against in (("front", "status_quo"), ("als", "status_quo"), ("als", "front")):
            compare(values[arm], values[against], level=0.95)
    return [
        [arm, n, round(n * found.moments[arm, 0].block(("count_view_page_type_article",))[0][0])]
        for arm, n in sorted(found.readers().items())
    ]


def by_hand(home: Path) -> list[Any]:
    """The rows of all readers by the written query; returns the same figures."""
    files = sorted(map(str, sealed_folder(home).glob("*.parquet")))
    with duckdb.connect() as engine:
        engine.execute(f"SET memory_limit = '{MEMORY}'; SET enable_progress_bar = false; SET temp_directory = '{home / 'spill'}'")
        rows = engine.sql(BY_HAND.read_text("utf-8"), params={"files": files, "until": UNTIL_US}).to_arrow_table()
        engine.register("rows", rows)
        return [
            list(row) for row in engine.sql("SELECT arm, count(*), sum(articles)::BIGINT FROM rows GROUP BY arm ORDER BY arm").fetchall()
        ]


def ready() -> None:
    """Load the libraries of both sides; a process pays for that once, whatever it reads afterwards."""
    for module in ("experiments.events.lake_values", "ibis.backends.sql.compilers.duckdb", "pandas"):
        importlib.import_module(module)


def measured(side: str, home: Path) -> tuple[float, float, float, Any]:
    """Seconds, seconds of processor time, peak memory in GiB and figures of one side, in a fresh process."""
    done = subprocess.run([sys.executable, "-m", __spec__.name, side, str(home)], capture_output=True, text=True, check=True)
    seconds, busy, peak, figures = json.loads(done.stdout.splitlines()[-1])
    return seconds, busy, peak, figures


@dataclass
class Side:
    """The least of a few rounds: seconds, seconds of processor time; and the largest peak of memory (GiB)."""

    seconds: float = float("inf")
    busy: float = float("inf")
    peak: float = 0.0
    figures: Any = None


def sides(millions: float, *, rounds: int = 3) -> tuple[int, Side, Side]:
    """Return the number of events and both sides, ours first, measured in turns."""
    home = Path(tempfile.mkdtemp(prefix="presslab-events-"))
    try:
        events = build(home, round(millions * 1e6))
        found = {"ours": Side(), "by_hand": Side()}
        for _ in range(rounds):
            for name, side in found.items():
                seconds, busy, peak, side.figures = measured(name, home)
                side.seconds, side.busy, side.peak = min(side.seconds, seconds), min(side.busy, busy), max(side.peak, peak)
        if found["ours"].figures != found["by_hand"].figures:
            raise AssertionError(f"the two sides differ: {found}")
        return events, found["ours"], found["by_hand"]
    finally:
        shutil.rmtree(home)


class Paused:
    """A run of our side in a process of its own that goes on for a second at a time."""

    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", __spec__.name, "paused", str(home)], stdout=subprocess.PIPE, text=True)
        self.seconds = 0.0
        os.waitpid(self.process.pid, os.WUNTRACED)  # it stops itself when everything is loaded

    def goes_on(self) -> bool:
        """Whether it has not ended after another second."""
        os.kill(self.process.pid, signal.SIGCONT)
        start = time.perf_counter()
        assert self.process.stdout
        ended, _, _ = select.select([self.process.stdout], [], [], SLICE_S)
        if not ended:
            os.kill(self.process.pid, signal.SIGSTOP)
        self.seconds += time.perf_counter() - start
        return not ended

    def spent(self) -> tuple[float, float]:
        """Seconds it had the machine, and seconds of processor time, once it has ended."""
        told, _ = self.process.communicate()
        return self.seconds, json.loads(told)[1]

    def leave(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()


def growth(small: float, large: float, *, turns: int = 2) -> None:
    """Print what two sizes take in turns of a second, and how many times the events and the seconds of the small one the large one has."""
    homes = {size: Path(tempfile.mkdtemp(prefix="presslab-events-")) for size in (small, large)}
    try:
        events = {size: build(home, round(size * 1e6)) for size, home in homes.items()}
        spent: dict[float, list[tuple[float, float]]] = {small: [], large: []}
        for _ in range(turns):
            beside, one = Paused(homes[large]), Paused(homes[small])
            while beside.goes_on():
                if not one.goes_on():
                    spent[small].append(one.spent())
                    one = Paused(homes[small])
            spent[large].append(beside.spent())
            one.leave()
        for size, pairs in spent.items():
            print(f"{events[size]:,} events: " + ", ".join(f"{wall:.1f} s ({busy:.1f} s of processor)" for wall, busy in pairs), flush=True)  # noqa: T201
        wall, busy = (fmean(pair[i] for pair in spent[large]) / fmean(pair[i] for pair in spent[small]) for i in (0, 1))
        rows = events[large] / events[small]
        print(f"{rows:.1f} times the events: {wall:.1f} times the seconds, {busy:.1f} times those of processor, by means")  # noqa: T201
    finally:
        for home in homes.values():
            shutil.rmtree(home)


def event_rows() -> Iterator[tuple[str, float, str, float]]:
    """Yield (what, events a second, peer, events a second) for a million events."""
    events, mine, hand = sides(1.0)
    yield "events to effects, 10 metrics x 3 arms", events / mine.seconds, "reader rows alone, one query by hand", events / hand.seconds


def main() -> None:
    """Measure sizes in millions, how time grows between two of them, or one side in this process."""
    given = sys.argv[1:] or ["1"]
    if given[0] in ("ours", "by_hand", "paused"):
        ready()
        if given[0] == "paused":
            os.kill(os.getpid(), signal.SIGSTOP)
        start = time.perf_counter(), time.process_time()
        figures = {"ours": ours, "paused": ours, "by_hand": by_hand}[given[0]](Path(given[1]))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps([time.perf_counter() - start[0], time.process_time() - start[1], peak, figures]), flush=True)  # noqa: T201
        return
    if given[0] == "growth":
        growth(*map(float, given[1:3]))
        return
    for word in given:
        events, mine, hand = sides(float(word), rounds=1 if float(word) > 20 else 3)
        print(f"{events:,} events: {_said(mine)}; by hand {_said(hand)}; ratio {mine.seconds / hand.seconds:.2f}", flush=True)  # noqa: T201


def _said(side: Side) -> str:
    return f"{side.seconds:.1f} s ({side.busy:.1f} s of processor), {side.peak:.2f} GiB"


if __name__ == "__main__":
    main()
