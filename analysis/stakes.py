"""What an arm's change is multiplied with: the value of a view, the views it would reach, how long, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from analysis.words import name, rounded
from experiments.experiment import Experiment
from experiments.metric import Metric

__all__ = ["Stakes", "around", "counts_views", "reach_of", "stakes_of"]


@dataclass(frozen=True, slots=True)
class Stakes:
    """What turns a relative change into money.

    Parameters
    ----------
    value : margin of one article view at its 5 %, 50 % and 95 % point, in ``currency``.
    views_per_day : article views of the whole site.
    horizon_days : how long the decision holds.
    build, per_day : cost per arm still to build, and to run per day.
    half_life_days : after how many days half of the effect is gone; None if it lasts.
    window_days, minimum_days : of a further test: how long every reader is followed, and the shortest that may decide.
    reach : arm -> share of the views, 0 to 1, at which it brings its change once it is shipped; all where not named.
    tested : share of the views, 0 to 1, that a test reaches.
    bears_on : which views an arm's money counts, and what is taken for granted there; a sentence per arm, empty where all views count.
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
    reach: Mapping[str, float] = field(default_factory=dict)
    tested: float = 1.0
    bears_on: tuple[str, ...] = ()

    @property
    def effective_days(self) -> float:
        """Days of full effect that the horizon is worth."""
        if self.half_life_days is None:
            return float(self.horizon_days)
        return math.fsum(2.0 ** (-day / self.half_life_days) for day in range(self.horizon_days))

    def views_of(self, arm: str) -> float:
        """Article views a day at which a shipped arm brings its change."""
        return self.views_per_day * self.reach.get(arm, 1.0)

    def cost(self, arm: str, control: str) -> float:
        """What an arm costs over the horizon beyond the control."""
        return self.build[arm] + (self.per_day[arm] - self.per_day[control]) * self.horizon_days


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


def reach_of(experiment: Experiment, audience_share: float) -> dict[str, float]:
    """Return the share of all article views at which an arm brings the change that was measured, once it is shipped.

    An arm for readers who agreed is shown to them only. An arm for everybody is shown at every view; where the control is for
    readers who agreed, all others read something else today, so that the comparison with it says nothing about them.

    Parameters
    ----------
    audience_share : share of all article views that readers of the plan's audience open, 0 to 1.
    """
    everywhere = experiment.arm(experiment.control).audience == "all"
    return {arm.name: 1.0 if everywhere and arm.audience == "all" else audience_share for arm in experiment.arms}


def stakes_of(experiment: Experiment, views_per_day: float, *, audience_share: float = 1.0) -> Stakes | None:
    """Return the stakes a plan states, or None when nobody has stated what a view is worth, or its readers opened nothing.

    Parameters
    ----------
    views_per_day : article views of the whole site.
    audience_share : as of :func:`reach_of`.
    """
    if experiment.value_per_view is None or views_per_day * audience_share <= 0:
        return None
    return Stakes(
        value=around(experiment.value_per_view, experiment.value_spread),
        views_per_day=views_per_day,
        horizon_days=experiment.horizon_days,
        build={arm.name: arm.build for arm in experiment.arms},
        per_day={arm.name: arm.per_day for arm in experiment.arms},
        currency=experiment.currency,
        window_days=experiment.window_days,
        minimum_days=experiment.minimum_days,
        reach=reach_of(experiment, audience_share),
        tested=audience_share,
        bears_on=_bears_on(experiment, views_per_day * audience_share),
    )


def _bears_on(experiment: Experiment, agreed_views: float) -> tuple[str, ...]:
    """Which views count for every arm of a plan for readers who agreed; nothing where the plan is for all."""
    control = experiment.arm(experiment.control)
    if experiment.audience == "all":
        return ()
    views = f"{rounded(agreed_views):,}".removesuffix(".0")
    only = f"is counted on the {views} views a day of readers who agreed to personal choice"
    today = "keep the status quo" if control.kind == "status_quo" else f"get the status quo, not {name(control.name)}, which is not counted"
    says = []
    for arm in (arm for arm in experiment.arms if arm.name != control.name):
        if control.audience == "agreed":
            rest = "All others would read something else too, which is not counted" if arm.audience == "all" else "All others see no change"
            says.append(f"{name(arm.name)} {only}. {rest}.")
        elif arm.audience == "agreed":
            says.append(f"{name(arm.name)} {only}. All others would {today}.")
        else:
            tried = "It was tried on readers who agreed to personal choice; all others are taken to change as they did"
            says.append(f"{name(arm.name)} is counted on all views. {tried}.")
    return tuple(says)


def around(value: float, spread: float) -> tuple[float, float, float]:
    """Return the 5 %, 50 % and 95 % point of a value that is known up to a factor.

    Examples
    --------
    >>> around(4.0, 2.0)
    (2.0, 4.0, 8.0)
    """
    return value / spread, value, value * spread
