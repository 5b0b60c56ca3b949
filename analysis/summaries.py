"""Somebody's finished test, given as sums: counts per arm and period, or mean and variance per arm and look.

Three inputs are understood, told apart by their columns: one CSV file with ``arm, period, numerator, denominator``
(``metric`` is optional); one CSV file with ``arm, metric, look, n, mean, variance``; and a pair of CSV files, one
per arm, with one row per day and columns such as ``Date, Pageviews, Clicks, Enrollments, Payments``.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.special import ndtri
from scipy.stats import binomtest, norm

from analysis.checks import Check, split
from analysis.effect import Absolute, Contrast, Relative, Value, compare
from analysis.words import count
from experiments.errors import DataError, ExperimentError

__all__ = ["SignTest", "SummaryEffect", "SummaryReport", "import_summary"]

COUNTS = ("arm", "period", "numerator", "denominator")
LOOKS = ("arm", "metric", "look", "n", "mean", "variance")
PAIR_RATIOS = {  # the free-trial screener: its unit of payment is the click
    "gross conversion": ("Enrollments", "Clicks"),
    "retention": ("Payments", "Enrollments"),
    "net conversion": ("Payments", "Clicks"),
}
PAIR_SPLITS = ("Pageviews", "Clicks")
MOST_FAULTS = 20


@dataclass(frozen=True, slots=True)
class SignTest:
    """Periods in which the arm was ahead, of those in which the arms differed; two-sided exact p."""

    periods: int
    ahead: int
    p: float


@dataclass(frozen=True, slots=True)
class SummaryEffect:
    """One comparison of a finished test. ``skipped``: rows without an outcome, left out and counted."""

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
            "values": dict(zip(sides, self.contrast.values, strict=True)),
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


@dataclass(frozen=True, slots=True)
class SummaryReport:
    """A finished test as far as its sums tell: effects and split checks, no verdict (readers are not known)."""

    name: str
    control: str
    level: float
    rows: int
    skipped: int
    effects: tuple[SummaryEffect, ...]
    checks: tuple[Check, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "experiment": self.name,
            "control": self.control,
            "level": self.level,
            "rows": self.rows,
            "skipped": self.skipped,
            "checks": [{key: getattr(check, key) for key in Check.__slots__} for check in self.checks],
            "effects": [effect.to_dict() for effect in self.effects],
        }


@dataclass(frozen=True, slots=True)
class _Cell:
    """One row of counts."""

    arm: str
    metric: str
    period: str
    numerator: int
    denominator: int


def import_summary(path: Path, *, control: str = "control", level: float = 0.95) -> SummaryReport:
    """Read the sums of a finished test and return its effects.

    Counts give the difference of two proportions with the pooled standard error, as published for such tests (every
    count is treated as independent, because readers are not known), and a sign test over periods. Means and variances
    give Welch's and Fieller's ranges per look; ranges before the last look must not be used to decide.

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
    lines = _read(path)
    columns = tuple(lines[0][1]) if lines else ()
    if set(COUNTS) <= set(columns):
        cells, skipped = _count_cells(path, lines)
        return _from_counts(path.stem, cells, control=control, level=level, skipped=skipped)
    if set(LOOKS) <= set(columns):
        return _from_looks(path, lines, control=control, level=level)
    raise DataError(
        f"{path}: the columns {', '.join(columns) or '(none)'} are not those of a summary.",
        f"Give {', '.join(COUNTS)}, or {', '.join(LOOKS)}, or a folder with one file per arm.",
    )


def _read(path: Path) -> list[tuple[int, dict[str, str]]]:
    if not path.exists():
        raise DataError(f"{path}: there is no such file.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            return [(reader.line_num, {key.strip(): (value or "").strip() for key, value in row.items() if key}) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not readable as a CSV file: {error}.") from error


def _refuse(path: Path, faults: Sequence[str]) -> None:
    if faults:
        more = [f"and {len(faults) - MOST_FAULTS} more"] if len(faults) > MOST_FAULTS else []
        raise DataError(f"{path}: {count(len(faults), 'line')} cannot be used:", faults=[*faults[:MOST_FAULTS], *more])


def _whole(text: str) -> int:
    number = float(text)
    if not math.isfinite(number) or number != int(number) or number < 0:
        raise ValueError(text)
    return int(number)


