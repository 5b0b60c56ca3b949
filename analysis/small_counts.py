"""Two shares of readers when events are few: score intervals that hold where the normal approximation does not.

Below ten readers in any cell the difference is judged by inverting the score test (Miettinen and Nurminen), the ratio
by inverting that of the ratio (Koopman's, with the same variance factor). At "no difference" both are one statistic, so
they and p cannot disagree about zero. If fewer than five are expected in a cell, zero is excluded only when the exact test
(mid-p) excludes it too: now and then one of the two does and the other does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import hypergeom

from analysis.effect import Absolute, Contrast, Relative
from analysis.totals import Moments
from analysis.words import count
from experiments.errors import DataError, ExperimentError

__all__ = ["binary_counts", "difference_interval", "fisher_mid_p", "is_small", "ratio_interval", "score_p", "small_count_contrast"]

Counts = tuple[int, int]  # (readers with an event, readers), of one arm

SMALL_CELL = 10  # fewer in any of the four cells: this module instead of the delta method (STATISTICS 3)
SMALL_EXPECTED = 5.0  # fewer expected in any cell: Fisher's mid-p is asked too
LEAST_READERS = 2  # per arm; one reader says nothing about readers
STEPS = 100  # of a bisection; floats of one size are exhausted after 53
SCORE = "events are few: range and p come from the score test, which needs no large numbers"
EXACT = "events are few: the range comes from the score test, p from Fisher's exact test (mid-p) where it is the larger"
REACHES_ZERO = "; the exact test does not exclude zero, so the range reaches it"
NO_CONTROL_EVENT = "a relative change cannot be estimated: the control has no event, so there is no largest ratio"


def binary_counts(cells: Mapping[tuple[str, int], Moments], arm: str, *, numerator: str, denominator: str) -> Counts | None:
    """Return (events, readers) of an arm when the metric is 0 or 1 for every reader, otherwise None.

    None also when the arm has no cell or several: rates of a ramped test are weighted by phase, not pooled.

    Parameters
    ----------
    cells : moments per (arm, phase), of integer columns.
    numerator, denominator : columns; the denominator must be 1 for every reader.

    Examples
    --------
    >>> three = Moments.from_sums(3, ("returned", "reader"), (2, 3), ((2, 2), (2, 3)))
    >>> binary_counts({("als", 1): three}, "als", numerator="returned", denominator="reader")
    (2, 3)
    """
    found = [moments for (name, _), moments in cells.items() if name == arm]
    if len(found) != 1 or found[0].n < 2:
        return None
    n, (mean, spread) = found[0].n, found[0].pair(numerator, denominator)
    events, squares = round(float(mean[0]) * n), float(spread[0, 0]) * (n - 1) + float(mean[0]) ** 2 * n
    # integers x have x * x >= x, with equality only for 0 and 1
    binary = float(mean[1]) == 1.0 and float(spread[1, 1]) == 0.0 and abs(squares - events) < 0.5
    return (events, n) if binary else None


def is_small(treated: Counts, control: Counts) -> bool:
    """Return whether any of the four cells, events and non-events per arm, holds fewer than ten readers.

    Examples
    --------
    >>> is_small((95, 100), (50, 100))
    True
    """
    return min(min(events, readers - events) for events, readers in (treated, control)) < SMALL_CELL


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
    gap, se = _rate(treated) - _rate(control), _se_if_equal(treated, control)
    return min(1.0, 2 * float(ndtr(-abs(gap) / se))) if se > 0 else 1.0


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


def small_count_contrast(treated: Counts, control: Counts, *, level: float, least: int = LEAST_READERS) -> Contrast:
    """Return the effect of one arm against another on a 0/1 metric with few events.

    p is that of the score test; if fewer than five are expected in a cell, it is the larger of that and Fisher's mid-p.
    The intervals invert the score test and reach "no change" whenever p is not below ``1 - level``: difference, ratio
    and p make one decision. ``se`` is that of the score test: it holds if the arms do not differ.

    Parameters
    ----------
    treated, control : (events, readers).
    level : of the intervals, 0 to 1.
    least : readers per arm below which nothing is printed but counts.

    Returns
    -------
    Status ``ok`` (``reason`` names the method), ``insufficient``, ``no_variation`` (nobody or everybody has an event) or
    ``not_estimable`` (the control has no event: a difference, no ratio).

    Raises
    ------
    DataError, ExperimentError
        Counts that no group of readers can have; a level outside (0, 1).

    Examples
    --------
    >>> found = small_count_contrast((7, 34), (1, 34), level=0.95)
    >>> round(found.absolute.low, 7), round(found.absolute.high, 7), round(found.absolute.p, 4)
    (0.0270416, 0.3452912, 0.042)
    >>> small_count_contrast((4, 40), (0, 40), level=0.95).status
    'not_estimable'
    """
    _check(treated, control, level)
    n = (treated[1], control[1])
    values = (_rate(treated) if n[0] else None, _rate(control) if n[1] else None)
    if min(n) < max(1, least):
        says = f"an arm has {count(min(n), 'reader')}, at least {max(1, least)} are needed"
        return Contrast(n, values, status="insufficient", reason=says)
    if treated[0] + control[0] in (0, sum(n)):
        says = f"{'every' if treated[0] else 'no'} reader of either arm has an event"
        return Contrast(n, values, status="no_variation", reason=says)
    return _judged(treated, control, level)


def _judged(treated: Counts, control: Counts, level: float) -> Contrast:
    exact, score = _least_expected(treated, control) < SMALL_EXPECTED, score_p(treated, control)
    p = max(score, fisher_mid_p(treated, control)) if exact else score
    n, values = (treated[1], control[1]), (_rate(treated), _rate(control))
    low, high = difference_interval(treated, control, level=level)
    least, most = ratio_interval(treated, control, level=level)
    if p >= 1 - level:
        low, high = min(low, 0.0), max(high, 0.0)
    absolute = Absolute(values[0] - values[1], _se_if_equal(treated, control), low, high, p)
    if least is None or most is None:
        return Contrast(n, values, absolute, status="not_estimable", reason=NO_CONTROL_EVENT)
    if p >= 1 - level:
        least, most = min(least, 1.0), max(most, 1.0)
    relative = Relative(values[0] / values[1] - 1, least - 1, most - 1)
    reason = (EXACT if exact else SCORE) + (REACHES_ZERO if p >= 1 - level > score else "")
    return Contrast(n, values, absolute, relative, _log_variance(treated, control), reason=reason)


def _log_variance(treated: Counts, control: Counts) -> tuple[float, float] | None:
    if 0 in treated or 0 in control or treated[0] == treated[1] or control[0] == control[1]:
        return None  # without events or non-events the logarithm has no spread to speak of
    return (treated[1] - treated[0]) / treated[1] / treated[0], (control[1] - control[0]) / control[1] / control[0]


def _least_expected(treated: Counts, control: Counts) -> float:
    events, readers = treated[0] + control[0], treated[1] + control[1]
    return min(events, readers - events) * min(treated[1], control[1]) / readers


def _check(treated: Counts, control: Counts, level: float) -> None:
    for events, readers in (treated, control):
        if not 0 <= events <= readers:
            raise DataError(f"{events} of {readers} readers have an event.", "Give (events, readers), events from 0 to readers.")
    if not 0 < level < 1:
        raise ExperimentError(f"the level of an interval is {level:g}, it must lie between 0 and 1.")


def _rate(side: Counts) -> float:
    return side[0] / side[1]


def _scale(treated: Counts, control: Counts, *, level: float, corrected: bool) -> float:
    readers = treated[1] + control[1]
    return float(ndtri((1 - level) / 2)) ** 2 * (readers / (readers - 1) if corrected else 1.0)


def _se_if_equal(treated: Counts, control: Counts) -> float:
    events, readers = treated[0] + control[0], treated[1] + control[1]
    return math.sqrt(events / readers * (readers - events) / treated[1] / control[1] * readers / (readers - 1))


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
