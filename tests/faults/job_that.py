"""A trainer in trouble: ``python -m tests.faults.job_that dies|hangs|grows``."""

from __future__ import annotations

import os
import signal
import sys
import time

if __name__ == "__main__":
    if sys.argv[1] == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if sys.argv[1] == "hangs":
        time.sleep(600)
    held = [bytes(50 << 20) for _ in range(200)]  # 10 GB, were there no limit
    sys.exit(len(held))
