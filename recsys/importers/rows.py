"""From columns to reads: every row is kept or refused for one named reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from experiments.serving.recommender import Article
from recsys.importers.lines import Bools, Lines, place

__all__ = ["Columns", "Parsed", "assemble", "untitled"]

EARLIEST_US = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
LATEST_US = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
SESSION_GAP_US = 30 * 60 * 1_000_000
SHOWN = 20
BETWEEN = "\x1f"  # of the parts of a session's name; no id holds one, so two readers never share a name
CONTROL = r"[\x00-\x1f\x7f]"


@dataclass(frozen=True, slots=True)
class Columns:
    """What an importer found, one entry per row of the file.

    Parameters
    ----------
    reader, article : text arrays, null where missing. session : the same, or None when the file has none; a session is cut where it is null.
    at : (n,) int64, UTC microseconds; timed : (n,) bool, False where the time could not be read.
    unsure : (n,) bool or None, times in an hour that clocks show twice or leave out.
    lines : (n,) int64, line of each row. weight : (n,) float64 or None (1 each).
    repeated : (n,) bool or None, rows equal to an earlier one.
    refused : (line, reason) of rows that never became columns.
    said : ``device`` and ``referrer`` of the page view as text arrays, null where missing; nothing else about a reader is kept.
    files : as in :class:`recsys.importers.source.Source`.
    """

    reader: Any
    session: Any
    article: Any
    at: npt.NDArray[np.int64]
    timed: Bools
    lines: Lines
    weight: npt.NDArray[np.float64] | None = None
    repeated: Bools | None = None
    refused: tuple[tuple[int, str], ...] = ()
    said: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[tuple[int, str], ...] = ()
    unsure: Bools | None = None


@dataclass(frozen=True, slots=True)
class Parsed:
    """A log that can be imported or evaluated.

    Parameters
    ----------
    table : pyarrow.Table with reader, session, article (text), at (int64 UTC µs), weight (float64), seq (int64), sorted by time; device and referrer
        (text, empty where missing) if the log has them. A session is named after its reader, too: a log may number each reader's from 1.
    read : rows of the file.
    refused : the first 20 (line, reason) pairs, the reason begins with the file's name when there are several; reasons : reason -> count of all of them.
    articles : one per article of the log. notes : what else a person should know.
    """

    table: Any
    read: int
    refused: tuple[tuple[int, str], ...]
    reasons: dict[str, int]
    articles: tuple[Article, ...] = ()
    notes: tuple[str, ...] = ()


def assemble(columns: Columns) -> Parsed:
    """Keep the rows that are whole, sort them by time and cut sessions at 30 minutes where a row names none."""
    n = len(columns.at)
    ids = [column for column in (columns.reader, columns.article, columns.session) if column is not None]
    broken = np.any([pc.fill_null(pc.match_substring_regex(column, CONTROL), False) for column in ids], axis=0)
    nowhere = np.zeros(n, bool)
    reason = np.zeros(n, np.int8)
    rules = [
        ("the reader is missing", _missing(columns.reader)),
        ("the article is missing", _missing(columns.article)),
        ("an id holds a zero byte, a line end or another control character", broken),
        (
            "the time lies in an hour that clocks show twice or leave out; write its offset",
            nowhere if columns.unsure is None else columns.unsure,
        ),
        ("the time is missing or not readable", ~columns.timed),
        ("the time lies outside 2000 to 2100 (another unit?)", (columns.at < EARLIEST_US) | (columns.at >= LATEST_US)),
        ("the row repeats an earlier one", nowhere if columns.repeated is None else columns.repeated),
    ]
    for code, (_, bad) in enumerate(rules, start=1):
        reason[(reason == 0) & bad] = code
    counts = Counter(text for _, text in columns.refused)
    counts.update({rules[c - 1][0]: int((reason == c).sum()) for c in np.unique(reason[reason > 0])})
    first = [(int(columns.lines[i]), rules[reason[i] - 1][0]) for i in np.flatnonzero(reason)[:SHOWN]]
    shown = sorted([*columns.refused, *first])[:SHOWN]
    refused = tuple((line, name + why) for number, why in shown for line, name in [place(number, columns.files)])
    return Parsed(_table(columns, reason == 0), n + len(columns.refused), refused, dict(counts))


def _missing(column: Any) -> Bools:
    return np.asarray(pc.is_null(column).to_numpy(zero_copy_only=False), dtype=bool)


def _table(columns: Columns, kept: Bools) -> Any:
    order = np.flatnonzero(kept)
    order = order[np.argsort(columns.at[order], kind="stable")]
    take = pa.array(order)
    reader, article, at = columns.reader.take(take), columns.article.take(take), columns.at[order]
    session = pa.nulls(len(order), pa.string()) if columns.session is None else _joined(reader, columns.session.take(take))
    if session.null_count:
        session = pc.coalesce(session, _cut_sessions(reader, at))
    weight = np.ones(len(order)) if columns.weight is None else columns.weight[order]
    names = {"reader": reader, "session": session, "article": article, "at": at, "weight": weight, "seq": np.arange(len(order))}
    said = {name: pc.fill_null(column, "").take(take) for name, column in columns.said.items()}
    return pa.table(names | said)


def _joined(*parts: Any) -> Any:
    return pc.binary_join_element_wise(*(pc.cast(part, pa.string()) for part in parts), BETWEEN)


def _cut_sessions(reader: Any, at: npt.NDArray[np.int64]) -> Any:
    """Name sessions by their reader and when they begin, so that files imported one by one share none; ``at`` is sorted."""
    codes = np.asarray(pc.dictionary_encode(reader).indices)
    order = np.argsort(codes, kind="stable")
    starts = (np.diff(codes[order], prepend=-1) != 0) | (np.diff(at[order], prepend=0) >= SESSION_GAP_US)
    begun = np.empty(len(at), np.int64)
    begun[order] = at[order][np.maximum.accumulate(np.where(starts, np.arange(len(at)), 0))]
    return _joined(reader, pa.array([""] * len(at), pa.string()), pa.array(begun))


def untitled(table: Any, known: Sequence[Article] = ()) -> tuple[Article, ...]:
    """Return one article per id of the log, published when it was first read, except those already ``known``.

    Imported logs carry no texts; the title says ``Article <id>`` and the body says that the text was not in the import.
    """
    have = {article.id for article in known}
    first = table.group_by("article").aggregate([("at", "min")])
    pairs = zip(first["article"].to_pylist(), first["at_min"].to_pylist(), strict=True)
    text = "The text of this article was not in the import."
    new = (
        Article(i, f"Article {i}", "", text, "imported", "", datetime.fromtimestamp(at / 1e6, UTC), imported=True)
        for i, at in pairs
        if i not in have
    )
    return (*known, *sorted(new, key=lambda article: article.id))
