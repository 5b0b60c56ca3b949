"""Reading the sums of finished tests from CSV files: every faulty line is named, rows without an outcome are counted."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.effect import Value
from analysis.words import count
from experiments.errors import DataError, listed
from experiments.events.csv_file import open_csv, records

__all__ = [
    *("COUNTS", "LOOKS", "PAIR", "WIDE", "Cell", "Line", "count_cells", "look_values", "pair_lines", "read_lines", "refuse", "whole"),
    "wide_lines",
]

COUNTS = ("arm", "period", "numerator", "denominator")
LOOKS = ("arm", "metric", "look", "n", "mean", "variance")
PAIR = ("Date", "Pageviews", "Clicks", "Enrollments", "Payments")
WIDE = (
    "experiment_id",
    "variant_id",
    "metric_id",
    "time_since_start",
    "count_c",
    "count_t",
    "mean_c",
    "mean_t",
    "variance_c",
    "variance_t",
)
LARGEST = 1e60  # squares of it are numbers too
COUNT = re.compile(r"\+?[0-9]{1,15}(\.0*)?")  # float() would read 1_000 as a thousand, and digits of other scripts
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
MISSING = ("", "nan")

Line = tuple[int, Mapping[str, str]]  # line number in the file, values by column


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of counts."""

    arm: str
    metric: str
    period: str
    numerator: int
    denominator: int


def read_lines(path: Path) -> tuple[tuple[str, ...], list[Line], list[str]]:
    """Return columns and rows of a CSV file, each with the line it begins in, and which lines have more or fewer values than columns."""
    file, rows, cut = open_csv(path), list[Line](), list[str]()
    for line, row in records(file):
        if len(row) == len(file.header):
            rows.append((line, dict(zip(file.header, (value.strip() for value in row), strict=True))))
        else:
            cut.append(f"line {line}: {count(len(row), 'value')}, {count(len(file.header), 'column')}")
    if not rows and not cut:
        raise DataError(f"{path}: the file has no row.")
    return file.header, rows, cut


def refuse(path: Path, faults: Sequence[str]) -> None:
    """Raise :class:`DataError` with every fault, if there is one."""
    if faults:
        raise DataError(f"{path}: {count(len(faults), 'line')} cannot be used:", faults=listed(faults))


def whole(text: str) -> int:
    """Read a count; ``134.0`` is one, ``-1``, ``1.5``, ``1_000`` and more than 15 digits are not (ValueError).

    Examples
    --------
    >>> whole("134.0")
    134
    """
    if COUNT.fullmatch(text) is None:
        raise ValueError(text)
    return int(text.partition(".")[0])


def real(text: str) -> float:
    """Read a number; empty and ``nan`` are a missing one, anything else is none (ValueError)."""
    if text.lower() in MISSING:
        return math.nan
    if NUMBER.fullmatch(text) is None:
        raise ValueError(text)
    return float(text)


def count_cells(path: Path, lines: Iterable[Line], *, faults: Iterable[str] = ()) -> tuple[list[Cell], list[tuple[int, str]]]:
    """Return the rows of counts, and line and period of every row without an outcome.

    ``metric`` may be missing. A row given twice, or a numerator above its denominator, is refused.

    Parameters
    ----------
    faults : of the file, already known; they are raised together with those found here.
    """
    cells: list[Cell] = []
    skipped: list[tuple[int, str]] = []
    found, seen, arms = list(faults), set[tuple[str, str, str]](), dict[str, str]()
    for line, row in lines:
        key = (row["arm"], row.get("metric", "") or "conversion", row["period"])
        fault = _nameless(arms, arm=row["arm"], period=row["period"])
        if fault:
            found.append(f"line {line}: {fault}")
        elif key in seen:
            found.append(f"line {line}: arm '{key[0]}', metric '{key[1]}', period '{key[2]}' came before")
        elif not row["numerator"] or not row["denominator"]:
            skipped.append((line, row["period"]))
        else:
            found.extend(f"line {line}: {says}" for says in _take(cells, key, row["numerator"], denominator=row["denominator"]))
        seen.add(key)
    refuse(path, found)
    return cells, skipped


