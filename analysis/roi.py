"""What an arm is worth: net benefit with its uncertainty, and which unknown is worth settling.

Net benefit of an arm against the control over the horizon: views x value per view x (relative change), minus what it
costs to run beyond the control, minus what it would still cost to build. The control is 0 by definition.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import qmc

from analysis.bayes import Posterior
from analysis.information import Study, Unknown, best_length, unknowns
from analysis.words import money
from experiments.experiment import Arm, Experiment
from experiments.metric import Metric

__all__ = ["Roi", "Scenario", "Stakes", "Worth", "around", "counts_views", "expected_worth", "lognormal", "next_step", "stakes_of", "worth"]

Floats = npt.NDArray[np.float64]
DRAWS = 14  # as a power of two
DOTS = 50
WEEKS = tuple(7.0 * weeks for weeks in (1, 2, 3, 4, 6, 8, 12, 16))  # lengths of a test that are offered
LEAST_WORTH = 0.005  # of the currency: what is less is printed as nothing
NINETY_FIVE = float(ndtri(0.95))


@dataclass(frozen=True, slots=True)
class Stakes:
    """What turns a relative change into money.

    Parameters
    ----------
    value : margin of one article view at its 5 %, 50 % and 95 % point, in ``currency``.
    views_per_day : article views the decision bears on.
    horizon_days : how long the decision holds.
    build, per_day : cost per arm still to build, and to run per day.
    half_life_days : after how many days half of the effect is gone; None if it lasts.
    window_days, minimum_days : of a further test: how long every reader is followed, and the shortest that may decide.
    """

    value: tuple[float, float, float]
    views_per_day: float
    horizon_days: int
    build: Mapping[str, float]
    per_day: Mapping[str, float]
    currency: str = "EUR"
    half_life_days: float | None = None
    window_days: float = 0.0
    minimum_days: float = 0.0

    @property
    def effective_days(self) -> float:
        """Days of full effect that the horizon is worth."""
        if self.half_life_days is None:
            return float(self.horizon_days)
        return math.fsum(2.0 ** (-day / self.half_life_days) for day in range(self.horizon_days))

    def cost(self, arm: str, control: str) -> float:
        """What an arm costs over the horizon beyond the control."""
        return self.build[arm] + (self.per_day[arm] - self.per_day[control]) * self.horizon_days


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
    """Money: one scenario per arm (the control is 0), the value of knowing everything, and of knowing each part."""

    currency: str
    horizon_days: int
    control: str
    scenarios: tuple[Scenario, ...]
    evpi: float
    unknowns: tuple[Unknown, ...]
    studies: tuple[Study, ...]
    stakes: Stakes

    def expected(self) -> dict[str, float]:
        """Expected net benefit per arm, the control included."""
        return {scenario.arm: scenario.expected for scenario in self.scenarios}


@dataclass(frozen=True, slots=True, eq=False)
class Worth:
    """Draws: log ratios (m, k), value per view (m,), net benefit (m, k + 1) with the control first."""

    logs: Floats
    value: Floats
    benefit: Floats


def counts_views(goal: Metric) -> bool:
    """Return whether a change of the goal is one of article views as a whole, which a price per view can be put on.

    Shares of views, and views of some articles only, change without a single view more.

    Examples
    --------
    >>> from experiments.metric import metric
    >>> counts_views(metric("views_per_session")), counts_views(metric("beyond_most_read"))
    (True, False)
    """
    articles = goal.numerator.count == "view" and dict(goal.numerator.where) == {"page_type": "article"}
    return articles and goal.denominator.count in ("session", "reader")


def stakes_of(experiment: Experiment, views_per_day: float) -> Stakes | None:
    """Return the stakes a plan states, or None when nobody has stated what a view is worth."""
    if experiment.value_per_view is None or views_per_day <= 0:
        return None
    costs: Sequence[Arm] = experiment.arms
    return Stakes(
        value=around(experiment.value_per_view, experiment.value_spread),
        views_per_day=views_per_day,
        horizon_days=experiment.horizon_days,
        build={arm.name: arm.build for arm in costs},
        per_day={arm.name: arm.per_day for arm in costs},
        currency=experiment.currency,
        window_days=experiment.window_days,
        minimum_days=experiment.minimum_days,
    )


def around(value: float, spread: float) -> tuple[float, float, float]:
    """Return the 5 %, 50 % and 95 % point of a value that is known up to a factor.

    Examples
    --------
    >>> around(4.0, 2.0)
    (2.0, 4.0, 8.0)
    """
    return value / spread, value, value * spread


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
    scale = stakes.views_per_day * stakes.effective_days
    costs = np.array([stakes.cost(arm, belief.control) for arm in belief.arms])
    gain = scale * value[:, None] * np.expm1(logs) - costs
    return Worth(logs, value, np.column_stack([np.zeros(len(value)), gain]))


def _root(covariance: Floats) -> Floats:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.clip(values, 0, None)))


def worth(belief: Posterior, stakes: Stakes, arms: Sequence[Arm], *, test_days: float, seed: int = 1) -> Roi:
    """Return expected net benefit, its 5-95 % range, chances, value of knowing, and what to find out next.

    Parameters
    ----------
    belief : posterior of the log ratios of the goal.
    stakes : value, traffic, horizon and costs.
    arms : of the plan, for kinds and shares.
    test_days : length of the test that gave ``belief``; a study as long again is offered, and one of the length that pays most,
        neither shorter than the stakes permit.
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
    evpi = float(drawn.benefit.max(axis=1).mean() - means.max())
    kinds = {arm.name: arm.kind for arm in arms}
    found = unknowns(drawn.logs, drawn.value, drawn.benefit, names=names, kinds=kinds)
    shares = {arm.name: arm.share for arm in arms}
    asked: dict[str, Any] = {"costs": _costs(stakes, names), "shares": shares, "days": test_days, "horizon": stakes.horizon_days}
    offer = partial(best_length, belief, _per_unit(stakes), **asked, window_days=stakes.window_days)
    again = offer(lengths=[max(test_days, stakes.minimum_days)])
    longer = offer(lengths=[days for days in WEEKS if days >= stakes.minimum_days])
    offered: list[Study] = [again] if again else []
    if again and longer and longer.enbs > max(0.0, again.enbs):
        offered.append(longer)
    return Roi(stakes.currency, stakes.horizon_days, belief.control, scenarios, max(0.0, evpi), found, tuple(offered), stakes)


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
    low, _, high = stakes.value
    sigma = math.log(high / low) / (2 * NINETY_FIVE) if low > 0 else 0.0
    return stakes.views_per_day * stakes.effective_days * stakes.value[1] * math.exp(sigma * sigma / 2)


