"""Every comparison of a plan: arms against the control, models against heuristics, on every metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from analysis.adjustment import Adjusted, Adjustment, Columns, adjust, adjusted_contrast
from analysis.bayes import Posterior, Prior, Shrunken
from analysis.beside import Beside, beside, quantile_of
from analysis.effect import LEAST_READERS as LEAST_READERS_OF_A_MEAN
from analysis.effect import Contrast, Value, arm_value, compare, interval_at, phase_shares
from analysis.fat_tails import belief_of
from analysis.looks import Taken, plan_of, sequential_range
from analysis.moments import Totals
from analysis.multiplicity import exploratory, family_level
from analysis.sequential import LEAST_READERS, anytime_critical, anytime_p, planned_readers
from analysis.skew import Skew, skew_of
from analysis.small_counts import SCORE, binary_counts, share_contrast
from analysis.totals import metrics_of, pre_columns
from experiments.experiment import Experiment
from experiments.metric import Metric

__all__ = ["FEW", "Anytime", "Comparisons", "Effect", "Family", "compare_all", "contrast_of", "pairs_of", "planned_of", "value_of"]

Role = Literal["goal", "secondary", "guardrail"]
METHOD = "planned end; delta method by reader, Welch, Fieller"
GUARDED = "planned end; delta method by reader, spread pooled over arms"
FEW = "events are few: what readers did before cannot narrow the range"
QUANTILE = "planned end; quantile of all events, spread by reader"
RARE = "planned end; score test and intervals for rare events"
SHARES = "planned end; score test and intervals for shares of readers"


@dataclass(frozen=True, slots=True)
class Anytime:
    """A relative range that may be looked at every day, and the same in the metric's unit; None where there is none."""

    low: float | None
    high: float | None
    p: float
    difference_low: float
    difference_high: float


@dataclass(frozen=True, slots=True)
class Family:
    """The difference's range at the stricter level that all goal comparisons need together; it decides."""

    level: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Effect:
    """One comparison on one metric; ``adjusted`` (goal only) is shown beside it and decides nothing.

    ``q`` is the p-value of a secondary metric, adjusted for how many of them were looked at. ``beside`` decides nothing.
    """

    metric: Metric
    role: Role
    arm: str
    against: str
    contrast: Contrast
    family: Family | None = None
    shrunken: Shrunken | None = None
    anytime: Anytime | None = None
    margin: float | None = None
    adjusted: Adjusted | None = None
    q: float | None = None
    beside: Beside | None = None

    @property
    def method(self) -> str:
        if self.metric.quantile is not None:
            return QUANTILE
        if self.contrast.absolute is not None and math.isnan(self.contrast.df):
            return RARE
        if self.contrast.reason == SCORE:
            return SHARES
        return GUARDED if self.contrast.status == "guarded" else METHOD


@dataclass(frozen=True, slots=True)
class Comparisons:
    """All effects of a report, the values behind them, what is believed about the goal, and what was dropped."""

    effects: tuple[Effect, ...]
    values: Mapping[tuple[str, str], Value]
    shares: Mapping[int, float]
    dropped: tuple[int, ...]
    belief: Posterior | None

    def of(self, metric: str, arm: str, against: str) -> Effect | None:
        """Return one comparison, or None when the plan has no such pair."""
        return next((e for e in self.effects if (e.metric.name, e.arm, e.against) == (metric, arm, against)), None)


def pairs_of(experiment: Experiment) -> tuple[tuple[str, str], ...]:
    """Return every arm against the control, in the order of the plan, then every model against every heuristic."""
    control = experiment.control
    first = [(arm.name, control) for arm in experiment.arms if arm.name != control]
    models = [arm.name for arm in experiment.arms if arm.kind == "model" and arm.name != control]
    rules = [arm.name for arm in experiment.arms if arm.kind == "heuristic" and arm.name != control]
    return (*first, *((model, rule) for model in models for rule in rules))


