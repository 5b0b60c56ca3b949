"""A process that appends events and says which ones were acknowledged; the fault tests kill it.

``python -m tests.faults.writer HOME MODE SEED BATCHES [ROTATE]``, a new file after ROTATE bytes of log, MODE one of

- ``FULL``, ``OFF`` : the outbox with that ``synchronous``; a line is printed after ``append`` has returned.
- ``killed`` : as ``FULL``, and kills itself after the last batch, when nothing is being written. (A kill from outside may
  come in the middle of a commit; what is left of that is a counted alarm.)
- ``hasty`` : says "acknowledged" before it appends, and appends at the very end. Broken on purpose: the harness must
  report losses, or it proves nothing.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from experiments.events.event import Event
from experiments.events.outbox import Outbox, OutboxLimits
from tests.events.story import START, view

LIMITS = OutboxLimits(reserve_bytes=0, tick_s=0.01)
PER_BATCH = 5


def batch(seed: int, number: int) -> list[Event]:
    first = seed * 1_000_000 + number * PER_BATCH
    return [view(n, f"reader-{n % 17}") for n in range(first, first + PER_BATCH)]


def main(home: str, mode: str, seed: str, batches: str, rotate: str = "60000") -> None:
    limits = replace(LIMITS, rotate_bytes=int(rotate))
    outbox = Outbox(Path(home) / "outbox", clock=lambda: START, limits=limits, synchronous="OFF" if mode == "OFF" else "FULL")
    held: list[Event] = []
    for number in range(int(batches)):
        events = batch(int(seed), number)
        if mode == "hasty":
            held += events
        else:
            outbox.append(events, timeout_s=60)
        os.write(1, "".join(f"{event.id.hex()}\n" for event in events).encode())
    if mode == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if held:
        outbox.append(held, timeout_s=60)
    outbox.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
