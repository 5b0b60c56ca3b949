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

__all__ = ["damaged_results", "locked_file", "read_json", "replace_file", "replace_json", "sync_folder"]


RESULTS = ("checks", "explanations", "ladder", "recall", "reports", "training")  # folders of a home whose files their jobs write anew
HEARTBEAT = "worker.json"


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

    A damaged result is as absent: whoever wrote it does so anew, and nothing else stands still meanwhile (:func:`damaged_results`).

    Raises
    ------
    ArtefactError
        The file was cut or changed, it holds no JSON or something else, and no job would write it anew.
    """
    try:
        return _intact(path, of)
    except ArtefactError:
        if path.name == HEARTBEAT or (path.parent.name in RESULTS and not (path.parent / "control.db").exists()):  # no home of that name
            return None
        raise


def damaged_results(home: Path) -> list[ArtefactError]:
    """Return what is wrong with each result of a job that reads as absent because it is damaged."""
    found = []
    for path in (home / HEARTBEAT, *(path for folder in RESULTS for path in sorted((home / folder).glob("*.json")))):
        try:
            _intact(path, dict)
        except ArtefactError as error:
            found.append(error)
    return found


def _intact(path: Path, of: type | tuple[type, ...]) -> Any:
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
