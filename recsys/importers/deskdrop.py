"""CI&T Deskdrop: articles read inside a company, with likes, bookmarks and comments as heavier reads.

``users_interactions.csv`` (or its zip), or a folder that also holds a ``shared_articles*.csv`` with titles and texts.
Ids are signed 64-bit numbers and stay text. An article counts as published at its first event.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.errors import DataError
from experiments.serving.recommender import Article
from recsys.importers.rows import SHOWN, Columns, Parsed, assemble, untitled
from recsys.importers.source import integers, read_source, texts

__all__ = ["parse", "parse_articles"]

COLUMNS = ("timestamp", "eventType", "contentId", "personId", "sessionId")
MORE = ("userAgent", "userRegion", "userCountry")
WEIGHTS = {"VIEW": 1.0, "LIKE": 2.0, "BOOKMARK": 2.5, "FOLLOW": 3.0, "COMMENT CREATED": 4.0}
ARTICLE_COLUMNS = ("contentId", "title", "text", "lang", "timestamp")


def parse(path: Path) -> Parsed:
    """Read Deskdrop interactions, and article texts when the folder has them.

    Raises
    ------
    DataError
        No interactions, or a column is missing.
    """
    log, articles_file = _files(path)
    source = read_source(log, COLUMNS, MORE)
    seconds, timed = integers(source.table["timestamp"])
    frame = source.table.to_pandas()
    weight = frame["eventType"].map(WEIGHTS).fillna(1.0).to_numpy(np.float64)
    unknown = frame.loc[~frame["eventType"].isin(WEIGHTS), "eventType"].fillna("").value_counts()
    article, reader, session = (texts(source.table[name], name) for name in COLUMNS[2:])
    at = seconds.clip(-(1 << 42), 1 << 42) * 1_000_000
    repeated = frame.duplicated().to_numpy(bool)
    parsed = assemble(Columns(reader, session, article, at, timed, source.lines, weight, repeated, source.refused, files=source.files))
    known, faults = parse_articles(articles_file) if articles_file is not None else ((), ())
    notes = tuple(f"{articles_file.name} line {line}: {reason}" for line, reason in faults[:SHOWN]) if articles_file else ()
    notes += tuple(
        f"{count:,} rows have the event '{event}', which is not known here; each counts as a view." for event, count in unknown.items()
    )
    return replace(parsed, articles=untitled(parsed.table, _as_first_read(known, parsed)), notes=notes)


def _files(path: Path) -> tuple[Path, Path | None]:
    if not path.is_dir():
        return path, None
    logs = sorted(path.glob("users_interactions*"))
    if not logs:
        raise DataError(f"{path}: no file is called users_interactions*.", "Give the interactions file itself.")
    return logs[0], next(iter(sorted(path.glob("shared_articles*.csv"))), None)


def _as_first_read(known: tuple[Article, ...], parsed: Parsed) -> tuple[Article, ...]:
    """Keep the texts of articles in the log, each published when it was first read."""
    first = parsed.table.group_by("article").aggregate([("at", "min")]).to_pandas()
    published = pd.Series(first["at_min"].to_numpy(), index=first["article"].to_numpy())
    return tuple(replace(a, published_at=datetime.fromtimestamp(published[a.id] / 1e6, UTC)) for a in known if a.id in published.index)


@contextmanager
def _any_length() -> Iterator[None]:
    """Lets values of CSV be as long as they are; the limit belongs to the whole process, so it is put back."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


@_any_length()
def parse_articles(path: Path) -> tuple[tuple[Article, ...], tuple[tuple[int, str], ...]]:
    """Return the whole articles of a ``shared_articles`` file and (line, reason) of those that are not.

    A file cut in the middle of a row keeps every row before it.
    """
    rows = csv.reader(io.StringIO(path.read_text("utf-8", "replace"), newline=""))
    header = next(rows, [])
    missing = [column for column in ARTICLE_COLUMNS if column not in header]
    if missing:
        raise DataError(f"{path.name}: {', '.join(map(repr, missing))} missing; the file has {', '.join(map(repr, header))}.")
    articles: dict[str, Article] = {}
    faults: list[tuple[int, str]] = []
    line = rows.line_num
    for row in rows:
        start, line = line + 1, rows.line_num
        if len(row) != len(header):
            faults.append((start, f"{len(row)} columns instead of {len(header)}; the file seems cut in the middle of a row"))
            continue
        values = dict(zip(header, row, strict=True))
        if values.get("eventType", "CONTENT SHARED") == "CONTENT SHARED" and values["timestamp"].isdecimal():
            articles[values["contentId"]] = _article(values)
    return tuple(articles.values()), tuple(faults)


def _article(values: Mapping[str, str]) -> Article:
    published = datetime.fromtimestamp(int(values["timestamp"]), UTC)
    text = values["text"]
    return Article(
        values["contentId"], values["title"], text[:180], text, "imported", "", published, language=values["lang"], imported=True
    )
