"""How many readers a test needs, and what it could find with the readers it gets.

Only what is known before the test, or without looking at arms, goes in here: there is no "observed power".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, reduce

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ndtri

from analysis.boundaries import FIRST_DAY, FIRST_TIME, Plan, critical_values, crossings
from analysis.moments import Moments
from analysis.sequential import planned_readers
from experiments.errors import ExperimentError

__all__ = ["INFLATION", "Design", "Rollout", "blinded_cv2", "detectable_effect", "exaggeration", "extra_readers"]
__all__ += ["inflation", "readers_for_difference", "readers_needed", "with_looks"]

Floats = npt.NDArray[np.float64]
Pair = tuple[float, float]
INFLATION = {"fixed": 1.0, "weekly_4": 1.020, "daily_14": 1.042, "daily_7_to_28": 1.049, "anytime": 1.76}  # STATISTICS 8
LEAST_DAYS, WEEK = 14, 7
MOST_LOOKS = 60


@dataclass(frozen=True, slots=True)
class Design:
    """What a test demands of its errors.

    Parameters
    ----------
    shares : of the treated arm and the control among all readers of the test, each in (0, 1), together at most 1.
    alpha : two-sided error of all goal comparisons together, in (0, 1).
    power : chance that the goal's effect is found and no guardrail stands in the way, in (0.5, 1).
    hypotheses, guardrails : goal comparisons (at least 1), guardrails (at least 0).
    inflation : price of looking early, at least 1; see ``INFLATION``, :func:`inflation` and :func:`with_looks`.
    deciding : standard errors by which the range that decides reaches out; 0 for those of a test that is read once.

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
    deciding: float = 0.0

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


def with_looks(design: Design, days: float) -> Design:
    """Return the design of a test that is looked at daily from day 7 on and decided by its range at the planned end.

    A result that was clear on some day and is no longer at the end decides nothing, so the power is that of the last look alone.

    References
    ----------
    phi = ((c + z_power) / (z_{1 - alpha / 2} + z_power))^2, c the critical value of the last look when as much is known every day.

    Examples
    --------
    >>> planned = with_looks(Design(), 28)
    >>> round(planned.deciding, 3), round(planned.inflation, 3)
    (2.14, 1.132)
    """
    once, power = float(ndtri(1 - design.alpha_each / 2)), float(ndtri(design.power_each))
    c = max(once, _last_critical(design.alpha_each, math.ceil(days)))  # which is solved to twelve digits
    return replace(design, deciding=c, inflation=((c + power) / (once + power)) ** 2)


@lru_cache(maxsize=64)
def _last_critical(alpha: float, days: int) -> float:
    every = max(1, math.ceil(days / MOST_LOOKS))  # more of them change the third digit
    times = [day / days for day in range(int(FIRST_DAY), days, every) if day / days >= FIRST_TIME]
    return critical_values([*times, 1.0], alpha=alpha)[-1]


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


@dataclass(frozen=True, slots=True)
class Rollout:
    """A test of two arms, then the better one for everybody else, when nothing but the outcome counts.

    Parameters
    ----------
    readers : in all, tested or not. each : of them tested in either arm, at most half of all.
    arms_sd : standard deviation of the arms' true values around each other, before anything is known; above 0.
    readers_sd : of one reader's outcome, in the same unit; above 0.

    References
    ----------
    Feit, Berman (2019), "Test & Roll"; the two arms are alike before the test, their values normal.

    Examples
    --------
    >>> round(Rollout.best(100_000, arms_sd=0.03, readers_sd=0.466476).each)
    2284
    """

    readers: float
    each: float
    arms_sd: float
    readers_sd: float

    def __post_init__(self) -> None:
        if not (0 < 2 * self.each <= self.readers < math.inf and 0 < self.arms_sd < math.inf and 0 < self.readers_sd < math.inf):
            raise ExperimentError(
                f"{self} cannot be.", "Give positive, finite numbers, and test at most half of the readers in either arm."
            )

    @classmethod
    def best(cls, readers: float, *, arms_sd: float, readers_sd: float) -> Rollout:
        """Return the test that gains most: (-3 s^2 + sqrt(9 s^4 + 4 N s^2 sigma^2)) / (4 sigma^2) readers in either arm."""
        s2, sigma2 = readers_sd**2, arms_sd**2
        root = math.sqrt(9 * s2 * s2 + 4 * readers * s2 * sigma2)
        return cls(readers, readers * s2 / (3 * s2 + root), arms_sd, readers_sd)  # without the difference of two large numbers

    @property
    def gain(self) -> float:
        """Expected outcome of all readers together beyond an arm taken blindly, in the outcome's unit."""
        told = self.arms_sd**2 / math.sqrt(self.arms_sd**2 + self.readers_sd**2 / self.each)
        return (self.readers - 2 * self.each) * told / math.sqrt(math.pi)

    @property
    def wrong(self) -> float:
        """Chance that the worse arm is chosen."""
        told = self.arms_sd / math.sqrt(self.arms_sd**2 + self.readers_sd**2 / self.each)
        return math.acos(min(1.0, told)) / math.pi
