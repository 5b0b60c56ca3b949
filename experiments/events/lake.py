"""From events to one row per reader and to exact sums: the only module that knows Arrow, DuckDB and Ibis.

Every rule of counting is written once, as an Ibis expression (sessions, entry, windows, measures), and runs on DuckDB
over sealed and fresh events alike. Values are integers all the way, so that shuffled or repeated input cannot change a bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.compute as pc
from ibis import _

from experiments.events.counts import Counts, count_up
from experiments.events.lake_partitions import READS, remove_reader, seal_import, sealed_reads
from experiments.events.lake_rules import DAY_US, HAS_PRE, agreed_readers, in_sessions, needed, pre, window_us
from experiments.events.lake_shown import agreed_share, article_views, clicks_without_exposure, exposure_groups
from experiments.events.lake_sql import entered_sql
from experiments.events.lake_tables import bound, evaluate, run, sql
from experiments.events.tail import open_tail
from experiments.experiment import Experiment
from experiments.metric import Measure, Metric

__all__ = [
    "Counts",
    "MomentRow",
    "ReaderRows",
    "add_import",
    "counts",
    "distinct_rows",
    "moments",
    "reader_rows",
    "reads",
    "remove_reader",
    "rows_and_counts",
    "with_matured",
]

SESSION = Measure(count="session")
VIEWED = ("page_view", "reader", "issued_at", "page_type", "article", "agreed", "seq", "device", "referrer", "prefetch")


@dataclass(frozen=True, slots=True)
class ReaderRows:
    """One row per matured reader.

    Parameters
    ----------
    table : Arrow table sorted by reader: reader, arm, phase, exposed_at (UTC us), bucket (0 to 199), then one int64
        column per measure, then what the goal's measures were before the first exposure (``pre:<key>``, ``has_pre``).
    keys : names of these columns, in the same order.
    crossed : readers (matured or not) exposed in more than one arm; kept under their first.
    until_us, source, snapshot_seq : what was read.
    audience_share : share of the site's article views since the first exposure that readers of the plan's audience opened.
    """

    table: Any
    keys: tuple[str, ...]
    crossed: int
    until_us: int
    source: str
    snapshot_seq: int
    audience_share: float = 1.0


@dataclass(frozen=True, slots=True)
class MomentRow:
    """Exact sums of one (arm, phase): ``sums[i]`` of key i, ``products[i][j]`` of key i times key j, over ``n`` readers."""

    arm: str
    phase: int
    bucket: int | None
    n: int
    keys: tuple[str, ...]
    sums: tuple[int, ...]
    products: tuple[tuple[int, ...], ...]


def reads(home: Path, *, until_us: int, since_us: int = 0, source: str | None = None, agreement: bool = False) -> Any:
    """Return article views in ``[since_us, until_us)`` as an Arrow table sorted by time.

    No bots, prefetches, late arrivals or readers who object. Columns: reader, session (first page view of the session;
    of imports as given), article, at (UTC us), weight (1.0), seq (of the event; -1 for imports),
    device and referrer (of the page view; empty where nobody said).

    Parameters
    ----------
    source : one source; None takes all, imported partitions included.
    agreement : with a column agreed, whether the reader's latest view says that they agreed to personal choice (imports count as agreed).
    """
    views = in_sessions(bound("view").filter(_.prefetch == 0))
    article = views.filter((_.page_type == "article") & (_.issued_at >= since_us))
    columns = {"session": _.first_page, "at": _.issued_at, "weight": ibis.literal(1.0)}
    needs: dict[str, tuple[str, ...]] = {"view": VIEWED}
    schema = READS
    if agreement:
        columns["agreed"] = _.reader.isin(agreed_readers().reader)
        needs["exposure"] = ("page_view", "reader", "audience")
        schema = READS.append(pa.field("agreed", pa.bool_()))
    with open_tail(home, until_us=until_us, source=source) as tail:
        found = evaluate(tail, article.select("reader", "article", "seq", "device", "referrer", **columns), needs)
        live = found.select(schema.names).cast(schema)
    imported = sealed_reads(home, since_us=since_us, until_us=until_us) if source in (None, "import") else []
    if agreement:
        imported = [table.append_column("agreed", pa.repeat(True, len(table))) for table in imported]
    return pa.concat_tables([live, *imported]).sort_by(
        [("at", "ascending"), ("reader", "ascending"), ("article", "ascending"), ("seq", "ascending")]
    )


def add_import(home: Path, table: Any, *, name: str, sha256: str) -> Path:
    """Seal reads of somebody's log as a Parquet partition; the same ``sha256`` again changes nothing.

    Parameters
    ----------
    table : Arrow table with reader, article (text), at (int64 UTC us); session, device, referrer (text) and weight are optional.
    name : letters, digits, ``_`` and ``-``. sha256 : of the file the table was read from, 64 hex characters.

    Raises
    ------
    DataError
        A column is missing, of another type, or has empty values.
    """
    if "session" not in table.column_names and {"reader", "article", "at"} <= set(table.column_names):
        numbered = table.append_column("seq", pa.array(range(len(table)), pa.int64()))
        shaped = ibis.table({"reader": "string", "issued_at": "int64", "page_view": "string", "seq": "int64"}, name="imported")
        feed = {"reader": numbered["reader"], "issued_at": numbered["at"], "seq": numbered["seq"]}
        feed["page_view"] = pa.array([f"{i:012d}" for i in range(len(table))], pa.string())
        found = run(in_sessions(shaped).select("seq", "first_page"), {"imported": pa.table(feed)}).sort_by("seq")
        table = table.append_column("session", found["first_page"])
    return seal_import(home, table, name=name, sha256=sha256)


def reader_rows(
    home: Path,
    experiment: Experiment,
    metrics: Sequence[Metric],
    *,
    until_us: int,
    source: str,
    session_of_exposure: bool = False,
) -> ReaderRows:
    """Return one row per matured reader with one integer column per distinct measure, and covariates of the goal.

    The first exposure (not forced, no bot) decides arm, phase and entry time e. A reader has matured when
    e + window <= ``until_us``. Sessions starting in [e, e + window) count, whole; a session ends at a gap of 30 minutes.
    When the plan's goal is among ``metrics``, its measures are also taken over sessions that start in [e - 14 days, e)
    and were over at e (0 for readers without any): no event at or after e changes them.

    Parameters
    ----------
    metrics : their numerators and denominators become columns, each distinct :attr:`Measure.key` once.
    until_us : UTC microseconds, exclusive.
    source : one source; a report never mixes.
    session_of_exposure : also count the session in which the first exposure fell, though it started earlier.

    Raises
    ------
    MetricError
        A measure filters by a field its rows do not have.
    """
    return rows_and_counts(home, experiment, metrics, until_us=until_us, source=source, session_of_exposure=session_of_exposure)[0]


def counts(home: Path, experiment: Experiment, *, until_us: int, source: str, session_of_exposure: bool = False) -> Counts:
    """Return the counts behind the trust checks, of the same readers as :func:`reader_rows`."""
    return rows_and_counts(home, experiment, (), until_us=until_us, source=source, session_of_exposure=session_of_exposure)[1]


def rows_and_counts(
    home: Path,
    experiment: Experiment,
    metrics: Sequence[Metric],
    *,
    until_us: int,
    source: str,
    session_of_exposure: bool = False,
) -> tuple[ReaderRows, Counts]:
    """Return :func:`reader_rows` and :func:`counts` from one reading of one snapshot of the events."""
    measures = {m.key: m for metric in metrics for m in (metric.numerator, metric.denominator)}
    before = {m.key: m for metric in metrics if metric.name == experiment.goal for m in (metric.numerator, metric.denominator)}
    asked = measures | {SESSION.key: SESSION}
    with open_tail(home, until_us=until_us, source=source, experiment=experiment.name) as tail:
        rule = entered_sql(home, experiment, asked, session_of_exposure=session_of_exposure, before=before)
        found = evaluate(tail, rule, needed(asked.values(), experiment.segments))
        table = with_matured(run("SELECT * FROM rows ORDER BY reader", {"rows": found}), experiment, until_us=until_us)
        start = pc.min(table["exposed_at"]).as_py()
        counted = count_up(
            tuple(experiment.shares),
            sql(f"SELECT arm, phase, matured, arms > 1, count(*), sum({SESSION.key}) FROM rows GROUP BY ALL ORDER BY ALL", table),
            exposure_groups(tail),
            clicks_without_exposure=clicks_without_exposure(tail),
            views_per_day=0.0 if start is None else article_views(tail, since_us=start) * DAY_US / (until_us - start),
            snapshot_seq=tail.last_seq,
        )
        part = 1.0 if experiment.audience == "all" or start is None else agreed_share(tail, since_us=start)
    dropped = {"matured", "arms", *(() if SESSION.key in measures else (SESSION.key,))}
    keys = (*measures, *map(pre, before), *([HAS_PRE] if before else []))
    matured = table.filter(table["matured"]).drop_columns([name for name in table.column_names if name in dropped])
    return ReaderRows(matured, keys, counted.crossed, until_us, source, counted.snapshot_seq, part), counted


def with_matured(table: Any, experiment: Experiment, *, until_us: int) -> Any:
    """Return the readers with a column that says whether their window was over at ``until_us``."""
    return table.append_column("matured", pc.less_equal(table["exposed_at"], until_us - window_us(experiment)))


def moments(rows: ReaderRows, *, by_bucket: bool = False) -> list[MomentRow]:
    """Return exact sums and cross-products per (arm, phase), or per (arm, phase, bucket), sorted.

    Examples
    --------
    >>> table = pa.table({"arm": ["a", "a"], "phase": [0, 0], "bucket": [1, 2], "x": pa.array([2**40, 3], pa.int64())})
    >>> moments(ReaderRows(table, ("x",), 0, 0, "live", 0))[0].products == ((2**80 + 9,),)
    True
    """
    k = len(rows.keys)
    pairs = [(i, j) for i in range(k) for j in range(i, k)]
    group = "arm, phase, bucket" if by_bucket else "arm, phase"
    # Ibis has no 128-bit integers, so this one query is SQL.
    sums = [f'sum("{key}"::HUGEINT)' for key in rows.keys]
    products = [f'sum("{rows.keys[i]}"::HUGEINT * "{rows.keys[j]}"::HUGEINT)' for i, j in pairs]
    found = sql(f"SELECT {', '.join([group, 'count(*)', *sums, *products])} FROM rows GROUP BY {group} ORDER BY {group}", rows.table)
    width = 3 if by_bucket else 2
    out = []
    for row in found:
        n, values = row[width], [int(value) for value in row[width + 1 :]]
        product = dict(zip(pairs, values[k:], strict=True))
        square = tuple(tuple(product[min(i, j), max(i, j)] for j in range(k)) for i in range(k))
        out.append(MomentRow(row[0], row[1], row[2] if by_bucket else None, n, rows.keys, tuple(values[:k]), square))
    return out


def distinct_rows(rows: ReaderRows, numerator: str, denominator: str) -> list[tuple[str, int, int, int]]:
    """Return (arm, numerator, denominator, readers) per distinct pair of values, sorted."""
    query = f'SELECT arm, "{numerator}", "{denominator}", count(*) FROM rows GROUP BY ALL ORDER BY ALL'
    return [(arm, int(n), int(d), int(count)) for arm, n, d, count in sql(query, rows.table)]
