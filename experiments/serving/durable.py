"""Reading and writing the files of a bundle: durable when written, bounded and never through a link when read."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from experiments.errors import ArtefactError

__all__ = ["read_limited", "sweep", "write_durably"]

LEFT_S = 3600.0


def write_durably(path: Path, content: bytes) -> None:
    """Write a new file and return once it is on disk."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def read_limited(path: Path, most: int) -> bytes:
    """Return the bytes of a plain file; a link, a missing file and more than ``most`` bytes raise :class:`ArtefactError`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise ArtefactError(f"{path} cannot be opened: {error.strerror}.") from error
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ArtefactError(f"{path} is larger than the {most:,} bytes it may have.")
    return content


def sweep(folder: Path) -> None:
    """Remove what writers left that were killed: hidden ``.tmp`` folders which nobody has touched for an hour."""
    for left in folder.glob(".*.tmp"):
        with suppress(OSError):  # the next writer tries again
            if time.time() - left.stat().st_mtime > LEFT_S:
                shutil.rmtree(left)
