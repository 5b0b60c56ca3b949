"""The event store: one SQLite file that only the loader writes, and the balance that proves nothing was lost."""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from urllib.parse import quote

from experiments.errors import BusyError, DataError, NotFoundError
from experiments.events.outbox_file import fsync_folder, outbox_files, pending_counts
from experiments.events.reading import LONGEST_S, WHOLE_STORE_S, BriefConnection
from experiments.events.wire import COLUMNS, StoredRow, payload

__all__ = [
    *("BalanceRow", "OutcomeKey", "balance", "last_seq", "open_store", "read_store", "reader_key", "store_path", "stored_payloads"),
    "upgrade_store",
]

VERSION = 2
OutcomeKey = tuple[str, str]  # kind, arm
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
WRITER_PRAGMAS = (
    *("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "foreign_keys=ON", "trusted_schema=OFF", "cell_size_check=ON"),
    *("mmap_size=0", "secure_delete=ON", "wal_autocheckpoint=0", "fullfsync=1"),
)


def store_path(home: Path) -> Path:
    """Where the store of a home lies."""
    return home / "events.db"


def open_store(path: Path, *, create: bool = False) -> sqlite3.Connection:
    """Return the writing connection; only the loader may hold one (two writers of one WAL file can corrupt it).

    Parameters
    ----------
    path : of the database.
    create : lay it out if it does not exist.

    Raises
    ------
    NotFoundError
        There is no store and ``create`` is off.
    DataError
        The file has another layout.
    """
    if not create and not path.exists():
        raise NotFoundError(f"there is no event store at {path}.", "Start the worker, or run `presslab migrate`.")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in WRITER_PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    if create and connection.execute("PRAGMA user_version").fetchone()[0] == 0:
        connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
        fsync_folder(path.parent)
    _check_layout(connection, path)
    return connection


def read_store(path: Path, *, longest_s: float = LONGEST_S) -> sqlite3.Connection:
    """Return a read-only connection that is cut after ``longest_s`` seconds: a long read stops checkpoints.

    Raises
    ------
    NotFoundError
        There is no store yet.
    DataError
        The file has another layout.
    """
    if not path.exists():
        raise NotFoundError(f"there is no event store at {path}.", "Start the worker, or run `presslab migrate`.")
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None, timeout=5, check_same_thread=False, factory=BriefConnection
    )
    connection.end_after(longest_s)
    for pragma in ("query_only=ON", "trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0"):
        connection.execute(f"PRAGMA {pragma}")
    _check_layout(connection, path)
    return connection


def upgrade_store(home: Path) -> None:
    """Bring the event store of a home to the current layout; does nothing where there is none or it is current.

    Raises
    ------
    BusyError
        A loader works on the store.
    """
    path = store_path(home)
    if not path.exists():
        return
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


