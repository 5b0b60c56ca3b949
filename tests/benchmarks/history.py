"""A million events of history through the outbox, on an injected clock: ``python -m tests.benchmarks.history [EVENTS]``.

Twice: events that are made up here (what the outbox itself takes), and the demo's own way, in which readers live on the demo
newspaper, a week at a time. Then the loader stores them all. Beside it: the disk's own fdatasync.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from experiments.content import load_catalogue
from experiments.events.event import Event
from experiments.events.ids import PageViews, event_id
from experiments.events.loader import Loader
from experiments.events.outbox import Outbox
from experiments.events.selftest import fdatasyncs
from experiments.events.store import balance
from experiments.migrate import migrate
from fixtures.library import Library
from fixtures.readers import population
from fixtures.worlds import draw_world
from web.demo.history import BATCH, Stretch, live_past
from web.demo.newspaper import build_newspaper
from web.desk import load_desk

WEEK_S = 7 * 86_400
READERS = 3_000
PAGE = {"page_type": "article", "article": "a", "section": "city", "referrer": "front", "prefetch": False, "agreed": 1}


def appended(home: Path, n: int) -> int:
    """Views one second apart, in batches as the demo's."""
    clock_us = 1_700_000_000_000_000
    outbox, page_views = Outbox(home / "outbox", clock=lambda: clock_us), PageViews()
    for start in range(0, n, BATCH):
        batch = []
        for number in range(start, min(n, start + BATCH)):
            at = clock_us + number * 1_000_000
            page_view = page_views(at)
            batch.append(
                Event(event_id(page_view, "view"), "view", page_view, f"reader-{number % 50_000}", at, at, PAGE, source="simulated")
            )
        outbox.append(batch, timeout_s=60)
    outbox.close()
    return n


def lived(home: Path, n: int) -> int:
    """Whole weeks of readers of the demo newspaper, until there are ``n`` events."""
    now, world = datetime.now(UTC), draw_world(1)
    build_newspaper(home, now)
    catalogue, desk = load_catalogue(home), load_desk(home)
    readers = population(world, Library.of(catalogue.articles), n=READERS, seed=1)
    made = week = 0
    while made < n:
        stretch = Stretch(now.timestamp() - WEEK_S, 7, seed=week)
        past = live_past(readers, world, catalogue, stretch, home=home, desk=desk, reader_id=lambda reader: f"{reader.key:0>32}")
        made, week = made + past.events, week + 1
    return made


def loaded(home: Path) -> int:
    with Loader(home, clock=lambda: 0) as loader:
        stored = loader.drain().stored
    assert all(row.exact for row in balance(home))
    return stored


def timed(what: str, call: Callable[[], int]) -> None:
    start, cpu = time.perf_counter(), time.process_time()
    n = call()
    spent, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(
        f"{what}: {n:,} events in {spent:.1f} s, {n / spent:,.0f}/s, {n / cpu:,.0f} per CPU second; at most {peak_mb:,.0f} MB\n"
    )
    sys.stdout.flush()


def main(n: int) -> None:
    """Print a line per way, and the disk."""
    for what, write in (("outbox alone", appended), ("the demo's readers", lived)):
        with tempfile.TemporaryDirectory() as name:
            home = Path(name) / "home"
            migrate(home)
            timed(what, lambda home=home, write=write: write(home, n))  # type: ignore[misc]
            timed("  then loaded", lambda home=home: loaded(home))  # type: ignore[misc]
            sys.stdout.write(f"  fdatasync of 512 B: {fdatasyncs(home, 1.0):,.0f}/s\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
