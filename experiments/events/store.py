"""The event store, which only the loader writes, and the balance that proves nothing was lost.

It is one SQLite file, ``events.db`` of a home, or a PostgreSQL database, which ``events.json`` of a home names.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from experiments.errors import ConfigError, DataError
from experiments.events.engine import Store
from experiments.events.outbox_file import Reading, fsync_folder, is_damage, outbox_files
from experiments.events.reading import LONGEST_S, WHOLE_STORE_S
from experiments.events.sqlite_store import open_sqlite, read_sqlite, upgrade_sqlite
from experiments.settings import ELSEWHERE, database_named

__all__ = [
    *("BalanceRow", "OutcomeKey", "Store", "alarms", "balance", "erase_key", "last_seq", "open_store", "read_store", "reader_key"),
    *("store_path", "upgrade_store"),
]

OutcomeKey = tuple[str, str]  # kind, arm


def store_path(home: Path) -> Path:
    """Where the store of a home lies: a SQLite file, or a few words that name the database which holds it."""
    elsewhere = home / ELSEWHERE
    return elsewhere if elsewhere.exists() else home / "events.db"


def open_store(path: Path, *, create: bool = False) -> Store:
    """Return the writing connection; only the loader may hold one (two writers of one SQLite log can corrupt it).

    Parameters
    ----------
    path : :func:`store_path` of a home.
    create : lay a SQLite file out if it does not exist.

    Raises
    ------
    NotFoundError
        There is no store and ``create`` is off.
    DataError
        The store has another layout.
    ConfigError
        A file would be laid out although the settings name a database.
    StoreDownError
        The database does not answer.
    """
    if path.name != ELSEWHERE:
        if create and not path.exists() and (path.parent / "control.db").exists() and database_named(path.parent):
            raise ConfigError(
                f"{path.parent}: PRESSLAB_DATABASE_URL names a database this home does not use yet.", "Run `presslab migrate`."
            )
        return open_sqlite(path, create=create)
    from experiments.events.postgres_store import open_postgres

    return open_postgres(path, writes=True)


def read_store(path: Path, *, longest_s: float = LONGEST_S) -> Store:
    """Return a read-only connection that is cut after ``longest_s`` seconds: a long read of a SQLite file stops checkpoints.

    Raises
    ------
    NotFoundError
        There is no store yet.
    DataError
        The store has another layout.
    StoreDownError
        The database does not answer.
    """
    if path.name != ELSEWHERE:
        return read_sqlite(path, longest_s=longest_s)
    from experiments.events.postgres_store import open_postgres

    return open_postgres(path, writes=False, longest_s=longest_s)


def upgrade_store(home: Path) -> None:
    """Bring the event store of a home to the current layout, and into the database that the settings name.

    Raises
    ------
    BusyError
        A loader works on the store.
    StoreDownError
        The database that the home is to use does not answer (one it uses already is not asked).
    """
    here = home / "events.db"
    if here.exists() and store_path(home) == here:
        upgrade_sqlite(here)
    if database_named(home) and (here.exists() or store_path(home) == here):
        from experiments.events.postgres_layout import lay_out

        lay_out(home)


def last_seq(store: Store) -> int:
    """Return the number of the last event that was ever stored, 0 in an empty store: the name of a data cut."""
    return store.last_seq()


def erase_key(home: Path) -> bytes:
    """Return the key under which a home remembers erased readers (made on first use, mode 0600)."""
    path = home / "erase.key"
    if not path.exists():
        hidden = home / f"erase.key.{os.getpid()}"
        with os.fdopen(os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        hidden.rename(path)
        fsync_folder(home)
    return path.read_bytes()


def reader_key(key: bytes, reader: str) -> bytes:
    """Return the hash under which an erased reader is remembered; ``key`` is that of the home (:func:`erase_key`)."""
    return blake2b(reader.encode(), key=key, digest_size=16).digest()


def alarms(home: Path) -> dict[Path, str]:
    """Return the outbox files that a loader found damaged and keeps, and why; empty without a store, and when they are removed."""
    if not store_path(home).exists():
        return {}
    with closing(read_store(store_path(home))) as store:
        kept = store.execute("SELECT outbox, alarm FROM outbox_offset WHERE state = 'kept' ORDER BY outbox").fetchall()
        mine = {home / "outbox" / f"{name.removeprefix(store.prefix)}.db": why for name, why in kept if name.startswith(store.prefix)}
    return {path: why for path, why in mine.items() if path.exists()}


@dataclass(frozen=True, slots=True)
class BalanceRow:
    """Where the events of one kind and arm are. ``received`` is counted by the writers, the rest by the loader.

    Parameters
    ----------
    stored : rows in the store and in sealed partitions.
    duplicate, conflict : the same id came again with the same, or another, payload; the first was kept.
    dead : kept as dead letters. erased : deleted or refused on a reader's request. compacted : events and dead letters deleted
        after their time, and reports of visible time that a later one of the same page view contains.
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
        vanished = counts.open - {counts.prefix + path.stem for path in files}
        if all(_add_file(counts, path) for path in files) and not (vanished and vanished - _store_counts(home).open):
            return [BalanceRow(kind, arm, **row) for (kind, arm), row in sorted(counts.rows.items())]
    raise DataError("the balance could not be read: outbox files kept changing or cannot be opened.", "Try again.")


