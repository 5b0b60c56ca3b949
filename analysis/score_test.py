"""Score test and exact test of two shares of readers, and the ranges that invert the score test.

At "no difference" the statistics of difference and ratio are one, so that both ranges and p cannot disagree about zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import hypergeom

__all__ = ["Counts", "difference_interval", "fisher_mid_p", "ratio_interval", "score_p", "score_se"]

Counts = tuple[int, int]  # (readers with an event, readers), of one arm
STEPS = 100  # of a bisection; floats of one size are exhausted after 53


def score_p(treated: Counts, control: Counts) -> float:
    """Chance of a difference at least this large, in either direction, if the arms share one rate; 1 without variation.

    Parameters
    ----------
    treated, control : (events, readers), at least one reader each.

    References
    ----------
    Pooled score test in its N - 1 form (Miettinen & Nurminen 1985; Campbell 2007), chi-squared with 1 df.

    Examples
    --------
    >>> round(score_p((56, 70), (48, 80)), 4)
    0.0083
    """
    gap, se = _rate(treated) - _rate(control), score_se(treated, control)
    return min(1.0, 2 * float(ndtr(-abs(gap) / se))) if se > 0 else 1.0


def score_se(treated: Counts, control: Counts) -> float:
    """Standard error of the difference of two rates if the arms share one rate, in its N - 1 form.

    Examples
    --------
    >>> round(score_se((8, 10), (2, 10)), 4)  # sqrt(1/4 * (1/10 + 1/10) * 20/19)
    0.2294
    """
    events, readers = treated[0] + control[0], treated[1] + control[1]
    return math.sqrt(events / readers * (readers - events) / treated[1] / control[1] * readers / (readers - 1))


def fisher_mid_p(treated: Counts, control: Counts) -> float:
    """Chance of a table at least as unlikely as ours, given its margins; ours itself counts half.

    References
    ----------
    Fisher's two-sided exact p less half the probability of the observed table (Fagerland, Lydersen & Laake 2015).

    Examples
    --------
    >>> round(fisher_mid_p((3, 3), (0, 3)), 6)  # two tables of probability 1/20 each, one of them ours
    0.075
    """
    events = treated[0] + control[0]
    possible = np.arange(max(0, events - control[1]), min(events, treated[1]) + 1)
    chance = hypergeom.pmf(possible, treated[1] + control[1], events, treated[1])
    observed = float(chance[treated[0] - possible[0]])
    return min(1.0, float(chance[chance <= observed * (1 + 1e-9)].sum()) - observed / 2)


def difference_interval(treated: Counts, control: Counts, *, level: float, corrected: bool = True) -> tuple[float, float]:
    """Return the lowest and highest difference of two rates that the score test does not refuse, within [-1, 1].

    Parameters
    ----------
    treated, control : (events, readers), at least one reader each; also none or all with an event.
    level : of the interval, 0 to 1.
    corrected : with the factor N / (N - 1) of Miettinen and Nurminen; without it the interval is Mee's.

    References
    ----------
    Miettinen & Nurminen (1985); Mee (1984); STATISTICS 3.

    Examples
    --------
    >>> [round(end, 4) for end in difference_interval((56, 70), (48, 80), level=0.95)]
    [0.0528, 0.3382]
    """
    gap = _rate(treated) - _rate(control)
    scale = _scale(treated, control, level=level, corrected=corrected)

    def kept(difference: float) -> bool:
        return (gap - difference) ** 2 <= scale * _variance_of_difference(treated, control, difference)

    return _last(kept, gap, -1.0), _last(kept, gap, 1.0)


def ratio_interval(treated: Counts, control: Counts, *, level: float, corrected: bool = True) -> tuple[float | None, float | None]:
    """Return the lowest and highest ratio of two rates, treated over control, that the score test does not refuse.

    An end that does not exist is None: the high one when the control has no event, both when nobody has one.

    Parameters
    ----------
    treated, control : (events, readers), at least one reader each.
    level, corrected : as for the difference; without the factor N / (N - 1) the interval is Koopman's own.

    References
    ----------
    Koopman (1984); Miettinen & Nurminen (1985).

    Examples
    --------
    >>> [round(end, 2) for end in ratio_interval((7, 34), (1, 34), level=0.95, corrected=False)]
    [1.22, 42.58]
    """
    if treated[0] == control[0] == 0:
        return None, None
    one, zero = _rate(treated), _rate(control)
    scale = _scale(treated, control, level=level, corrected=corrected)

    def kept(ratio: float) -> bool:
        return (one - ratio * zero) ** 2 <= scale * _variance_of_ratio(treated, control, ratio)

    beyond = max(1.0, 2 * one / zero if zero else 1.0)
    while kept(beyond) == (zero > 0):  # twice as far until it is out, or, without a highest ratio, until it is in
        beyond *= 2
    inside = one / zero if zero else beyond
    return _last(kept, inside, 0.0), (_last(kept, inside, beyond) if zero else None)


def _rate(side: Counts) -> float:
    return side[0] / side[1]


def _scale(treated: Counts, control: Counts, *, level: float, corrected: bool) -> float:
    readers = treated[1] + control[1]
    return float(ndtri((1 - level) / 2)) ** 2 * (readers / (readers - 1) if corrected else 1.0)


def _last(inside: Callable[[float], bool], start: float, end: float) -> float:
    """Return the last point from ``start`` towards ``end`` that is inside; signs need no slope and no bracket."""
    for _ in range(STEPS):
        middle = (start + end) / 2
        if middle in (start, end):
            break
        start, end = (middle, end) if inside(middle) else (start, middle)
    return start


def _variance_of_difference(treated: Counts, control: Counts, difference: float) -> float:
    """Variance of the difference under the likeliest rates p and p + difference."""
    (x1, n1), (x0, n0) = treated, control

    def below(p: float) -> bool:
        q = p + difference
        # the cubic of STATISTICS 3 as two products, which keep all digits; positive below the likeliest p, negative above
        return q * (1 - q) * (x0 - n0 * p) + p * (1 - p) * (x1 - n1 * q) > 0

    p = _last(below, max(0.0, -difference), min(1.0, 1 - difference))
    q = min(1.0, max(0.0, p + difference))
    return q * (1 - q) / n1 + p * (1 - p) / n0


def _variance_of_ratio(treated: Counts, control: Counts, ratio: float) -> float:
    """Variance of the treated rate minus ``ratio`` times the control's under the likeliest rates p and ratio p."""
    (x1, n1), (x0, n0) = treated, control
    a, b = ratio * (n1 + x0), float(n0 + x1)
    root = math.sqrt((a - b) ** 2 + 4 * ratio * (n1 - x1) * (n0 - x0))  # (a + b)^2 - 4 ratio N x without its cancellation
    p = min(1.0, 2 * (x1 + x0) / (a + b + root))
    q = min(1.0, ratio * p)
    return q * (1 - q) / n1 + ratio**2 * p * (1 - p) / n0
