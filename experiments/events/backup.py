"""A copy of a home folder that is taken while everything runs; :mod:`experiments.events.restoring` is the way back.

What was acknowledged before a backup began is in it, once: outbox files are copied first, then the store. Whatever the
loader moved in between is in both, and counts as a duplicate after the restore.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import file_digest
from pathlib import Path
from typing import Any
from urllib.parse import quote

from experiments.clock import moment
from experiments.errors import ConfigError, DataError, NotFoundError
from experiments.events.outbox_file import copy_outbox, is_damage, outbox_files
from experiments.events.sealed import SPILLED, locked
from experiments.events.store import last_seq, open_store, store_path
from experiments.files import replace_json, sync_folder
from experiments.settings import ELSEWHERE

__all__ = ["DRILLING", "LAYOUT", "MANIFEST", "Backup", "back_up", "check_databases", "copies", "digest", "newest_seq", "sync_all"]
__all__ += ["taken_at"]

MANIFEST, LAYOUT = "manifest.json", 1
DATABASE = ".db"
LEFT_OUT = ("-wal", "-shm", "-journal", ".lock", ".new", ".lock-new")  # parts of databases, locks, what is unfinished
NOT_STATE = frozenset({"logs", "lock", "worker.json", "backup.json", "drill.json"})
COUNTED = "ladder/*.db"  # again from the store: an erased reader must not come back with a copy
KEPT = timedelta(days=30)  # of a reader who was erased, older copies must not exist
STAMP = "%Y%m%dT%H%M%S.%fZ"
DRILLING = ".drill-"  # begins the name of a folder in which a copy is restored aside
UNFINISHED = re.compile(rf"\.\d{{8}}T\d{{6}}\.\d{{6}}Z|{re.escape(DRILLING)}.*")
FORGOTTEN_S = 86_400  # after which nobody works on an unfinished copy any more
SPARE_BYTES = 1 << 30  # a copy leaves so much of the disk free: below 0.5 GiB events are refused


@dataclass(frozen=True, slots=True)
class Backup:
    """A finished backup: its folder, number of files, their bytes, and the last event of the store in it."""

    path: Path
    files: int
    bytes: int
    last_seq: int


def back_up(home: Path, folder: Path, *, at_us: int, most: int = 60) -> Backup:
    """Copy a home into a new folder below ``folder``, check every database of the copy, and drop copies older than 30 days.

    Parameters
    ----------
    at_us : now, UTC microseconds; names the copy.
    most : copies that are kept, at least 2.

    Raises
    ------
    NotFoundError
        There is nothing at ``home``.
    ConfigError
        ``folder`` lies inside ``home``.
    DataError
        A database is damaged, or the disk has too little room; no copy is left behind.
    """
    if not (home / "control.db").exists():
        raise NotFoundError(f"there is nothing to back up at {home}.", "Name another folder with --home.")
    if folder.resolve().is_relative_to(home.resolve()):
        raise ConfigError(f"a backup of {home} cannot lie inside it.", "Choose a folder on another disk.")
    name = moment(at_us).strftime(STAMP)
    hidden = folder / f".{name}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _sweep(folder)
    _make_room(home, folder)
    hidden.mkdir(mode=0o700)
    try:
        with locked(home):
            for path in _in_order(home):
                _copy(path, hidden / path.relative_to(home), outbox=path.suffix == DATABASE and path.parent == home / "outbox")
        check_databases(hidden)
        seq = newest_seq(hidden)
        files: dict[str, dict[str, Any]] = {
            str(path.relative_to(hidden)): {"sha256": digest(path), "bytes": path.stat().st_size} for path in _files(hidden)
        }
        replace_json(hidden / MANIFEST, {"layout": LAYOUT, "taken_us": at_us, "last_seq": seq, "files": files})
        sync_all(hidden)
        hidden.rename(folder / name)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    sync_folder(folder)
    _expire(folder, at_us, most)
    replace_json(home / "backup.json", {"at_us": at_us, "path": str(folder / name), "last_seq": seq})
    return Backup(folder / name, len(files), sum(one["bytes"] for one in files.values()), seq)


def _in_order(home: Path) -> list[Path]:
    """Outboxes before the store, and what points to versions before the versions (old ones stay for a while)."""
    outboxes = outbox_files(home / "outbox")
    rest = [path for path in _files(home) if path not in outboxes]
    return [*outboxes, *sorted(rest, key=lambda path: (path != store_path(home), path.name != "current.json", path))]


def _files(home: Path) -> Iterator[Path]:
    for path in sorted(home.rglob("*")):
        inside = path.relative_to(home)
        hidden = inside.match(COUNTED) or any(part.startswith((".", SPILLED)) or part in NOT_STATE for part in inside.parts)
        if not hidden and path.is_file() and not path.is_symlink() and not path.name.endswith(LEFT_OUT):
            yield path


def _copy(path: Path, target: Path, *, outbox: bool) -> None:
    """Copy one file as of one instant; one that is removed meanwhile is left out."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        if outbox:
            _copy_outbox(path, target)
        elif path.name == ELSEWHERE:
            from experiments.events.postgres_copy import save

            save(path, target.with_name("events.db"))
        elif path.suffix == DATABASE:
            with closing(_opened(path)) as source, closing(sqlite3.connect(target)) as copy:
                source.backup(copy)
        else:
            shutil.copyfile(path, target)
    except (OSError, sqlite3.Error) as error:
        target.unlink(missing_ok=True)
        if path.exists():
            raise DataError(f"{path} cannot be copied: {error}.", "Mend it, or move it away, and try again.") from error


