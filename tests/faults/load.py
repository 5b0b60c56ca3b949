"""A process that loads everything in small transactions; the fault tests kill it: ``python -m tests.faults.load HOME``."""

from __future__ import annotations

import sys
from pathlib import Path

from experiments.events.loader import Loader
from tests.events.story import START

if __name__ == "__main__":
    with Loader(Path(sys.argv[1]), clock=lambda: START) as loader:
        while True:
            part = loader.load(most=100)
            if not part.moved and not part.pending_files:
                break
