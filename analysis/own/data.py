"""The engine on somebody's own file: readers, arms and sums from a table, then the same effects and checks as a report."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis import shape
from analysis.candidates import no_price, with_reasons
from analysis.checks import Check, heavy_reader
from analysis.comparison import Effect
from analysis.moments import LOPSIDED, Distinct, Moments
from analysis.own.checks import below_zero, known_before, one_arm, split_as_planned
from analysis.own.effects import Outcome, effects_of, records, written
from analysis.own.plan import ONE, Wanted, arms_of
from analysis.own.price import UNPRICED, Price, check_price, priced
from analysis.own.segments import check_segments, segments_of
from analysis.recompute import Recomputed, again, agreement
from analysis.roi import Roi, next_step
from analysis.saving import as_html
from analysis.segments import MOST_GROUPS, OTHER, Segment
from analysis.shape_beside import of_segment
from analysis.skew import largest_shift, skew_of
from analysis.trust import failed
from analysis.verdict import Candidate, Progress, Verdict, decide
from analysis.words import count
from experiments.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from experiments.events.reader_dates import Dates

__all__ = ["Analysis", "analyse"]


@dataclass(frozen=True, slots=True)
class Analysis:
    """What the file says; :meth:`to_dict` has the shape of a report, a notebook shows :meth:`to_markdown`."""

    name: str
    control: str
    level: float
    rows: int
    crossed: int
    snapshot: str
    readers: Mapping[str, int]
    shares: Mapping[str, float]
    checks: tuple[Check, ...]
    effects: tuple[Effect, ...]
    verdict: Verdict
    segments: tuple[Segment, ...] = ()
    roi: Roi | None = None
    roi_reason: str = UNPRICED

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; what cannot be estimated is None beside a status and a reason."""
        total = sum(self.readers.values())
        arms = [
            {"name": arm, "kind": "arm", "readers": n, "share": n / total if total else None, "planned_share": self.shares.get(arm), "audience": "all"}
            for arm, n in self.readers.items()
        ]  # fmt: skip
        return {
            "experiment": self.name,
            "question": f"{self.name}: {count(self.rows, 'row')} of {count(total + self.crossed, 'reader')}",
            "control": self.control,
            "level": self.level,
            "snapshot": self.snapshot,
            "rows": self.rows,
            "crossed": self.crossed,
            "arms": arms,
            "checks": [shape.of_check(check) for check in self.checks],
            "effects": [shape.of_effect(effect, shown=True) for effect in self.effects],
            "segments": [of_segment(segment, shown=True) for segment in self.segments],
            "roi": shape.of_roi(self.roi, next_step(self.roi, trusted=not failed(self.checks))) if self.roi else None,
            "roi_reason": self.roi_reason,
            "verdict": shape.of_verdict(self.verdict),
        }

    def to_markdown(self) -> str:
        """Return the verdict, the trust checks and a table of effects, rounded for reading."""
        return written(self.verdict, self.checks, self.effects)

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def _repr_html_(self) -> str:
        return as_html(self.to_markdown(), self.effects)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per effect, in full precision; what cannot be estimated is missing, and ``reason`` says why."""
        import pandas as pd

        return pd.DataFrame(records(self.effects))


@dataclass(frozen=True, slots=True)
class _Found:
    """What was read of the file: the metrics, distinct rows of the goal if they are few enough, rows below zero per column
    (how many, and the first in words), the goal per segment and group."""

    rows: int
    crossed: int
    crossed_rows: str
    readers: Mapping[str, int]
    outcomes: tuple[Outcome, ...]
    distinct: tuple[Distinct, ...]
    below_zero: Mapping[str, tuple[int, str]]
    groups: Mapping[str, Mapping[str, Outcome]] = field(default_factory=dict)


def analyse(
    path: Path,
    metrics: Sequence[Wanted],
    *,
    reader: str,
    arm: str,
    control: str,
    shares: Mapping[str, float] | None = None,
    level: float = 0.95,
    dates: Dates | None = None,
    segments: Sequence[str] = (),
    price: Price | None = None,
) -> Analysis:
    """Return effects, trust checks and verdict of a finished test from a CSV or Parquet file.

    Parameters
    ----------
    path : one row per reader or per event; rows of a reader are added up.
    metrics : the first one is the goal.
    reader, arm : columns. control : the arm the others are compared with.
    shares : planned share per arm, adds up to 1; without it the split cannot be checked, and the checks say so.
    level : of every interval, 0 to 1, both excluded.
    dates : columns with dates; rows after the end and covariates and segments known too late are refused.
    segments : columns with groups of readers, for which the goal is compared too; at most six.
    price : what a view and the arms cost; without it no change has a price, and no arm is shipped.

    Raises
    ------
    DataError
        The file cannot be analysed; all its faults are listed. Or ``level`` is out of range.
    """  # fmt: skip
    if not 0 < level < 1:
        raise DataError(f"the level of an interval is {level:g}, it must lie between 0 and 1.", "0.95 means 95 %.")
    found = _read(path, metrics, reader=reader, arm=arm, segments=tuple(dict.fromkeys(segments)), dates=dates)
    arms = arms_of(path, found.readers, control, shares)
    check_price(price, arms, direction=metrics[0].direction)
    pairs = [(a, control) for a in arms if a != control]
    effects = effects_of(found.outcomes, pairs, level=level)
    checks = (
        *split_as_planned(found.readers, shares), *one_arm(found.readers, found.crossed, found.crossed_rows),
        *known_before(metrics, dates, segments), *below_zero(found.below_zero),
    )  # fmt: skip
    checks = (*checks, _again(found, effects), *_heavy(found, effects))
    goal = [e for e in effects if e.role == "goal"]
    split = shares or {a: n / sum(found.readers.values()) for a, n in found.readers.items()}
    roi, unpriced = priced(price, goal, control, shares=split)
    candidates = [_candidate(e, metrics[0], split, roi=roi, unpriced=unpriced or no_price(e.contrast)) for e in goal]
    roi = roi and with_reasons(roi, candidates)
    verdict = decide(candidates, control=control, failed=failed(checks), progress=Progress(0, 0, ended=True))
    with path.open("rb") as file:
        snapshot = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    readers = {a: found.readers.get(a, 0) for a in arms}
    groups = segments_of(found.groups, pairs, level=level)
    return Analysis(
        path.name, control, level, found.rows, found.crossed, snapshot, readers, shares or {}, checks, effects, verdict, groups, roi, unpriced
    )  # fmt: skip


def _read(path: Path, metrics: Sequence[Wanted], *, reader: str, arm: str, segments: tuple[str, ...], dates: Dates | None) -> _Found:
    from experiments.events.reader_dates import date_faults
    from experiments.events.reader_table import Columns, open_reader_table

    if not metrics:
        raise DataError("no metric was named.", "Name at least one: NAME=NUM[/DEN].")
    names = [m.name for m in metrics]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"two metrics are called '{twice[0]}'.", "Give each a name of its own.")
    if reader == arm:
        raise DataError(f"column '{arm}' cannot say both who a reader is and which arm it got.", "Name two columns.")
    check_segments(segments, taken=(reader, arm))
    sums = tuple(dict.fromkeys(c for m in metrics for c in (m.numerator, m.denominator) if c))
    before = tuple(dict.fromkeys(m.pre for m in metrics if m.pre))
    columns = Columns(reader, arm, sums, before, tuple(dict.fromkeys(m.denominator for m in metrics if m.denominator)), segments)
    with open_reader_table(path, columns, faults=date_faults(path, dates) if dates else ()) as table:
        groups = [tuple(dict.fromkeys(c for c in (m.numerator, m.denominator, m.pre) if c)) for m in metrics]
        measured = table.sums(groups)
        cells = [{(row.arm, 0): _moments(row, group, table.scales) for row in measured} for group in groups]
        lopsided = bool(table.readers) and max(table.readers.values()) > LOPSIDED * min(table.readers.values())
        distinct = [_distinct(table, m) if m is metrics[0] or lopsided else () for m in metrics]
        skews = [skew_of(rows) if lopsided and rows else None for rows in distinct]
        did = [frozenset[str]() if m.denominator else table.zero_or_one(m.numerator) for m in metrics]
        outcomes = tuple(Outcome(*each) for each in zip(metrics, cells, did, skews, strict=True))
        parts = {name: _groups(table, name, outcomes[0], groups[0], lopsided=lopsided) for name in segments}
        crossed, below = (table.crossed, table.crossed_rows), _negative_rows(table, metrics)
        return _Found(table.rows, *crossed, dict(table.readers), outcomes, distinct[0], below, parts)


def _groups(table: Any, segment: str, goal: Outcome, columns: Sequence[str], *, lopsided: bool) -> dict[str, Outcome]:
    """The goal among the readers of every group of a segment."""
    from experiments.events.reader_file import literal

    by = table.groups(segment, most=MOST_GROUPS, rest=OTHER)
    cells: dict[str, dict[tuple[str, int], Moments]] = {}
    for row in table.sums([columns], by=by):
        cells.setdefault(row.group, {})[row.arm, 0] = _moments(row, columns, table.scales)
    rows = {name: _distinct(table, goal.wanted, of=f"{by} = {literal(name)}") if lopsided else () for name in cells}
    return {name: replace(goal, cells=own, skew=skew_of(rows[name]) if rows[name] else None) for name, own in sorted(cells.items())}


def _distinct(table: Any, metric: Wanted, *, of: str = "true") -> tuple[Distinct, ...]:
    rows = table.distinct(metric.numerator, metric.denominator, of=of) or []
    return tuple(Distinct(a, n, d, readers, 0) for a, n, d, readers in rows)


def _negative_rows(table: Any, metrics: Sequence[Wanted]) -> dict[str, tuple[int, str]]:
    from experiments.events.reader_file import first_rows, quoted

    names = list(dict.fromkeys(m.numerator for m in metrics))
    wanted = ", ".join(f"count(*) FILTER (WHERE {quoted(name)} < 0)" for name in names)
    counts = table.connection.execute(f"SELECT {wanted} FROM file").fetchone()
    return {name: (int(n), first_rows(table.connection, f"{quoted(name)} < 0")) for name, n in zip(names, counts, strict=True) if n}


def _moments(row: Any, names: Sequence[str], scales: Mapping[str, Any]) -> Moments:
    """Centre exact sums, take shift and unit back, and add the column of ones."""
    products = [[row.products.get((a, b), row.products.get((b, a))) for b in names] for a in names]
    exact = Moments.from_sums(row.n, names, [row.sums[name] for name in names], products)
    unit = np.array([scales[name].unit for name in names])
    mean = np.array([scales[name].mean(row.sums[name], row.n) for name in names])
    return Moments(row.n, tuple(names), mean, exact.cross * np.outer(unit, unit)).with_ones(ONE)


def _again(found: _Found, effects: Sequence[Effect]) -> Check:
    goal, ours = found.outcomes[0], []
    for e in effects:
        se = math.sqrt(math.fsum(goal.value(arm).variance for arm in (e.arm, e.against)))  # before any guard or score test
        if e.role == "goal" and e.contrast.absolute is not None and se > 0:
            ours.append(Recomputed(e.arm, e.against, e.contrast.absolute.estimate, se))
    if ours and not found.distinct:
        return Check(
            "recomputed",
            "warn",
            None,
            None,
            None,
            "The main result was not computed a second time: the readers differ too much from each other.",
        )
    try:
        return agreement(ours, again(found.distinct, [(o.arm, o.against) for o in ours]) if ours else [])
    except ValueError as error:
        return Check("recomputed", "warn", None, None, None, f"The main result could not be computed a second time: {error}.")


def _heavy(found: _Found, effects: Sequence[Effect]) -> tuple[Check, ...]:
    shifts = largest_shift(found.distinct)
    figures = [
        (max(shifts[e.arm], shifts[e.against]), e.contrast.absolute.se)
        for e in effects
        if e.role == "goal" and e.contrast.absolute is not None and e.contrast.absolute.se > 0 and {e.arm, e.against} <= set(shifts)
    ]
    return (heavy_reader(*max(figures, key=lambda pair: pair[0] / pair[1])),) if figures else ()


def _candidate(effect: Effect, metric: Wanted, shares: Mapping[str, float], *, roi: Roi | None, unpriced: str) -> Candidate:
    absolute, family, up = effect.contrast.absolute, effect.family, metric.direction == "up"
    known = Candidate(effect.arm, "heuristic", share=shares.get(effect.arm, 0.0), unpriced=unpriced)
    scenario = next((s for s in roi.scenarios if s.arm == effect.arm), None) if roi else None
    if scenario is not None:
        known = replace(known, worth=scenario.expected, cost=scenario.cost, earns=scenario.p_positive)
    if absolute is None or family is None:
        return replace(known, unknown=effect.contrast.reason)
    superior, harmful = (family.low > 0, absolute.high < 0) if up else (family.high < 0, absolute.low > 0)
    return replace(known, superior=superior, alone=absolute.low > 0 if up else absolute.high < 0, harmful=harmful)
