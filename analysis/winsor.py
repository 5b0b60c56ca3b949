"""Money with a ceiling: what the few largest readers do to a mean, and where a change of revenue comes from.

The ceiling is found once, from the readers of all arms together and without looking at their arm, and is then frozen in
the plan: from there on it is a number that comes in. No function here takes a ceiling per arm, because one that depends
on the arm is itself an effect.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from analysis.effect import LEAST_READERS, Contrast, Value, arm_value, compare, phase_shares
from analysis.moments import Distinct, Moments
from analysis.skew import skew_of
from analysis.words import count
from experiments.errors import DataError, MetricError

__all__ = ["BothWays", "Decomposition", "Part", "both_ways", "cap_of", "capped", "decomposition", "moments_of"]

CAP_SHARE = 0.999  # of readers with a total, all arms together (STATISTICS 3)
TOTAL, PAYER, READER = "total", "payer", "reader"
Pair = tuple[str, str]  # (treated, control)


@dataclass(frozen=True, slots=True)
class BothWays:
    """A comparison as it is and with the ceiling; both are shown.

    Parameters
    ----------
    cap : the ceiling, in the metric's unit.
    raw, capped : the same comparison without and with it.
    above : readers above the ceiling in (treated, control), counts.
    """

    cap: int
    raw: Contrast
    capped: Contrast
    above: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Part:
    """One factor of revenue: the logarithm of treated over control, and the comparison with its intervals.

    ``causal`` is False when arms are compared over readers whom the arms themselves have selected.
    """

    change: float
    contrast: Contrast
    causal: bool


@dataclass(frozen=True, slots=True)
class Decomposition:
    """Revenue per reader = share of readers who pay x revenue per payer; the logarithms add up.

    The parts are None when one of them has no logarithm or an arm has too few payers; ``reason`` says which.
    """

    revenue: Part | None = None
    payer_rate: Part | None = None
    per_payer: Part | None = None
    status: str = "ok"
    reason: str = ""


def cap_of(rows: Iterable[Distinct], *, share: float = CAP_SHARE) -> int | None:
    """Return the ceiling: the total that all but one in a thousand of the readers with a total stay at or below.

    Parameters
    ----------
    rows : readers of all arms and phases; ``numerator`` is a reader's total (integer, cents). Arms are ignored.
    share : of the readers whose total is not zero, 0 to 1.

    Returns
    -------
    An observed total, to be frozen in the plan or at the first look; None when no reader has one.

    References
    ----------
    STATISTICS 3; Wang & Burke (arXiv 1905.09252) on ceilings that are found carelessly.

    Examples
    --------
    >>> cap_of([Distinct("a", 0, 1, 5000), Distinct("a", 900, 1, 998), Distinct("b", 1000, 1, 1), Distinct("b", 10**6, 1, 1)])
    1000
    """
    if not 0 < share <= 1:
        raise MetricError(f"a ceiling at the share {share:g} of readers: it must lie between 0 and 1.")
    readers: Counter[int] = Counter()
    for row in rows:
        if row.numerator:
            readers[row.numerator] += row.count
    left = math.ceil(Fraction(share).limit_denominator(10**6) * readers.total())
    for total in sorted(readers):
        left -= readers[total]
        if left <= 0:
            return total
    return None


def capped(rows: Iterable[Distinct], cap: int) -> tuple[Distinct, ...]:
    """Return the same readers with no total above the ceiling; totals below zero stay.

    Parameters
    ----------
    rows : readers of any arms.
    cap : frozen ceiling, above 0, the same for every arm.

    Examples
    --------
    >>> capped([Distinct("a", 5, 1, 2), Distinct("a", 7, 1, 1), Distinct("a", 0, 1, 9)], 5)
    (Distinct(arm='a', numerator=0, denominator=1, count=9, phase=None), Distinct(arm='a', numerator=5, denominator=1, count=3, phase=None))
    """
    if cap <= 0:
        raise MetricError(f"the ceiling of a reader's total is {cap}, it must be above 0.")
    readers: Counter[tuple[str, int, int, int | None]] = Counter()
    for row in rows:
        readers[row.arm, min(row.numerator, cap), row.denominator, row.phase] += row.count
    keys = sorted(readers, key=lambda key: (key[0], key[3] or 0, key[1:3]))
    return tuple(Distinct(arm, top, bottom, readers[arm, top, bottom, phase], phase) for arm, top, bottom, phase in keys)


def moments_of(rows: Iterable[Distinct], columns: Mapping[str, Callable[[Distinct], int]]) -> dict[tuple[str, int], Moments]:
    """Return moments per (arm, phase) of integer columns computed from distinct rows, exact at any size.

    Parameters
    ----------
    rows : readers; phase None counts as phase 0.
    columns : name -> the reader's value.

    Examples
    --------
    >>> moments_of([Distinct("a", 4, 1, 3), Distinct("a", 0, 1, 1)], {"total": lambda r: r.numerator})["a", 0].mean.tolist()
    [3.0]
    """
    cells: dict[tuple[str, int], list[tuple[int, tuple[int, ...]]]] = {}
    for row in rows:
        values = tuple(int(column(row)) for column in columns.values())
        cells.setdefault((row.arm, row.phase or 0), []).append((row.count, values))
    return {cell: _moments(cells[cell], tuple(columns)) for cell in sorted(cells)}


def both_ways(rows: Sequence[Distinct], pair: Pair, *, cap: int, level: float, least: int = LEAST_READERS) -> BothWays:
    """Return a comparison without and with the ceiling.

    Parameters
    ----------
    rows : readers of all arms of the test (phases are weighted by all of them).
    pair : (treated, control).
    cap : frozen ceiling, in the unit of the totals.
    level : of the intervals, 0 to 1.
    least : readers per arm below which nothing is printed but counts.

    Examples
    --------
    >>> crowd = [Distinct(arm, cents, 1, 20) for arm in "ab" for cents in (0, 500)]
    >>> found = both_ways([*crowd, Distinct("a", 90000, 1, 1)], ("a", "b"), cap=500, level=0.95)
    >>> found.above, round(found.raw.values[0]), round(found.capped.values[0])
    ((1, 0), 2439, 256)
    """
    above = [sum(row.count for row in rows if row.arm == arm and row.numerator > cap) for arm in pair]
    raw, low = (_compared(some, pair, level=level, least=least) for some in (rows, capped(rows, cap)))
    return BothWays(cap, raw, low, (above[0], above[1]))


def decomposition(rows: Sequence[Distinct], pair: Pair, *, level: float, least: int = LEAST_READERS) -> Decomposition:
    """Return how much of a change of revenue is more payers and how much is more per payer.

    The logarithms of the ratios add up exactly: lambda(revenue) = lambda(payer rate) + lambda(revenue per payer). The
    last one compares two groups of payers whom the arms have selected; it describes and is marked as not causal.

    Parameters
    ----------
    rows : readers of all arms; ``numerator`` is the reader's total, ``denominator`` 1. A payer has a total other than 0.
    pair : (treated, control).
    level : of the intervals, 0 to 1.
    least : payers per arm below which there is no decomposition.

    Raises
    ------
    DataError
        A denominator other than 1: only a mean over readers comes apart like this.

    References
    ----------
    STATISTICS 3; log ratio as there, each part with the delta method by reader.

    Examples
    --------
    >>> rows = [Distinct("b", 0, 1, 60), Distinct("b", 90, 1, 20), Distinct("b", 110, 1, 20)]
    >>> rows += [Distinct("a", 0, 1, 20), Distinct("a", 90, 1, 40), Distinct("a", 110, 1, 40)]
    >>> found = decomposition(rows, ("a", "b"), level=0.95)
    >>> [round(part.change, 3) for part in (found.revenue, found.payer_rate, found.per_payer)]
    [0.693, 0.693, 0.0]
    """
    if any(row.denominator != 1 for row in rows):
        raise DataError("revenue per payer needs a metric with denominator 1 for every reader.", "Use a total per reader.")
    cells = moments_of(rows, {TOTAL: lambda r: r.numerator, PAYER: lambda r: int(r.numerator != 0), READER: lambda _: 1})
    payers = {arm: sum(row.count for row in rows if row.arm == arm and row.numerator) for arm in pair}
    few = min(pair, key=lambda arm: payers[arm])
    if payers[few] < least:
        return Decomposition(status="insufficient", reason=f"{few} has {count(payers[few], 'payer')}, at least {least} are needed")
    revenue, rate, per_payer = (_part(cells, pair, of, level=level) for of in ((TOTAL, READER), (PAYER, READER), (TOTAL, PAYER)))
    if revenue is None or rate is None or per_payer is None:
        return Decomposition(status="not_estimable", reason="an arm has no revenue above zero, so there is no ratio")
    return Decomposition(revenue, rate, per_payer)


def _part(cells: Mapping[tuple[str, int], Moments], pair: Pair, columns: tuple[str, str], *, level: float) -> Part | None:
    treated, control = _values(cells, pair, columns)
    if not (treated.estimate > 0 and control.estimate > 0):
        return None
    change = math.log(treated.estimate / control.estimate)
    return Part(change, compare(treated, control, level=level), causal=columns[1] == READER)


def _values(cells: Mapping[tuple[str, int], Moments], pair: Pair, columns: tuple[str, str]) -> tuple[Value, Value]:
    shares, _ = phase_shares(cells, sorted({arm for arm, _ in cells}))
    treated, control = (arm_value(cells, arm, numerator=columns[0], denominator=columns[1], shares=shares) for arm in pair)
    return treated, control


def _compared(rows: Sequence[Distinct], pair: Pair, *, level: float, least: int) -> Contrast:
    cells = moments_of(rows, {TOTAL: lambda r: r.numerator, READER: lambda r: r.denominator})
    return compare(*_values(cells, pair, (TOTAL, READER)), level=level, skew=skew_of(rows), least=least)


def _moments(readers: Sequence[tuple[int, tuple[int, ...]]], keys: tuple[str, ...]) -> Moments:
    k = range(len(keys))
    sums = [sum(n * values[i] for n, values in readers) for i in k]
    products = [[sum(n * values[i] * values[j] for n, values in readers) for j in k] for i in k]
    return Moments.from_sums(sum(n for n, _ in readers), keys, sums, products)
