"""How long a planned test must run, from what readers did before it; and how long a running one still needs.

Nothing here knows arms: spread and arrivals are those of all readers together, so that planning never looks at effects.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any

from scipy.special import ndtri

from analysis.adjustment import Columns, adjust
from analysis.arrivals import Arrivals
from analysis.boundaries import FIRST_DAY, FIRST_TIME
from analysis.comparison import pairs_of
from analysis.effect import LEAST_READERS
from analysis.looks import plan_of
from analysis.moments import Moments
from analysis.power import LEAST_DAYS, WEEK, Design, blinded_cv2, detectable_effect, readers_needed, with_looks
from analysis.queries import beyond
from analysis.totals import metrics_of, pre_columns
from experiments.errors import ExperimentError
from experiments.experiment import Experiment
from experiments.metric import Metric

__all__ = ["HISTORY_DAYS", "LONGEST_DAYS", "Day", "Forecast", "Need", "Spread"]
__all__ += ["forecast", "goal_design", "half_width", "spreads"]

HISTORY_DAYS, LONGEST_DAYS = 28, 365
NO_HISTORY = "no reader of the last 28 days has been seen for a whole window"
NO_ARRIVALS = "nothing is known of how many readers come a day"
OF_EVENTS = "it is a quantile of events, for which readers cannot be planned"
NOTHING_READ = "no article was read in the seven days before these readers came, so none is among the most read"
NEEDS_SLOT = "only a filled slot has it, so the past cannot tell"


@dataclass(frozen=True, slots=True)
class Spread:
    """How much readers differ on a metric: its value, cv2 = n Var / value^2, the share that what they did before explains."""

    value: float | None = None
    cv2: float | None = None
    explained: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Need:
    """Readers (all arms) a metric needs to show ``change`` (a fraction), or why no number is known."""

    metric: str
    role: str
    change: float
    spread: Spread
    readers: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Day:
    """What could be known after ``day``: readers whose window has ended, smallest change they find, half the range's width.

    Readers come as fading arrivals say, or steadily where even that is too few in a year.

    Both are fractions; None below 30 readers in an arm. ``half_width`` is the upper half of the range that decides.
    """

    day: float
    readers: float
    smallest: float | None
    half_width: float | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """Length of a test: whole ``weeks`` and the day it ``ends``, for (steady, fading) arrivals; None when the readers never come.

    ``first_look`` is a day, None when no look comes before the end; ``planned`` is what could be known after ``planned_days``;
    ``reason`` says why there are no weeks.
    """

    needs: tuple[Need, ...]
    readers: float | None
    weeks: tuple[int | None, int | None]
    first_look: int | None
    days: tuple[Day, ...]
    planned_days: float
    reason: str = ""
    ends: tuple[float | None, float | None] = (None, None)
    planned: Day | None = None

    @property
    def fits(self) -> bool | None:
        """Whether a year is enough if readers keep coming as they do; None when that is not known."""
        return None if self.reason else self.weeks[0] is not None and self.weeks[0] * WEEK <= LONGEST_DAYS

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; unknown numbers are None beside a reason."""
        return {**asdict(self), "fits": self.fits}


def spreads(experiment: Experiment, cells: Sequence[Moments]) -> dict[str, Spread]:
    """Return how much readers differ on goal and guardrails, over all arms and phases together.

    Parameters
    ----------
    cells : moments of disjoint readers, whatever their arm.

    Examples
    --------
    >>> from experiments.experiment import Arm
    >>> arms = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5))
    >>> spreads(Experiment("related", "Does it pay?", "status_quo", arms), [])["views_per_session"].cv2 is None
    True
    """
    pooled = reduce(Moments.merge, cells) if cells else None
    return {metric.name: _spread(experiment, metric, pooled) for metric in metrics_of(experiment)}


def _spread(experiment: Experiment, metric: Metric, pooled: Moments | None) -> Spread:
    top, bottom = metric.numerator.key, metric.denominator.key
    if metric.quantile is not None:
        return Spread(reason=OF_EVENTS)
    if pooled is None or pooled.n < 2:
        return Spread(reason=NO_HISTORY)
    if metric.needs_slot and any(name not in pooled.keys or pooled.block([name])[0][0] == 0 for name in (top, bottom)):
        return Spread(reason=NEEDS_SLOT)
    if beyond(metric) and top not in pooled.keys:
        return Spread(reason=NOTHING_READ)
    try:
        cv2 = blinded_cv2([pooled], numerator=top, denominator=bottom)
    except ExperimentError as error:
        return Spread(reason=error.what)
    mean = pooled.block((top, bottom))[0]
    value = float(mean[0] / mean[1])
    if cv2 <= 0:
        return Spread(value, reason="no reader differs from another")
    return Spread(value, cv2, _explained(metric, pooled) if metric.name == experiment.goal else 0.0)


def _explained(metric: Metric, pooled: Moments) -> float:
    """R squared of what readers did before: what adjusting removes from the difference of two groups like these."""
    columns = Columns(metric.numerator.key, metric.denominator.key, tuple(c for c in pre_columns(metric) if c in pooled.keys))
    halves = {("one", 0): pooled, ("other", 0): pooled}
    return adjust(halves, ("one", "other"), columns=columns, shares={0: 1.0}, own_slopes_above=math.inf).variance_removed


def _shares(experiment: Experiment, pair: tuple[str, str]) -> tuple[float, float]:
    return experiment.arm(pair[0]).share, experiment.arm(pair[1]).share


