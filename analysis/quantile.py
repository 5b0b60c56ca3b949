"""Quantiles of events, such as the waiting time that one page in twenty exceeds, with the reader as the unit.

A quantile has no influence that moments could carry, but the share of events below a point is a ratio of two sums over
readers. Its standard error, mapped back through the observed values, is the quantile's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from analysis.effect import LEAST_READERS, Contrast, Value, compare
from analysis.words import count as counted
from experiments.errors import DataError, MetricError

__all__ = ["Quantile", "quantile_contrast", "quantile_value"]

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Quantile:
    """A quantile of all events of an arm, and how sure readers let us be of it.

    Parameters
    ----------
    q : share of events at or below it, 0 to 1.
    readers, events : who caused how many (counts).
    estimate : an observed value, in its unit; None without events.
    low, high, se : interval and standard error in the same unit; None when ``status`` is not ``ok``. Where all events have
        the same value (a slot that stays empty takes no time) the quantile is that value and ``se`` 0.
    status, reason : ``ok``, ``insufficient`` or ``not_estimable``, and why.
    """

    q: float
    readers: int
    events: int
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    se: float | None = None
    status: str = "ok"
    reason: str = ""

    @property
    def value(self) -> Value:
        """The same as a value of an arm, to be compared like any other metric (readers - 1 degrees of freedom)."""
        estimate = math.nan if self.estimate is None else self.estimate
        if self.se is None:
            return Value(self.readers, estimate, status=self.status, reason=self.reason)
        return Value(self.readers, estimate, self.se**2, ((self.se**2, self.readers - 1),))


def quantile_value(
    reader: npt.ArrayLike,
    value: npt.ArrayLike,
    *,
    q: float,
    level: float = 0.95,
    count: npt.ArrayLike | None = None,
    weight: npt.ArrayLike | None = None,
) -> Quantile:
    """Return a quantile of all events of an arm with an interval that holds when readers cause many events each.

    The estimate and both ends are observed values (the smallest with at least this share of events at or below it).
    Nothing but order and counts is used, so the result does not depend on the order of rows or on their grouping.

    Parameters
    ----------
    reader : (rows,) a code per reader, integer or text.
    value : (rows,) finite numbers, in the unit of the metric.
    q : 0 to 1, both excluded.
    level : of the interval; the standard error is its half width over the normal quantile, and half a step where values
        are coarse (below). Use one level per report.
    count : (rows,) events per row (integer, at least 0); one each when left out.
    weight : (rows,) whole numbers by which the events of a row count, so that phases can be weighted; equal when left out.

    Returns
    -------
    The interval as above; ``se`` adds half the step from the estimate to its neighbours (of values inside the interval, the
    farther one) as a root of squares: an estimate that can only be one of a few values jumps by a whole step.
    Status ``insufficient`` below two readers; ``not_estimable`` when an end would lie beyond all events or when both
    ends fall on one value.

    Raises
    ------
    DataError
        Arrays of different lengths, values that are not finite (counted), negative or fractional counts.
    MetricError
        ``q`` or ``level`` outside (0, 1).

    References
    ----------
    Deng, Knoblich & Lu (2018), section 4 (delta method for percentiles); STATISTICS 3.

    Examples
    --------
    >>> found = quantile_value([1, 2, 3, 4, 5, 6, 7, 8, 9], [3, 1, 2, 5, 4, 9, 7, 8, 6], q=0.5)
    >>> found.estimate, found.low, found.high
    (5.0, 2.0, 8.0)
    """
    if not (0 < q < 1 and 0 < level < 1):
        raise MetricError(f"quantile {q:g} at level {level:g}: both must lie between 0 and 1.")
    codes, values, counts, weighted = _rows(reader, value, count, weight)
    readers, events = len(np.unique(codes)), int(counts.sum())
    if readers < 2:
        says = f"{counted(readers, 'reader')} with an event, at least 2 are needed"
        return Quantile(q, readers, events, status="insufficient", reason=says)
    order = np.argsort(values, kind="stable")
    ranked, below = values[order], np.cumsum(weighted[order])
    if ranked[0] == ranked[-1]:
        return Quantile(q, readers, events, float(ranked[0]), float(ranked[0]), float(ranked[0]), 0.0)
    whole = int(below[-1])
    # 0.07 is meant as 7/100: as a float it would ask for one event more of every hundred
    estimate = _at(ranked, below, math.ceil(Fraction(q).limit_denominator(10**6) * whole))
    reach = float(-ndtri((1 - level) / 2)) * _se_of_share(codes, weighted, values <= estimate)
    if q - reach <= 0 or q + reach >= 1:
        return _not_estimable(Quantile(q, readers, events, estimate), "an end of its interval lies beyond all events")
    low, high = (_at(ranked, below, math.ceil(share * whole)) for share in (q - reach, q + reach))
    if low == high:
        return _not_estimable(Quantile(q, readers, events, estimate), "both ends of its interval fall on one value")
    half = (high - low) / (2 * float(-ndtri((1 - level) / 2)))
    return Quantile(q, readers, events, estimate, low, high, math.hypot(half, _step(ranked, estimate, low, high) / 2))


def quantile_contrast(treated: Quantile, control: Quantile, *, level: float, least: int = LEAST_READERS) -> Contrast:
    """Return the effect on a quantile: Welch's t for the difference, Fieller's interval for the relative difference.

    Both come from :func:`analysis.effect.compare`, so that they agree about zero. For another level of the same pair
    call this again with the same two quantiles: the standard errors stay.

    Parameters
    ----------
    treated, control : the same quantile of both arms.
    level : of the intervals, 0 to 1.
    least : readers per arm below which nothing is printed but counts.

    Raises
    ------
    MetricError
        Two different quantiles.

    Examples
    --------
    >>> one, two = (quantile_value(range(40), range(start, start + 40), q=0.5) for start in (100, 110))
    >>> quantile_contrast(two, one, level=0.95).absolute.estimate
    10.0
    """
    if treated.q != control.q:
        raise MetricError(f"quantile {treated.q:g} cannot be compared with quantile {control.q:g}.", "Give the same one for both arms.")
    return compare(treated.value, control.value, level=level, least=least)


def _not_estimable(found: Quantile, why: str) -> Quantile:
    says = f"the {found.q:g} quantile of {counted(found.events, 'event')} has no range: {why}"
    return Quantile(found.q, found.readers, found.events, found.estimate, status="not_estimable", reason=says)


def _rows(
    reader: npt.ArrayLike, value: npt.ArrayLike, count: npt.ArrayLike | None, weight: npt.ArrayLike | None
) -> tuple[Integers, npt.NDArray[np.float64], Integers, Integers]:
    _, codes = np.unique(np.asarray(reader), return_inverse=True)
    values = np.asarray(value, dtype=np.float64)
    counts, weights = (np.ones(len(values), dtype=np.int64) if given is None else np.asarray(given) for given in (count, weight))
    if not len(codes) == len(values) == len(counts) == len(weights):
        raise DataError(f"{len(codes)} readers, {len(values)} values and {len(counts)} counts do not fit.", "Give one of each per row.")
    broken = int((~np.isfinite(values)).sum())
    if broken:
        raise DataError(f"{broken} of {len(values)} values are not finite numbers.", "Leave these events out and say how many they are.")
    for given in (counts, weights):
        if not np.array_equal(given, np.asarray(given, dtype=np.int64)) or (given < 0).any():
            raise DataError("numbers of events must be whole and at least 0.")
    kept = (counts > 0) & (weights > 0)
    whole = counts[kept].astype(np.int64)
    return codes[kept].astype(np.int64), values[kept], whole, whole * weights[kept].astype(np.int64)


def _at(ranked: npt.NDArray[np.float64], below: Integers, rank: int) -> float:
    return float(ranked[np.searchsorted(below, max(1, rank))])


def _step(ranked: npt.NDArray[np.float64], estimate: float, low: float, high: float) -> float:
    """How far the estimate is from the farther of the values beside it, within its interval."""
    inside = np.unique(ranked[(ranked >= low) & (ranked <= high)])
    place = int(np.searchsorted(inside, estimate))
    return float(np.diff(inside)[max(0, place - 1) : place + 1].max())


def _se_of_share(codes: Integers, counts: Integers, under: npt.NDArray[np.bool_]) -> float:
    """Standard error of the share of events at or below a point: a ratio of two sums over readers."""
    _, who = np.unique(codes, return_inverse=True)
    size = int(who.max()) + 1
    top, bottom = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    np.add.at(top, who, np.where(under, counts, 0))
    np.add.at(bottom, who, counts)
    n, i, k = size, top.tolist(), bottom.tolist()
    part, whole = sum(i), sum(k)
    # sum of (I - theta k)^2 times whole^2, in integers of any size
    spread = whole**2 * _dot(i, i) - 2 * part * whole * _dot(i, k) + part**2 * _dot(k, k)
    return math.sqrt(Fraction(spread * n, (n - 1) * whole**4))


def _dot(one: Sequence[int], two: Sequence[int]) -> int:
    return sum(a * b for a, b in zip(one, two, strict=True))