def _count_cells(path: Path, lines: Iterable[tuple[int, Mapping[str, str]]]) -> tuple[list[_Cell], int]:
    cells: list[_Cell] = []
    faults: list[str] = []
    seen: set[tuple[str, str, str]] = set()
    skipped = 0
    for line, row in lines:
        key = (row["arm"], row.get("metric", "") or "conversion", row["period"])
        if not row["arm"]:
            faults.append(f"line {line}: the arm is empty")
        elif key in seen:
            faults.append(f"line {line}: arm '{key[0]}', metric '{key[1]}', period '{key[2]}' came before")
        elif not row["numerator"] or not row["denominator"]:
            skipped += 1
        else:
            _take(cells, faults, line, (key, row["numerator"], row["denominator"]))
        seen.add(key)
    _refuse(path, faults)
    return cells, skipped


def _take(cells: list[_Cell], faults: list[str], line: int, values: tuple[tuple[str, str, str], str, str]) -> None:
    key, top, bottom = values
    try:
        numerator, denominator = _whole(top), _whole(bottom)
    except ValueError:
        faults.append(f"line {line}: '{top}' of '{bottom}' are not two counts")
        return
    if numerator > denominator:
        faults.append(f"line {line}: numerator {numerator} exceeds denominator {denominator}")
        return
    cells.append(_Cell(*key, numerator, denominator))


def _others(arms: Iterable[str], control: str) -> list[str]:
    known = list(dict.fromkeys(arms))
    if control not in known:
        raise ExperimentError(f"control '{control}' is not one of the arms: {', '.join(known) or 'none'}.", "Name it with --control.")
    return [arm for arm in known if arm != control]


def _from_counts(name: str, cells: Sequence[_Cell], *, control: str, level: float, skipped: int) -> SummaryReport:
    effects = []
    for metric in dict.fromkeys(cell.metric for cell in cells):
        own = [cell for cell in cells if cell.metric == metric]
        for arm in _others((cell.arm for cell in own), control):
            contrast = _pooled([cell for cell in own if cell.arm == arm], [cell for cell in own if cell.arm == control], level)
            signs = _signs(own, arm, control)
            effects.append(SummaryEffect(metric, arm, control, "pooled two-proportion z", contrast, sign_test=signs, skipped=skipped))
    return SummaryReport(name, control, level, len(cells) + skipped, skipped, tuple(effects))


def _pooled(treated: Sequence[_Cell], control: Sequence[_Cell], level: float) -> Contrast:
    """Difference of two proportions, pooled standard error, normal critical value."""
    tops, bottoms = zip(*((sum(c.numerator for c in side), sum(c.denominator for c in side)) for side in (treated, control)), strict=True)
    if min(bottoms) == 0:
        return Contrast(bottoms, (None, None), status="undefined_denominator", reason="the denominator of an arm adds up to zero")
    one, two = tops[0] / bottoms[0], tops[1] / bottoms[1]
    share = sum(tops) / sum(bottoms)
    se = math.sqrt(share * (1 - share) * (1 / bottoms[0] + 1 / bottoms[1]))
    if se == 0:
        return Contrast(bottoms, (one, two), status="no_variation", reason="nobody, or everybody, converted in both arms")
    c, change = float(ndtri(0.5 + level / 2)), one - two
    absolute = Absolute(change, se, change - c * se, change + c * se, float(2 * norm.sf(abs(change / se))))
    if two == 0:
        reason = "a relative change cannot be estimated: the control's value is zero"
        return Contrast(bottoms, (one, two), absolute, status="not_estimable", reason=reason)
    # the range is that of the difference over the control's value: both reach zero together
    relative = Relative(change / two, absolute.low / two, absolute.high / two)
    return Contrast(bottoms, (one, two), absolute, relative)


def _signs(cells: Sequence[_Cell], arm: str, control: str) -> SignTest | None:
    rates = {(c.arm, c.period): c.numerator / c.denominator for c in cells if c.denominator}
    both = [(rates[arm, p], rates[control, p]) for p in dict.fromkeys(c.period for c in cells) if (arm, p) in rates and (control, p) in rates]
    apart = [one > two for one, two in both if one != two]
    return SignTest(len(apart), sum(apart), float(binomtest(sum(apart), len(apart)).pvalue)) if apart else None


