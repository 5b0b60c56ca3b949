"""Counts of a finished test, per arm and period: the difference of two shares, and in how many periods which arm was ahead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binomtest, chi2_contingency

from analysis.effect import Contrast
from analysis.small_counts import is_small, small_count_contrast
from analysis.summary_files import Cell

__all__ = ["SignTest", "share_change", "sign_test", "uneven"]

UNEVEN = 0.001  # chance of such shares of the arms, period by period, below which their sums are doubted


@dataclass(frozen=True, slots=True)
class SignTest:
    """Periods in which the arm was ahead, of those in which the arms differed; two-sided exact p."""

    periods: int
    ahead: int
    p: float


def share_change(cells: Sequence[Cell], arm: str, control: str, *, level: float) -> Contrast:
    """Return the change of a share by the score test, over the periods that both arms have.

    A period of one arm alone is left out: a good week would be taken for a good arm.

    Parameters
    ----------
    cells : counts of one metric, a period of an arm once.
    level : of the intervals, 0 to 1.

    Examples
    --------
    >>> cells = [Cell("new", "paid", "d1", 56, 70), Cell("old", "paid", "d1", 48, 80), Cell("new", "paid", "d2", 9, 9)]
    >>> found = share_change(cells, "new", "old", level=0.95)
    >>> found.n, round(found.absolute.low, 4), round(found.absolute.high, 4)
    ((70, 80), 0.0528, 0.3382)
    """
    own = {side: {cell.period: cell for cell in cells if cell.arm == side} for side in (arm, control)}
    both = own[arm].keys() & own[control].keys()
    treated, other = (
        (sum(of[period].numerator for period in both), sum(of[period].denominator for period in both)) for of in (own[arm], own[control])
    )
    n = (treated[1], other[1])
    if min(n) == 0:
        says = "the denominator of an arm adds up to zero" if both else "there is no period that both arms have"
        return Contrast(n, (None, None), status="undefined_denominator", reason=says)
    found = small_count_contrast(treated, other, level=level)
    return found if found.status != "ok" or is_small(treated, other) else replace(found, reason="")


def sign_test(cells: Sequence[Cell], arm: str, control: str) -> SignTest | None:
    """Return in how many periods the arm was ahead of the control; None where they never differ."""
    rates = {(c.arm, c.period): c.numerator / c.denominator for c in cells if c.denominator}
    periods = dict.fromkeys(c.period for c in cells)
    both = [(rates[arm, p], rates[control, p]) for p in periods if (arm, p) in rates and (control, p) in rates]
    apart = [one > two for one, two in both if one != two]
    return SignTest(len(apart), sum(apart), float(binomtest(sum(apart), len(apart)).pvalue)) if apart else None


def uneven(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Return the metrics whose counts are not shared out over the arms alike in all periods: a ramp, or lost counts.

    References
    ----------
    Pearson's chi-squared test of homogeneity over the periods that all arms have.

    Examples
    --------
    >>> ramp = [("new", "d1", 100), ("old", "d1", 900), ("new", "d2", 500), ("old", "d2", 500)]
    >>> uneven([Cell(arm, "paid", day, 1, n) for arm, day, n in ramp])
    ('paid',)
    """
    found = []
    for metric in dict.fromkeys(cell.metric for cell in cells):
        own = {(c.arm, c.period): c.denominator for c in cells if c.metric == metric}
        arms, periods = (list(dict.fromkeys(key[i] for key in own)) for i in (0, 1))
        table = np.array([[own.get((arm, period), 0) for arm in arms] for period in periods])
        table = table[(table > 0).all(axis=1)]
        if min(table.shape) > 1 and chi2_contingency(table).pvalue < UNEVEN:
            found.append(metric)
    return tuple(found)
