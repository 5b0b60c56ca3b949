"""The event store as one SQLite file that only the loader writes."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from experiments.errors import BusyError, DataError, NotFoundError
from experiments.events.outbox_file import fsync_folder
from experiments.events.reading import BriefConnection
from experiments.events.sealed import shard_of
from experiments.events.wire import COLUMNS, Columns

__all__ = ["SCHEMA", "VERSION", "WHOLE", "SqliteStore", "open_sqlite", "read_sqlite", "upgrade_sqlite"]

VERSION = 2
WHOLE = frozenset({"seq", "issued_at", "received_at", "client_at", "sent_at", "bot", "schema", "late"})  # columns that hold whole numbers
ID, *CLIENT_TIMES = (COLUMNS.index(name) for name in ("id", "client_at", "sent_at"))
# Days that went into Parquet. Rows of the store up to ``through_seq`` are in the file; they are deleted afterwards, in
# chunks, and ``fresh`` leaves them out from the moment the catalogue names the file, so that none is ever seen twice.
SEALED = """
CREATE TABLE sealed(
  day INTEGER NOT NULL, source TEXT NOT NULL, file TEXT NOT NULL, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,
  through_seq INTEGER NOT NULL, last_received INTEGER NOT NULL, cleared INTEGER NOT NULL, PRIMARY KEY(day, source)) WITHOUT ROWID;
CREATE INDEX sealed_uncleared ON sealed(day, source, through_seq) WHERE cleared = 0;
CREATE TABLE sealed_count(
  day INTEGER NOT NULL, source TEXT NOT NULL, kind TEXT NOT NULL, arm TEXT NOT NULL, n INTEGER NOT NULL,
  PRIMARY KEY(day, source, kind, arm)) WITHOUT ROWID;
CREATE VIEW fresh AS SELECT * FROM event WHERE NOT EXISTS (
  SELECT 1 FROM sealed WHERE cleared = 0 AND day = event.issued_at / 86400000000 AND sealed.source = event.source
  AND event.seq <= through_seq);
"""
SCHEMA = f"""
CREATE TABLE event(
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, kind TEXT NOT NULL, page_view TEXT NOT NULL, reader TEXT NOT NULL,
  experiment TEXT NOT NULL, arm TEXT NOT NULL, issued_at INTEGER NOT NULL, received_at INTEGER NOT NULL, client_at INTEGER, sent_at INTEGER,
  source TEXT NOT NULL, device TEXT NOT NULL, bot INTEGER NOT NULL, config TEXT NOT NULL, schema INTEGER NOT NULL, late INTEGER NOT NULL,
  body TEXT NOT NULL);
CREATE INDEX event_kind_issued ON event(kind, issued_at);
CREATE TABLE dead_letter(
  outbox TEXT NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL, reason TEXT NOT NULL, kind TEXT NOT NULL, arm TEXT NOT NULL,
  payload BLOB NOT NULL, PRIMARY KEY(outbox, seq));
CREATE TABLE outbox_offset(outbox TEXT PRIMARY KEY, seq INTEGER NOT NULL, chain INTEGER NOT NULL, state TEXT NOT NULL, alarm TEXT NOT NULL);
CREATE TABLE tally(outbox TEXT NOT NULL, kind TEXT NOT NULL, arm TEXT NOT NULL, received INTEGER NOT NULL, loaded INTEGER NOT NULL,
  PRIMARY KEY(outbox, kind, arm)) WITHOUT ROWID;
CREATE TABLE outcome(kind TEXT NOT NULL, arm TEXT NOT NULL, name TEXT NOT NULL, n INTEGER NOT NULL,
  PRIMARY KEY(kind, arm, name)) WITHOUT ROWID;
