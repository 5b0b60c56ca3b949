"""``make bench``: our figures beside a peer and beside the machine's limit, in one run; what counts are the ratios."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from experiments.events.event import Event
from experiments.events.ids import PageViews, event_id
from experiments.events.outbox import Outbox
from tests.benchmarks.assigning import assign_rows
from tests.benchmarks.events_to_effects import event_rows
from tests.benchmarks.loading import loading_rows
from tests.benchmarks.moments import moment_rows, statistics_row
from tests.benchmarks.visible import visible_rows

Timed = tuple[Callable[[], object], int, int]  # a call, how often per round, and how many things one call does


def side_by_side(ours: Timed, theirs: Timed) -> tuple[float, float]:
    """Median rates per second of both, measured in turns: on a shared machine only what runs together compares."""
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(7):
        for (call, times, each), found in zip((ours, theirs), rates, strict=True):
            start = time.perf_counter()
            for _ in range(times):
                call()
            found.append(times * each / (time.perf_counter() - start))
    return statistics.median(rates[0]), statistics.median(rates[1])


def appends(folder: Path, *, batch: int) -> tuple[float, float]:
    """Durable events, and the disk's own fdatasync of 512 bytes."""
    outbox, page_views = Outbox(folder / f"outbox{batch}", clock=lambda: time.time_ns() // 1000), PageViews()
    descriptor = os.open(folder / "limit", os.O_RDWR | os.O_CREAT)

    def append() -> None:
        now = time.time_ns() // 1000
        events = []
        for _ in range(batch):
            page_view = page_views(now)
            events.append(Event(event_id(page_view, "view"), "view", page_view, "r", now, now, {"page_type": "article", "article": "a"}))
        outbox.append(events)

    def sync() -> None:
        os.write(descriptor, bytes(512))
        os.fdatasync(descriptor)

    try:
        return side_by_side((append, 60, batch), (sync, 60, 1))
    finally:
        outbox.close()
        os.close(descriptor)


def main(growthbook: Path | None = None) -> None:
    """Print the table; ``growthbook`` is the interpreter of an environment with that SDK (``make bench ARGS=PYTHON``)."""
    table = Table("what", "per second", "limit or peer", "per second ", "ratio", box=None, header_style="bold")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [_row(f"durable append, {n} event(s) a call", appends(folder, batch=n), "fdatasync of 512 B") for n in (1, 50)]
        rows += assign_rows(growthbook)
        rows += [*loading_rows(), *visible_rows()]
        rows += moment_rows(folder)
        rows += event_rows()
    rows.append(statistics_row())
    for what, ours, peer, theirs in rows:
        table.add_row(what, f"{ours:,.0f}", peer, f"{theirs:,.0f}", f"{ours / theirs:.2f}")
    Console(file=sys.stdout).print(table)


def _row(what: str, rates: tuple[float, float], peer: str) -> tuple[str, float, str, float]:
    return what, rates[0], peer, rates[1]


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
