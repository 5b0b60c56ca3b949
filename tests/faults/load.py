"""A process that loads everything in small transactions and says a line after each; the fault tests kill it: ``python -m tests.faults.load HOME [STOPS [MOST]]``.

A transaction has at most MOST entries; a file with more of them makes a second process read ahead. With STOPS it stops itself after that many transactions, as a process does on a machine that was suspended.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from experiments.events.loader import Loader
from tests.events.story import START

if __name__ == "__main__":
    stops = int(sys.argv[2]) if len(sys.argv) > 2 else -1
    most = int(sys.argv[3]) if len(sys.argv) > 3 else 100
    with Loader(Path(sys.argv[1]), clock=lambda: START, backlog=most) as loader:
        while True:
            if not stops:
                os.kill(os.getpid(), signal.SIGSTOP)
            stops -= 1
            part = loader.load(most=most)
            sys.stdout.write("00\n")
            sys.stdout.flush()
            if not part.moved and not part.pending_files:
                break
