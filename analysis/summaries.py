"""Somebody's finished test, given as sums: counts per arm and period, or mean and variance per arm and look.

Understood, told apart by columns: one CSV file with ``arm, period, numerator, denominator`` (``metric`` is optional);
one with ``arm, metric, look, n, mean, variance``; an archive with control and treatment side by side; and a folder with
one file per arm, one row per day, columns ``Date, Pageviews, Clicks, Enrollments, Payments``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.checks import Check, split
from analysis.effect import Contrast, compare
from analysis.moments import LOPSIDED
from analysis.shape import number, of_check
from analysis.summary_counts import SignTest, share_change, sign_test, uneven
from analysis.summary_files import (
    COUNTS,
    LOOKS,
    WIDE,
    Cell,
    Line,
    count_cells,
    look_values,
    pair_lines,
    read_lines,
    refuse,
    whole,
    wide_lines,
)
from analysis.words import count
from experiments.errors import DataError, ExperimentError

__all__ = ["SignTest", "SummaryEffect", "SummaryReport", "import_summary"]

PAIR_RATIOS = {  # of a free-trial screener, whose readers enrol and pay after a click
    "gross conversion": ("Enrollments", "Clicks"),
    "retention": ("Payments", "Enrollments"),
    "net conversion": ("Payments", "Clicks"),
}
PAIR_SPLITS = ("Pageviews", "Clicks")
FIRST = 5  # rows that are named of those left out
SHARES = "two shares by the score test; every count taken as independent"
INDEPENDENT = "Every count is taken as a reader of its own: where one reader is counted often, the ranges are too narrow."
SKEWED = "Arms differ in size: where a few readers make up much of the mean, such ranges are too narrow, and sums cannot tell."
RAMP = "The arms' shares of the counts change between periods, and what changed with time is taken for the arm"
MEANS = "means and variances; Welch, Fieller"


@dataclass(frozen=True, slots=True)
class SummaryEffect:
    """One comparison of a finished test. ``skipped``: periods in which an outcome was missing, left out and counted."""

    metric: str
    arm: str
    against: str
    method: str
    contrast: Contrast
    look: float | None = None
    sign_test: SignTest | None = None
    skipped: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the effect in the shape of a report, with its sign test and skipped rows."""
        absolute, relative, sides = self.contrast.absolute, self.contrast.relative, (self.arm, self.against)
        return {
            "metric": self.metric,
            "role": "goal",
            "arm": self.arm,
            "against": self.against,
            "method": self.method,
            "look": self.look,
            "n": dict(zip(sides, self.contrast.n, strict=True)),
            "values": dict(zip(sides, map(number, self.contrast.values), strict=True)),
            "absolute": {key: getattr(absolute, key, None) for key in ("estimate", "se", "low", "high", "p")},
            "relative": {key: getattr(relative, key, None) for key in ("estimate", "low", "high")},
            "anytime": dict.fromkeys(("low", "high", "p")),
            "adjusted": None,
            "posterior": None,
            "sign_test": None if self.sign_test is None else {key: getattr(self.sign_test, key) for key in SignTest.__slots__},
            "skipped": self.skipped,
            "status": self.contrast.status,
            "reason": self.contrast.reason,
        }

    def line(self) -> dict[str, Any]:
        """Return metric, difference, range, sign test and reason only."""
        absolute, sign = self.contrast.absolute, self.sign_test
        short = {key: getattr(absolute, key, None) for key in ("estimate", "low", "high", "p")}
        names = {"metric": self.metric, "arm": self.arm, "against": self.against, "look": self.look}
        return {**names, **short, "sign_p": sign.p if sign else None, "reason": self.contrast.reason}


