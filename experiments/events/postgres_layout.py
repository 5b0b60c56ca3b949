"""Lay the event store out in a PostgreSQL database, and let a home keep its events there."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from psycopg.conninfo import conninfo_to_dict

from experiments.errors import BusyError, ConfigError
from experiments.events.outbox_file import fsync_folder
from experiments.events.postgres_copy import fill
from experiments.events.postgres_store import connect
from experiments.events.sqlite_store import SCHEMA, VERSION
from experiments.events.store import erase_key, reader_key
from experiments.files import read_json, replace_json
from experiments.settings import ELSEWHERE, database_named

__all__ = ["lay_out"]

NEXT = "events.json.next"
ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtextextended('presslab layout', 0))"
# The tables are written down once, for SQLite; names of types differ, and what SQLite does with AUTOINCREMENT is last_event.
OTHER_WORDS = {
    "INTEGER PRIMARY KEY AUTOINCREMENT": "bigint PRIMARY KEY",
    "INTEGER": "bigint",
    "BLOB": "bytea",
    "TEXT": 'text COLLATE "C"',
    " WITHOUT ROWID": "",
    f"PRAGMA user_version={VERSION};": "",
}
# ``instr`` has the name and the meaning it has in SQLite.
ONLY_HERE = """
CREATE TABLE last_event(seq bigint NOT NULL);
INSERT INTO last_event VALUES (0);
CREATE FUNCTION instr(bytea, bytea) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT position($2 in $1)';
CREATE TABLE layout(version bigint NOT NULL, store text NOT NULL, erase_key bytea NOT NULL);
"""


def lay_out(home: Path) -> None:
    """Let a home keep its events in the database that the settings name; events it has in a file move there.

    The tables are made unless they are there. A home without events that is given a store becomes another machine of
    the same site. Killed anywhere, it can be repeated: the database holds all events or none.

    Raises
    ------
    ConfigError
        The store holds events of another home, and this one has events of its own or another ``erase.key``.
    BusyError
        Events are to move while a loader works.
    StoreDownError
        The database does not answer.
    """
    url, mark = database_named(home), home / ELSEWHERE
    file = home / "events.db"
    if not mark.exists():
        with _stopped_loader(home), connect(url) as connection:
            asked = _asked(home, url)
            with connection.transaction():
                connection.execute(ONE_AT_A_TIME)
                if connection.execute("SELECT to_regclass('layout')").fetchone() == (None,):
                    connection.execute(_schema())
                    connection.execute("INSERT INTO layout VALUES (%s, %s, %s)", (VERSION, asked["store"], reader_key(erase_key(home), "")))
                    if file.exists():
                        fill(connection, file, prefix=f"{asked['node']}/")
                store, key = connection.execute("SELECT store, erase_key FROM layout").fetchone() or ("", b"")
            if key != reader_key(erase_key(home), "") or (file.exists() and store != asked["store"]):
                raise ConfigError(
                    f"the database holds events of another home than {home}.",
                    "Name an empty database; or, if this is another machine of the same site, let it begin without events and with the"
                    " first one's erase.key.",
                )
            replace_json(home / NEXT, {**asked, "store": store})
            (home / NEXT).rename(mark)
            fsync_folder(home)
    for name in ("events.db", "events.db-wal", "events.db-shm"):  # what moved must not stay here: readers may ask to be erased
        (home / name).unlink(missing_ok=True)


def _asked(home: Path, url: str) -> dict[str, str]:
    """What ``events.json`` will say; written down before, so that a repetition knows its own store again."""
    known: dict[str, str] | None = read_json(home / NEXT)
    if known is None:
        words = conninfo_to_dict(url)
        place = {name: words[name] for name in ("host", "port", "dbname", "user") if name in words}
        known = {"engine": "postgresql", "store": uuid4().hex, "node": uuid4().hex, **place}
        replace_json(home / NEXT, known)
    return known


@contextmanager
def _stopped_loader(home: Path) -> Iterator[None]:
    """Keep loaders from starting."""
    descriptor = os.open(home / "loader.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise BusyError(f"a worker uses the event store of {home}.", "Stop the worker, then run `presslab migrate`.") from None
    finally:
        os.close(descriptor)


def _schema() -> str:
    text = SCHEMA
    for word, other in OTHER_WORDS.items():
        text = text.replace(word, other)
    return text + ONLY_HERE