def expected_worth(stakes: Stakes, arm: str, control: str, *, change: float) -> float:
    """Return the mean net benefit of an arm, given the mean of its relative change."""
    return _per_unit(stakes) * change - stakes.cost(arm, control)


def _costs(stakes: Stakes, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    control = names[0]
    return {arm: (stakes.cost(arm, control) if arm != control else 0.0, stakes.per_day[arm]) for arm in names}


def next_step(roi: Roi, *, trusted: bool = True) -> str:
    """Say what to find out next, from the computed value of knowing and the computed price of a study.

    ``trusted`` : no trust check fails; else no study of what such numbers leave open is worth its price.
    """
    if not trusted:
        return "Next: find out why these numbers cannot be trusted; until then no amount here is a ground for a decision or another test."
    best = max(roi.studies, key=lambda study: study.enbs, default=None)
    if best is not None and best.enbs > 0:
        gain, price = money(best.evsi, roi.currency), money(best.cost, roi.currency)
        return f"Next: {best.name}, {best.days:g} days; it is worth about {gain} and costs about {price}."
    if not roi.unknowns or roi.unknowns[0].evppi < LEAST_WORTH:
        return f"Stop testing: knowing everything would be worth {money(roi.evpi, roi.currency)}."
    first = roi.unknowns[0]
    tail = "no study on offer pays for itself" if best is not None else "no study is on offer"
    return f"Largest unknown: {first.name}; settling it is worth at most {money(first.evppi, roi.currency)}, and {tail}."
