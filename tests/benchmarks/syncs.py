"""How long a disk takes to keep a few bytes; as a process beside a load: ``python -m tests.benchmarks.syncs FOLDER BYTES EVERY_S``.

The process appends and syncs until its standard input ends, then prints the milliseconds each of these took, as a JSON list.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["quantiles", "sync_waits", "syncing"]


def sync_waits(folder: Path, seconds: float = 1.0) -> list[float]:
    """Milliseconds that appends of 512 bytes took, each with its fdatasync, one after the other, in order of their length."""
    end = time.perf_counter() + seconds
    return _waits(folder, 512, lambda: time.perf_counter() >= end)


@contextmanager
def syncing(folder: Path, size: int, *, every_s: float = 0.02) -> Iterator[list[float]]:
    """Sync appends of ``size`` bytes meanwhile, by a process of its own; yields a list that holds their milliseconds afterwards."""
    command = [sys.executable, "-m", __name__, str(folder), str(size), str(every_s)]
    waits: list[float] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield waits
        waits += json.loads(process.communicate()[0])


def quantiles(waits: Sequence[float]) -> dict[str, float]:
    """Half and 99 in 100 of ordered waits are at most this long."""
    return {"p50": waits[len(waits) // 2], "p99": waits[int(0.99 * (len(waits) - 1))]}


def _waits(folder: Path, size: int, over: Callable[[], object]) -> list[float]:
    waits, piece = [], bytes(size)
    with (folder / f"syncs-{os.getpid()}").open("wb", buffering=0) as file:
        while not over():
            begun = time.perf_counter()
            file.write(piece)
            os.fdatasync(file.fileno())
            waits.append(1_000 * (time.perf_counter() - begun))
    return sorted(waits)


if __name__ == "__main__":
    where, many, pause_s = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    sys.stdout.write(json.dumps(_waits(where, many, lambda: select.select([sys.stdin], [], [], pause_s)[0])))
