"""Clocks: the machine's, or one simulated time that all processes of a demo share."""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["Clock", "FileClock", "clock_of", "moment", "system_clock", "to_us"]

Clock = Callable[[], int]  # UTC microseconds since the epoch


def system_clock() -> int:
    """Return the machine's time, UTC microseconds."""
    return time.time_ns() // 1_000


def moment(us: int) -> datetime:
    """Return microseconds as an aware UTC time.

    Examples
    --------
    >>> moment(0).isoformat()
    '1970-01-01T00:00:00+00:00'
    """
    return datetime.fromtimestamp(us / 1e6, UTC)


def to_us(at: datetime) -> int:
    """Return an aware time as UTC microseconds."""
    return round(at.timestamp() * 1e6)


class FileClock:
    """Simulated time in eight bytes of a shared file; zero means the machine's time.

    Examples
    --------
    >>> import tempfile
    >>> clock = FileClock(Path(tempfile.mkdtemp()) / "clock")
    >>> clock.set(1_000_000)
    >>> clock()
    1000000
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_bytes(bytes(8))
        descriptor = os.open(path, os.O_RDWR)
        try:
            self._memory = mmap.mmap(descriptor, 8)
        finally:
            os.close(descriptor)

    def __call__(self) -> int:
        (now,) = struct.unpack("<q", self._memory[:8])
        return int(now) or system_clock()

    @property
    def simulated(self) -> bool:
        return self._memory[:8] != bytes(8)

    def set(self, us: int) -> None:
        """Set the time for every process that reads this file; 0 returns to the machine's time."""
        self._memory[:8] = struct.pack("<q", us)


def clock_of(home: Path, profile: str) -> Clock:
    """Return the clock of an installation: a demo's is simulated while its readers live."""
    return FileClock(home / "clock") if profile == "demo" else system_clock
