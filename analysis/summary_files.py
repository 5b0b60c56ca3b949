"""Reading the sums of finished tests from CSV files: every faulty line is named, rows without an outcome are counted."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.effect import Value
from analysis.words import count
from experiments.errors import DataError

__all__ = ["COUNTS", "LOOKS", "PAIR", "WIDE", "Cell", "Line", "count_cells", "look_values", "pair_lines", "read_lines", "wide_lines"]

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
MOST_FAULTS = 20
LARGEST = 1e60  # squares of it are numbers too

Line = tuple[int, Mapping[str, str]]  # line number in the file, values by column


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of counts."""

    arm: str
    metric: str
    period: str
    numerator: int
    denominator: int


def read_lines(path: Path) -> list[Line]:
    """Return the rows of a CSV file with their line numbers; lines with more or fewer values than columns are refused."""
    if not path.exists():
        raise DataError(f"{path}: there is no such file.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            rows = [(reader.line_num, [value.strip() for value in row]) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not readable as a CSV file: {error}.") from error
    refuse(path, [f"line 1: the column '{name}' is named twice" for name in sorted(set(header)) if header.count(name) > 1])
    refuse(path, [f"line {line}: {len(row)} values, {len(header)} columns" for line, row in rows if len(row) != len(header)])
    return [(line, dict(zip(header, row, strict=True))) for line, row in rows]


def refuse(path: Path, faults: Sequence[str]) -> None:
    """Raise :class:`DataError` with every fault, if there is one."""
    if faults:
        more = [f"and {len(faults) - MOST_FAULTS} more"] if len(faults) > MOST_FAULTS else []
        raise DataError(f"{path}: {count(len(faults), 'line')} cannot be used:", faults=[*faults[:MOST_FAULTS], *more])


def whole(text: str) -> int:
    """Read a count; ``134.0`` is one, ``-1`` and ``1.5`` are not (ValueError)."""
    number = float(text)
    if not math.isfinite(number) or number != int(number) or number < 0:
        raise ValueError(text)
    return int(number)


def count_cells(path: Path, lines: Iterable[Line]) -> tuple[list[Cell], list[str]]:
    """Return the rows of counts, and the period of every row without an outcome.

    ``metric`` may be missing. A row given twice, or a numerator above its denominator, is refused.
    """
    cells: list[Cell] = []
    faults: list[str] = []
    skipped: list[str] = []
    seen: set[tuple[str, str, str]] = set()
    for line, row in lines:
        key = (row["arm"], row.get("metric", "") or "conversion", row["period"])
        if not row["arm"]:
            faults.append(f"line {line}: the arm is empty")
        elif key in seen:
            faults.append(f"line {line}: arm '{key[0]}', metric '{key[1]}', period '{key[2]}' came before")
        elif not row["numerator"] or not row["denominator"]:
            skipped.append(row["period"])
        else:
            fault = _take(cells, key, row["numerator"], denominator=row["denominator"])
            faults.extend(f"line {line}: {says}" for says in fault)
        seen.add(key)
    refuse(path, faults)
    return cells, skipped


def _take(cells: list[Cell], key: tuple[str, str, str], numerator: str, *, denominator: str) -> list[str]:
    try:
        top, bottom = whole(numerator), whole(denominator)
    except ValueError:
        return [f"'{numerator}' of '{denominator}' are not two counts"]
    if top > bottom:
        return [f"numerator {top} exceeds denominator {bottom}"]
    cells.append(Cell(*key, top, bottom))
    return []


def look_values(path: Path, lines: Sequence[Line]) -> tuple[dict[tuple[str, str, float], Value], int]:
    """Return the value per (arm, metric, look), and how many rows lack a mean or variance."""
    values: dict[tuple[str, str, float], Value] = {}
    missing = 0
    faults: list[str] = []
    for line, row in lines:
        try:
            key, n = (row["arm"], row["metric"], float(row["look"])), whole(row["n"])
            mean, variance = float(row["mean"] or "nan"), float(row["variance"] or "nan")
        except ValueError:
            faults.append(f"line {line}: look, n, mean and variance must be numbers, n a count")
            continue
        if key in values:
            faults.append(f"line {line}: arm '{key[0]}', metric '{key[1]}', look {key[2]:g} came before")
        elif variance < 0 or abs(mean) > LARGEST or variance > LARGEST:
            faults.append(f"line {line}: mean {mean:g} with variance {variance:g} is not possible")
        else:
            missing += math.isnan(mean) or math.isnan(variance)
            values[key] = _value(key[0], n, mean, variance=variance)
    refuse(path, faults)
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
    rows = {arm: read_lines(file) for arm, file in sorted(named.items())}
    for arm, lines in rows.items():
        lacking = [column for column in PAIR if not lines or column not in lines[0][1]]
        if lacking:
            raise DataError(f"{named[arm]}: the column {', '.join(lacking)} is missing.")
    return rows