def last_seq(store: sqlite3.Connection) -> int:
    """Return the number of the last event that was ever stored, 0 in an empty store: the name of a data cut."""
    return int(store.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'event'").fetchone()[0])


def _check_layout(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != VERSION:
        connection.close()
        raise DataError(f"the event store {path} has layout {version}, this program reads {VERSION}.", "Run `presslab migrate`.")


def reader_key(home: Path, reader: str) -> bytes:
    """Return the keyed hash under which an erased reader is remembered (the key is made on first use, mode 0600)."""
    path = home / "erase.key"
    if not path.exists():
        hidden = home / f"erase.key.{os.getpid()}"
        with os.fdopen(os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        hidden.rename(path)
        fsync_folder(home)
    return blake2b(reader.encode(), key=path.read_bytes(), digest_size=16).digest()


def stored_payloads(store: sqlite3.Connection, ids: Sequence[bytes]) -> dict[bytes, StoredRow]:
    """Return id -> payload (:func:`experiments.events.wire.payload`) of those ids that are stored already."""
    known: dict[bytes, StoredRow] = {}
    for start in range(0, len(ids), 500):
        some = ids[start : start + 500]
        query = f"SELECT {', '.join(COLUMNS)} FROM event WHERE id IN ({', '.join('?' * len(some))})"
        known.update((row[0], payload(row)) for row in store.execute(query, some))
    return known


@dataclass(frozen=True, slots=True)
class BalanceRow:
    """Where the events of one kind and arm are. ``received`` is counted by the writers, the rest by the loader.

    Parameters
    ----------
    stored : rows in the store and in sealed partitions.
    duplicate, conflict : the same id came again with the same, or another, payload; the first was kept.
    dead : kept as dead letters. erased : deleted or refused on a reader's request. compacted : deleted after their time, or
        reports of visible time that a later one of the same page view contains.
    pending : durable in an outbox, not loaded yet.
    """

    kind: str
    arm: str
    received: int = 0
    stored: int = 0
    duplicate: int = 0
    conflict: int = 0
    dead: int = 0
    erased: int = 0
    pending: int = 0
    compacted: int = 0

    @property
    def exact(self) -> bool:
        """Whether every received event is accounted for.

        Examples
        --------
        >>> BalanceRow("view", "", received=3, stored=2, duplicate=1).exact, BalanceRow("view", "", received=3, stored=2).exact
        (True, False)
        """
        return self.received == self.stored + self.compacted + self.duplicate + self.conflict + self.dead + self.erased + self.pending


def balance(home: Path) -> list[BalanceRow]:
    """Return the balance per kind and arm, sorted; can be asked for while everything runs.

    One snapshot of the store is compared with the outbox files as of the same offsets. A file the loader removed in
    between makes the comparison start again.

    Raises
    ------
    DataError
        The files kept changing for fifty attempts.
    """
    for _ in range(50):
        counts = _store_counts(home)
        files = outbox_files(home / "outbox")
        vanished = counts.open - {path.stem for path in files}
        if all(_add_file(counts, path) for path in files) and not (vanished and vanished - _store_counts(home).open):
            return [BalanceRow(kind, arm, **row) for (kind, arm), row in sorted(counts.rows.items())]
    raise DataError("the balance could not be read: outbox files kept changing or cannot be opened.", "Try again.")


class _Counts:
    def __init__(self) -> None:
        self.rows: defaultdict[OutcomeKey, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.offsets: dict[str, int] = {}
        self.open: set[str] = set()  # outboxes the loader has not finished
        self.received: defaultdict[str, dict[OutcomeKey, int]] = defaultdict(dict)  # per outbox, as last read by the loader


def _store_counts(home: Path) -> _Counts:
    counts = _Counts()
    if not store_path(home).exists():
        return counts
    connection = read_store(store_path(home), longest_s=WHOLE_STORE_S)
    try:
        connection.execute("BEGIN")
        for name, query in (
            ("stored", "SELECT kind, arm, count(*) FROM fresh GROUP BY kind, arm"),
            ("stored", "SELECT kind, arm, sum(n) FROM sealed_count GROUP BY kind, arm"),
            ("dead", "SELECT kind, arm, count(*) FROM dead_letter GROUP BY kind, arm"),
        ):
            for kind, arm, n in connection.execute(query):
                counts.rows[kind, arm][name] += n
        for kind, arm, name, n in connection.execute("SELECT kind, arm, name, n FROM outcome"):
            counts.rows[kind, arm][name] += n
        for outbox, kind, arm, n in connection.execute("SELECT outbox, kind, arm, received FROM tally"):
            counts.rows[kind, arm]["received"] += n
            counts.received[outbox][kind, arm] = n
        for outbox, seq, state in connection.execute("SELECT outbox, seq, state FROM outbox_offset"):
            counts.offsets[outbox] = seq
            counts.open |= {outbox} if state == "open" else set()
    finally:
        connection.close()
    return counts


def _add_file(counts: _Counts, path: Path) -> bool:
    """Replace what the loader last saw of a live file by what the file says now."""
    try:
        tally, pending = pending_counts(path, after=counts.offsets.get(path.stem, 0))
    except (FileNotFoundError, sqlite3.OperationalError):
        return False
    except sqlite3.DatabaseError:
        return True  # damaged: the loader raises the alarm; what it counted stands
    for key, n in tally.items():
        counts.rows[key]["received"] += n - counts.received[path.stem].get(key, 0)
    for key, n in pending.items():
        counts.rows[key]["pending"] += n
    return path.exists()  # otherwise its log may have gone while it was read
