"""Small files that are either old or new, never half: write beside, fsync, rename."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

from experiments.errors import ArtefactError

__all__ = ["read_limited", "replace_json", "sync_folder", "write_durably"]


def replace_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, also after a power cut.

    Raises
    ------
    ValueError
        The value holds NaN or Infinity.
    """
    content = json.dumps(value, indent=1, sort_keys=True, allow_nan=False).encode()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    write_durably(temporary, content)
    os.replace(temporary, path)
    sync_folder(path.parent)


def write_durably(path: Path, content: bytes) -> None:
    """Write a new file and return once it is on disk."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames inside ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
