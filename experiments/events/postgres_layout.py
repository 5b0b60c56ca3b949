"""Lay the event store out in a PostgreSQL database, and let a home keep its events there."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from psycopg.conninfo import conninfo_to_dict

from experiments.errors import ConfigError
from experiments.events.postgres_store import connect
from experiments.events.sqlite_store import SCHEMA, VERSION
from experiments.events.store import reader_key
from experiments.files import replace_json
from experiments.settings import ELSEWHERE, database_named

__all__ = ["lay_out"]

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
    """Make the tables unless they are there, and write down in the home which store it is.

    A second home that is given the same database becomes another machine of the same site.

    Raises
    ------
    ConfigError
        The store was made with another ``erase.key``: this home could not recognise readers who were erased.
    StoreDownError
        The database does not answer.
    """
    url = database_named(home)
    with connect(url) as connection, connection.transaction():
        connection.execute(ONE_AT_A_TIME)
        if connection.execute("SELECT to_regclass('layout')").fetchone() == (None,):
            connection.execute(_schema())
            connection.execute("INSERT INTO layout VALUES (%s, %s, %s)", (VERSION, uuid4().hex, reader_key(home, "")))
        store, key = connection.execute("SELECT store, erase_key FROM layout").fetchone() or ("", b"")
    if key != reader_key(home, ""):
        raise ConfigError(
            f"the database holds events of another home, with another erase.key than {home / 'erase.key'}.",
            "Name an empty database; or, if this is another machine of the same site, copy erase.key from the first one.",
        )
    words = conninfo_to_dict(url)
    place = {name: words[name] for name in ("host", "port", "dbname", "user") if name in words}
    replace_json(home / ELSEWHERE, {"engine": "postgresql", "store": store, "node": uuid4().hex, **place})


def _schema() -> str:
    text = SCHEMA
    for word, other in OTHER_WORDS.items():
        text = text.replace(word, other)
    return text + ONLY_HERE
