"""How many readers and days a test needs, and what it could find with the readers it gets.

Only what is known before the test, or without looking at arms, goes in here: there is no "observed power".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ndtri

from analysis.boundaries import Plan, critical_values, crossings
from analysis.effect import LEAST_READERS
from analysis.sequential import planned_readers
from analysis.totals import Moments
from experiments.errors import ExperimentError

__all__ = ["INFLATION", "Design", "Duration", "blinded_cv2", "detectable_effect", "duration", "effect_by_day", "exaggeration"]
__all__ += ["extra_readers", "first_exposures", "inflation", "readers_for_difference", "readers_needed"]

Floats = npt.NDArray[np.float64]
Pair = tuple[float, float]
INFLATION = {"fixed": 1.0, "weekly_4": 1.020, "daily_14": 1.042, "daily_7_to_28": 1.049, "anytime": 1.76}  # STATISTICS 8
LEAST_DAYS, WEEK = 14, 7
Day = tuple[int, float, float | None]  # (day, readers whose window has ended, smallest effect they can find)


@dataclass(frozen=True, slots=True)
class Design:
    """What a test demands of its errors.

    Parameters
    ----------
    shares : of the treated arm and the control among all readers of the test, each in (0, 1), together at most 1.
    alpha : two-sided error of all goal comparisons together, in (0, 1).
    power : chance that the goal's effect is found and no guardrail stands in the way, in (0.5, 1).
    hypotheses, guardrails : goal comparisons (at least 1), guardrails (at least 0).
    inflation : price of looking early, at least 1; see ``INFLATION`` and :func:`inflation`.

    Examples
    --------
    >>> three = Design((1 / 3, 1 / 3), hypotheses=3, guardrails=1)
    >>> round(three.alpha_each, 5), round(three.power_each, 3)
    (0.01695, 0.9)
    """

    shares: tuple[float, float] = (0.5, 0.5)
    alpha: float = 0.05
    power: float = 0.8
    hypotheses: int = 1
    guardrails: int = 0
    inflation: float = 1.0

    def __post_init__(self) -> None:
        checks = [
            (
                min(self.shares) > 0 and math.fsum(self.shares) <= 1 + 1e-9,
                "shares must be positive and add up to at most 1.",
            ),
            (0 < self.alpha < 1, f"alpha {self.alpha:g} must lie between 0 and 1."),
            (0.5 < self.power < 1, f"power {self.power:g} must lie between 0.5 and 1."),
            (self.hypotheses >= 1 and self.guardrails >= 0, "a test needs a hypothesis, and guardrails cannot be fewer than none."),
            (self.inflation >= 1, f"inflation {self.inflation:g} must be at least 1."),
        ]
        faults = [says for good, says in checks if not good]
        if faults:
            raise ExperimentError("readers cannot be planned as asked:", faults=faults)

    @property
    def alpha_each(self) -> float:
        """Error of one goal comparison (Sidak): 1 - (1 - alpha)^(1 / hypotheses)."""
        return -math.expm1(math.log1p(-self.alpha) / self.hypotheses)

    @property
    def power_each(self) -> float:
        """Power of the goal and of every guardrail, so that all succeed together: 1 - beta / (guardrails + 1)."""
        return 1 - (1 - self.power) / (self.guardrails + 1)


def inflation(times: Sequence[float], critical: Sequence[float], *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return how many times the readers of a test read once are needed, to find the effect as often with these looks.

    ``times`` and ``critical`` values are one per look, as in :func:`analysis.boundaries.crossings`.

    Examples
    --------
    >>> weekly = [0.25, 0.5, 0.75, 1.0]
    >>> round(inflation(weekly, critical_values(weekly, alpha=0.05)), 3)
    1.02
    """
    once = float(ndtri(1 - alpha / 2) + ndtri(power))
    return float(brentq(lambda phi: crossings(times, critical, drift=once * math.sqrt(phi))[0].sum() - power, 0.9, 9.0, xtol=1e-6))


def exaggeration(plan: Plan, times: Sequence[float], *, early: bool = False) -> float:
    """Return by what factor significant results overstate the smallest effect worth finding, on average.

    ``times`` are the planned looks; ``early`` counts only tests that stop before the last of them (two at least).

    Examples
    --------
    >>> daily = [day / 14 for day in range(1, 15)]
    >>> round(exaggeration(Plan(effect=0.05, deadline_days=14, inflation=1.0), daily), 2)
    1.28
    """
    if early and len(times) < 2:
        raise ExperimentError("a plan with one look cannot stop early.", "Give two looks or more.")
    up, _, estimate = crossings(times, critical_values(times, alpha=plan.alpha), drift=plan.drift)
    last = -1 if early else len(times)
    return float(estimate[:last].sum() / up[:last].sum() / plan.drift)


