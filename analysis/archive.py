"""Finished tests of others, look by look: how often naive peeking would have called a winner, and how often we would."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scipy.special import ndtri

from analysis.effect import Value
from analysis.sequential import LEAST_READERS, anytime_critical, planned_readers
from analysis.summary_files import WIDE, look_values, read_lines, wide_lines
from experiments.errors import DataError

__all__ = ["Peeking", "peeking"]

CONTROL = "control"
Looks = list[tuple[Value, Value]]  # (treated, control) per look, in time


@dataclass(frozen=True, slots=True)
class Peeking:
    """Shares of series that were called significant.

    Parameters
    ----------
    series : of the archive; one whose variances are missing at every look is called by no rule.
    naive : at any look, by the fixed-horizon range. end : at the last look, by the same range.
    anytime : at any look, by the range that may be looked at every day.
    """

    series: int
    naive: float
    end: float
    anytime: float

    @property
    def passed(self) -> bool:
        """The anytime rule calls no more series than one look at the end would, within one point."""
        return self.anytime <= self.end + 0.01


def peeking(path: Path, *, level: float = 0.95) -> Peeking:
    """Return how an archive of tests looks under each rule.

    Parameters
    ----------
    path : CSV with one row per look: counts, means and variances of control and treatment side by side.
    level : of the ranges.

    Raises
    ------
    DataError
        The file is no such archive, or holds no series that can be judged.
    """
    columns, lines, cut = read_lines(path)
    if not set(WIDE) <= set(columns):
        raise DataError(f"{path}: not an archive of looks.", f"Its columns are {', '.join(WIDE)}.")
    values, _ = look_values(path, wide_lines(lines, control=CONTROL), faults=cut)
    called = [_called(looks, level=level) for looks in _series(values).values()]
    if not called:
        raise DataError(f"{path}: no treatment has a control at the same look.")
    naive, end, anytime = (sum(column) / len(called) for column in zip(*called, strict=True))
    return Peeking(len(called), naive, end, anytime)


def _series(values: Mapping[tuple[str, str, float], Value]) -> dict[str, Looks]:
    series: dict[str, Looks] = {}
    for arm, metric, look in sorted(values, key=lambda key: (key[1], key[2])):
        if arm != CONTROL and (CONTROL, metric, look) in values:
            series.setdefault(metric, []).append((values[arm, metric, look], values[CONTROL, metric, look]))
    return series


def _called(looks: Looks, *, level: float) -> tuple[bool, bool, bool]:
    """Return whether naive peeking, one look at the end, and the anytime rule call the series."""
    fixed = float(-ndtri((1 - level) / 2))
    usable = [(a, b) for a, b in looks if a.variance + b.variance > 0 and a.status == b.status == "ok"]
    if not usable:
        return False, False, False
    z = [abs(a.estimate - b.estimate) / math.sqrt(a.variance + b.variance) for a, b in usable]
    n_star = _planned(usable, level=level)
    limits = [anytime_critical(a.n + b.n, n_star, alpha=1 - level) if min(a.n, b.n) >= LEAST_READERS else math.inf for a, b in usable]
    return max(z) > fixed, z[-1] > fixed, any(x > limit for x, limit in zip(z, limits, strict=True))


def _planned(looks: Looks, *, level: float) -> float:
    """The readers that would find a change of 5 %, from the first look: nobody knows what was planned."""
    one, two = looks[0]
    cv2 = math.fsum(side.n * side.variance / side.estimate**2 for side in (one, two) if side.estimate) / 2
    return planned_readers(cv2, (one.n / (one.n + two.n), two.n / (one.n + two.n)), alpha=1 - level) if cv2 > 0 else float(one.n + two.n)
