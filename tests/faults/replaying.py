"""A process that tries dead letters again, five in a transaction; a fault test kills it: ``python -m tests.faults.replaying HOME``."""

from __future__ import annotations

import sys
from pathlib import Path

from experiments.events import replay
from experiments.events.loader import Loader
from tests.events.story import START

if __name__ == "__main__":
    replay.AT_ONCE = 5
    with Loader(Path(sys.argv[1]), clock=lambda: START) as loader:
        replay.replay(loader)