def _from_looks(path: Path, lines: Sequence[tuple[int, Mapping[str, str]]], *, control: str, level: float) -> SummaryReport:
    values, missing, faults = _look_values(lines)
    _refuse(path, faults)
    effects = []
    for metric, look in dict.fromkeys((metric, look) for _, metric, look in values):
        arms = [arm for arm, m, at in values if (m, at) == (metric, look)]
        for arm in _others(arms, control):
            contrast = compare(values[arm, metric, look], values[control, metric, look], level=level)
            effects.append(SummaryEffect(metric, arm, control, "means and variances; Welch, Fieller", contrast, look=look))
    return SummaryReport(path.stem, control, level, len(lines), missing, tuple(effects))


def _look_values(lines: Sequence[tuple[int, Mapping[str, str]]]) -> tuple[dict[tuple[str, str, float], Value], int, list[str]]:
    values: dict[tuple[str, str, float], Value] = {}
    missing, faults = 0, []
    for line, row in lines:
        try:
            key, n, mean = (row["arm"], row["metric"], float(row["look"])), _whole(row["n"]), float(row["mean"] or "nan")
            variance = float(row["variance"] or "nan")
        except ValueError:
            faults.append(f"line {line}: look, n, mean and variance must be numbers, n a count")
            continue
        if key in values:
            faults.append(f"line {line}: arm '{key[0]}', metric '{key[1]}', look {key[2]:g} came before")
        elif variance < 0 or math.isinf(mean) or math.isinf(variance):
            faults.append(f"line {line}: mean {mean:g} with variance {variance:g} is not possible")
        else:
            missing += math.isnan(mean) or math.isnan(variance)
            values[key] = _look_value(key[0], n, mean, variance)
    return values, missing, faults


def _look_value(arm: str, n: int, mean: float, variance: float) -> Value:
    if n < 2:
        return Value(n, status="insufficient", reason=f"{arm} has {count(n, 'reader')}")
    if math.isnan(mean) or math.isnan(variance):
        return Value(n, status="not_estimable", reason=f"the mean or variance of {arm} is missing")
    return Value(n, mean, variance / n, ((variance / n, n - 1),))


def _pair(folder: Path, *, control: str, level: float) -> SummaryReport:
    files = sorted(folder.glob("*.csv"))
    named = {("control" if "control" in file.stem.lower() else "experiment"): file for file in files}
    if len(files) != 2 or len(named) != 2:
        raise DataError(f"{folder}: expected two CSV files, one of them with 'control' in its name; found {len(files)}.")
    rows = {arm: _read(file) for arm, file in sorted(named.items())}
    for arm, lines in rows.items():
        lacking = [column for column in ("Date", *PAIR_SPLITS, "Enrollments", "Payments") if not lines or column not in lines[0][1]]
        if lacking:
            raise DataError(f"{named[arm]}: the column {', '.join(lacking)} is missing.")
    effects: list[SummaryEffect] = []
    for metric, (top, bottom) in PAIR_RATIOS.items():
        cells, skipped = _pair_cells(named, rows, lambda arm, row, m=metric, t=top, b=bottom: (arm, m, row["Date"], row[t], row[b]))
        found = _from_counts(folder.name, cells, control=control, level=level, skipped=skipped)
        effects.extend(found.effects)
    return SummaryReport(
        folder.name, control, level, sum(map(len, rows.values())), effects[0].skipped, tuple(effects), _pair_checks(named, rows)
    )


Build = Callable[[str, Mapping[str, str]], tuple[str, str, str, str, str]]
Lines = Mapping[str, Sequence[tuple[int, Mapping[str, str]]]]


def _pair_cells(files: Mapping[str, Path], rows: Lines, build: Build) -> tuple[list[_Cell], int]:
    cells: list[_Cell] = []
    skipped = 0
    for arm, lines in rows.items():
        named = ("arm", "metric", "period", "numerator", "denominator")
        shaped = [(line, dict(zip(named, build(arm, row), strict=True))) for line, row in lines]
        own, empty = _count_cells(files[arm], shaped)
        cells, skipped = [*cells, *own], skipped + empty
    return cells, skipped


def _pair_checks(files: Mapping[str, Path], rows: Lines) -> tuple[Check, ...]:
    checks = []
    for column in PAIR_SPLITS:
        faults = [f"line {line}: {column} is '{row[column]}'" for lines in rows.values() for line, row in lines if not row[column].isdigit()]
        _refuse(files["experiment"].parent, faults)
        totals = {arm: sum(int(row[column]) for _, row in lines) for arm, lines in rows.items()}
        checks.append(split(f"split_{column.lower()}", {0: totals}, {0: dict.fromkeys(totals, 0.5)}))
    return tuple(checks)
