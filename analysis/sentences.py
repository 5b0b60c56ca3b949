"""The sentences of a report, in the order people read them: decision, range, money, regret, next step."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.comparison import Comparisons, Effect
from analysis.diversity import Pair
from analysis.looks import Taken
from analysis.roi import DOTS, Roi, Scenario
from analysis.segments import Segment
from analysis.verdict import Verdict
from analysis.words import apart, money, name, percent, share_of_times, span
from experiments.experiment import Experiment
from experiments.metric import metric

__all__ = ["describe", "headline_arm", "of_looks", "of_segment", "of_variety", "tell"]

DIFFERS = 0.05
MONTH_DAYS = 365.25 / 12


def tell(experiment: Experiment, verdict: Verdict, *, compared: Comparisons | None, roi: Roi | None, next_step: str) -> tuple[str, ...]:
    """Return the report's sentences; the first is the verdict, nothing else is said about numbers not to be used."""
    says = [verdict.sentence]
    if compared is None or verdict.key == "do_not_use":
        return tuple(says)
    arm = headline_arm(experiment, verdict, compared, roi)
    effect = compared.of(experiment.goal, arm, experiment.control) if arm else None
    if effect is not None:
        says.append(describe(effect))
        if effect.contrast.relative is not None:
            says.append(f"Such a range holds the truth {share_of_times(experiment.level)}.")
    scenario = next((s for s in roi.scenarios if s.arm == arm), None) if roi else None
    if roi is not None and scenario is not None:
        says.extend(_money(scenario, roi))
    share = _share_of_model(experiment, compared)
    return (*says, *filter(None, (share, next_step)))


def headline_arm(experiment: Experiment, verdict: Verdict, compared: Comparisons, roi: Roi | None) -> str | None:
    """Return the arm the figures are told for: the one the verdict speaks of, else the most promising one."""
    others = [arm.name for arm in experiment.arms if arm.name != experiment.control]
    told = verdict.about or verdict.arm
    if told in others:
        return told
    if roi is not None:
        worth = roi.expected()
        return max((arm for arm in others if arm in worth), key=lambda arm: worth[arm], default=None)
    sign = 1 if compared.effects[0].metric.direction == "up" else -1
    found = {arm: compared.of(experiment.goal, arm, experiment.control) for arm in others}
    measured = {arm: e.contrast.absolute.estimate for arm, e in found.items() if e is not None and e.contrast.absolute is not None}
    return max(measured, key=lambda arm: sign * measured[arm]) if measured else next(iter(others), None)


def of_looks(experiment: Experiment, taken: Sequence[Taken]) -> tuple[str, ...]:
    """Say what the last look at every arm against the control showed; such a range may be looked at."""
    goal, sign = metric(experiment.goal), 1 if metric(experiment.goal).direction == "up" else -1
    last = {look.arm: look for look in sorted(taken, key=lambda look: look.day) if look.against == experiment.control}
    says = []
    for look in (last[arm.name] for arm in experiment.arms if arm.name in last):
        who = f"with {name(look.arm)} than with {name(look.against)}"
        better = look.difference_low > 0 if sign > 0 else look.difference_high < 0
        enough = better and look.day >= experiment.minimum_days
        ends = "; that is enough to stop, although early results look larger than they are" if enough else ""
        says.append(f"Looked at on day {look.day:.3g}: {goal.says}: {span(look.low, look.high)} {who}{ends}.")
    return tuple(says)


def describe(effect: Effect) -> str:
    """Return one comparison in words.

    The range is relative where it can be; else it is that of the difference, or the reason is given.
    """
    who = f"with {name(effect.arm)} than with {name(effect.against)}"
    found, difference = effect.contrast.relative, effect.contrast.absolute
    if effect.metric.quantile is not None and difference is not None:
        return f"{effect.metric.says}: {apart(difference.low, difference.high, effect.metric.unit)} {who}."
    if found is None and difference is not None:
        return f"{effect.metric.says}: {apart(difference.low, difference.high, effect.metric.unit)} {who}; {effect.contrast.reason}."
    if found is None:
        return f"{effect.metric.says}, {name(effect.arm)} against {name(effect.against)}: not estimable: {effect.contrast.reason}."
    return f"{effect.metric.says}: {span(found.low, found.high)} {who}."


def of_segment(segment: Segment) -> str:
    """Say whether groups of readers differ in what changed for them; a hint and never more."""
    found = segment.interaction
    if found.q is None:
        return f"Not compared: {found.reason}."
    if found.q < DIFFERS:
        return "The change differs between these groups by more than chance explains. Test it on its own before you act on it."
    return "Chance explains how the change differs between these groups."


def of_variety(pair: Pair) -> str:
    """Say how much more or less varied one arm's articles were than another's."""
    says = {"coverage": "Share of the articles that readers are shown", "gini": "How unevenly articles are shown"}[pair.measure]
    found = pair.contrast.relative
    if found is None:
        return f"{says}, {name(pair.arm)} against {name(pair.against)}: not estimable: {pair.contrast.reason}."
    return f"{says}: {span(found.low, found.high)} with {name(pair.arm)} than with {name(pair.against)}."


def _money(scenario: Scenario, roi: Roi) -> list[str]:
    dots = sum(1 for dot in scenario.quantiles if dot > 0)
    who, months = name(scenario.arm), roi.horizon_days / MONTH_DAYS
    expected = f"We expect {money(scenario.expected, roi.currency)} over {roi.horizon_days} days, costs deducted."
    monthly = (scenario.loss_if_wrong or 0.0) / months
    amount = f"about {money(monthly, roi.currency)}" if monthly >= 1 else f"less than {money(1.0, roi.currency)}"
    regret = f"If we ship {who} and are wrong, expect to lose {amount} a month."
    if scenario.loss_if_wrong is None:
        regret = f"If we ship {who}, we reckon with no outcome that loses money."
    return [f"In {dots} of {DOTS} equally likely outcomes {who} earns money.", expected, regret]


def _share_of_model(experiment: Experiment, compared: Comparisons) -> str:
    """Say how much of the model's gain the heuristic already brings, where the model is shown to change anything."""
    belief = compared.belief
    rule = next((arm.name for arm in experiment.arms if arm.kind == "heuristic" and arm.name != experiment.control), None)
    model = next((arm.name for arm in experiment.arms if arm.kind == "model" and arm.name != experiment.control), None)
    if belief is None or rule is None or model is None or not {rule, model} <= set(belief.arms):
        return ""
    shown = compared.of(experiment.goal, model, experiment.control)
    change = shown.contrast.relative if shown else None
    if change is None or change.low <= 0 <= change.high:
        return ""
    sign = 1 if compared.effects[0].metric.direction == "up" else -1
    gains = [sign * belief.contrast(arm, experiment.control)[0] for arm in (rule, model)]
    if min(gains) <= 0:
        return ""
    if gains[0] >= gains[1]:
        return f"Our best guess: {name(rule)} gains at least as much as {name(model)}."
    return f"Our best guess: {name(rule)} already brings {percent(gains[0] / gains[1])} of what {name(model)} gains."