@dataclass(frozen=True, slots=True)
class SummaryReport:
    """A finished test as far as its sums tell: effects and split checks, no verdict (readers are not known).

    ``skipped`` : rows without an outcome, as a person finds them. ``alone`` : periods or looks that not every arm has.
    ``uneven`` : metrics whose counts are shared out over the arms in one way in some periods, in another in others.
    """

    name: str
    control: str
    level: float
    rows: int
    skipped: tuple[str, ...]
    effects: tuple[SummaryEffect, ...]
    checks: tuple[Check, ...] = ()
    alone: tuple[str, ...] = ()
    uneven: tuple[str, ...] = ()

    def notes(self) -> tuple[str, ...]:
        """Say what was left out, and what such sums cannot tell."""
        where = ", ".join([*self.skipped[:FIRST], *(["..."] if len(self.skipped) > FIRST else [])])
        skipped = f"{len(self.skipped):,} of {self.rows:,} rows have no outcome and were left out ({where})." if self.skipped else ""
        early = "Ranges before the last look are no ground for a decision." if len({effect.look for effect in self.effects}) > 1 else ""
        some = f"{count(len(self.alone), 'period')} not known of every arm, the first: {self.alone[0]}." if self.alone else ""
        ramp = f"{RAMP} ({', '.join(self.uneven)})." if self.uneven else ""
        counts = INDEPENDENT if any(effect.method == SHARES for effect in self.effects) else ""
        sizes = [effect.contrast.n for effect in self.effects if effect.method == MEANS and effect.contrast.absolute]
        skewed = SKEWED if any(max(n) > LOPSIDED * min(n) for n in sizes) else ""
        return (*filter(None, (skipped, some, ramp, counts, skewed, early)), *(check.says for check in self.checks))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; ``metrics`` is one short line per effect for people, ``effects`` the whole."""
        return {
            "experiment": self.name,
            "name": self.name,
            "notes": list(self.notes()),
            "metrics": [effect.line() for effect in self.effects],
            "control": self.control,
            "level": self.level,
            "rows": self.rows,
            "skipped": len(self.skipped),
            "checks": [of_check(check) for check in self.checks],
            "effects": [effect.to_dict() for effect in self.effects],
        }


def import_summary(path: Path, *, control: str = "control", level: float = 0.95) -> SummaryReport:
    """Read the sums of a finished test and return its effects.

    Counts give the difference and the ratio of two shares by the score test (every count is treated as independent,
    because readers are not known) over the periods that both arms have, and a sign test over periods. Means and
    variances give Welch's and Fieller's ranges per look; ranges before the last look must not be used to decide.

    Parameters
    ----------
    path : a CSV file, or a folder with exactly one file per arm, of which one has ``control`` in its name.
    control : the arm the others are compared with.

    Raises
    ------
    DataError
        The file cannot be read as any of the documented inputs; every faulty line is listed.
    ExperimentError
        The control is not one of the arms.
    """
    if path.is_dir():
        return _pair(path, control=control, level=level)
    columns, lines, cut = read_lines(path)
    if set(COUNTS) <= set(columns):
        cells, skipped = count_cells(path, lines, faults=cut)
        effects = _from_counts(cells, control=control, level=level, skipped=len({period for _, period in skipped}))
        where = tuple(f"line {line}" for line, _ in skipped)
        return SummaryReport(path.stem, control, level, len(lines), where, tuple(effects), alone=_alone(cells), uneven=uneven(cells))
    if set(LOOKS) <= set(columns):
        return _from_looks(path, lines, cut, control=control, level=level)
    if set(WIDE) <= set(columns):
        return _from_looks(path, wide_lines(lines, control=control), cut, control=control, level=level)
    raise DataError(
        f"{path}: the columns {', '.join(columns)} are not those of a summary.",
        f"Give {', '.join(COUNTS)}, or {', '.join(LOOKS)}, or a folder with one file per arm.",
    )


def _alone(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Periods of a metric that not all of its arms have, each once."""
    arms: dict[str, set[str]] = {}
    known: dict[tuple[str, str], set[str]] = {}
    for cell in cells:
        arms.setdefault(cell.metric, set()).add(cell.arm)
        known.setdefault((cell.metric, cell.period), set()).add(cell.arm)
    return tuple(dict.fromkeys(period for (metric, period), own in known.items() if own != arms[metric]))


