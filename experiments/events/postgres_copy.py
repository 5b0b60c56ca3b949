"""Whole stores between engines: a backup of a database is a SQLite store, and a SQLite store may move into a database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from experiments.errors import DataError
from experiments.events.engine import ERASED_READER, Store
from experiments.events.postgres_store import open_postgres
from experiments.events.reading import WHOLE_STORE_S
from experiments.events.sqlite_store import SCHEMA, read_sqlite

__all__ = ["fill", "save"]

TYPES = {"INTEGER": "int8", "BIGINT": "int8", "TEXT": "text", "BLOB": "bytea"}
TABLES = ("event", "dead_letter", "outbox_offset", "tally", "outcome", "lease", "erased", "sealed", "sealed_count")
NAMED = {"dead_letter": "outbox", "outbox_offset": "outbox", "tally": "outbox", "lease": "name"}  # with the machine before the name
# Outboxes of other machines are not in a backup of this home. What was loaded of them is; the rest is theirs to load.
ELSEWHERE_DONE = (
    "UPDATE tally SET received = loaded WHERE instr(outbox, '/') > 0",
    "UPDATE outbox_offset SET state = 'done' WHERE instr(outbox, '/') > 0",
    "DELETE FROM sqlite_sequence",  # the next number is set afterwards
)


def save(path: Path, target: Path) -> None:
    """Write what a database holds, as of one instant, as a SQLite store.

    Parameters
    ----------
    path : ``events.json`` of a home whose outboxes were copied before. target : must not exist.

    Raises
    ------
    StoreDownError
        The database does not answer.
    """
    with (
        closing(open_postgres(path, writes=False, longest_s=WHOLE_STORE_S)) as store,
        closing(sqlite3.connect(target, isolation_level=None)) as copy,
    ):
        copy.executescript(f"PRAGMA synchronous=OFF; {SCHEMA} BEGIN;")
        store.snapshot()
        for table in (*TABLES, *_made(store, copy)):
            names = [row[1] for row in copy.execute(f"PRAGMA table_info({table})")]
            insert = f"INSERT INTO {table}({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
            for some in store.stream(names, table, "true", ()):
                copy.executemany(insert, some)
        for table, name in NAMED.items():
            copy.execute(f"UPDATE {table} SET {name} = substr({name}, ?) WHERE instr({name}, ?) = 1", (len(store.prefix) + 1, store.prefix))
        for change in ELSEWHERE_DONE:
            copy.execute(change)
        copy.execute("INSERT INTO sqlite_sequence VALUES ('event', ?)", (store.last_seq(),))
        copy.execute("COMMIT")


def _made(store: Store, target: sqlite3.Connection | psycopg.Connection[tuple[Any, ...]]) -> list[str]:
    """Make the table that not every store has; returns its name if this one has it."""
    if not store.has("erased_reader"):
        return []
    target.execute(ERASED_READER)
    return ["erased_reader"]


def fill(connection: psycopg.Connection[tuple[Any, ...]], file: Path, *, prefix: str) -> None:
    """Copy a SQLite store into the empty tables of a database, inside a transaction.

    Raises
    ------
    DataError
        The database does not hold as many rows as the file.
    """
    with closing(read_sqlite(file, longest_s=WHOLE_STORE_S)) as store:
        store.snapshot()
        for table in (*TABLES, *_made(store, connection)):
            known = {row[1]: TYPES[row[2]] for row in store.execute(f"PRAGMA table_info({table})")}
            chosen = ", ".join(
                f"CASE {name} WHEN '' THEN '' ELSE '{prefix}' || {name} END" if name == NAMED.get(table) else name for name in known
            )
            with connection.cursor() as cursor, cursor.copy(f"COPY {table}({', '.join(known)}) FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(list(known.values()))
                for row in store.execute(f"SELECT {chosen} FROM {table}"):
                    copy.write_row(row)
            counts = [source.execute(f"SELECT count(*) FROM {table}").fetchone() for source in (store, connection)]
            if counts[0] != counts[1]:
                raise DataError(f"{counts[0]} rows of table {table} became {counts[1]} in the database; nothing was moved.", "Report it.")
        connection.execute("UPDATE last_event SET seq = %s", (store.last_seq(),))