def compare_all(
    experiment: Experiment, totals: Totals, *, prior: Prior = Prior(), taken: Sequence[Taken] = (), day: float = math.inf
) -> Comparisons:
    """Return every effect of the plan with its ranges, whether or not it is time to show them.

    Parameters
    ----------
    taken : looks at the goal that were shown before the end; they make the range that decides wider.
    day : days since the start at the data cut.
    """
    arms = [arm.name for arm in experiment.arms]
    shares, dropped = phase_shares(totals.moments, arms)
    values = {(m.name, arm): value_of(experiment, totals, m, arm, shares) for m in metrics_of(experiment) for arm in arms}
    plain = {
        (m.name, *pair): contrast_of(totals, m, pair, values, level=experiment.level)
        for m in metrics_of(experiment)
        for pair in pairs_of(experiment)
    }
    belief = _belief(experiment, values, plain, prior)
    strict = _family_level(experiment, values, plain)
    adjustment = _adjustment(experiment, totals, values, shares)
    plan = plan_of(experiment, len(pairs_of(experiment)))

    def family(m: Metric, pair: tuple[str, str], contrast: Contrast) -> Family | None:
        seen = [look for look in taken if (look.arm, look.against) == pair]
        sides = values[m.name, pair[0]], values[m.name, pair[1]]
        found = sequential_range(plan, contrast, sides, taken=seen, day=day)
        return Family(*found) if found else _family(totals, m, pair, values, level=strict)

    effects = []
    for m in metrics_of(experiment):
        for pair in pairs_of(experiment):
            contrast, sides = plain[m.name, *pair], (values[m.name, pair[0]], values[m.name, pair[1]])
            role = _role(experiment, m)
            effects.append(
                Effect(
                    m,
                    role,
                    *pair,
                    contrast,
                    family=family(m, pair, contrast) if role == "goal" else None,
                    shrunken=_shrunken(belief, pair, m, experiment.level) if role == "goal" else None,
                    anytime=_anytime(contrast, sides, experiment.level) if role == "guardrail" and not math.isnan(contrast.df) else None,
                    margin=experiment.guardrails.get(m.name),
                    adjusted=_adjusted(experiment, adjustment, pair, contrast) if role == "goal" else None,
                    beside=beside(totals, m, pair, contrast=contrast, level=experiment.level),
                )
            )
    return Comparisons(_with_q(effects), values, shares, dropped, belief)


def _with_q(effects: Sequence[Effect]) -> tuple[Effect, ...]:
    secondary = [i for i, e in enumerate(effects) if e.role == "secondary"]
    ps = [absolute.p if (absolute := effects[i].contrast.absolute) else None for i in secondary]
    q = dict(zip(secondary, exploratory(ps), strict=True))
    return tuple(replace(e, q=q.get(i)) for i, e in enumerate(effects))


def contrast_of(
    totals: Totals, metric: Metric, pair: tuple[str, str], values: Mapping[tuple[str, str], Value], *, level: float
) -> Contrast:
    """One comparison; where readers either did it or not, by the score test."""
    treated, control = (values[metric.name, arm] for arm in pair)
    if metric.quantile is not None:  # judged by its difference, so it does not need a relative change
        found = compare(treated, control, level=level)
        return replace(found, status="ok") if found.absolute else found
    plain = compare(treated, control, level=level, skew=_skew(totals, metric))
    if treated.status == control.status == "ok":
        one, two = (binary_counts(totals.moments, arm, numerator=metric.numerator.key, denominator=metric.denominator.key) for arm in pair)
        if one is not None and two is not None:
            return share_contrast(one, two, plain=plain, level=level, least=LEAST_READERS_OF_A_MEAN)
    return plain


def value_of(experiment: Experiment, totals: Totals, metric: Metric, arm: str, shares: Mapping[int, float]) -> Value:
    if metric.needs_slot and experiment.arm(arm).kind == "status_quo":
        n = totals.readers().get(arm, 0)
        return Value(n, status="undefined_for_arm", reason=f"{arm} fills no slot, so this cannot be measured there")
    if metric.name in totals.missing:
        return Value(totals.readers().get(arm, 0), status="not_estimable", reason=totals.missing[metric.name])
    if metric.quantile is not None:
        return quantile_of(totals, metric, arm, shares=shares, level=experiment.level).value
    return arm_value(totals.moments, arm, numerator=metric.numerator.key, denominator=metric.denominator.key, shares=shares)


