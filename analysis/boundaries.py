"""Looking early and often without erring more often: group-sequential tests with a spending function.

Time is information: t = I / I_max with I = 1 / Var(difference). At every look a little of the permitted error is
spent; the difference counts when it is more than ``critical`` standard errors from zero. Nothing is remembered but
the list of days and times of the looks: every number follows from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, stdtrit

from analysis.spending import Spending, obrien_fleming
from experiments.errors import ExperimentError

__all__ = ["Boundary", "Look", "Plan", "boundary_now", "critical_values", "crossings", "student_critical"]

Floats = npt.NDArray[np.float64]
Inside = tuple[Floats, Floats]  # the walk B(t) that no look has stopped: places, and the chance of being near each

FIRST_DAY, FIRST_TIME = 7.0, 0.2  # no look before both (STATISTICS 4)
LARGEST = 12.0  # standard errors; whoever needs more to spend an increment cannot cross at all (chance 4e-33)
LEAST_GROWTH = 1.001  # of information between looks; below it the second look would tell nothing new
POINTS, MOST_POINTS = 401, 4001  # of the grid
PER_STEP = 10  # grid points per standard deviation of a step; with 401 points 22 daily looks have 17


def critical_values(times: Sequence[float], *, alpha: float, spending: Spending = obrien_fleming) -> tuple[float, ...]:
    """Return how many standard errors a difference must be from zero, at every look.

    Parameters
    ----------
    times : (looks,) information so far over the information planned, each at least 0.1 % above the one before. Above 1
        nothing more is spent, but the growth still counts: information beyond the plan loosens the tie between looks.
    alpha : two-sided error over all looks, in (0, 1).
    spending : error spent until a time.

    Returns
    -------
    (looks,) critical values; ``inf`` where the increment is so small that no difference up to 12 standard errors
    would be rare enough: such a look cannot stop the test.

    Raises
    ------
    ExperimentError
        No look, a time that is not positive and finite or does not grow, or alpha outside (0, 1).

    References
    ----------
    Armitage, McPherson, Rowe (1969); Lan, DeMets (1983); STATISTICS 4. Simpson's rule: 22 looks agree to 3e-8 with 1601 points.

    Examples
    --------
    >>> [round(c, 3) for c in critical_values([0.5, 1.0], alpha=0.05)]
    [2.963, 1.969]
    """
    if not 0 < alpha < 1:
        raise ExperimentError(f"alpha {alpha:g} is no chance of an error.", "Give a number between 0 and 1, for example 0.05.")
    return _solved(_checked(times), [spending(min(1.0, time), alpha) for time in times])


def student_critical(critical: npt.ArrayLike, df: npt.ArrayLike) -> Floats:
    """Return what Student's t is as rarely beyond as a normal value is beyond ``critical``, for a spread with ``df`` degrees of freedom.

    A look at its own nominal level (Jennison, Turnbull 2000, ch. 3.8), as the boundaries are those of a known spread.

    Examples
    --------
    >>> student_critical([1.959964, 3.0, np.inf], 838).round(3)
    array([1.963, 3.009,   inf])
    """
    tail = ndtr(-np.asarray(critical, dtype=float))
    return np.where(tail > 0, -stdtrit(df, tail), math.inf)  # scipy 1.17: stdtrit(838, 0) is plus infinity


def _checked(times: Sequence[float]) -> tuple[float, ...]:
    grows = all(late >= early * LEAST_GROWTH * (1 - 1e-12) for early, late in pairwise(times))
    if not (times and grows and all(0 < time < math.inf for time in times)):
        shown = ", ".join(f"{time:g}" for time in times) or "none"
        says = f"looks at the times {shown} cannot be taken one after the other."
        raise ExperimentError(says, "Give positive, finite times, each at least 0.1 % above the one before.")
    return tuple(map(float, times))


def _solved(times: Sequence[float], totals: Sequence[float]) -> tuple[float, ...]:
    found: list[float] = []
    walk = _walk(times, found)
    for spent, total, (inside, root, step) in zip((0.0, *totals), totals, walk, strict=False):
        found.append(_critical(inside, total - spent, root=root, step=step))
    return tuple(found)


def _walk(times: Sequence[float], critical: Sequence[float]) -> Iterator[tuple[Inside, float, float]]:
    """Yield, per look, who is still inside before it, sqrt(time) and sqrt(growth); reads ``critical`` one look behind."""
    inside, steps = (np.zeros(1), np.ones(1)), [math.sqrt(late - early) for early, late in pairwise((0.0, *times))]
    for k, (time, step) in enumerate(zip(times, steps, strict=True)):
        yield inside, math.sqrt(time), step
        if k + 1 < len(times):
            inside = _onwards(inside, min(critical[k], LARGEST) * math.sqrt(time), step=step, finest=min(step, steps[k + 1]))


def _critical(inside: Inside, increment: float, *, root: float, step: float) -> float:
    at, weight = inside

    def surplus(c: float) -> float:
        return 2 * float(weight @ ndtr((at - c * root) / step)) - increment

    if increment <= 0 or surplus(LARGEST) >= 0:
        return math.inf
    return float(brentq(surplus, 0.0, LARGEST, xtol=1e-12))


def _onwards(inside: Inside, half: float, *, step: float, finest: float) -> Inside:
    # a step much shorter than the grid's spacing would fall between its points
    points = min(MOST_POINTS, max(POINTS, 2 * math.ceil(PER_STEP * half / finest) + 1))
    at, spacing = np.linspace(-half, half, points, retstep=True)
    simpson = np.full(points, 2 * spacing / 3)
    simpson[1::2] *= 2
    simpson[[0, -1]] /= 2
    moved = np.exp(-0.5 * ((at[:, None] - inside[0]) / step) ** 2) @ inside[1] / (step * math.sqrt(2 * math.pi))
    return at, simpson * moved


def crossings(times: Sequence[float], critical: Sequence[float], *, drift: float = 0.0) -> Floats:
    """Return how often each look is the first to stop a test whose standardised effect is ``drift`` at time 1.

    Parameters
    ----------
    times : (looks,) as in :func:`critical_values`.
    critical : (looks,) critical values; ``inf`` never stops.
    drift : mean of B(1): effect times the square root of the planned information; 0 when there is no effect.

    Returns
    -------
    (3, looks): chance to stop upwards; downwards; and the former times the mean of B(t) / t over those tests.

    Examples
    --------
    >>> round(float(crossings([0.2, 0.4, 0.6, 0.8, 1.0], [1.959964] * 5)[:2].sum()), 3)  # five naive looks
    0.142
    """
    found = []
    for time, c, ((at, chance), root, step) in zip(times, critical, _walk(_checked(times), critical), strict=True):
        weight = chance * np.exp(drift * at - drift * drift * (time - step * step) / 2)  # likelihood ratio of the drift
        mean = at + drift * step * step
        above, below = (c * root - mean) / step, (-c * root - mean) / step
        bell = np.exp(-above * above / 2) / math.sqrt(2 * math.pi)
        found.append((weight @ ndtr(-above), weight @ ndtr(below), weight @ (mean * ndtr(-above) + step * bell) / time))
    return np.array(found).T


@dataclass(frozen=True, slots=True)
class Look:
    """One look that was taken: ``day`` since the start of the test, ``time`` = information over planned (may pass 1)."""

    day: float
    time: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a test set out to find, before it began.

    Parameters
    ----------
    effect : smallest effect worth finding, in the unit of the variance: ``log1p(0.05)`` where the logarithm of the
        ratio is judged (not 0).
    deadline_days : the last look is the first one on or after this day.
    alpha : two-sided error over all looks, after any correction for several comparisons.
    power : chance to find the effect, in (alpha, 1).
    inflation : readers needed over those of a test that is read once (phi of STATISTICS 8).

    Examples
    --------
    >>> round(Plan(effect=0.05, deadline_days=28, inflation=1.0).information)
    3140
    """

    effect: float
    deadline_days: float
    alpha: float = 0.05
    power: float = 0.8
    inflation: float = 1.049

    def __post_init__(self) -> None:
        fits = 0 < self.alpha < self.power < 1 and self.deadline_days > 0 and self.inflation >= 1
        if not (fits and self.effect != 0 and math.isfinite(self.effect)):
            hint = "The effect must not be 0, the deadline be positive, 0 < alpha < power < 1, and inflation at least 1."
            raise ExperimentError(f"{self} cannot be used.", hint)

    @property
    def drift(self) -> float:
        """Standardised effect at time 1 when the effect is the smallest worth finding."""
        return float(ndtri(1 - self.alpha / 2) + ndtri(self.power)) * math.sqrt(self.inflation)

    @property
    def information(self) -> float:
        """I_max: 1 / variance of the difference at which the plan is fulfilled."""
        return (self.drift / self.effect) ** 2

    def look(self, day: float, variance: float) -> Look:
        """Return the look that could be taken on ``day`` (days since the start) with this variance of the difference."""
        if not (math.isfinite(variance) and variance > 0):
            raise ExperimentError(f"day {day:g}: the difference has the variance {variance:g}.", "Wait for readers who differ.")
        return Look(float(day), 1 / variance / self.information)