def _widest(experiment: Experiment, pairs: Sequence[tuple[str, str]]) -> tuple[float, float]:
    """Shares of the comparison that needs most readers."""
    return max((_shares(experiment, pair) for pair in pairs), key=lambda shares: 1 / shares[0] + 1 / shares[1])


def goal_design(experiment: Experiment) -> Design:
    """Return what the goal's comparisons demand, together and with all guardrails."""
    pairs = pairs_of(experiment)
    alpha, guardrails = round(1 - experiment.level, 12), len(experiment.guardrails)
    shares = _widest(experiment, pairs)
    return with_looks(Design(shares, alpha=alpha, hypotheses=len(pairs), guardrails=guardrails), experiment.planned_days)


def half_width(design: Design, *, readers: float, cv2: float) -> float:
    """Return half the width of the range that decides, on the logarithmic scale, at so many readers in all arms.

    References
    ----------
    STATISTICS 8: z_{1 - alpha' / 2} sqrt(cv2 (1 / n_1 + 1 / n_0)), alpha' by Sidak; after looks their last critical value for z.

    Examples
    --------
    >>> round(half_width(Design(), readers=20_000, cv2=1.0), 4)
    0.0277
    """
    n_1, n_0 = (share * readers for share in design.shares)
    return (design.deciding or float(ndtri(1 - design.alpha_each / 2))) * math.sqrt(cv2 * (1 / n_1 + 1 / n_0))


def forecast(experiment: Experiment, found: Mapping[str, Spread], arrivals: tuple[Arrivals, Arrivals] | None) -> Forecast:
    """Return readers, weeks, first look and what could be found by week.

    Parameters
    ----------
    found : from :func:`spreads`, or stated by hand; metric -> spread.
    arrivals : steady and fading; None when nothing is known of them.
    """
    needs, goal = _needs(experiment, found), found.get(experiment.goal, Spread(reason=NO_HISTORY))
    readers = max((need.readers for need in needs if need.readers is not None), default=0.0)
    if goal.cv2 is None:
        return Forecast(needs, None, (None, None), None, (), experiment.planned_days, goal.reason)
    if arrivals is None:
        return Forecast(needs, readers, (None, None), None, (), experiment.planned_days, NO_ARRIVALS)
    ends = _end(arrivals[0], readers, experiment.window_days), _end(arrivals[1], readers, experiment.window_days)
    steady, fading = (_weeks(end) for end in ends)
    longest, asked = LONGEST_DAYS // WEEK, math.ceil(experiment.planned_days / WEEK)
    fits = steady is not None and steady <= longest
    likely, last = (arrivals[1], min(longest, max(fading or steady or 0, asked))) if fits else (arrivals[0], longest)
    *days, planned = (_day(experiment, likely, goal.cv2, day) for day in (*range(WEEK, last * WEEK + 1, WEEK), experiment.planned_days))
    look = _first_look(experiment, likely, goal.cv2)
    return Forecast(needs, readers, (steady, fading), look, tuple(days), experiment.planned_days, ends=ends, planned=planned)


def _needs(experiment: Experiment, found: Mapping[str, Spread]) -> tuple[Need, ...]:
    design = goal_design(experiment)
    least = LEAST_READERS / min(arm.share for arm in experiment.arms)  # fewer are not judged at all
    needs = [_need(experiment.goal, "goal", design, experiment.smallest_uplift, found.get(experiment.goal), least=least)]
    against_control = [pair for pair in pairs_of(experiment) if pair[1] == experiment.control]
    alone = Design(_widest(experiment, against_control), alpha=design.alpha, guardrails=design.guardrails)
    for metric in metrics_of(experiment):
        if metric.name in experiment.guardrails:
            margin = experiment.guardrails[metric.name]
            change = margin if metric.direction == "down" else -margin
            needs.append(_need(metric.name, "guardrail", alone, change, found.get(metric.name), least=least))
    return tuple(needs)


def _need(name: str, role: str, design: Design, change: float, spread: Spread | None, *, least: float) -> Need:
    spread = spread or Spread(reason=NO_HISTORY)
    if spread.cv2 is None:
        return Need(name, role, change, spread, reason=spread.reason)
    if change <= -1:
        return Need(name, role, change, spread, reason="nothing can fall by that much")
    return Need(name, role, change, spread, max(least, readers_needed(design, effect=change, cv2=spread.cv2)))


def _end(arrivals: Arrivals, readers: float, window_days: float) -> float | None:
    end = arrivals.until(readers) + window_days
    return end if math.isfinite(end) else None


def _weeks(end: float | None) -> int | None:
    return None if end is None else max(LEAST_DAYS // WEEK, math.ceil(end / WEEK))


def _day(experiment: Experiment, arrivals: Arrivals, cv2: float, day: float) -> Day:
    design, n = goal_design(experiment), arrivals.by(day - experiment.window_days)
    if n * min(arm.share for arm in experiment.arms) < LEAST_READERS:
        return Day(day, n, None, None)
    smallest = detectable_effect(design, readers=n, cv2=cv2)
    if math.isinf(smallest):  # no number is as large
        return Day(day, n, None, None)
    return Day(day, n, smallest, math.expm1(half_width(design, readers=n, cv2=cv2)))


def _first_look(experiment: Experiment, arrivals: Arrivals, cv2: float) -> int | None:
    pairs = pairs_of(experiment)
    plan, best = plan_of(experiment, len(pairs)), min(1 / one + 1 / zero for one, zero in (_shares(experiment, pair) for pair in pairs))
    for day in range(int(FIRST_DAY), math.ceil(experiment.planned_days)):
        n = arrivals.by(day - experiment.window_days)
        if n > 0 and plan.look(day, cv2 * best / n).time >= FIRST_TIME:
            return day
    return None
