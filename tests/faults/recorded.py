"""A process that appends, loads and says what was acknowledged, to be recorded: ``python -m tests.faults.recorded HOME MODE``.

MODE is ``FULL``, or ``OFF`` for the negative control.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from experiments.events.loader import Loader
from experiments.events.outbox import Outbox
from tests.events.story import SMALL, START, view

if __name__ == "__main__":
    home = Path(sys.argv[1])
    outbox = Outbox(home / "outbox", clock=lambda: START, limits=replace(SMALL, rotate_bytes=60_000), synchronous=sys.argv[2])  # type: ignore[arg-type]
    loader = Loader(home, clock=lambda: START)
    for number in range(16):
        events = [view(number * 5 + k, f"reader-{k}") for k in range(5)]
        outbox.append(events, timeout_s=60)
        os.write(1, "".join(f"{event.id.hex()}\n" for event in events).encode())
        if number % 3 == 2:
            loader.load(most=7)
    outbox.close()
    loader.drain()
