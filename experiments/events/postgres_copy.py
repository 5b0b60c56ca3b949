"""A backup of the events a database holds: the SQLite store of a home, so that it can be restored anywhere."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from experiments.events.postgres_store import open_postgres
from experiments.events.sqlite_store import SCHEMA

__all__ = ["save"]

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
    with closing(open_postgres(path, writes=False)) as store, closing(sqlite3.connect(target, isolation_level=None)) as copy:
        copy.executescript(f"PRAGMA synchronous=OFF; {SCHEMA} BEGIN;")
        store.snapshot()
        for table in TABLES:
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