def readers_needed(design: Design, *, effect: float, cv2: float, explained: float = 0.0) -> float:
    """Return the readers (all arms; times a share: one arm) that find a relative effect, or show that a margin is kept.

    Parameters
    ----------
    effect : smallest relative change worth finding, above -1 and not 0 (0.05 = +5 %; a margin of 2 % is -0.02).
    cv2 : squared coefficient of variation of a reader's influence, n Var(theta) / theta^2; above 0.
    explained : share of that variance which covariates explain (R squared), in [0, 1).

    References
    ----------
    STATISTICS 8: phi (z_{1 - alpha / 2} + z_power)^2 cv2 (1 - R^2) (1 / share_1 + 1 / share_0) / log(1 + effect)^2.

    Examples
    --------
    >>> round(readers_needed(Design(), effect=0.05, cv2=1.0))
    13189
    """
    if not (effect > -1 and effect != 0 and math.isfinite(effect) and 0 < cv2 < math.inf and 0 <= explained < 1):
        says = f"no number of readers follows from effect {effect:g}, cv2 {cv2:g} and explained {explained:g}."
        raise ExperimentError(says, "The effect must be above -1 and not 0, cv2 above 0, explained in [0, 1).")
    once = planned_readers(cv2, design.shares, effect=effect, alpha=design.alpha_each, power=design.power_each)
    return design.inflation * (1 - explained) * once


def detectable_effect(design: Design, *, readers: float, cv2: float, explained: float = 0.0) -> float:
    """Return the relative increase that ``readers`` (all arms, above 0) can find; the inverse of :func:`readers_needed`.

    Examples
    --------
    >>> round(detectable_effect(Design(), readers=13_189, cv2=1.0), 4)
    0.05
    """
    if not readers > 0:
        raise ExperimentError(f"{readers:g} readers can find no effect.", "Wait for the first one.")
    unit = readers_needed(design, effect=math.e - 1, cv2=cv2, explained=explained)  # a log effect of 1
    log = math.sqrt(unit / readers)
    return math.expm1(log) if log < 700 else math.inf


def readers_for_difference(design: Design, *, difference: float, variances: Pair, null_variances: Pair | None = None) -> float:
    """Return the readers (all arms) that find an absolute difference, of means or of proportions.

    Parameters
    ----------
    difference : smallest change worth finding, in the metric's unit (not 0).
    variances : of a reader in (treated, control), in the unit squared; p (1 - p) for a proportion.
    null_variances : the same when there is no effect. Our test takes each arm's own variance, so leave it out;
        calculators for proportions use the control's for both, and ask for fewer readers.

    References
    ----------
    (z_{1 - alpha / 2} sqrt(v_null) + z_power sqrt(v))^2 / difference^2, v = v_1 / share_1 + v_0 / share_0.

    Examples
    --------
    >>> round(readers_for_difference(Design(), difference=0.05, variances=(0.1875, 0.16)))  # 20 % -> 25 %
    2182
    """
    if difference == 0 or min(variances) < 0 or sum(variances) <= 0:
        raise ExperimentError(f"no number of readers finds {difference:g} with variances {variances}.", "Give a difference and a variance.")
    null, other = (v[0] / design.shares[0] + v[1] / design.shares[1] for v in (null_variances or variances, variances))
    reach = -float(ndtri(design.alpha_each / 2)) * math.sqrt(null) + float(ndtri(design.power_each)) * math.sqrt(other)
    return design.inflation * (reach / difference) ** 2


def extra_readers(design: Design, *, effect: float, variance: float) -> float:
    """Return the readers still missing, as a multiple of those so far (0.5: half as many again; 0 when there are enough).

    ``variance`` is that of the estimate now, ``effect`` the planned one in the same unit, never the observed one.

    Examples
    --------
    >>> round(extra_readers(Design(), effect=0.05, variance=0.05**2 / 3.924), 2)
    1.0
    """
    z = float(ndtri(1 - design.alpha_each / 2) + ndtri(design.power_each))
    return max(0.0, design.inflation * variance * (z / effect) ** 2 - 1)


