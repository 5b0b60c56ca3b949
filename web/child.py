"""The process of a job: held back while it runs, killed with all it started, and what its end says."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any, TextIO

from web.jobs import Outcome

__all__ = ["ended", "kill", "restrain", "wait_for", "written"]

NICE = 10  # of a job: readers come first


def kill(child: subprocess.Popen[bytes]) -> None:
    """Kill a job and what it started."""
    if child.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def restrain(process: int, most_mb: int) -> None:
    """Let readers come first, and let a job that needs too much memory fail by itself before the machine has none left."""
    with suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, process, NICE)
        if sys.platform == "linux":
            resource.prlimit(process, resource.RLIMIT_DATA, (most_mb << 20, most_mb << 20))


def wait_for(child: subprocess.Popen[bytes], longest_s: float) -> tuple[bool, float]:
    """Wait for a job, killed after its longest time; returns whether it ended before, and the most memory it held, in MiB.

    Linux counts from what the worker held when it began the job: a job that needs less is told with that.
    """
    began, over = time.monotonic(), threading.Timer(longest_s, kill, [child])
    over.start()
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    over.cancel()
    return child.returncode != -signal.SIGKILL or time.monotonic() - began < longest_s, used.ru_maxrss / 1024


def written(file: TextIO) -> str:
    """Return what a job wrote to a file."""
    file.seek(0)
    return file.read()


def ended(code: int, out: str, errors: str, peak_mb: float) -> Outcome:
    """Return how a job ended: read the JSON line a job prints; without one, the last line of its errors is the reason."""
    lines = out.strip().splitlines()
    try:
        answer: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    except json.JSONDecodeError:
        answer = {}
    state = "done" if code == 0 else "refused" if code == 3 else "failed"
    last = (errors.strip().splitlines() or [f"ended with exit code {code}"])[-1]
    reason = str(answer.get("says") or answer.get("reason") or ("" if code == 0 else last))
    return Outcome(state, reason, code, round(peak_mb, 1), f"{out}\n{errors}".strip())
