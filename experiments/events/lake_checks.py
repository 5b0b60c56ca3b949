"""What the trust checks ask of the events: who was shown what, which readers carry a sign, and whether anything looked ahead.

Signs are taken at a reader's first exposure, or at the earliest one that shows them. What readers did later depends on
the arm, and then a difference between arms would be an effect and no fault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.compute as pc
from ibis import _

from experiments.events.erased_readers import per_arm
from experiments.events.lake import MomentRow, ReaderRows, moments, reads
from experiments.events.lake_rules import HAS_PRE, needed, pre
from experiments.events.lake_shown import exposures_left_out
from experiments.events.lake_sql import entered_sql
from experiments.events.lake_tables import bound, evaluate, run
from experiments.events.tail import open_tail
from experiments.events.wire import LATE_US
from experiments.experiment import Experiment
from experiments.metric import Metric

__all__ = ["Activity", "Half", "PerArm", "Seen", "Sign", "activity", "halves", "hidden", "looked_ahead", "seen"]

PerArm = Mapping[int, Mapping[str, int]]  # phase -> arm -> readers
SAMPLE = 2_000  # readers whose covariates are computed a second time
EXPOSED = ("page_view", "reader", "issued_at", "arm", "phase", "reason", "outcome")
TOLD = ("page_view", "reader")


@dataclass(frozen=True, slots=True)
class Sign:
    """How many readers were looked at for a sign, and how many of them carry it."""

    readers: PerArm
    marked: PerArm


@dataclass(frozen=True, slots=True)
class Seen:
    """What readers were shown, and their signs.

    Parameters
    ----------
    shown : (reader, arm, phase), each once, of every exposure that enters the analysis.
    signs : ``no_beacon`` (the page of the first exposure never told its visible time; only readers exposed 24 hours ago
        or more), ``degraded`` (that page went out as in the status quo), ``late`` and ``bots`` (an exposure was left out
        for this reason), ``erased`` (what was held of them is gone since; they are counted among the readers looked at).
    """

    shown: tuple[Sequence[str], Sequence[str], Sequence[int]]
    signs: Mapping[str, Sign]


def seen(home: Path, experiment: Experiment, *, until_us: int, source: str) -> Seen:
    """Return what every reader of an experiment was shown up to ``until_us`` (UTC microseconds, exclusive)."""
    arms = tuple(experiment.shares)
    with open_tail(home, until_us=until_us, source=source, experiment=experiment.name) as tail:
        exposures = bound("exposure").filter(_.reason != "forced")
        shown = evaluate(tail, exposures.select("reader", "arm", "phase").distinct(), {"exposure": EXPOSED})
        first = evaluate(tail, _first_pages(exposures.filter(_.arm.isin(arms)), until_us=until_us), {"exposure": EXPOSED, "dwell": TOLD})
        left_out = [row for row in exposures_left_out(tail) if row[1] in arms]
        gone = per_arm(tail.store, experiment.name, source) if tail.store else {}
    erased = Counter({cell: n for cell, n in _cells(gone).items() if cell[1] in arms})
    who = set(first["reader"].to_pylist()) if left_out else set()
    exposed = _per_arm(first, "one")
    signs = {
        "no_beacon": Sign(_per_arm(first, "settled"), _per_arm(first, "silent")),
        "degraded": Sign(exposed, _per_arm(first, "degraded")),
        "late": _left_out([row for row in left_out if row[4] and not row[3]], exposed, who),
        "bots": _left_out([row for row in left_out if row[3]], exposed, who),
        "erased": Sign(
            _nested((*cell, n) for cell, n in (Counter(_cells(exposed)) + erased).items()),
            _nested((*cell, n) for cell, n in erased.items()),
        ),
    }
    return Seen((shown["reader"].to_pylist(), shown["arm"].to_pylist(), shown["phase"].to_pylist()), signs)


def _first_pages(exposures: Any, *, until_us: int) -> Any:
    """One row per exposed reader: arm and phase of the first exposure, and 0 or 1 for what is asked of its page."""
    order = ibis.window(group_by=exposures.reader, order_by=[exposures.issued_at, exposures.page_view, exposures.arm, exposures.phase])
    first = exposures.mutate(rank=ibis.row_number().over(order)).filter(_.rank == 0)
    told = bound("dwell").select("page_view", "reader").distinct().mutate(told=1)
    rows = first.left_join(told, ["page_view", "reader"])
    settled = rows.issued_at + LATE_US <= until_us
    return rows.select(
        "reader", "arm", "phase", one=ibis.literal(1, "int64"), settled=settled.cast("int64"),
        silent=(settled & rows.told.isnull()).cast("int64"), degraded=(rows.outcome == "degraded").cast("int64"),
    )  # fmt: skip


def _per_arm(rows: Any, column: str) -> dict[int, dict[str, int]]:
    found = rows.group_by(["phase", "arm"]).aggregate([(column, "sum")]).to_pylist()
    return _nested((row["phase"], row["arm"], row[f"{column}_sum"]) for row in found)


def _nested(rows: Iterable[tuple[int, str, int]]) -> dict[int, dict[str, int]]:
    out: dict[int, dict[str, int]] = {}
    for phase, arm, n in sorted(rows):
        out.setdefault(phase, {})[arm] = n
    return out


def _cells(nested: PerArm) -> dict[tuple[int, str], int]:
    return {(phase, arm): n for phase, arms in nested.items() for arm, n in arms.items()}


def _left_out(rows: Sequence[tuple[str, str, int, int, int]], exposed: PerArm, who: set[str]) -> Sign:
    """Readers with an exposure that was left out, under the earliest phase and first arm it names."""
    each: dict[str, tuple[int, str]] = {}
    for reader, arm, phase, *_flags in rows:
        each[reader] = min(each.get(reader, (phase, arm)), (phase, arm))
    marked = Counter(each.values())
    more = Counter(cell for reader, cell in each.items() if reader not in who)
    readers = Counter(_cells(exposed)) + more
    return Sign(_nested((*cell, n) for cell, n in readers.items()), _nested((*cell, n) for cell, n in marked.items()))


@dataclass(frozen=True, slots=True)
class Half:
    """Sums per (arm, phase) of the goal in both halves of readers' windows.

    ``early`` and ``late`` name (numerator, denominator) among the columns of ``rows``.
    """

    rows: Sequence[MomentRow]
    early: tuple[str, str]
    late: tuple[str, str]


def halves(home: Path, experiment: Experiment, rows: ReaderRows, goal: Metric) -> Half:
    """Split what matured readers did into the first half of their window and the rest.

    Parameters
    ----------
    rows : of :func:`experiments.events.lake.reader_rows`, with the goal among its metrics.
    """
    short = replace(experiment, window_days=experiment.window_days / 2)
    measures = {m.key: m for m in (goal.numerator, goal.denominator)}
    with open_tail(home, until_us=rows.until_us, source=rows.source, experiment=experiment.name) as tail:
        early = evaluate(tail, entered_sql(home, short, measures, session_of_exposure=False), needed(measures.values()))
    early = early.filter(pc.is_in(early["reader"], value_set=rows.table["reader"].combine_chunks())).sort_by("reader")  # as rows are
    columns: dict[str, Any] = {name: rows.table[name] for name in ("arm", "phase", "bucket")}
    for measure in measures.values():
        whole, first = rows.table[measure.key], early[measure.key]
        columns[f"early:{measure.key}"] = first
        columns[f"late:{measure.key}"] = whole if measure.count == "reader" else pc.subtract_checked(whole, first)
    names = [(f"{half}:{goal.numerator.key}", f"{half}:{goal.denominator.key}") for half in ("early", "late")]
    keys = tuple(dict.fromkeys(name for pair in names for name in pair))
    return Half(moments(replace(rows, table=pa.table(columns), keys=keys)), *names)


def looked_ahead(home: Path, experiment: Experiment, rows: ReaderRows, goal: Metric) -> tuple[int, int]:
    """Return (readers whose covariates change when everything from their first exposure on is hidden, readers tried).

    The covariates of up to 2,000 readers are computed a second time from events older than the first exposure alone.

    Parameters
    ----------
    rows : the covariates to hold against that, of :func:`experiments.events.lake.reader_rows`.
    """
    sample = rows.table.slice(0, SAMPLE)
    measures = {m.key: m for m in (goal.numerator, goal.denominator)}
    columns = [name for name in (*map(pre, measures), HAS_PRE) if name in sample.column_names]
    if not columns or not len(sample):
        return 0, 0
    theirs = _.reader <= sample["reader"][-1].as_py()  # the rows are sorted by reader
    with open_tail(home, until_us=rows.until_us, source=rows.source, experiment=experiment.name) as tail:
        wanted = needed(measures.values())
        tables = {kind: evaluate(tail, bound(kind).filter(theirs), {kind: names}) for kind, names in wanted.items()}
    cut = dict(zip(sample["reader"].to_pylist(), sample["exposed_at"].to_pylist(), strict=True))
    rule = entered_sql(home, experiment, measures, session_of_exposure=False, before=measures)
    again = run(rule, hidden(tables, cut)).sort_by("reader")
    pairs = (zip(sample[name].to_pylist(), again[name].to_pylist(), strict=True) for name in columns)
    return sum(any(a != b for a, b in both) for both in zip(*pairs, strict=True)), len(sample)


def hidden(tables: Mapping[str, Any], cut: Mapping[str, int]) -> dict[str, Any]:
    """The events of some readers that are older than their cut; of exposures also the first, which is the cut itself."""
    kept = {}
    for kind, table in tables.items():
        table = table.filter(pc.is_in(table["reader"], value_set=pa.array(list(cut), pa.string())))
        if "issued_at" in table.column_names:
            ends = pa.array([cut[reader] for reader in table["reader"].to_pylist()], pa.int64())
            older = pc.less_equal if kind == "exposure" else pc.less
            table = table.filter(older(table["issued_at"], ends))
        kept[kind] = table
    pages = kept["view"]["page_view"].combine_chunks()
    return {
        kind: table if "issued_at" in table.column_names else table.filter(pc.is_in(table["page_view"], value_set=pages))
        for kind, table in kept.items()
    }


@dataclass(frozen=True, slots=True)
class Activity:
    """Article views and sessions per stored reader, as columns of equal length."""

    readers: Sequence[str]
    views: Any
    sessions: Any


def activity(home: Path, *, since_us: int, until_us: int, source: str) -> Activity:
    """Return how many articles every stored reader opened, in how many sessions; sorted by reader."""
    found = reads(home, since_us=since_us, until_us=until_us, source=source)
    table = found.group_by("reader").aggregate([("article", "count"), ("session", "count_distinct")]).sort_by("reader")
    return Activity(table["reader"].to_pylist(), table["article_count"].to_numpy(), table["session_count_distinct"].to_numpy())