def _adjustment(experiment: Experiment, totals: Totals, values: Mapping[tuple[str, str], Value], shares: Mapping[int, float]) -> Adjustment:
    """The goal's values adjusted by what the same measures were before the first exposure."""
    goal = metrics_of(experiment)[0]
    arms = [arm.name for arm in experiment.arms if values[goal.name, arm.name].status == "ok"]
    covariates = tuple(name for name in pre_columns(goal) if all(name in cell.keys for cell in totals.moments.values()))
    if not covariates or not arms:
        return Adjustment({}, reason="nothing is known about readers before their first exposure")
    return adjust(totals.moments, arms, columns=Columns(goal.numerator.key, goal.denominator.key, covariates), shares=shares)


def _adjusted(experiment: Experiment, adjustment: Adjustment, pair: tuple[str, str], contrast: Contrast) -> Adjusted | None:
    if contrast.absolute is not None and math.isnan(contrast.df):
        return Adjusted(None, reason=FEW)
    return adjusted_contrast(adjustment, pair, plain=contrast, level=experiment.level)


def _skew(totals: Totals, metric: Metric) -> Skew | None:
    rows = totals.distinct.get(metric.name)
    return skew_of(rows) if rows else None


def _role(experiment: Experiment, metric: Metric) -> Role:
    if metric.name == experiment.goal:
        return "goal"
    return "guardrail" if metric.name in experiment.guardrails else "secondary"


Plain = Mapping[tuple[str, str, str], Contrast]


def _belief(experiment: Experiment, values: Mapping[tuple[str, str], Value], plain: Plain, prior: Prior) -> Posterior | None:
    goal, control = experiment.goal, experiment.control
    against = {arm.name: plain[goal, arm.name, control] for arm in experiment.arms if arm.name != control}
    estimates = {arm.name: values[goal, arm.name].estimate for arm in experiment.arms}
    return belief_of(experiment.arms, control, against, estimates=estimates, prior=prior)


def _family_level(experiment: Experiment, values: Mapping[tuple[str, str], Value], plain: Plain) -> float:
    judged = [pair for pair in pairs_of(experiment) if plain[experiment.goal, *pair].absolute is not None]
    variances = {arm: values[experiment.goal, arm].variance for pair in judged for arm in pair}
    return family_level(variances, judged, level=experiment.level)


def _family(
    totals: Totals, metric: Metric, pair: tuple[str, str], values: Mapping[tuple[str, str], Value], *, level: float
) -> Family | None:
    wide = contrast_of(totals, metric, pair, values, level=level).absolute
    return None if wide is None else Family(level, wide.low, wide.high)


def _shrunken(belief: Posterior | None, pair: tuple[str, str], metric: Metric, level: float) -> Shrunken | None:
    known = () if belief is None else (belief.control, *belief.arms)
    if belief is None or pair[0] not in known or pair[1] not in known:
        return None
    return belief.shrunken(*pair, level=level, better=metric.direction)


def planned_of(sides: tuple[Value, Value], *, alpha: float) -> float:
    """Return the readers of both arms that would find a change of 5 %: where ranges without an end are narrowest."""
    readers = sides[0].n + sides[1].n
    cv2 = math.fsum(side.n * side.variance / side.estimate**2 for side in sides if side.estimate) / 2
    return planned_readers(cv2, (sides[0].n / readers, sides[1].n / readers), alpha=alpha)


def _anytime(contrast: Contrast, sides: tuple[Value, Value], level: float) -> Anytime | None:
    readers = sides[0].n + sides[1].n
    if contrast.absolute is None or min(contrast.n) < LEAST_READERS:
        return None
    n_star = planned_of(sides, alpha=1 - level)
    critical = anytime_critical(readers, n_star, alpha=1 - level)
    wide = interval_at(contrast, *sides, level=level, critical=critical)
    if wide.absolute is None:
        return None
    p = anytime_p(wide.absolute.estimate / wide.absolute.se, readers, n_star, alpha=1 - level)
    low, high = (wide.relative.low, wide.relative.high) if wide.relative else (None, None)
    return Anytime(low, high, p, wide.absolute.low, wide.absolute.high)
