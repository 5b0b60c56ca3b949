"""The site's articles: ``content.db``, written by the newspaper, by editors and by importers."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments.errors import BusyError, ConfigError
from experiments.serving.recommender import Article, Catalogue
from experiments.turns import in_turns

__all__ = ["add_articles", "content_version", "load_catalogue", "withdraw_article", "withdrawn_articles"]

WAIT_S = 5.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS article (
    id TEXT PRIMARY KEY, title TEXT NOT NULL, dek TEXT NOT NULL, body TEXT NOT NULL, section TEXT NOT NULL, author TEXT NOT NULL,
    published_us INTEGER NOT NULL, tags TEXT NOT NULL, story TEXT NOT NULL, evergreen INTEGER NOT NULL, withdrawn INTEGER NOT NULL,
    language TEXT NOT NULL, imported INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS article_withdrawn ON article(id) WHERE withdrawn
"""  # the index: of a million articles with their texts the few ids must be found at once
OTHERS = "title, dek, body, section, author, published_us, tags, story, evergreen, withdrawn, language, imported"
NEW = ", ".join(f"excluded.{name}" for name in OTHERS.split(", "))
WRITE = (
    f"INSERT INTO article (id, {OTHERS}) VALUES (?{', ?' * 12}) "
    f"ON CONFLICT (id) DO UPDATE SET ({OTHERS}) = ({NEW}) WHERE ({OTHERS}) IS NOT ({NEW})"
)


@contextmanager
def _written(home: Path) -> Iterator[sqlite3.Connection]:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = home / "content.db"
    try:
        with closing(sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")  # a site that reads a million articles holds up nobody who writes one
            connection.execute("PRAGMA synchronous=FULL")
            connection.executescript(SCHEMA)
            yield connection
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        raise BusyError(f"{path} is being written by another process; nothing was changed.", "Try again.") from None


@contextmanager
def _read(home: Path) -> Iterator[sqlite3.Connection | None]:
    """Open the store without ever creating or changing it; None while nothing was written yet."""
    path = home / "content.db"
    try:
        if not path.exists() or not path.stat().st_size:
            yield None
            return
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=WAIT_S, isolation_level=None)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise ConfigError(
            f"{path}: the articles cannot be read: {error}.", "Restore it from a backup or import the articles again."
        ) from None


def add_articles(home: Path, articles: Sequence[Article]) -> int:
    """Write articles in one transaction (an article of the same id is replaced); returns how many are new or changed.

    While none is, the version stays, and no process reads the articles anew.
    """
    with _changed(home) as connection:
        return connection.executemany(WRITE, map(_row, articles)).rowcount


def withdraw_article(home: Path, identity: str) -> bool:
    """Show an article to nobody any more, until it is written anew; False when there is none of this id."""
    with _changed(home) as connection:
        connection.execute("UPDATE article SET withdrawn = 1 WHERE id = ? AND NOT withdrawn", (identity,))
        return connection.execute("SELECT 1 FROM article WHERE id = ?", (identity,)).fetchone() is not None


@contextmanager
def _changed(home: Path) -> Iterator[sqlite3.Connection]:
    """A transaction; what was changed in it makes a new version."""
    with _written(home) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        if connection.total_changes:
            connection.execute(f"PRAGMA user_version = {_version(connection) + 1}")
        connection.execute("COMMIT")


def _row(article: Article) -> tuple[Any, ...]:
    a = article
    at_us = round(a.published_at.timestamp() * 1e6)
    flags = int(a.evergreen), int(a.withdrawn), a.language, int(a.imported)
    return a.id, a.title, a.dek, a.body, a.section, a.author, at_us, json.dumps(a.tags), a.story, *flags


def load_catalogue(home: Path, *, gently: bool = False) -> Catalogue:
    """Return all articles of the site, also those whose publication time lies ahead (the pool leaves them out).

    Parameters
    ----------
    gently : other threads of the process answer requests meanwhile.
    """
    with _read(home) as connection:
        rows: Iterable[tuple[Any, ...]] = connection.execute("SELECT * FROM article") if connection and _version(connection) else ()
        return Catalogue([_article(row) for row in (in_turns(rows) if gently else rows)])


def content_version(home: Path) -> int:
    """Return a number that grows with every change of the articles; 0 while there are none."""
    with _read(home) as connection:
        return _version(connection) if connection else 0


def withdrawn_articles(home: Path) -> set[str]:
    """Return the ids of articles that may not be shown any more."""
    with _read(home) as connection:
        rows = connection.execute("SELECT id FROM article WHERE withdrawn") if connection and _version(connection) else ()
        return {identity for (identity,) in rows}


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _article(row: tuple[Any, ...]) -> Article:
    identity, title, dek, body, section, author, published_us, tags, story, evergreen, withdrawn, language, imported = row
    return Article(
        identity,
        title,
        dek,
        body,
        section,
        author,
        datetime.fromtimestamp(published_us / 1e6, UTC),
        tuple(json.loads(tags)) if tags != "[]" else (),  # most have none
        story,
        bool(evergreen),
        bool(withdrawn),
        language,
        bool(imported),
    )
