"""MIND (Microsoft News): a folder with ``behaviors.tsv`` and ``news.tsv``, or a behaviors file alone; no header, no quoting.

A read is a clicked impression (``N2-1``). Histories carry no time, so they never become reads. News is published when it was
first shown. Source: Wu et al., MIND: a large-scale dataset for news recommendation, ACL 2020.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from experiments.errors import DataError
from experiments.serving.recommender import Article
from recsys.importers.lines import Bools, Lines, numbered
from recsys.importers.rows import SHOWN, Columns, Parsed, assemble, untitled
from recsys.importers.source import Source, check_readable, texts

__all__ = ["looks_like", "parse", "parse_news"]

BEHAVIORS = ("impression", "reader", "time", "history", "shown")
NEWS = ("id", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities")
WRITTEN = r"^\d{1,2}/\d{1,2}/\d{4} \d{1,2}:\d{2}:\d{2} [AP]M$"
FORMAT = "%m/%d/%Y %I:%M:%S %p"
SHOWN_ONE = r"^\S+-[01]$"


def looks_like(path: Path) -> bool:
    """Whether a path is MIND: a folder with ``behaviors.tsv``, or a file of five columns between tabs with a time in the third."""
    if path.is_dir():
        return (path / "behaviors.tsv").is_file()
    with path.open("rb") as file:
        cells = file.readline(1 << 20).decode("utf-8", "replace").rstrip("\r\n").split("\t")
    return len(cells) == len(BEHAVIORS) and bool(pd.Series([cells[2]]).str.fullmatch(WRITTEN.strip("^$")).item())


def parse(path: Path) -> Parsed:
    """Read clicked impressions, and articles when the folder has them.

    Raises
    ------
    DataError
        There is no behaviors file, or it is no such table.
    """
    behaviors = path / "behaviors.tsv" if path.is_dir() else path
    source = _tsv(behaviors, BEHAVIORS)
    moments, timed = _times(source.table["time"])
    shown = _impressions(source)
    row = shown.row[shown.clicked]
    take = pa.array(row)
    reader = texts(source.table["reader"], "reader").take(take)
    clicks = Columns(reader, None, shown.ids.take(pa.array(shown.article[shown.clicked])), moments[row], timed[row], source.lines[row])
    refused = (*source.refused, *shown.refused, *_without_click(source, shown, timed))
    parsed = assemble(replace(clicks, refused=refused, repeated=_repeated(clicks, source, row)))
    news = behaviors.parent / "news.tsv"
    known, faults = parse_news(news, _first_shown(shown, moments, timed)) if path.is_dir() and news.is_file() else ((), ())
    told = tuple(f"{news.name} line {line}: {reason}" for line, reason in faults[:SHOWN])
    articles = untitled(parsed.table, known)
    head = f"{source.table.num_rows:,} page views showed {len(shown.row):,} articles, {int(shown.clicked.sum()):,} were clicked"
    return replace(parsed, articles=articles, notes=(f"{head}; histories carry no time and were not read.", *told))


def _repeated(clicks: Columns, source: Source, row: Lines) -> Bools:
    """Whether a click repeats an earlier one of the same impression, reader, time and article."""
    frame = pd.DataFrame({"row": texts(source.table["impression"], "impression").take(pa.array(row)).to_pandas(), "at": clicks.at})
    frame["article"], frame["reader"] = clicks.article.to_pandas(), clicks.reader.to_pandas()
    return frame.duplicated().to_numpy(bool)


def _without_click(source: Source, shown: _Shown, timed: Bools) -> list[tuple[int, str]]:
    """Return (line, reason) of page views nobody clicked in that lack their reader or time; with a click, the click is refused."""
    unclicked = np.ones(len(timed), bool)
    unclicked[shown.row[shown.clicked]] = False
    unclicked[np.isin(source.lines, [line for line, _ in shown.refused])] = False
    nobody = np.asarray(pc.is_null(texts(source.table["reader"], "reader")))
    rows = np.flatnonzero(unclicked & (nobody | ~timed))
    return [(int(source.lines[i]), "the reader is missing" if nobody[i] else "the time is missing or not readable") for i in rows]


@dataclass(frozen=True, slots=True)
class _Shown:
    """Every shown article: (m,) ``row`` of the file, ``clicked``, and ``article``, a code into ``ids`` (text)."""

    row: Lines
    article: Lines
    clicked: Bools
    ids: Any
    refused: tuple[tuple[int, str], ...]


def _impressions(source: Source) -> _Shown:
    """Take the impressions apart; the words are few and come often, so only distinct ones are looked at."""
    words = pc.split_pattern(pc.utf8_trim_whitespace(pc.fill_null(source.table["shown"].combine_chunks(), "")), " ")
    row, word = np.asarray(pc.list_parent_indices(words)).astype(np.int64), pc.list_flatten(words).dictionary_encode()
    code, distinct = np.asarray(word.indices).astype(np.int64), word.dictionary
    bad = np.flatnonzero(~np.asarray(pc.match_substring_regex(distinct, SHOWN_ONE))[code])
    broken, first = np.unique(row[bad], return_index=True)
    refused = [
        (int(source.lines[r]), f"the impression {word[int(bad[i])].as_py()[:40]!r} ends with neither -0 nor -1; is the row cut?")
        for r, i in zip(broken, first, strict=True)
    ]
    good = ~np.isin(row, broken) if len(broken) else slice(None)
    row, code = row[good], code[good]
    ids = pc.utf8_slice_codeunits(distinct, 0, -2).dictionary_encode()
    article = np.asarray(ids.indices).astype(np.int64)[code]
    return _Shown(row, article, np.asarray(pc.ends_with(distinct, "-1"))[code], ids.dictionary, tuple(refused))


def _times(column: Any) -> tuple[Lines, Bools]:
    """UTC microseconds; the log does not say its zone, it is read as UTC."""
    text = column.combine_chunks()
    text = pc.if_else(pc.match_substring_regex(text, WRITTEN), text, pa.scalar(None, pa.string()))
    moments = pc.strptime(text, format=FORMAT, unit="us", error_is_null=True)
    day = pc.list_element(pc.split_pattern(text, " "), 0).dictionary_encode()
    real = pd.to_datetime(day.dictionary.to_pandas(), format=FORMAT.split()[0], errors="coerce").notna()
    codes = np.asarray(pc.fill_null(day.indices, len(real))).astype(np.int64)
    good = pc.is_valid(moments).to_numpy(zero_copy_only=False) & np.append(real, False)[codes]  # Arrow takes February 30 for March 2
    return np.where(good, pc.fill_null(pc.cast(moments, pa.int64()), 0), 0), good


def _first_shown(shown: _Shown, moments: Lines, timed: Bools) -> dict[str, datetime]:
    """When each article was first shown."""
    never = np.iinfo(np.int64).max
    first = np.full(len(shown.ids), never)
    whole = timed[shown.row]
    np.minimum.at(first, shown.article[whole], moments[shown.row[whole]])
    pairs = zip(shown.ids.to_pylist(), first.tolist(), strict=True)
    return {article: datetime.fromtimestamp(at / 1e6, UTC) for article, at in pairs if at < never}


def parse_news(path: Path, published: Mapping[str, datetime] | None = None) -> tuple[tuple[Article, ...], tuple[tuple[int, str], ...]]:
    """Return the articles of a ``news.tsv`` and (line, reason) of rows that are not; an empty abstract is none.

    Parameters
    ----------
    published : when each article was first shown, others are left out; without it all are returned, published at the epoch.
    """
    source = _tsv(path, NEWS)
    columns = [texts(source.table[name], name).to_pylist() for name in ("id", "category", "title", "abstract")]
    faults = list(source.refused)
    articles: dict[str, Article] = {}
    epoch = datetime.fromtimestamp(0, UTC)
    for line, identity, section, title, abstract in zip(source.lines.tolist(), *columns, strict=True):
        if not identity or not title:
            faults.append((line, "the id or the title is missing"))
        elif published is None or identity in published:
            dek, at = abstract or "", published[identity] if published else epoch
            articles[identity] = Article(identity, title, dek[:180], dek, section or "imported", "", at, imported=True)
    return tuple(articles.values()), tuple(sorted(faults))


def _tsv(path: Path, names: Sequence[str]) -> Source:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.", "Give the folder that holds behaviors.tsv, or that file itself.")
    with path.open("rb") as file:
        check_readable(path.name, file.read(512))
    invalid: list[tuple[int, str]] = []

    def note(row: Any) -> str:
        invalid.append((int(row.number), f"{row.actual_columns} columns instead of {row.expected_columns}; is the row cut?"))
        return "skip"

    options = pacsv.ConvertOptions(column_types={name: pa.string() for name in names}, strings_can_be_null=True, null_values=[""])
    parsing = pacsv.ParseOptions(delimiter="\t", quote_char=False, invalid_row_handler=note)
    reading = pacsv.ReadOptions(use_threads=False, column_names=list(names), block_size=64 << 20)
    try:
        table = pacsv.read_csv(pa.memory_map(str(path)), read_options=reading, parse_options=parsing, convert_options=options)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path.name}: not readable as a table between tabs: {error}.") from error
    found = numbered(path, table.num_rows, invalid, header=0, quoted=False)
    if len(invalid) and not table.num_rows:
        raise DataError(
            f"{path.name}: no row has the {len(names)} columns of this format.", faults=[f"line {n}: {why}" for n, why in found.bad[:SHOWN]]
        )
    return Source(table, found.lines, found.bad)
