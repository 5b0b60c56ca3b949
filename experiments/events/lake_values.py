"""What a report asks beyond one row of sums per reader: groups of readers, ceilings, values of events, what was most read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from experiments.events.lake import ReaderRows
from experiments.events.lake_rules import DAY_US, event_values, needed, segment
from experiments.events.lake_sql import entered_sql
from experiments.events.lake_tables import evaluate, query
from experiments.events.tail import open_tail
from experiments.experiment import Experiment
from experiments.metric import Measure

__all__ = ["EventValues", "MostRead", "by_segment", "most_read", "values_of_events", "with_ceiling", "with_measures"]

MOST_READ = 100
MOST_READ_DAYS = 7


@dataclass(frozen=True, slots=True)
class MostRead:
    """The articles that were read most before a moment, by readers of all arms together; the most read first."""

    articles: tuple[str, ...]
    before_us: int


@dataclass(frozen=True, slots=True, eq=False)
class EventValues:
    """Events of one arm and phase: ``events[i]`` of them, all by reader ``readers[i]``, have the value ``values[i]``."""

    arm: str
    phase: int
    readers: Any
    values: Any
    events: Any


def by_segment(rows: ReaderRows, name: str, keys: Sequence[str]) -> tuple[tuple[str, ...], ReaderRows]:
    """Return the groups of a segment in the order of names, and the readers with the number of their group as bucket.

    Parameters
    ----------
    name : a segment that the plan names.
    keys : the columns to keep.
    """
    column = rows.table[segment(name)]
    groups = tuple(sorted(pc.unique(column).to_pylist()))
    numbers = pc.index_in(column, value_set=pa.array(groups, pa.string())).cast(pa.int64())
    table = rows.table.select(["reader", "arm", "phase", *keys]).append_column("bucket", numbers)
    return groups, replace(rows, table=table, keys=tuple(keys))


def with_ceiling(rows: ReaderRows, key: str, cap: int) -> ReaderRows:
    """Return the same readers, the total ``key`` of none above the ceiling.

    Examples
    --------
    >>> rows = ReaderRows(pa.table({"x": [5, 9]}), ("x",), 0, 0, "live", 0)
    >>> with_ceiling(rows, "x", 7).table["x"].to_pylist()
    [5, 7]
    """
    column = rows.table[key]
    cut = pc.min_element_wise(column, pa.scalar(cap, column.type))
    return replace(rows, table=rows.table.set_column(rows.table.column_names.index(key), key, cut))


def most_read(home: Path, *, before_us: int, source: str) -> MostRead:
    """Return the 100 articles with most views in the seven days before a moment; equal ones in the order of their ids."""
    text = f"""SELECT article FROM "view" WHERE page_type = 'article' AND prefetch = 0
        AND issued_at >= {before_us - MOST_READ_DAYS * DAY_US} GROUP BY article ORDER BY count(*) DESC, article LIMIT {MOST_READ}"""
    with open_tail(home, until_us=before_us, source=source) as tail:
        found = query(tail, text, {"view": ("article", "page_type", "prefetch", "issued_at")})
    return MostRead(tuple(article for (article,) in found), before_us)


def with_measures(
    home: Path,
    experiment: Experiment,
    rows: ReaderRows,
    measures: Mapping[str, Measure],
    *,
    top: MostRead,
    session_of_exposure: bool = False,
) -> ReaderRows:
    """Return the same readers with one more column per measure that asks whether an article was among the most read.

    Parameters
    ----------
    measures : by :attr:`Measure.key`.
    top : taken before the first exposure, so that no arm can have changed it.
    """
    with open_tail(home, until_us=rows.until_us, source=rows.source, experiment=experiment.name) as tail:
        rule = entered_sql(home, experiment, measures, session_of_exposure=session_of_exposure, most_read=top.articles)
        found = evaluate(tail, rule, needed(measures.values()))
    table = rows.table
    places = pc.index_in(table["reader"], value_set=found["reader"])  # events may have arrived since the rows were taken
    for key in measures:
        table = table.append_column(key, found[key].take(places).fill_null(0))
    return replace(rows, table=table, keys=(*rows.keys, *measures))


def values_of_events(
    home: Path, experiment: Experiment, measure: Measure, *, until_us: int, source: str, session_of_exposure: bool = False
) -> tuple[EventValues, ...]:
    """Return the values of single events per (arm, phase), exact integers, sorted by reader and value.

    Parameters
    ----------
    measure : a sum; its field is the value. Readers and windows as in :func:`experiments.events.lake.reader_rows`.
    """
    with open_tail(home, until_us=until_us, source=source, experiment=experiment.name) as tail:
        rule = event_values(experiment, measure, until_us=until_us, session_of_exposure=session_of_exposure)
        found = evaluate(tail, rule, needed([measure])).sort_by([(name, "ascending") for name in ("arm", "phase", "reader", "value")])
    cells = found.group_by(["arm", "phase"]).aggregate([]).sort_by([("arm", "ascending"), ("phase", "ascending")]).to_pylist()
    return tuple(_cell(found, cell["arm"], cell["phase"]) for cell in cells)


def _cell(found: Any, arm: str, phase: int) -> EventValues:
    part = found.filter(pc.and_(pc.equal(found["arm"], arm), pc.equal(found["phase"], phase)))
    codes = part["reader"].combine_chunks().dictionary_encode().indices
    return EventValues(arm, phase, codes.to_numpy(), part["value"].to_numpy(), part["events"].to_numpy())
