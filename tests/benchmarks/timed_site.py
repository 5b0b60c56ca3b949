"""``presslab`` with a clock on the commits of its outboxes: ``python -m tests.benchmarks.timed_site FOLDER serve ...``.

Each process writes the file FOLDER/PID: for every commit when it began and how long it took, seconds as two doubles.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

ENTRY = struct.Struct("=dd")


class Timed(sqlite3.Connection):
    """Keeps how long each COMMIT took: the log is written and synced in it."""

    folder: Path
    files: ClassVar[dict[int, int]] = {}  # of each process, kept open: pages are timed on this site, too

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if sql != "COMMIT":
            return super().execute(sql, *values)
        begun = time.monotonic()
        done = super().execute(sql)
        took = time.monotonic() - begun
        if (file := self.files.get(os.getpid())) is None:
            file = self.files[os.getpid()] = os.open(self.folder / str(os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(file, ENTRY.pack(begun, took))
        return done


def commit_waits(folder: Path, *, since: float) -> list[float]:
    """Milliseconds of all commits that began after ``since`` (``time.monotonic``), in order of their length."""
    entries = [entry for path in folder.iterdir() for entry in ENTRY.iter_unpack(path.read_bytes())]
    return sorted(1_000 * took for begun, took in entries if begun >= since)


def main() -> None:
    from web.cli.main import main as presslab

    sqlite3.connect = partial(sqlite3.connect, factory=Timed)  # type: ignore[assignment]
    Timed.folder = Path(sys.argv.pop(1))
    presslab()


if __name__ == "__main__":
    main()