@dataclass(frozen=True, slots=True)
class Boundary:
    """The answer to "may I look now?": ``critical`` standard errors decide, or None and ``reason`` says why not.

    ``look`` is what to store once the result has been seen (None: store nothing); ``spent`` is the error spent with
    it; ``final``: no look may follow.
    """

    critical: float | None
    look: Look | None
    spent: float
    final: bool = False
    reason: str = ""


def boundary_now(plan: Plan, taken: Sequence[Look], now: Look) -> Boundary:
    """Return the critical value of a look now, given the looks already taken, or why there is none.

    Looks of the same day or a later one are left aside, so a report made again gives the same number. A look spends as
    much as information and time have both come to, so that a test with more readers than planned goes on learning; the
    first look on or after the deadline spends what is left and is the last.

    Parameters
    ----------
    plan : fixed before the start.
    taken : (looks,) earlier looks, as stored, in any order; refused as an :class:`ExperimentError` when information shrank.
    now : from :meth:`Plan.look`; the range is difference +- ``critical`` * standard error (repeated
        confidence interval, Jennison, Turnbull 1989; STATISTICS 4).

    Examples
    --------
    >>> plan = Plan(effect=0.05, deadline_days=28)
    >>> round(boundary_now(plan, [Look(14, 0.5)], Look(28, 0.9)).critical, 3)  # the deadline: all 0.05 are spent
    1.967
    >>> boundary_now(plan, [], Look(5, 0.3)).reason
    'the first look is on day 7, this is day 5'
    """
    before = sorted((look for look in taken if look.day < now.day), key=lambda look: look.day)
    times = _checked([look.time for look in before]) if before else ()
    spent = _spent(plan, before[-1]) if before else 0.0
    if before and before[-1].day >= plan.deadline_days:
        return Boundary(None, None, plan.alpha, True, f"the last look was on day {before[-1].day:g}; all permitted error is spent")
    least = times[-1] * LEAST_GROWTH if before else 0.0
    ended = now.day >= plan.deadline_days
    if reason := "" if ended else _too_early(now, least):
        return Boundary(None, None, spent, False, reason)
    if now.time < least:  # the deadline, and the variance turned out larger: hold however closely the looks are tied
        return Boundary(-float(ndtri((plan.alpha - spent) / 2)), Look(now.day, least), plan.alpha, True)
    totals = [*(_spent(plan, look) for look in before), plan.alpha if ended else _spent(plan, now)]
    critical = _solved(_checked([*times, now.time]), totals)[-1]
    if math.isinf(critical):
        return Boundary(None, None, spent, False, "so little error may be spent this early that no difference would count")
    return Boundary(critical, now, totals[-1], ended)


def _spent(plan: Plan, look: Look) -> float:
    """The error spent with a look before the deadline; what it depends on does not know the effect (Lan, DeMets 1983)."""
    return obrien_fleming(min(look.time, look.day / plan.deadline_days), plan.alpha)


def _too_early(now: Look, least: float) -> str:
    if now.day < FIRST_DAY:
        return f"the first look is on day {FIRST_DAY:g}, this is day {now.day:g}"
    if now.time < FIRST_TIME:
        return f"a first look needs {FIRST_TIME:.0%} of the planned information, {now.time:.1%} is there"
    return "hardly anything is known that the last look did not know" if now.time < least else ""
