"""One file of an outbox, from both sides: how its owner writes it, and what a loader can recover from it.

Next to ``<name>.db`` lies ``<name>.lock``, under the owner's flock from before the database exists until its owner
closes it or dies; it says how many entries were acknowledged. The database file itself is never opened except by SQLite: closing any other descriptor would drop
SQLite's POSIX locks.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sqlite3
import struct
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote
from zlib import crc32

__all__ = [
    *("OutboxFile", "Part", "Reading", "Synchronous", "acknowledged", "copy_outbox", "fsync_folder", "is_damage", "outbox_files"),
    *("owner_alive", "read_part", "remove", "sweep", "wal_tail"),
]

Synchronous = Literal["FULL", "NORMAL", "OFF"]
LAYOUT = """
CREATE TABLE entry(seq INTEGER PRIMARY KEY, body BLOB NOT NULL, chain INTEGER NOT NULL);
CREATE TABLE tally(kind TEXT NOT NULL, arm TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY(kind, arm)) WITHOUT ROWID;
CREATE TABLE sealed(last_seq INTEGER NOT NULL);
"""
WAL_HEADER, FRAME_HEADER = 32, 24
COUNT = b"%020d"
BODY = "ifnull(CAST(body AS BLOB), x'')"  # one damaged bit can make it another type
MOST_AT_ONCE = 256  # entries; SQLite takes 999 values a statement everywhere


def fsync_folder(folder: Path) -> None:
    """Make names created, renamed or removed in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class OutboxFile:
    """The writing side; belongs to one thread.

    Parameters
    ----------
    folder : exists.
    name : unique for ever (process incarnation and number).
    synchronous : ``FULL`` makes every commit durable; anything else loses acknowledged events and exists for the
        negative control of the fault tests.
    """

    def __init__(self, folder: Path, name: str, *, synchronous: Synchronous = "FULL") -> None:
        self.path = folder / f"{name}.db"
        self.wal = folder / f"{name}.db-wal"
        self.lock = folder / f"{name}.lock"
        self.last_seq = 0
        self._chain = 0
        self._lock = _hold(self.lock)
        self._held = os.fstat(self._lock).st_ino
        try:
            _lay_out(folder, name)
            self._connection = sqlite3.connect(self.path, isolation_level=None)
            for pragma in (f"synchronous={synchronous}", "wal_autocheckpoint=0", "mmap_size=0", "fullfsync=1"):
                self._connection.execute(f"PRAGMA {pragma}")
            fsync_folder(folder)
        except BaseException:  # a full disk is tried again and again: leave neither a descriptor nor a name behind
            for ending in (".new", ".new-journal", ".new-wal", ".new-shm", *(() if self.path.exists() else (".lock",))):
                (folder / f"{name}{ending}").unlink(missing_ok=True)
            os.close(self._lock)
            raise

    def write(self, bodies: Iterable[bytes], tally: Mapping[tuple[str, str], int]) -> None:
        """Commit entries and their counts in one transaction; on return they survive a power cut.

        Raises
        ------
        OSError, sqlite3.Error
            Whatever it was, the file is in doubt: :meth:`abandon` it.
        """
        values: list[int | bytes] = []
        seq, chain = self.last_seq, self._chain
        for body in bodies:
            seq, chain = seq + 1, crc32(body, chain)
            values += (seq, body, chain)
        run = self._connection
        run.execute("BEGIN IMMEDIATE")
        _insert(run, values)
        run.executemany(
            "INSERT INTO tally VALUES (?, ?, ?) ON CONFLICT(kind, arm) DO UPDATE SET n = n + excluded.n",
            [(kind, arm, n) for (kind, arm), n in tally.items()],
        )
        run.execute("COMMIT")
        self.last_seq, self._chain = seq, chain
        self.check_names()
        os.pwrite(self._lock, COUNT % seq, 0)

    def abandon(self) -> None:
        """Leave all as it is, the lock held, until the process ends: after EIO the next fdatasync says 0, and closing copies the log."""
        # Python closes a connection that nothing refers to any more: this reference is never given back
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))

    def check_names(self) -> None:
        """Raise OSError unless a loader finds what is written: under its names, and under the lock that says it is not finished."""
        if os.stat(self.lock).st_ino != self._held:
            raise OSError(f"{self.lock.name} is not the lock of its owner any more")
        for path in (self.path, self.wal)[: 1 + bool(self.last_seq)]:
            os.stat(path)

    def wal_bytes(self) -> int:
        """Size of the write-ahead log."""
        return os.stat(self.wal).st_size if self.last_seq else 0

    def seal(self) -> None:
        """Say that nothing follows, close, and let go of the lock."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("INSERT INTO sealed VALUES (?)", (self.last_seq,))
        self._connection.execute("COMMIT")
        # the last connection to close copies the log into the database, which holds up every page; a reading one cannot
        with suppress(OSError, sqlite3.Error), Reading(self.path) as last:  # unless somebody has removed the file
            last.execute("SELECT last_seq FROM sealed").fetchone()
            self._connection.close()
        self._connection.close()
        os.close(self._lock)


def _insert(run: sqlite3.Connection, values: Sequence[int | bytes]) -> None:
    """Write entries, many a statement: each statement lets every thread of the process run before this one goes on.

    The statements hold 256, 128 ... 1 entries, so that all of them are soon prepared.
    """
    start, left = 0, len(values) // 3
    while left:
        n = min(1 << (left.bit_length() - 1), MOST_AT_ONCE)
        run.execute(f"INSERT INTO entry VALUES {', '.join(['(?, ?, ?)'] * n)}", values[3 * start : 3 * (start + n)])
        start, left = start + n, left - n


def _hold(lock: Path) -> int:
    """Create a lock file already locked: under its name it is never seen free while its owner lives."""
    hidden = lock.with_suffix(".lock-new")
    descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.pwrite(descriptor, COUNT % 0, 0)  # takes its room on the disk now
        os.rename(hidden, lock)
    except OSError:
        hidden.unlink(missing_ok=True)
        os.close(descriptor)
        raise
    return descriptor


def _lay_out(folder: Path, name: str) -> None:
    """Create the empty database under another name and rename it: a ``.db`` that exists is complete."""
    hidden = folder / f"{name}.new"
    with closing(sqlite3.connect(hidden, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")  # one sync below instead of one per step: pages may be waiting
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(f"BEGIN; {LAYOUT} COMMIT;")
    # that was the only connection: closing it has copied the log into the database and removed it, and no lock is left to lose
    descriptor = os.open(hidden, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(hidden, folder / f"{name}.db")


def outbox_files(folder: Path) -> list[Path]:
    """Return the databases of a folder, oldest first (names begin with the time)."""
    return sorted(folder.glob("*.db"))


def owner_alive(path: Path) -> bool:
    """Whether somebody may still write to an outbox file.

    A lock file that is missing is made anew: nobody holds it, and an owner that lives acknowledges nothing from then on, as
    it looks after each commit whether the lock is still its own (:meth:`OutboxFile.check_names`).
    """
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def acknowledged(path: Path) -> int:
    """Return how many entries of a file were acknowledged at least; after a power cut, or without its lock, there may be more."""
    said = path.with_suffix(".lock").read_bytes()
    return int(said) if len(said) == len(COUNT % 0) and said.isdigit() else 0


def copy_outbox(path: Path, target: Path) -> None:
    """Write what an outbox file holds now, its log included, to the new file ``target``; the owner may go on writing."""
    with Reading(path) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)


def remove(path: Path) -> None:
    """Unlink a drained file, its logs and, last, its lock; then make that durable."""
    for ending in (".db", ".db-wal", ".db-shm", ".lock"):
        path.with_suffix(ending).unlink(missing_ok=True)
    fsync_folder(path.parent)


def sweep(folder: Path) -> None:
    """Remove locks and unfinished databases that killed processes left; a log whose database somebody removed gets it back."""
    for name in {path.stem for ending in (".lock", ".db-wal") for path in folder.glob(f"*{ending}")}:
        database = folder / f"{name}.db"
        if not database.exists() and not owner_alive(database):
            for ending in (".new", ".new-journal", ".new-wal", ".new-shm"):
                database.with_suffix(ending).unlink(missing_ok=True)
            if database.with_suffix(".db-wal").exists():
                _lay_out(folder, name)  # as it was: all that was written after that is in the log
            else:
                remove(database)


@dataclass(frozen=True, slots=True)
class Part:
    """What one read of an outbox file found, all of one snapshot: entries after an offset, the writer's counts."""

    rows: list[tuple[int, bytes, int]]
    tally: dict[tuple[str, str], int]
    sealed: int | None


