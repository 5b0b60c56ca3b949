"""How skewed readers are, and what that does to the difference of two arms of unequal size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.moments import Distinct

__all__ = ["Influence", "Skew", "influences", "largest_shift", "skew_of"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Skew:
    """Squared coefficient of variation and third central moment of the readers' normalised influence.

    Examples
    --------
    >>> Skew(1.0, 2.0).of_difference((500, 500))
    0.0
    """

    cv2: float
    third: float

    def of_difference(self, n: tuple[int, int]) -> float:
        """Return the skewness of the log ratio of two arms with ``n`` = (treated, control) readers (STATISTICS 3)."""
        if self.cv2 <= 0:
            return 0.0
        return float(self.third * (1 / n[0] ** 2 - 1 / n[1] ** 2) / (self.cv2 * (1 / n[0] + 1 / n[1])) ** 1.5)


@dataclass(frozen=True, slots=True, eq=False)
class Influence:
    """Per distinct row of an arm: how far one such reader moves the arm's ratio, times the number of readers.

    Parameters
    ----------
    arm : its name.
    ratio : of the arm.
    psi : (g,) influence, in the metric's unit.
    count : (g,) readers per row.
    """

    arm: str
    ratio: float
    psi: Floats
    count: Floats

    @property
    def n(self) -> float:
        return float(self.count.sum())


def influences(rows: Iterable[Distinct]) -> tuple[Influence, ...]:
    """Return the influence of every distinct row, per arm; arms without denominator are left out."""
    arms: dict[str, list[Distinct]] = {}
    for row in sorted(rows, key=lambda r: (r.denominator, r.numerator, r.phase or 0)):  # the same bits in any order
        arms.setdefault(row.arm, []).append(row)
    found = []
    for arm in sorted(arms):
        count = np.array([r.count for r in arms[arm]], dtype=np.float64)
        numerator = np.array([r.numerator for r in arms[arm]], dtype=np.float64)
        denominator = np.array([r.denominator for r in arms[arm]], dtype=np.float64)
        n, bottom = count.sum(), float(count @ denominator)
        if n and bottom:
            ratio = float(count @ numerator) / bottom
            found.append(Influence(arm, ratio, (numerator - ratio * denominator) * (n / bottom), count))
    return tuple(found)


def skew_of(rows: Iterable[Distinct]) -> Skew | None:
    """Return the skew of a metric, pooled over the arms that have a positive value to normalise by, or None when none has.

    An arm without an event says nothing about how much events differ; the others say it of it, too.

    Examples
    --------
    >>> skew_of([Distinct("a", 1, 1, 2), Distinct("a", 4, 1, 1)]).third
    0.25
    """
    arms = [arm for arm in influences(rows) if arm.n > 1 and arm.ratio > 0]
    if not arms:
        return None
    u = np.concatenate([arm.psi / arm.ratio for arm in arms])
    count = np.concatenate([arm.count for arm in arms])
    n = count.sum()
    return Skew(float(count @ u**2 / (n - len(arms))), float(count @ u**3 / n))


def largest_shift(rows: Sequence[Distinct]) -> dict[str, float]:
    """Return per arm the largest change of its ratio when one reader is left out, in the metric's unit.

    Examples
    --------
    >>> largest_shift([Distinct("a", 1, 1, 9), Distinct("a", 11, 1, 1)])
    {'a': 1.0}
    """
    return {arm.arm: float(np.abs(arm.psi).max() / (arm.n - 1)) for arm in influences(rows) if arm.n > 1}