def _pending_counts(path: Path, *, after: int) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], int]]:
    """Return (received by the writer's tally, entries after ``after``), both per kind and arm, of one snapshot."""
    head = "substr(CAST(body AS TEXT), 1, instr(CAST(body AS TEXT), char(10)) - 1)"
    safe = f'CASE WHEN json_valid({head}) THEN {head} ELSE \'["?",""]\' END'
    query = f"SELECT json_extract({safe}, '$[0]'), json_extract({safe}, '$[1]'), count(*) FROM entry WHERE seq > ? GROUP BY 1, 2"
    with Reading(path) as connection:
        tally = {
            (kind, arm): n
            for kind, arm, n in connection.execute("SELECT CAST(kind AS TEXT), CAST(arm AS TEXT), CAST(n AS INTEGER) FROM tally")
        }
        pending = {(kind, arm): n for kind, arm, n in connection.execute(query, (after,))}
    return tally, pending


class _Counts:
    def __init__(self) -> None:
        self.rows: defaultdict[OutcomeKey, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.prefix = ""  # of the outboxes of this home
        self.offsets: dict[str, int] = {}
        self.open: set[str] = set()  # outboxes of this home the loader has not finished
        self.received: defaultdict[str, dict[OutcomeKey, int]] = defaultdict(dict)  # per outbox, as last read by the loader


def _store_counts(home: Path) -> _Counts:
    counts = _Counts()
    if not store_path(home).exists():
        return counts
    with closing(read_store(store_path(home), longest_s=WHOLE_STORE_S)) as store:
        store.snapshot()
        counts.prefix = store.prefix
        for name, query in (
            ("stored", "SELECT kind, arm, count(*) FROM fresh GROUP BY kind, arm"),
            ("stored", "SELECT kind, arm, CAST(sum(n) AS BIGINT) FROM sealed_count GROUP BY kind, arm"),
            ("dead", "SELECT kind, arm, count(*) FROM dead_letter GROUP BY kind, arm"),
        ):
            for kind, arm, n in store.execute(query):
                counts.rows[kind, arm][name] += n
        for kind, arm, name, n in store.execute("SELECT kind, arm, name, n FROM outcome"):
            counts.rows[kind, arm][name] += n
        opened = set()
        for outbox, seq, state in store.execute("SELECT outbox, seq, state FROM outbox_offset"):
            counts.offsets[outbox] = seq
            opened |= {outbox} if state == "open" else set()
        counts.open = {outbox for outbox in opened if outbox.startswith(store.prefix)}
        for outbox, kind, arm, received, loaded in store.execute("SELECT outbox, kind, arm, received, loaded FROM tally"):
            counts.rows[kind, arm]["received"] += received
            counts.received[outbox][kind, arm] = received
            if outbox in opened - counts.open:  # of another machine: as its loader last saw it
                counts.rows[kind, arm]["pending"] += received - loaded
    return counts


def _add_file(counts: _Counts, path: Path) -> bool:
    """Replace what the loader last saw of a live file by what the file says now."""
    outbox = counts.prefix + path.stem
    try:
        tally, pending = _pending_counts(path, after=counts.offsets.get(outbox, 0))
    except FileNotFoundError:
        return False
    except sqlite3.Error as error:
        return is_damage(error)  # the loader raises the alarm; what it counted stands
    for key, n in tally.items():
        counts.rows[key]["received"] += max(0, n - counts.received[outbox].get(key, 0))  # a damaged file may say less than it said
    for key, n in pending.items():
        counts.rows[key]["pending"] += n
    return path.exists()  # otherwise its log may have gone while it was read
