"""The processes that :mod:`experiments.events.selftest` kills: ``python -m experiments.events.selftest_writer HOME SEED SYNCHRONOUS``.

It appends batches of random size from several threads and prints the ids of a batch once ``append`` has returned. With
``load`` instead of a seed it loads what outboxes hold, in small transactions, until it is killed. It ends with its standard input.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from pathlib import Path

from experiments.clock import system_clock
from experiments.events.event import Event
from experiments.events.ids import PageViews, event_id
from experiments.events.loader import Loader
from experiments.events.outbox import Outbox, OutboxFull, OutboxLimits

__all__ = ["LIMITS", "batch"]

LIMITS = OutboxLimits(reserve_bytes=0, rotate_bytes=400_000, tick_s=0.01)  # files change often, so that kills meet that too
THREADS = 4
MOST_EVENTS = 50


def batch(page_view: str, n: int, now_us: int) -> list[Event]:
    """Return ``n`` different events of one page view."""
    body = {"active_ms": 1_000, "depth_percent": 50}
    return [Event(event_id(page_view, "dwell", str(i)), "dwell", page_view, f"reader-{i}", now_us, now_us, body=body) for i in range(n)]


def write(home: Path, seed: int, synchronous: str) -> None:
    """Append until killed; one batch in ten is sent twice, as a client does that heard no answer."""
    outbox = Outbox(home / "outbox", clock=system_clock, limits=LIMITS, synchronous=synchronous)  # type: ignore[arg-type]
    page_views, speaking = PageViews(), threading.Lock()

    def run(number: int) -> None:
        chance = random.Random(seed * THREADS + number)
        while True:
            events = batch(page_views(system_clock()), chance.randint(1, MOST_EVENTS), system_clock())
            try:
                for _ in range(1 + (chance.random() < 0.1)):
                    outbox.append(events, timeout_s=60)
            except OutboxFull:  # nothing was kept, nothing is acknowledged
                time.sleep(0.05)
                continue
            with speaking:
                os.write(1, "".join(f"{event.id.hex()}\n" for event in events).encode())

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()


def load(home: Path) -> None:
    """Load until killed."""
    with Loader(home, clock=system_clock) as loader:
        while True:
            if not loader.load(most=200).moved:
                time.sleep(0.01)


def end_with_the_input() -> None:
    """Die at once when nobody is left who could kill this process."""
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=end_with_the_input, daemon=True).start()
    folder, what, *rest = sys.argv[1:]
    load(Path(folder)) if what == "load" else write(Path(folder), int(what), rest[0])
