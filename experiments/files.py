"""Small files that are replaced whole: written aside, made durable, renamed."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments.errors import ArtefactError

__all__ = ["locked_file", "read_json", "replace_file", "replace_json", "sync_folder"]


def sync_folder(folder: Path) -> None:
    """Make a rename or unlink in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """Hold a lock file, made if missing; waits for whoever has it, in this process or another."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``: a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def replace_json(path: Path, value: Any) -> None:
    """Replace ``path`` by canonical JSON; NaN and infinity are refused."""
    replace_file(path, json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1).encode())


def read_json(path: Path, *, of: type | tuple[type, ...] = dict) -> Any:
    """Return the object in a JSON file, or None when the file is absent; ``of`` says what else it may hold.

    Raises
    ------
    ArtefactError
        The file was cut or changed: it holds no JSON, or something else.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:  # no JSON, or no UTF-8
        raise _damaged(path, str(error)) from error
    if not isinstance(value, of):
        raise _damaged(path, f"it holds {type(value).__name__} instead of an object")
    return value


def _damaged(path: Path, why: str) -> ArtefactError:
    return ArtefactError(
        f"{path} is damaged: {why}.", "Restore it from a backup, or remove it: what is computed is written anew by its job."
    )