def read_part(path: Path, *, after: int, most: int) -> Part:
    """Read at most ``most`` entries after sequence number ``after``, without changing the file."""
    with Reading(path) as connection:
        rows = connection.execute(f"SELECT seq, {BODY}, chain FROM entry WHERE seq > ? ORDER BY seq LIMIT ?", (after, most)).fetchall()
        tally = {(kind, arm): n for kind, arm, n in connection.execute("SELECT CAST(kind AS TEXT), CAST(arm AS TEXT), n FROM tally")}
        sealed = connection.execute("SELECT max(last_seq) FROM sealed").fetchone()[0]
    if not all(isinstance(n, int) for n in (*tally.values(), sealed or 0)):
        raise sqlite3.DatabaseError("a count is no whole number")
    return Part(rows, tally, sealed)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error says that a file is not what was written; otherwise that it cannot be read at this moment."""
    # without a code it is Python's, about a text that is none; SQLITE_ERROR also says "unsupported file format" and "no such table"
    return not isinstance(error, sqlite3.OperationalError) or getattr(error, "sqlite_errorcode", None) in (None, sqlite3.SQLITE_ERROR)


class Reading:
    """A read-only connection inside one read transaction; works for a killed owner and cannot checkpoint."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> sqlite3.Connection:
        if os.stat(self._path).st_size == 0:
            raise sqlite3.DatabaseError("the database is empty")  # SQLite would take it for a new one, and delete its log
        self._connection = sqlite3.connect(f"file:{quote(str(self._path))}?mode=ro", uri=True, isolation_level=None, timeout=5)
        try:
            for pragma in ("query_only=ON", "trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.execute("BEGIN")
        except sqlite3.Error:
            self._connection.close()
            raise
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def wal_tail(path: Path) -> int:
    """Return how many bytes of the log lie behind the last commit SQLite recovers (it drops them in silence).

    Only for a file whose owner is dead: closing the index of the log drops this process's locks on it.

    References
    ----------
    SQLite, "WAL-mode File Format": a header of 32 bytes, frames of 24 bytes and a page; the header of the WAL-index says
    how long a page is and how many frames lie before the end of the last commit.
    """
    try:
        size = os.stat(path.with_suffix(".db-wal")).st_size
    except FileNotFoundError:
        return 0
    with Reading(path) as connection:
        connection.execute("SELECT 1 FROM sealed").fetchone()  # recovers
        page, frames = struct.unpack("=HI", path.with_suffix(".db-shm").read_bytes()[14:20])
    end = WAL_HEADER + frames * (FRAME_HEADER + page)
    return size - end if size >= end else size