CREATE TABLE lease(name TEXT PRIMARY KEY, epoch INTEGER NOT NULL);
CREATE TABLE erased(key BLOB PRIMARY KEY, at INTEGER NOT NULL);
{SEALED}
PRAGMA user_version={VERSION};
"""
WAIT_MS, WIPE_WAIT_MS = 5_000, 500  # of a writer for another one; for whoever reads what an erasure overwrites
WRITER_PRAGMAS = (
    *("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={WAIT_MS}", "foreign_keys=ON", "trusted_schema=OFF", "cell_size_check=ON"),
    *("mmap_size=0", "secure_delete=ON", "wal_autocheckpoint=0", "fullfsync=1"),
)
READER_PRAGMAS = ("query_only=ON", "trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0")


class SqliteStore(sqlite3.Connection):
    """A connection to the store of one home (:class:`experiments.events.engine.Store`)."""

    says = "SQLite"
    mend = "Restore the last backup."
    prefix = ""
    most_rows = 250  # in one statement: half the work of a statement per row, and more of them are no faster

    def snapshot(self) -> None:
        self.execute("BEGIN")

    def begin(self) -> None:
        self.execute("BEGIN IMMEDIATE")

    def leads(self) -> bool:
        return True

    def insert(self, columns: Columns) -> bool:
        width, many = len(COLUMNS), len(columns[0])
        values: list[Any] = [None] * (width * many)
        for place, column in enumerate(columns):
            values[place::width] = column
        # the sqlite3 module looks for an adapter of every bytes and every None, which takes three times as long as binding anything else
        values[ID::width] = map(bytearray, columns[ID])
        for place in CLIENT_TIMES:
            values[place::width] = [-1 if at is None else at for at in columns[place]]
        try:
            self.execute(_insert(many), values)
        except sqlite3.IntegrityError:
            return False
        return True

    def last_seq(self) -> int:
        return int(self.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'event'").fetchone()[0])

    def facts(self, columns: Sequence[str], where: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        return self.execute(f"SELECT {', '.join(columns)} FROM fresh WHERE {where}", values).fetchall()

    def has(self, table: str) -> bool:
        return bool(self.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchone()[0])

    @contextmanager
    def copied(self, where: str, values: Any, folder: Path) -> Iterator[sqlite3.Connection]:  # noqa: ARG002 - nothing has to be copied
        yield self

    def wipe(self) -> bool:
        # secure_delete alone leaves copies of cells that moved between pages before they were deleted
        self.execute("VACUUM")
        return self.copy_log(empty=True, wait_ms=WIPE_WAIT_MS)

    def copy_log(self, *, empty: bool, wait_ms: int = 0) -> bool:
        self.execute(f"PRAGMA busy_timeout={wait_ms}")
        try:
            return bool(self.execute(f"PRAGMA wal_checkpoint({'TRUNCATE' if empty else 'PASSIVE'})").fetchone()[0] == 0)
        finally:
            self.execute(f"PRAGMA busy_timeout={WAIT_MS}")

    def check(self) -> str:
        return str(self.execute("PRAGMA quick_check").fetchone()[0])


@cache
def _insert(rows: int) -> str:
    row = f"({', '.join('nullif(?, -1)' if place in CLIENT_TIMES else '?' for place in range(len(COLUMNS)))})"
    return f"INSERT INTO event({', '.join(COLUMNS)}) VALUES {', '.join([row] * rows)}"


def open_sqlite(path: Path, *, create: bool) -> SqliteStore:
    """Return the writing connection, laid out if it does not exist and ``create`` is on."""
    if not create:
        _must_exist(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=SqliteStore)
    for pragma in WRITER_PRAGMAS:
        store.execute(f"PRAGMA {pragma}")
    if create and store.execute("PRAGMA user_version").fetchone()[0] == 0:
        store.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
        fsync_folder(path.parent)
    _check_layout(store, path)
    return store


class _ReadingStore(BriefConnection, SqliteStore):
    """A connection that only reads, for a limited time."""


def read_sqlite(path: Path, *, longest_s: float) -> SqliteStore:
    """Return a read-only connection that is cut after ``longest_s`` seconds."""
    _must_exist(path)
    uri = f"file:{quote(str(path))}?mode=ro"
    store = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=5, check_same_thread=False, factory=_ReadingStore)
    store.end_after(longest_s)
    for pragma in READER_PRAGMAS:
        store.execute(f"PRAGMA {pragma}")
    store.create_function("shard_of", 1, shard_of, deterministic=True)
    _check_layout(store, path)
    return store


def upgrade_sqlite(path: Path) -> None:
    """Bring a store to the current layout.

    Raises
    ------
    BusyError
        A loader works on the store.
    """
    home = path.parent
    descriptor = os.open(home / "loader.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as store:
            if store.execute("PRAGMA user_version").fetchone()[0] != 1:
                return
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for pragma in WRITER_PRAGMAS:
                store.execute(f"PRAGMA {pragma}")
            store.executescript(f"BEGIN IMMEDIATE; {SEALED} PRAGMA user_version={VERSION}; COMMIT;")
    except BlockingIOError:
        raise BusyError(
            f"a worker uses the event store of {home}, its layout is old.", "Stop the worker, then run `presslab migrate`."
        ) from None
    finally:
        os.close(descriptor)


def _must_exist(path: Path) -> None:
    if not path.exists():
        raise NotFoundError(f"there is no event store at {path}.", "Start the worker, or run `presslab migrate`.")


def _check_layout(store: sqlite3.Connection, path: Path) -> None:
    version = store.execute("PRAGMA user_version").fetchone()[0]
    if version != VERSION:
        store.close()
        raise DataError(f"the event store {path} has layout {version}, this program reads {VERSION}.", "Run `presslab migrate`.")
