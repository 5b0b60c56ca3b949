"""What the verdict weighs: every arm but the control, what it is worth, and why it has no price where it has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from analysis.comparison import Comparisons
from analysis.effect import Contrast
from analysis.guardrail import guardrail_state
from analysis.roi import Roi, worth
from analysis.stakes import counts_views, reach_of, stakes_of
from analysis.verdict import UNPRICED, Candidate, Guardrail, Progress
from analysis.words import name
from experiments.experiment import Experiment
from experiments.metric import metric

__all__ = ["NO_RESULT", "candidates_of", "money_of", "no_price", "no_prices", "with_reasons", "worth_of"]

NO_RESULT = "no arm has a result to put a price on"
NO_PRICE = "too few readers of an arm did it or did not, or arms are too unequal in size, to put a price on it"
LATE = "the second half of readers' windows, on which money rests, says too little of it"


def no_price(contrast: Contrast) -> str:
    """Return why a change that was measured has no price: it is not relative to anything, or has no spread on the log scale."""
    return contrast.reason if contrast.absolute is not None and contrast.relative is None else NO_PRICE


def no_prices(contrasts: Mapping[str, Contrast]) -> str:
    """Return why no arm has a price: what all that were measured have in common, where it is one thing.

    Examples
    --------
    >>> from analysis.effect import Absolute
    >>> zero = Contrast((50, 50), (1.0, 0.0), Absolute(1.0, 0.1, 0.8, 1.2, 0.0), status="not_estimable", reason="the control has none")
    >>> no_prices({"front": zero}), no_prices({})
    ('the control has none', 'no arm has a result to put a price on')
    """
    found = {no_price(contrast) for contrast in contrasts.values() if contrast.absolute is not None}
    return found.pop() if len(found) == 1 else NO_RESULT


def money_of(
    experiment: Experiment, compared: Comparisons, progress: Progress, views: tuple[float, float], *, seed: int
) -> tuple[Roi | None, str]:
    """Return what the arms are worth, or None and why that cannot be said.

    Parameters
    ----------
    compared : its belief is what money is reckoned with.
    views : article views of the site a day, and the share of them that the plan's audience opened.
    """
    views_per_day, share = views
    if experiment.value_per_view is None:
        return None, UNPRICED
    stakes = stakes_of(experiment, views_per_day, audience_share=share)
    if stakes is None:
        return None, "no article views were counted" + (" of readers who agreed to personal choice" if views_per_day > 0 else "")
    if not counts_views(metric(experiment.goal)):
        return None, f"{name(experiment.goal)} does not count article views, so its change has no price"
    if compared.belief is None:
        return None, no_prices(_against_control(experiment, compared))
    states = {arm: _guardrails(experiment, compared, arm, early=not progress.ended) for arm in compared.belief.arms}
    gone = [arm for arm, found in states.items() if arm in progress.halted or "broke" in found.values()]
    return worth(compared.belief, stakes, experiment.arms, test_days=progress.days, ruled_out=gone, seed=seed), ""


def _against_control(experiment: Experiment, compared: Comparisons) -> dict[str, Contrast]:
    found = {arm.name: compared.of(experiment.goal, arm.name, experiment.control) for arm in experiment.arms}
    return {arm: effect.contrast for arm, effect in found.items() if effect is not None}


def _guardrails(experiment: Experiment, compared: Comparisons, arm: str, *, early: bool) -> dict[str, Guardrail]:
    return {
        e.metric.name: guardrail_state(e, early=early)
        for e in compared.effects
        if e.role == "guardrail" and (e.arm, e.against) == (arm, experiment.control)
    }


def worth_of(experiment: Experiment, compared: Comparisons, roi: Roi | None, *, audience_share: float) -> Mapping[str, float]:
    """Return what every arm with a price is worth.

    Where no arm costs anything, any improvement is worth having: then the believed change, at the views it reaches, stands for the money.
    """
    control = experiment.arm(experiment.control)
    free = all(arm.build == 0 and arm.per_day == control.per_day for arm in experiment.arms)
    if roi is not None:
        return roi.expected()
    if not free or compared.belief is None:
        return {}
    sign, reach = 1.0 if metric(experiment.goal).direction == "up" else -1.0, reach_of(experiment, audience_share)
    belief = compared.belief
    return {arm: sign * reach[arm] * belief.shrunken(arm, experiment.control, level=experiment.level).mean for arm in belief.arms}


def candidates_of(
    experiment: Experiment, compared: Comparisons, roi: Roi | None, *, worths: Mapping[str, float], early: bool, unpriced: str
) -> list[Candidate]:
    """Return every arm but the control as the verdict weighs it.

    Parameters
    ----------
    compared : of whole windows, its belief included; that of the money may be of the second half alone, and know fewer arms.
    worths : as of :func:`worth_of`. unpriced : why no arm has a price, if none has.
    """
    earns = {scenario.arm: scenario.p_positive for scenario in roi.scenarios} if roi else {}
    known = compared.belief.arms if compared.belief else ()
    contrasts = _against_control(experiment, compared)
    others = [arm.name for arm in experiment.arms if arm.name != experiment.control]
    why = {arm: LATE if arm in known else no_price(contrasts[arm]) for arm in others if arm in contrasts} if worths else {}
    return [
        replace(
            _candidate(experiment, compared, arm, worth=worths.get(arm), early=early),
            earns=earns.get(arm),
            unpriced=why.get(arm, unpriced) or UNPRICED,
        )
        for arm in others
    ]


def with_reasons(roi: Roi, candidates: Sequence[Candidate]) -> Roi:
    """Return the money with why an arm has none."""
    return replace(roi, unpriced={c.arm: c.unknown or c.unpriced for c in candidates if c.worth is None})


def _candidate(experiment: Experiment, compared: Comparisons, arm: str, *, worth: float | None, early: bool) -> Candidate:
    plan, control = experiment.arm(arm), experiment.arm(experiment.control)
    guardrails = _guardrails(experiment, compared, arm, early=early)
    cost = plan.build + (plan.per_day - control.per_day) * experiment.horizon_days
    known = Candidate(arm, plan.kind, share=plan.share, guardrails=guardrails, worth=worth, cost=cost)
    effect = compared.of(experiment.goal, arm, experiment.control)
    if effect is None or effect.contrast.absolute is None or effect.family is None or early:
        return known if early or effect is None else replace(known, unknown=effect.contrast.reason)
    up, change, limit = effect.metric.direction == "up", effect.contrast.relative, experiment.smallest_uplift
    absolute, family = effect.contrast.absolute, effect.family
    return Candidate(
        arm,
        plan.kind,
        share=plan.share,
        superior=family.low > 0 if up else family.high < 0,
        alone=absolute.low > 0 if up else absolute.high < 0,
        harmful=absolute.high < 0 if up else absolute.low > 0,
        within=change is not None and -limit < change.low and change.high < limit,
        guardrails=guardrails,
        worth=worth,
        cost=cost,
    )
