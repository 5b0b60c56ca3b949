"""Does a result hang on a few readers, and how sure can one be of figures that no formula gives a spread to?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.special import stdtrit

from analysis.checks import HEAVY_WARN
from analysis.effect import LEAST_READERS, Contrast, arm_value, compare, phase_shares
from analysis.moments import Distinct, Moments, Sums, add_up
from analysis.skew import largest_shift
from experiments.errors import DataError, ExperimentError

__all__ = ["Cells", "HeavyReaders", "Jackknife", "buckets_of", "heavy_readers", "jackknife", "merge_cells", "reader_average"]

Cells = Mapping[tuple[str, int], Moments]
Pair = tuple[str, str]  # (treated, control)
Bucket = TypeVar("Bucket")


@dataclass(frozen=True, slots=True)
class HeavyReaders:
    """How much of a difference rests on single readers, and whether the average reader agrees with it.

    Parameters
    ----------
    shift : largest change of the difference when one reader is left out, in the metric's unit.
    in_se : the same in standard errors of the difference.
    flagged : more than half a standard error.
    averaged : the comparison in which every reader counts once, however often they came.
    sign_change : the two comparisons point in opposite directions.
    """

    shift: float
    in_se: float
    flagged: bool
    averaged: Contrast
    sign_change: bool


@dataclass(frozen=True, slots=True)
class Jackknife:
    """A statistic with the spread that leaving out one bucket of readers after the other shows.

    ``estimate``, ``se``, ``low`` and ``high`` are in the statistic's unit and None when ``status`` is not ``ok``;
    ``df`` is the number of buckets with readers, less one.
    """

    estimate: float | None
    se: float | None = None
    low: float | None = None
    high: float | None = None
    df: int = 0
    status: str = "ok"
    reason: str = ""


def heavy_readers(rows: Sequence[Distinct], pair: Pair, contrast: Contrast, *, level: float) -> HeavyReaders | None:
    """Return how far any single reader moves a difference; None when there is no difference to move.

    Parameters
    ----------
    rows : readers of all arms, of the metric that ``contrast`` compares.
    pair : (treated, control).
    contrast : the comparison itself; its difference and standard error are taken as they are.
    level : of the intervals of the reader-averaged comparison, 0 to 1.

    References
    ----------
    STATISTICS 3, heavy users; the shift is that of :func:`analysis.skew.largest_shift`, to first order for ratios.

    Examples
    --------
    >>> from analysis.effect import Absolute
    >>> rows = [Distinct("a", 1, 1, 9), Distinct("a", 11, 1, 1), Distinct("b", 1, 1, 10)]
    >>> found = heavy_readers(rows, ("a", "b"), Contrast((10, 10), (2.0, 1.0), Absolute(1.0, 1.0, -1.0, 3.0, 0.3)), level=0.95)
    >>> found.in_se, found.flagged
    (1.0, True)
    """
    shifts = largest_shift(rows)
    absolute = contrast.absolute
    if absolute is None or not absolute.se > 0 or any(arm not in shifts for arm in pair):
        return None
    shift = max(shifts[arm] for arm in pair)
    averaged = reader_average(rows, pair, level=level)
    one, zero = averaged.values
    turned = one is not None and zero is not None and (one - zero) * absolute.estimate < 0
    return HeavyReaders(shift, shift / absolute.se, shift / absolute.se > HEAVY_WARN, averaged, turned)


def reader_average(rows: Iterable[Distinct], pair: Pair, *, level: float, least: int = LEAST_READERS) -> Contrast:
    """Return the comparison of the mean over readers of each reader's own ratio.

    Readers without denominator have no ratio and are left out, which is one reason why this is a sensitivity and not
    the result: an arm can change who has one.

    Parameters
    ----------
    rows : readers of all arms.
    pair : (treated, control).
    level : of the intervals, 0 to 1.
    least : readers per arm below which nothing is printed but counts.

    Examples
    --------
    >>> rows = [Distinct("a", 100, 50, 1), Distinct("a", 4, 1, 1), Distinct("b", 3, 1, 2)]
    >>> reader_average(rows, ("a", "b"), level=0.95, least=2).values
    (3.0, 3.0)
    """
    own: dict[tuple[str, int], list[tuple[float, int]]] = {}
    for row in rows:
        if row.denominator:
            own.setdefault((row.arm, row.phase or 0), []).append((row.numerator / row.denominator, row.count))
    cells = {cell: _averages(sorted(own[cell])) for cell in sorted(own)}  # sorted: the same bits in any order of rows
    shares, _ = phase_shares(cells, sorted({arm for arm, _ in cells}))
    treated, control = (arm_value(cells, arm, numerator="ratio", denominator="reader", shares=shares) for arm in pair)
    return compare(treated, control, level=level, least=least)


def merge_cells(one: Cells, other: Cells) -> Cells:
    """Return the moments of both sets of readers per (arm, phase); a cell that only one of them has stays as it is.

    Examples
    --------
    >>> few, more = (Moments.from_rows(rows, ["x"]) for rows in ([[1.0]], [[2.0], [3.0]]))
    >>> merge_cells({("a", 1): few}, {("a", 1): more, ("b", 1): few})["a", 1].mean.tolist()
    [2.0]
    """
    cells = sorted({*one, *other})
    return {cell: one[cell].merge(other[cell]) if cell in one and cell in other else (one.get(cell) or other[cell]) for cell in cells}


def buckets_of(rows: Iterable[Sums]) -> tuple[Cells, ...]:
    """Return the moments per (arm, phase) of every reader-hash bucket that has readers, in the order of buckets.

    Parameters
    ----------
    rows : what the lake gives per (arm, phase, bucket).

    Raises
    ------
    DataError
        Rows of whole cells, which hold no buckets.
    """
    found: dict[int, list[Sums]] = {}
    for row in rows:
        if row.bucket is None:
            raise DataError(f"moments of arm '{row.arm}' are not split into buckets.", "Ask for them by bucket.")
        found.setdefault(row.bucket, []).append(row)
    return tuple(add_up(found[bucket]) for bucket in sorted(found))


def jackknife(
    buckets: Sequence[Bucket],
    statistic: Callable[[Bucket], float],
    *,
    level: float,
    merge: Callable[[Bucket, Bucket], Bucket] = merge_cells,  # type: ignore[assignment]
) -> Jackknife:
    """Return any statistic of merged buckets with a standard error from leaving out one bucket after the other.

    Buckets hold disjoint readers by a hash, so they are exchangeable whatever the statistic does with them. With 200
    of them Student's t has 199 degrees of freedom.

    Parameters
    ----------
    buckets : (200,) moments per (arm, phase), see :func:`buckets_of`, or anything that ``merge`` adds up; leave out
        buckets without readers.
    statistic : of merged buckets: a mean, a ratio, a share or a function of these, not a sum, which shrinks with the
        readers left out; nan where it does not exist.
    level : of the interval, 0 to 1.
    merge : of two buckets; cells of moments unless said.

    Returns
    -------
    Status ``insufficient`` below two buckets, ``not_estimable`` when the statistic does not exist on all or on all but
    one, ``no_variation`` when it never changes.

    References
    ----------
    Delete-a-group jackknife: var = (B - 1) / B sum of (t_b - mean t)^2, t_b without bucket b (Efron & Stein 1981).

    Examples
    --------
    >>> one_reader_each = [np.array([1, views]) for views in (1, 2, 6)]
    >>> found = jackknife(one_reader_each, lambda sums: sums[1] / sums[0], level=0.95, merge=np.add)
    >>> found.estimate, round(found.se, 4), found.df  # the mean of 1, 2, 6 and its standard error sqrt(7 / 3)
    (3.0, 1.5275, 2)
    """
    if not 0 < level < 1:
        raise ExperimentError(f"the level of an interval is {level:g}, it must lie between 0 and 1.")
    b = len(buckets)
    if b < 2:
        return Jackknife(None, status="insufficient", reason=f"readers fill {b} of the buckets, at least 2 are needed")
    whole, without = _leave_one_out(buckets, merge)
    estimate, left = float(statistic(whole)), np.array([statistic(rest) for rest in without], dtype=np.float64)
    if not (math.isfinite(estimate) and np.isfinite(left).all()):
        shown = estimate if math.isfinite(estimate) else None
        return Jackknife(shown, df=b - 1, status="not_estimable", reason="the statistic does not exist without some of the readers")
    se = math.sqrt((b - 1) / b * float(((left - left.mean()) ** 2).sum()))
    if se == 0:
        return Jackknife(estimate, df=b - 1, status="no_variation", reason="the statistic is the same without any of the buckets")
    half = float(-stdtrit(b - 1, (1 - level) / 2)) * se
    return Jackknife(estimate, se, estimate - half, estimate + half, b - 1)


def _leave_one_out(buckets: Sequence[Bucket], merge: Callable[[Bucket, Bucket], Bucket]) -> tuple[Bucket, list[Bucket]]:
    """All buckets merged, and all but each: from the left and from the right, 3 merges per bucket instead of B."""
    before, after = [buckets[0]], [buckets[-1]]
    for bucket in buckets[1:]:
        before.append(merge(before[-1], bucket))
    for bucket in reversed(buckets[:-1]):
        after.append(merge(bucket, after[-1]))
    after.reverse()
    inner = [merge(before[i - 1], after[i + 1]) for i in range(1, len(buckets) - 1)]
    return before[-1], [after[1], *inner, before[-2]]


def _averages(readers: Sequence[tuple[float, int]]) -> Moments:
    ratio = np.repeat([value for value, _ in readers], [n for _, n in readers])
    return Moments.from_rows(np.column_stack([ratio, np.ones_like(ratio)]), ("ratio", "reader"))
