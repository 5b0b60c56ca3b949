"""What an arm is worth: net benefit with its uncertainty, and which unknown is worth settling.

Net benefit of an arm against the control over the horizon: views x value per view x (relative change), minus what it
costs to run beyond the control, minus what it would still cost to build. The control is 0 by definition.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import qmc

from analysis.bayes import Posterior
from analysis.information import Study, Unknown, best_length, unknowns
from analysis.stakes import Stakes
from analysis.words import money, name
from experiments.experiment import Arm

__all__ = ["Roi", "Scenario", "Worth", "expected_worth", "lognormal", "next_step", "worth"]

Floats = npt.NDArray[np.float64]
DRAWS = 14  # as a power of two
DOTS = 50
WEEKS = tuple(7.0 * weeks for weeks in (1, 2, 3, 4, 6, 8, 12, 16))  # lengths of a test that are offered
LEAST_WORTH = 0.005  # of the currency: what is less is nothing
LEAST_PART = 0.01  # of the range of outcomes: a test that brings less is not worth the time of those who run it, which has no price here
NINETY_FIVE = float(ndtri(0.95))


@dataclass(frozen=True, slots=True)
class Scenario:
    """Net benefit of one arm: mean, 5 % and 95 % point, chances, mean loss, cost, and 50 equally likely outcomes.

    ``regret`` is the mean of max(0, loss) over all outcomes, those without a loss included; ``loss_if_wrong`` is the mean
    loss over those with one, None where there is none.
    """

    arm: str
    expected: float
    low: float
    high: float
    p_positive: float
    p_best: float
    regret: float
    cost: float
    quantiles: tuple[float, ...]
    loss_if_wrong: float | None = None


@dataclass(frozen=True, slots=True)
class Roi:
    """Money: one scenario per arm (the control is 0), the value of knowing everything, and of knowing each part.

    ``unpriced`` : arm -> why it has no scenario.
    ``ruled_out`` : arms that may not be shipped whatever they earn; what it is worth to know more leaves them out.
    """

    currency: str
    horizon_days: int
    control: str
    scenarios: tuple[Scenario, ...]
    evpi: float
    unknowns: tuple[Unknown, ...]
    studies: tuple[Study, ...]
    stakes: Stakes
    ruled_out: tuple[str, ...] = ()
    unpriced: Mapping[str, str] = field(default_factory=dict)

    @property
    def open(self) -> tuple[Scenario, ...]:
        """Scenarios of arms that may still be shipped, without the control."""
        return tuple(s for s in self.scenarios if s.arm != self.control and s.arm not in self.ruled_out)

    @property
    def spread(self) -> float:
        """The widest 5-95 % range of an arm that may still be shipped."""
        return max((s.high - s.low for s in self.open), default=0.0)

    @property
    def least_net(self) -> float:
        """What a study must at least bring beyond its cost."""
        return max(LEAST_WORTH, LEAST_PART * self.spread)

    def expected(self) -> dict[str, float]:
        """Expected net benefit per arm, the control included."""
        return {scenario.arm: scenario.expected for scenario in self.scenarios}


@dataclass(frozen=True, slots=True, eq=False)
class Worth:
    """Draws: log ratios (m, k), value per view (m,), net benefit (m, k + 1) with the control first."""

    logs: Floats
    value: Floats
    benefit: Floats


def lognormal(points: tuple[float, float, float], z: Floats) -> Floats:
    """Return draws of a lognormal with the given 5 %, 50 % and 95 % points, from standard normal draws.

    The median is kept; the spread is the mean of the two sides, on the logarithmic scale.

    Examples
    --------
    >>> lognormal((0.5, 1.0, 2.0), np.array([0.0])).tolist()
    [1.0]
    """
    low, middle, high = points
    if middle <= 0:
        return np.full_like(z, middle)
    sigma = math.log(high / low) / (2 * NINETY_FIVE)
    return np.asarray(middle * np.exp(sigma * z))


def draw(belief: Posterior, stakes: Stakes, *, seed: int) -> Worth:
    """Return 2^14 scrambled Sobol draws of everything that is unknown, and the net benefit of every arm in each."""
    k = len(belief.arms)
    z = ndtri(qmc.Sobol(k + 1, scramble=True, rng=np.random.default_rng(seed)).random_base2(DRAWS))
    logs = belief.mean + z[:, :k] @ _root(belief.covariance).T
    value = lognormal(stakes.value, z[:, k])
    scale = stakes.effective_days * np.array([stakes.views_of(arm) for arm in belief.arms])
    costs = np.array([stakes.cost(arm, belief.control) for arm in belief.arms])
    gain = scale * value[:, None] * np.expm1(logs) - costs
    return Worth(logs, value, np.column_stack([np.zeros(len(value)), gain]))


def _root(covariance: Floats) -> Floats:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.clip(values, 0, None)))


def worth(
    belief: Posterior, stakes: Stakes, arms: Sequence[Arm], *, test_days: float, ruled_out: Collection[str] = (), seed: int = 1
) -> Roi:
    """Return expected net benefit, its 5-95 % range, chances, value of knowing, and what to find out next.

    Parameters
    ----------
    belief : posterior of the log ratios of the goal.
    stakes : value, traffic, horizon and costs.
    arms : of the plan, for kinds and shares.
    test_days : length of the test that gave ``belief``; a study as long again is offered, and one of the length that pays most,
        neither shorter than the stakes permit.
    ruled_out : arms that may not be shipped; they have a scenario, but nothing more is to be learnt of them.
    seed : of the draws; the same seed gives the same figures.

    References
    ----------
    STATISTICS 10; EVPI = E max NB - max E NB.
    """
    drawn = draw(belief, stakes, seed=seed)
    names = (belief.control, *belief.arms)
    means = drawn.benefit.mean(axis=0)
    best = np.bincount(drawn.benefit.argmax(axis=1), minlength=len(names)) / len(drawn.benefit)
    scenarios = tuple(_scenario(arm, drawn.benefit[:, i], float(best[i]), stakes, belief.control) for i, arm in enumerate(names))
    gone = tuple(arm for arm in belief.arms if arm in ruled_out)
    left = [i for i, arm in enumerate(names) if arm not in gone]
    evpi = float(drawn.benefit[:, left].max(axis=1).mean() - means[left].max())
    kinds = {arm.name: arm.kind for arm in arms}
    found = unknowns(drawn.logs, drawn.value, drawn.benefit, names=names, kinds=kinds, ruled_out=gone)
    offered = _offered(_without(belief, gone), stakes, {arm.name: arm.share for arm in arms}, test_days)
    return Roi(stakes.currency, stakes.horizon_days, belief.control, scenarios, max(0.0, evpi), found, offered, stakes, gone)


def _without(belief: Posterior, gone: Collection[str]) -> Posterior:
    """The belief about the arms that are left."""
    left = [i for i, arm in enumerate(belief.arms) if arm not in gone]
    square = np.ix_(left, left)
    arms = tuple(belief.arms[i] for i in left)
    return replace(belief, arms=arms, mean=belief.mean[left], covariance=belief.covariance[square], sampling=belief.sampling[square])


def _offered(belief: Posterior, stakes: Stakes, shares: dict[str, float], test_days: float) -> tuple[Study, ...]:
    """The same test again, and one of the length that pays most where that pays more."""
    whole, costs = _per_unit(stakes), _costs(stakes, (belief.control, *belief.arms))
    asked: dict[str, Any] = {"costs": costs, "shares": shares, "days": test_days, "horizon": stakes.horizon_days}
    reach = np.array([stakes.reach.get(arm, 1.0) for arm in belief.arms])
    offer = partial(best_length, belief, whole * reach, **asked, window_days=stakes.window_days, tested=whole * stakes.tested)
    again = offer(lengths=[max(test_days, stakes.minimum_days)])
    longer = offer(lengths=[days for days in WEEKS if days >= stakes.minimum_days])
    found = [again] if again else []
    if again and longer and longer.enbs > max(0.0, again.enbs):
        found.append(longer)
    return tuple(found)


def _scenario(arm: str, benefit: Floats, p_best: float, stakes: Stakes, control: str) -> Scenario:
    low, high = np.quantile(benefit, [0.05, 0.95])
    dots = np.quantile(benefit, (np.arange(DOTS) + 0.5) / DOTS)
    chance = float((benefit > 0).mean())
    cost = stakes.cost(arm, control) if arm != control else 0.0
    regret, wrong = float(np.maximum(0.0, -benefit).mean()), float((benefit < 0).mean())
    return Scenario(
        arm, float(benefit.mean()), float(low), float(high), chance, p_best, regret, cost, tuple(map(float, dots)),
        loss_if_wrong=regret / wrong if wrong else None,
    )  # fmt: skip


def _per_unit(stakes: Stakes) -> float:
    """Mean money per unit of relative change at all article views."""
    low, _, high = stakes.value
    sigma = math.log(high / low) / (2 * NINETY_FIVE) if low > 0 else 0.0
    return stakes.views_per_day * stakes.effective_days * stakes.value[1] * math.exp(sigma * sigma / 2)


def expected_worth(stakes: Stakes, arm: str, control: str, *, change: float) -> float:
    """Return the mean net benefit of an arm, given the mean of its relative change."""
    return _per_unit(stakes) * stakes.reach.get(arm, 1.0) * change - stakes.cost(arm, control)


def _costs(stakes: Stakes, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    control = names[0]
    return {arm: (stakes.cost(arm, control) if arm != control else 0.0, stakes.per_day[arm]) for arm in names}


def next_step(roi: Roi, *, trusted: bool = True) -> str:
    """Say what to find out next, from the computed value of knowing and the computed price of a study.

    ``trusted`` : no trust check fails; else no study of what such numbers leave open is worth its price.
    """
    if not trusted:
        return "Next: find out why these numbers cannot be trusted; until then no amount here is a ground for a decision or another test."
    if roi.ruled_out and not roi.open:
        return "Stop testing these arms: none of them may be shipped, whatever more is found out."
    best = max(roi.studies, key=lambda study: study.enbs, default=None)
    left_out = f" Left out of this: {', '.join(map(name, roi.ruled_out))}, which may not be shipped." if roi.ruled_out else ""
    if best is not None and best.enbs >= roi.least_net:
        gain, price = money(best.evsi, roi.currency), money(best.cost, roi.currency)
        return f"Next: {best.name}, {best.days:g} days; it is worth about {gain} and costs about {price}.{left_out}"
    if not roi.unknowns or roi.unknowns[0].evppi < roi.least_net:
        beside = f", where outcomes lie {money(roi.spread, roi.currency)} apart" if roi.evpi >= LEAST_WORTH else ""
        return f"Stop testing: knowing everything would be worth {money(roi.evpi, roi.currency)}{beside}.{left_out}"
    first = roi.unknowns[0]
    tail = ", and no study is on offer" if best is None else ", and no study on offer pays for itself"
    if best is not None and best.enbs > 0:
        tail = f". The best study on offer brings only {money(best.enbs, roi.currency)} more than it costs"
    return f"Largest unknown: {first.name}; settling it is worth at most {money(first.evppi, roi.currency)}{tail}.{left_out}"
