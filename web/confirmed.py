"""What every web process serves: told by each in a file of its own, so that a command can say whether a change has arrived."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

__all__ = ["Confirmed", "Serving", "confirmed", "serving_now"]

FOLDER = "serving"
PATIENCE_S = 5.0


class Serving:
    """The file of this process, under its lock while the process lives."""

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER
        self._path: Path | None = None
        self._lock = threading.Lock()  # never write to a number that another file may have by then
        self._file, self._told, self._closed = -1, b"", False

    def tell(self, plan: str, bundles: Mapping[str, str], *, withdrawn: int = 0) -> None:
        """Say which plan and which versions of models (arm -> version) serve now, and up to which version of the articles none is shown that was withdrawn."""
        content = json.dumps({"plan": plan, "bundles": dict(bundles), "withdrawn": withdrawn}, sort_keys=True).encode()
        with self._lock:
            if content == self._told or self._closed:
                return
            if self._path is None:  # not before the first call: a process may be forked
                self._file, self._path = self._begin(content)
            os.pwrite(self._file, content, 0)
            os.ftruncate(self._file, len(content))
            self._told = content

    def _begin(self, content: bytes) -> tuple[int, Path]:
        """Open the file and lock it before anyone can see it."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        hidden, path = self._folder / uuid4().hex, self._folder / f"{uuid4().hex}.lock"
        file = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            os.pwrite(file, content, 0)
            hidden.rename(path)
        except OSError:
            os.close(file)
            hidden.unlink(missing_ok=True)
            raise
        return file, path

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._path is not None:
                self._path.unlink(missing_ok=True)
                os.close(self._file)
                self._path = None


@dataclass(frozen=True, slots=True)
class Confirmed:
    """How many of the web processes serve a change, and after how long (ms) the last of them said so."""

    confirmed: int
    of: int
    ms: int

    def __str__(self) -> str:
        if not self.of:
            return "no web process runs"
        return f"{self.confirmed} of {self.of} web process{'' if self.of == 1 else 'es'} confirmed it within {self.ms:,} ms"

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


def confirmed(home: Path, holds: Callable[[Mapping[str, Any]], bool], *, patience_s: float = PATIENCE_S) -> Confirmed:
    """Wait until every web process serves what ``holds`` asks for, at most ``patience_s`` seconds.

    Parameters
    ----------
    holds : of ``{"plan": version, "bundles": {arm: version}, "withdrawn": version of the articles}``.
    """
    began = time.monotonic()
    while True:
        told = list(serving_now(home))
        good = sum(holds(one) for one in told)
        taken_s = time.monotonic() - began
        if good == len(told) or taken_s > patience_s:
            return Confirmed(good, len(told), round(1000 * taken_s))
        time.sleep(0.05)


def serving_now(home: Path) -> Iterator[Mapping[str, Any]]:
    """Yield what each process that lives says; the file of one that was killed is removed."""
    for path in (home / FOLDER).glob("*.lock"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except BlockingIOError:
            yield _read(descriptor)
        finally:
            os.close(descriptor)


def _read(descriptor: int) -> Mapping[str, Any]:
    """An empty answer while the file is just being written."""
    try:
        told: Mapping[str, Any] = json.loads(os.pread(descriptor, 1 << 20, 0))
    except ValueError:
        return {}
    return told