def _others(arms: Iterable[str], control: str) -> list[str]:
    known = list(dict.fromkeys(arms))
    if control not in known:
        raise ExperimentError(f"control '{control}' is not one of the arms: {', '.join(known) or 'none'}.", "Name it with --control.")
    return [arm for arm in known if arm != control]


def _from_counts(cells: Sequence[Cell], *, control: str, level: float, skipped: int) -> list[SummaryEffect]:
    effects = []
    for metric in dict.fromkeys(cell.metric for cell in cells):
        own = [cell for cell in cells if cell.metric == metric]
        for arm in _others((cell.arm for cell in own), control):
            contrast, signs = share_change(own, arm, control, level=level), sign_test(own, arm, control)
            effects.append(SummaryEffect(metric, arm, control, SHARES, contrast, sign_test=signs, skipped=skipped))
    return effects


def _from_looks(path: Path, lines: Sequence[Line], cut: Sequence[str], *, control: str, level: float) -> SummaryReport:
    values, missing = look_values(path, lines, faults=cut)
    _others((arm for arm, _, _ in values), control)
    groups: dict[tuple[str, float], set[str]] = {}
    every: dict[str, dict[str, None]] = {}
    for arm, metric, look in values:
        groups.setdefault((metric, look), set()).add(arm)
        every.setdefault(metric, {})[arm] = None
    effects = []
    for (metric, look), arms in groups.items():
        for arm in (arm for arm in every[metric] if {arm, control} <= arms and arm != control):
            contrast = compare(values[arm, metric, look], values[control, metric, look], level=level)
            effects.append(SummaryEffect(metric, arm, control, MEANS, contrast, look=look))
    alone = tuple(
        f"look {look:g} of {metric}" for (metric, look), arms in groups.items() if arms != set(every[metric]) or control not in arms
    )
    where = tuple(f"line {line}" for line in missing)
    return SummaryReport(path.stem, control, level, len(lines), where, tuple(effects), alone=alone)


def _pair(folder: Path, *, control: str, level: float) -> SummaryReport:
    rows = pair_lines(folder, control=control)
    effects: list[SummaryEffect] = []
    without: dict[tuple[str, int], None] = {}
    every: list[Cell] = []
    for metric, (top, bottom) in PAIR_RATIOS.items():
        cells: list[Cell] = []
        periods: set[str] = set()
        for arm, lines in rows.items():
            shaped = [(line, _long(row, arm, metric, ratio=(top, bottom))) for line, row in lines]
            own, skipped = count_cells(folder / arm, shaped)
            cells, periods = [*cells, *own], periods | {period for _, period in skipped}
            without |= {(arm, line): None for line, _ in skipped}
        effects += _from_counts(cells, control=control, level=level, skipped=len(periods))
        every += cells
    checks = tuple(_split(folder, column, rows) for column in PAIR_SPLITS)
    where = tuple(f"{arm}, line {line}" for arm, line in without)
    return SummaryReport(
        folder.name, control, level, sum(map(len, rows.values())), where, tuple(effects), checks, _alone(every), uneven(every)
    )


def _long(row: Mapping[str, str], arm: str, metric: str, *, ratio: tuple[str, str]) -> dict[str, str]:
    return {"arm": arm, "metric": metric, "period": row["Date"], "numerator": row[ratio[0]], "denominator": row[ratio[1]]}


def _split(folder: Path, column: str, rows: Mapping[str, Sequence[Line]]) -> Check:
    faults, seen = [], dict.fromkeys(rows, 0)
    for arm, lines in rows.items():
        for line, row in lines:
            try:
                seen[arm] += whole(row[column])
            except ValueError:
                faults.append(f"{arm}, line {line}: {column} is '{row[column]}'")
    refuse(folder, faults)
    check = split(f"split_{column.lower()}", {0: seen}, {0: dict.fromkeys(seen, 0.5)}, ended=True)
    return replace(check, says=check.says.replace("of readers", f"of {column.lower()}"))