def _nameless(known: dict[str, str], *, arm: str, **named: str) -> str:
    """Say what has no name, or has nearly that of another arm; ``known`` keeps the arms met so far."""
    empty = [what for what, name in {"arm": arm, **named}.items() if name.lower() in MISSING]
    if empty:
        return f"the {' and the '.join(empty)} {'is' if len(empty) == 1 else 'are'} empty"
    first = known.setdefault(arm.casefold(), arm)
    return "" if first == arm else f"arms '{first}' and '{arm}' differ in capitals only"


def _take(cells: list[Cell], key: tuple[str, str, str], numerator: str, *, denominator: str) -> list[str]:
    try:
        top, bottom = whole(numerator), whole(denominator)
    except ValueError:
        return [f"'{numerator}' of '{denominator}' are not two counts"]
    if top > bottom:
        return [f"numerator {top} exceeds denominator {bottom}"]
    cells.append(Cell(*key, top, bottom))
    return []


def look_values(path: Path, lines: Sequence[Line], *, faults: Iterable[str] = ()) -> tuple[dict[tuple[str, str, float], Value], list[int]]:
    """Return the value per (arm, metric, look), and the lines of rows that lack a mean or variance."""
    values: dict[tuple[str, str, float], Value] = {}
    missing: list[int] = []
    found, arms = list(faults), dict[str, str]()
    for line, row in lines:
        fault = _nameless(arms, arm=row["arm"], metric=row["metric"])
        try:
            key, n = (row["arm"], row["metric"], real(row["look"])), whole(row["n"])
            mean, variance = real(row["mean"]), real(row["variance"])
        except ValueError:
            fault = fault or "look, n, mean and variance must be numbers, n a count"
        if fault:
            found.append(f"line {line}: {fault}")
        elif not math.isfinite(key[2]):
            found.append(f"line {line}: the look '{row['look']}' is no number")
        elif key in values:
            found.append(f"line {line}: arm '{key[0]}', metric '{key[1]}', look {key[2]:g} came before")
        elif variance < 0 or abs(mean) > LARGEST or variance > LARGEST:
            found.append(f"line {line}: mean {mean:g} with variance {variance:g} is not possible")
        else:
            missing += [line] if math.isnan(mean) or math.isnan(variance) else []
            values[key] = _value(key[0], n, mean, variance=variance)
    refuse(path, found)
    return values, missing


def _value(arm: str, n: int, mean: float, *, variance: float) -> Value:
    if n < 2:
        return Value(n, status="insufficient", reason=f"{arm} has {count(n, 'reader')}")
    if math.isnan(mean) or math.isnan(variance):
        return Value(n, status="not_estimable", reason=f"the mean or variance of {arm} is missing")
    return Value(n, mean, variance / n, ((variance / n, n - 1),))


def wide_lines(lines: Sequence[Line], *, control: str) -> list[Line]:
    """Return an archive with control and treatment side by side as one row per arm; experiment and variant name the metric."""
    found: list[Line] = []
    for line, row in lines:
        metric = f"{row['experiment_id']}/{row['variant_id']}/{row['metric_id']}"
        for arm, side in ((control, "c"), (f"variant {row['variant_id']}", "t")):
            n, mean, variance = row[f"count_{side}"], row[f"mean_{side}"], row[f"variance_{side}"]
            look = {"look": row["time_since_start"], "n": n, "mean": mean, "variance": variance}
            found.append((line, {"arm": arm, "metric": metric, **look}))
    return found


def pair_lines(folder: Path, *, control: str) -> dict[str, list[Line]]:
    """Return the rows per arm of a folder with two files; the one with "control" in its name is the control's.

    Raises
    ------
    DataError
        Not exactly two files, or a column is missing.
    """
    files = sorted(folder.glob("*.csv"))
    named = {control if "control" in file.stem.lower() else "experiment": file for file in files}
    if len(files) != 2 or set(named) != {control, "experiment"}:
        raise DataError(f"{folder}: expected two CSV files, one of them with 'control' in its name; found {len(files)}.")
    rows = {}
    for arm, file in sorted(named.items()):
        header, rows[arm], cut = read_lines(file)
        lacking = [column for column in PAIR if column not in header]
        if lacking:
            raise DataError(f"{file}: the column {', '.join(lacking)} is missing.")
        refuse(file, cut)
    return rows