def blinded_cv2(cells: Iterable[Moments], *, numerator: str, denominator: str) -> float:
    """Return the squared coefficient of variation of a ratio metric over all arms together, blind to who got what.

    A true relative effect d adds about share_1 share_0 d^2 to it, so that a running test is never planned too short.

    Parameters
    ----------
    cells : moments of disjoint readers, in any order, whatever their arm.
    numerator, denominator : columns; the ratio is sum over sum.

    Examples
    --------
    >>> blinded_cv2([Moments.from_sums(3, ("x", "one"), (6, 3), ((14, 6), (6, 3)))], numerator="x", denominator="one")
    0.25
    """
    found = list(cells)
    pooled = reduce(Moments.merge, found) if found else None
    if pooled is None or pooled.n < 2:
        raise ExperimentError("fewer than two readers cannot show how readers differ.", "Wait for more readers.")
    (top, bottom), s = pooled.pair(numerator, denominator)
    if top == 0 or bottom == 0:
        raise ExperimentError(f"'{numerator}' over '{denominator}' is zero or undefined over all readers.", "Plan with another metric.")
    return float(s[0, 0] / top**2 - 2 * s[0, 1] / (top * bottom) + s[1, 1] / bottom**2)


def first_exposures(readers: npt.ArrayLike, days: npt.ArrayLike) -> Floats:
    """Return when each reader first came, in order: (distinct readers,) days since the start of the replay.

    Parameters
    ----------
    readers : (n,) integer code of the reader of each exposure; a returning reader appears again and counts once.
    days : (n,) days since the start, at least 0, in any order.

    Examples
    --------
    >>> first_exposures([7, 8, 7, 9], [0.5, 2.0, 1.0, 1.5]).tolist()
    [0.5, 1.5, 2.0]
    """
    codes, times = np.asarray(readers), np.asarray(days, dtype=np.float64)
    if codes.shape != times.shape or codes.ndim != 1 or not (np.isfinite(times) & (times >= 0)).all():
        raise ExperimentError("a history needs one reader and one day, finite and at least 0, per exposure.", "Cut it at the start.")
    order = np.argsort(times, kind="stable")
    _, where = np.unique(codes[order], return_index=True)
    return np.sort(times[order][where])


@dataclass(frozen=True, slots=True)
class Duration:
    """Length of a test: whole weeks in ``days``, of which the first ``recruiting`` bring the readers; None and a reason."""

    days: int | None
    recruiting: float | None = None
    reason: str = ""


def duration(first: Floats, *, needed: float, traffic: float = 1.0, window_days: float) -> Duration:
    """Return how long a test must run, had the past been its future.

    Parameters
    ----------
    first : (readers,) from :func:`first_exposures`.
    needed : readers, all arms; those matter whose window has ended.
    traffic : share of readers who enter the test, in (0, 1].
    window_days : only sessions within so many days of the first exposure count.

    Returns
    -------
    Whole weeks, at least 14 days; no number when the history brings too few readers (it is not drawn out).

    Examples
    --------
    >>> duration(np.arange(0, 20, 0.01), needed=1_000, window_days=7)
    Duration(days=21, recruiting=9.99, reason='')
    """
    _check_traffic(traffic, window_days)
    if not needed <= traffic * len(first) * (1 + 1e-12):
        return Duration(None, reason=f"the history brings {traffic * len(first):,.0f} readers to the test, {needed:,.0f} are needed")
    recruiting = float(first[max(1, math.ceil(needed / traffic * (1 - 1e-12))) - 1])
    return Duration(max(LEAST_DAYS, WEEK * math.ceil((recruiting + window_days) / WEEK)), recruiting)


def _check_traffic(traffic: float, window_days: float) -> None:
    if not (0 < traffic <= 1 and window_days > 0):
        raise ExperimentError(f"traffic {traffic:g} or a window of {window_days:g} days makes no test.", "Traffic is a share in (0, 1].")


def effect_by_day(first: Floats, design: Design, *, cv2: float, traffic: float = 1.0, window_days: float) -> list[Day]:
    """Return, per day of the replay, (day, readers whose window has ended, smallest effect they can find).

    Parameters are those of :func:`duration` and :func:`detectable_effect`; the effect is None below 30 readers in an arm.

    Examples
    --------
    >>> table = effect_by_day(np.arange(0, 3, 0.01), Design(), cv2=1.0, window_days=1)
    >>> [(day, readers, effect and round(effect, 2)) for day, readers, effect in table]
    [(1, 1.0, None), (2, 101.0, 0.75), (3, 201.0, 0.48)]
    """
    _check_traffic(traffic, window_days)
    days = range(1, math.floor(float(first[-1]) + window_days) + 1) if len(first) else range(0)
    ended = [traffic * float(np.searchsorted(first + window_days, day, side="right")) for day in days]
    found = [detectable_effect(design, readers=n, cv2=cv2) if n * min(design.shares) >= LEAST_READERS else None for n in ended]
    return list(zip(days, ended, found, strict=True))