def _copy_outbox(path: Path, target: Path) -> None:
    """Copy an outbox file; of a damaged one the bytes, for a salvage: it is checked entry by entry wherever it is loaded."""
    try:
        copy_outbox(path, target)
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        shutil.copyfile(path, target)


def _opened(path: Path) -> sqlite3.Connection:
    # the store has one writer; the others may have to finish what a killed process began
    mode = "ro" if path.name == "events.db" else "rw"
    return sqlite3.connect(f"file:{quote(str(path))}?mode={mode}", uri=True, timeout=30)


def check_databases(folder: Path) -> None:
    """Raise a :class:`DataError` that names every damaged database below ``folder``; outbox files may be, and are kept."""
    faults = []
    for path in _files(folder):
        if path.suffix == DATABASE and path.parent.name != "outbox":
            with closing(sqlite3.connect(path)) as copy:
                says = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
            faults += [f"{path.relative_to(folder)}: {says}"] if says != "ok" else []
    if faults:
        raise DataError("the copy of a database is damaged.", "Look at the disk; an older backup may be whole.", faults=faults)


def newest_seq(home: Path) -> int:
    """Return the number of the last event a home or a copy stores."""
    if not store_path(home).exists():
        return 0
    with closing(open_store(store_path(home))) as store:
        return last_seq(store)


def _make_room(home: Path, folder: Path) -> None:
    """Refuse to begin what would fill the disk."""
    needed, free = sum(map(_size, _files(home))), shutil.disk_usage(folder).free
    if needed + SPARE_BYTES > free:
        raise DataError(
            f"a copy of {home} takes {needed / 2**30:.2f} GiB and must leave 1 GiB free; {folder} has {free / 2**30:.2f} GiB.",
            "Name a folder on another disk, or keep fewer copies (backup_folder, backup_copies).",
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # the loader was done with it in this instant
        return 0


def _sweep(folder: Path) -> None:
    """Remove what a killed backup or drill left behind."""
    for path in folder.iterdir():
        if UNFINISHED.fullmatch(path.name) and path.stat().st_mtime < time.time() - FORGOTTEN_S:
            shutil.rmtree(path)


def _expire(folder: Path, at_us: int, most: int) -> None:
    """Drop copies that are too old or too many; the one before the newest stays, in case the clock is wrong."""
    oldest = (moment(at_us) - KEPT).strftime(STAMP)
    known = copies(folder)
    for place, copy in enumerate(known[:-2]):
        if copy.name < oldest or place < len(known) - most:
            shutil.rmtree(copy)


def copies(folder: Path) -> list[Path]:
    """Return the finished backups in a folder, the oldest first."""
    return (
        sorted(path for path in folder.iterdir() if not path.name.startswith(".") and (path / MANIFEST).exists()) if folder.is_dir() else []
    )


def taken_at(copy: Path) -> datetime:
    """Return when a copy was begun, as its name says."""
    return datetime.strptime(copy.name, STAMP).replace(tzinfo=UTC)


def digest(path: Path) -> str:
    """Return the sha256 of a file, as hex."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def sync_all(folder: Path) -> None:
    """Make every file and folder below ``folder`` durable."""
    for path in [folder, *folder.rglob("*")]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
