"""Two shares of readers: score intervals, which hold where events are few and the normal approximation does not.

The difference is judged by inverting the score test (Miettinen and Nurminen), the ratio by inverting that of the ratio
(Koopman's, with the same variance factor). At "no difference" both are one statistic, so they and p cannot disagree
about zero. If fewer than five are expected in a cell, zero is excluded only when the exact test (mid-p) excludes it
too: now and then one of the two does and the other does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from analysis.effect import Absolute, Contrast, Relative
from analysis.moments import Moments
from analysis.score_test import Counts, difference_interval, fisher_mid_p, ratio_interval, score_p, score_se
from analysis.words import count
from experiments.errors import DataError, ExperimentError

__all__ = ["SCORE", "binary_counts", "is_small", "share_contrast", "small_count_contrast"]

SMALL_CELL = 10  # fewer in any of the four cells: nothing is built on the delta method (STATISTICS 3)
SMALL_EXPECTED = 5.0  # fewer expected in any cell: Fisher's mid-p is asked too
LEAST_READERS = 2  # per arm; one reader says nothing about readers
SCORE = "every reader did it or not: range and p come from the score test"
FEW = "events are few: range and p come from the score test, which needs no large numbers"
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


def share_contrast(treated: Counts, control: Counts, *, plain: Contrast, level: float, least: int = LEAST_READERS) -> Contrast:
    """Return the effect on a 0/1 metric by the score test, whatever the number of events.

    From ten readers in every cell on it keeps degrees of freedom and log variances of the delta method, on which looks,
    anytime ranges and belief are built.

    Parameters
    ----------
    treated, control, level, least : as for :func:`small_count_contrast`.
    plain : the same comparison by :func:`analysis.effect.compare`.

    Examples
    --------
    >>> from analysis.effect import Contrast
    >>> found = share_contrast((56, 70), (48, 80), plain=Contrast((70, 80), (0.8, 0.6), df=140.0), level=0.95)
    >>> round(found.absolute.low, 4), round(found.absolute.high, 4), found.df
    (0.0528, 0.3382, 140.0)
    """
    found = small_count_contrast(treated, control, level=level, least=least)
    if is_small(treated, control) or not plain.status == found.status == "ok":
        return found
    return replace(found, log_variance=plain.log_variance, df=plain.df, reason=SCORE)


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
    values = (treated[0] / treated[1] if n[0] else None, control[0] / control[1] if n[1] else None)
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
    n, values = (treated[1], control[1]), (treated[0] / treated[1], control[0] / control[1])
    low, high = difference_interval(treated, control, level=level)
    least, most = ratio_interval(treated, control, level=level)
    if p >= 1 - level:
        low, high = min(low, 0.0), max(high, 0.0)
    absolute = Absolute(values[0] - values[1], score_se(treated, control), low, high, p)
    if least is None or most is None:
        return Contrast(n, values, absolute, status="not_estimable", reason=NO_CONTROL_EVENT)
    if p >= 1 - level:
        least, most = min(least, 1.0), max(most, 1.0)
    relative = Relative(values[0] / values[1] - 1, least - 1, most - 1)
    reason = (EXACT if exact else FEW) + (REACHES_ZERO if p >= 1 - level > score else "")
    return Contrast(n, values, absolute, relative, _log_variance(treated, control), reason=reason)


def _log_variance(treated: Counts, control: Counts) -> tuple[float, float] | None:
    if 0 in treated or 0 in control or treated[0] == treated[1] or control[0] == control[1]:
        return None  # without events or non-events the logarithm has no spread to speak of
    return (treated[1] - treated[0]) / treated[1] / treated[0], (control[1] - control[0]) / control[1] / control[0]


def _check(treated: Counts, control: Counts, level: float) -> None:
    for events, readers in (treated, control):
        if not 0 <= events <= readers:
            raise DataError(f"{events} of {readers} readers have an event.", "Give (events, readers), events from 0 to readers.")
    if not 0 < level < 1:
        raise ExperimentError(f"the level of an interval is {level:g}, it must lie between 0 and 1.")


def _least_expected(treated: Counts, control: Counts) -> float:
    events, readers = treated[0] + control[0], treated[1] + control[1]
    return min(events, readers - events) * min(treated[1], control[1]) / readers
