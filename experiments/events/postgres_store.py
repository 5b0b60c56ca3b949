"""The event store in a PostgreSQL database, which the loaders of several machines may share.

SQL is the same text as for SQLite. What is read from bodies is computed by SQLite too, over rows that are copied chunk by
chunk: PostgreSQL refuses texts that SQLite takes, and a rule that exists twice would give two reports.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from experiments.errors import ConfigError, DataError, StoreDownError
from experiments.events.engine import Rows
from experiments.events.reading import LONGEST_S
from experiments.events.sealed import shard_of
from experiments.events.sqlite_store import SCHEMA, VERSION, WHOLE
from experiments.events.wire import COLUMNS, Columns
from experiments.files import read_json
from experiments.settings import database_named

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict
except ImportError as missing:
    raise ConfigError(
        "PRESSLAB_DATABASE_URL is set, but psycopg, the driver for PostgreSQL, is not installed.", "pip install 'presslab[postgres]'"
    ) from missing

__all__ = ["PostgresStore", "connect", "open_postgres"]

AT_ONCE = 20_000
LIVELY = {
    "connect_timeout": 5,
    "keepalives_idle": 30,
    "tcp_user_timeout": 30_000,
    "application_name": "presslab",
    "client_encoding": "utf8",
}
# A writer that was stopped inside a transaction must not stop the others for ever.
WRITER = "SET lock_timeout = '30s'; SET idle_in_transaction_session_timeout = '60s'"
READER = "SET default_transaction_read_only = on; SET statement_timeout = {ms}; SET idle_in_transaction_session_timeout = {ms}"
EVENT = ("seq", *COLUMNS)
TYPES = ["int8" if name in WHOLE else "bytea" if name == "id" else "text" for name in EVENT]
NAMED = re.compile(r":([a-z]+)\b")


class PostgresStore:
    """A connection to the store (:class:`experiments.events.engine.Store`); a lost one is made again before the next transaction.

    Parameters
    ----------
    url : of the database. store : the id it must have, so that another database is never taken for this one.
    node : the id of this home among those that share the store.
    longest_s : of a statement, or of doing nothing inside a snapshot, of a connection that only reads.
    """

    most_rows = 5_000
    mend = "Set fsync = on in postgresql.conf and restart the server."

    def __init__(self, url: str, *, store: str, node: str, writes: bool, longest_s: float = LONGEST_S) -> None:
        self.prefix = f"{node}/"
        self.says = f"PostgreSQL, {_place(url)}"
        self._url, self._id, self._writes, self._longest_s = url, store, writes, longest_s
        self._inside = False  # a transaction: what belongs to it must not go to a new connection
        self._connection = self._connected()

    def execute(self, sql: str, values: Any = ()) -> Rows:
        with self._answering() as connection:
            rows: Rows = connection.execute(_translated(sql), values)
        return rows

    def executemany(self, sql: str, values: Iterable[Any]) -> None:
        with self._answering() as connection, connection.cursor() as cursor:
            cursor.executemany(_translated(sql), list(values))

    def close(self) -> None:
        self._connection.close()

    def snapshot(self) -> None:
        self.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        self._inside = True

    def begin(self) -> None:
        self.execute("BEGIN")
        self._inside = True
        try:  # one writer at a time: numbers follow commits, and nothing is stored between a look and an insert
            self.execute("SELECT seq FROM last_event FOR UPDATE")
        except BaseException:
            self.rollback()
            raise

    def commit(self) -> None:
        try:
            self.execute("COMMIT")
        finally:
            self._inside = False

    def rollback(self) -> None:
        with suppress(StoreDownError):  # then the server has done it
            self.execute("ROLLBACK")
        self._inside = False

    def leads(self) -> bool:
        (leads,) = self.execute("SELECT pg_try_advisory_lock(hashtextextended(?, 0))", (self._id,)).fetchone()
        return bool(leads)

    def insert(self, columns: Columns) -> bool:
        last = self.last_seq()
        with self._answering() as connection:
            try:
                with connection.transaction(), connection.cursor() as cursor:  # a savepoint: what was done before stays
                    with cursor.copy(f"COPY event({', '.join(EVENT)}) FROM STDIN (FORMAT BINARY)") as copy:
                        copy.set_types(TYPES)
                        for seq, row in enumerate(zip(*columns, strict=True), last + 1):
                            copy.write_row((seq, *row))
                    cursor.execute("UPDATE last_event SET seq = %s", (last + len(columns[0]),))
            except psycopg.errors.UniqueViolation:
                return False
        return True

    def last_seq(self) -> int:
        return int(self.execute("SELECT seq FROM last_event").fetchone()[0])

    def has(self, table: str) -> bool:
        return bool(self.execute("SELECT to_regclass(?) IS NOT NULL", (table,)).fetchone()[0])

    def facts(self, columns: Sequence[str], where: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        used = [name for name in EVENT if any(re.search(rf"\b{name}\b", column) for column in columns)]
        found: list[tuple[Any, ...]] = []
        with closing(_local(":memory:")) as local:
            local.execute(f"CREATE TABLE fresh({', '.join(used)})")
            for some in self.stream(used, "fresh", where, values):
                local.executemany(f"INSERT INTO fresh VALUES ({', '.join('?' * len(used))})", some)
                found += local.execute(f"SELECT {', '.join(columns)} FROM fresh").fetchall()
                local.execute("DELETE FROM fresh")
        return found

    @contextmanager
    def copied(self, where: str, values: Any, folder: Path) -> Iterator[sqlite3.Connection]:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / "events.db"
        try:
            with closing(_local(str(path))) as local:
                local.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {SCHEMA} BEGIN;")
                for some in self.stream(EVENT, "event", where, values):
                    local.executemany(f"INSERT INTO event({', '.join(EVENT)}) VALUES ({', '.join('?' * len(EVENT))})", some)
                local.execute("COMMIT")
                yield local
        finally:
            path.unlink(missing_ok=True)

    def wipe(self) -> bool:
        self.execute("SET lock_timeout = '1s'")  # whoever begins to read waits behind this
        try:
            for table in ("event", "dead_letter"):
                self.execute(f"VACUUM (FULL) {table}")
        except StoreDownError:  # somebody reads for longer
            return False
        finally:
            self.execute(WRITER)
        return True

    def copy_log(self, *, empty: bool, wait_ms: int = 0) -> bool:  # noqa: ARG002 - the server does it
        return True

    def check(self) -> str:
        (durable,) = self.execute("SHOW fsync").fetchone()
        return "ok" if durable == "on" else "fsync is off, a power cut may lose what was acknowledged"

    def stream(self, columns: Sequence[str], table: str, where: str, values: Any) -> Iterator[list[tuple[Any, ...]]]:
        """Yield rows in parts; call it inside a snapshot."""
        with self._answering() as connection, connection.cursor(name="events", binary=True) as cursor:
            cursor.execute(_translated(f"SELECT {', '.join(columns)} FROM {table} WHERE {where}"), values)
            while some := cursor.fetchmany(AT_ONCE):
                yield some

    @contextmanager
    def _answering(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        if self._connection.closed and not self._inside:
            self._connection = self._connected()
        try:
            yield self._connection
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise _down(self.says, error) from error

    def _connected(self) -> psycopg.Connection[tuple[Any, ...]]:
        connection = connect(self._url)
        try:
            connection.execute(WRITER if self._writes else READER.format(ms=round(self._longest_s * 1000)))
            if self._writes and connection.execute("SHOW synchronous_commit").fetchone() in {("off",), ("local",)}:
                connection.execute("SET synchronous_commit = on")
            _check(connection, self._id, self.says)
        except psycopg.OperationalError as error:
            raise _down(self.says, error) from error
        except BaseException:
            connection.close()
            raise
        return connection


def open_postgres(path: Path, *, writes: bool, longest_s: float = LONGEST_S) -> PostgresStore:
    """Return a connection to the store that a home's ``events.json`` names.

    Raises
    ------
    StoreDownError
        The database does not answer.
    DataError
        It is another database, or of another layout.
    """
    known = read_json(path)
    if known is None:
        raise DataError(f"{path} cannot be read; it says which database holds the events.", "Restore it from the last backup.")
    return PostgresStore(database_named(path.parent), store=known["store"], node=known["node"], writes=writes, longest_s=longest_s)


def connect(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    """Return a connection that begins and ends transactions only when told to.

    Raises
    ------
    ConfigError
        It is no URL of a PostgreSQL database (the message does not repeat it: it may hold a password).
    StoreDownError
        The database does not answer.
    """
    place = _place(url)
    try:
        return psycopg.connect(**{**LIVELY, **conninfo_to_dict(url)}, autocommit=True)
    except psycopg.OperationalError as error:
        raise _down(f"PostgreSQL, {place}", error) from error


def _place(url: str) -> str:
    """Where a database is, without the password."""
    try:
        known = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise ConfigError(
            "PRESSLAB_DATABASE_URL is no URL of a PostgreSQL database.", "Write postgresql://user@host:5432/database"
        ) from None
    return f"database '{known.get('dbname') or known.get('user') or ''}' on {known.get('host') or 'the local socket'}"


def _check(connection: psycopg.Connection[tuple[Any, ...]], store: str, says: str) -> None:
    (known,) = connection.execute("SELECT to_regclass('layout') IS NOT NULL").fetchone() or (False,)
    version, found = (connection.execute("SELECT version, store FROM layout").fetchone() if known else None) or (None, "")
    if found != store:
        raise DataError(
            f"{says} does not hold the events of this home.", "Correct PRESSLAB_DATABASE_URL; events.json says which database it was."
        )
    if version != VERSION:
        raise DataError(f"the event store ({says}) has layout {version}, this program reads {VERSION}.", "Run `presslab migrate`.")


def _down(says: str, error: Exception) -> StoreDownError:
    why = " ".join(str(error).split()).rstrip(".")
    return StoreDownError(f"the event store ({says}) does not answer: {why}.", "Events wait in the outboxes until it does.")


def _local(path: str) -> sqlite3.Connection:
    local = sqlite3.connect(path, isolation_level=None)
    local.create_function("shard_of", 1, shard_of, deterministic=True)
    return local


@lru_cache(maxsize=256)
def _translated(sql: str) -> str:
    """The same statement with the values where psycopg expects them."""
    return NAMED.sub(r"%(\1)s", sql.replace("%", "%%").replace("?", "%s"))
