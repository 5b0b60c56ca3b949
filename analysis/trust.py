"""All trust checks of one report, in the order of the page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from analysis.assignment_check import as_assigned, assigned_anew
from analysis.checks import (
    BEFORE_BLOCK,
    Check,
    Counted,
    balanced,
    before,
    exposure,
    fallback,
    heavy_reader,
    ran_long_enough,
    split,
    splits_evidence,
)
from analysis.comparison import Comparisons, pairs_of, planned_of
from analysis.effect import LEAST_READERS as FEWEST
from analysis.effect import Contrast, Value, arm_value, compare
from analysis.missing import SIGNS, alike
from analysis.moments import Totals
from analysis.neighbours import carry_over, interference
from analysis.novelty import novelty
from analysis.observed import Observed
from analysis.recompute import Recomputed, again, agreement
from analysis.sequential import LEAST_READERS, anytime_p
from analysis.skew import largest_shift
from analysis.small_counts import binary_counts, share_contrast
from analysis.totals import pre_columns
from analysis.verdict import Progress
from analysis.words import count, name
from experiments.experiment import Experiment, Phase
from experiments.metric import metric

__all__ = ["before_p_values", "evidence", "failed", "looked_ahead", "trust"]

PerArm = Mapping[int, Mapping[str, int]]

IN_WORDS = {
    "split": "readers were not split as planned",
    "split_matured": "the readers in the analysis are not split as planned",
    "one_arm": "too many readers saw two arms",
    "unknown_arms": "an arm was shown that the plan does not have",
    "clicks_without_exposure": "clicks arrived for slots that were never shown",
    "nothing_lost": "events are missing or counted twice",
    "fallbacks": "one arm was replaced far more often than another",
    "recomputed": "a second computation gives another result",
    "before": "the arms already differed before anything was shown",
    "as_assigned": "readers were shown another arm than the plan gives them",
    "no_beacon": "one arm's pages tell less of what readers did",
    "degraded": "one arm's pages came too late more often",
    "late": "one arm's events came late more often",
    "bots": "robots are not spread evenly over the arms",
    "erased": "readers of one arm had their data erased more often",
    "assignment": "assigning readers anew finds differences that are not there",
    "look_ahead": "what was taken for readers' past changes with what they did later",
}


def trust(
    experiment: Experiment,
    totals: Totals,
    balance: Sequence[Counted],
    *,
    compared: Comparisons,
    progress: Progress,
    phases: Sequence[Phase] = (),
    observed: Observed = Observed(),
) -> tuple[Check, ...]:
    """Return every check; none is skipped because another failed.

    Parameters
    ----------
    observed : what is known beside the totals; what it does not hold is not checked.
    """
    counts = totals.counts
    fallen = {arm: int(counts.fallbacks.get(arm, 0)) + int(counts.degraded.get(arm, 0)) for arm in experiment.shares}
    shown = {arm: int(counts.exposures.get(arm, 0)) for arm in experiment.shares}
    heavy = _heavy(experiment, totals, compared)
    return (
        *_splits(experiment, totals, phases, observed=observed, ended=progress.ended),
        *exposure(
            crossed=int(counts.crossed),
            exposed=sum(counts.exposed.values()),
            unknown_arms=sum(counts.unknown_arms.values()),
            clicks_without_exposure=int(counts.clicks_without_exposure),
        ),
        balanced(balance),
        fallback(shown, fallen),
        before(before_p_values(experiment, totals, shares=compared.shares, ended=progress.ended), running=not progress.ended),
        _recomputed(experiment, totals, compared),
        ran_long_enough(
            days=progress.days, planned_days=progress.planned_days, minimum_days=experiment.minimum_days, running=not progress.ended
        ),
        *_left_out(totals, compared.dropped),
        *([heavy] if heavy and progress.ended else []),
        *_events(experiment, totals, phases, observed=observed, ended=progress.ended),
    )


def _left_out(totals: Totals, dropped: Sequence[int]) -> tuple[Check, ...]:
    """Say how many readers no comparison counts, because an arm had none in their phase (STATISTICS 3)."""
    readers = sum(moments.n for (_, phase), moments in totals.moments.items() if phase in dropped)
    says = f"{count(readers, 'reader')} came while an arm had fewer than two; no comparison counts them."
    return (Check("left_out", "warn", float(readers), 0.0, None, says),) if readers else ()


def _events(experiment: Experiment, totals: Totals, phases: Sequence[Phase], *, observed: Observed, ended: bool) -> tuple[Check, ...]:
    """The checks that need more than totals; none where the events were not asked."""
    if observed.signs is None or observed.start is None or observed.until is None:
        return ()
    counted = _counted(totals, observed)
    shares = _shares(experiment, phases, counted)
    return (
        as_assigned(observed.different, observed.shown),
        *(
            alike(title, observed.signs[title], shares, most_evidence=observed.most_evidence.get(title, 0.0), ended=ended)
            for title in SIGNS
        ),
        assigned_anew(observed.assignment, at=observed.until),
        *([looked_ahead(observed.ahead, observed.tried)] if observed.tried else []),
        novelty(experiment, observed.halves, ended=ended),
        interference(experiment, totals.moments, shares, goal=metric(experiment.goal), ended=ended, reads=observed.reads),
        carry_over(experiment, observed.start, observed.others),
    )


def looked_ahead(ahead: int, tried: int) -> Check:
    """Check that what is known of readers' past does not change when nothing after their first exposure is known."""
    if not ahead:
        return Check(
            "look_ahead", "ok", 0.0, 0.0, None, f"Readers' past was computed without their future, tried on {count(tried, 'reader')}."
        )
    says = f"What was taken for the past of {ahead:,} of {count(tried, 'reader')} changes with what they did after their first exposure."
    return Check("look_ahead", "block", float(ahead), 0.0, None, says)


def evidence(experiment: Experiment, totals: Totals, phases: Sequence[Phase], observed: Observed) -> dict[str, float]:
    """Return the largest log E so far against every split that is watched daily; what was seen once is never forgotten."""
    counted = _counted(totals, observed)
    shares = _shares(experiment, phases, counted)
    now = {title: splits_evidence(counts, shares) for title, counts in counted.items()}
    return {title: max(now.get(title, 0.0), observed.most_evidence.get(title, 0.0)) for title in (*now, *observed.most_evidence)}


def _counted(totals: Totals, observed: Observed) -> dict[str, PerArm]:
    """Readers per phase and arm of every split that is watched daily; whoever was erased since was assigned, too."""
    exposed = {phase: dict(arms) for phase, arms in totals.counts.exposed_by_phase.items()}
    for phase, arms in (observed.signs["erased"].marked if observed.signs else {}).items():
        exposed[phase] = dict(Counter(exposed.get(phase, {})) + Counter(arms))
    matured: dict[int, dict[str, int]] = {}
    for (arm, phase), moments in sorted(totals.moments.items()):
        matured.setdefault(phase, {})[arm] = moments.n
    return {"split": exposed, "split_matured": matured, **{title: sign.marked for title, sign in (observed.signs or {}).items()}}


def _shares(experiment: Experiment, phases: Sequence[Phase], counted: Mapping[str, PerArm]) -> dict[int, Mapping[str, float]]:
    known = {phase.number: dict(phase.shares) for phase in phases}
    return {phase: known.get(phase, experiment.shares) for phase in sorted({0, *(p for counts in counted.values() for p in counts)})}


def _splits(experiment: Experiment, totals: Totals, phases: Sequence[Phase], *, observed: Observed, ended: bool) -> tuple[Check, ...]:
    counted = _counted(totals, observed)
    shares, before = _shares(experiment, phases, counted), observed.most_evidence
    return tuple(
        split(title, counted[title], shares, most_evidence=before.get(title, 0.0), ended=ended) for title in ("split", "split_matured")
    )


def before_p_values(experiment: Experiment, totals: Totals, *, shares: Mapping[int, float], ended: bool) -> dict[str, float]:
    """Return p-values of the goal, and of having been there at all, before the first exposure: every arm against the control.

    While a test runs they may be looked at every day, and are there from the hundredth reader of both arms on. Once it
    has ended they are those of one look.

    Parameters
    ----------
    shares : weight of every phase.

    References
    ----------
    STATISTICS 4 (normal mixture, tuned to the limit at which the check blocks) and 6.
    """
    goal = metric(experiment.goal)
    top, bottom, present = pre_columns(goal)[0], pre_columns(goal)[-2], "has_pre"
    if not totals.moments or any(not {top, bottom, present} <= set(cell.keys) for cell in totals.moments.values()):
        return {}
    found = {}
    ones = {cell: moments.with_ones() for cell, moments in totals.moments.items()}
    for words, columns in ((goal.says.lower(), (top, bottom)), ("how many had been here before", (present, "ones"))):
        values = {a: arm_value(ones, a, numerator=columns[0], denominator=columns[1], shares=shares) for a in experiment.shares}
        counted = {arm: binary_counts(ones, arm, numerator=columns[0], denominator=columns[1]) for arm in experiment.shares}
        for arm in (arm for arm in experiment.shares if arm != experiment.control):
            sides, counts = (values[arm], values[experiment.control]), (counted[arm], counted[experiment.control])
            contrast = compare(*sides, level=experiment.level)
            if counts[0] and counts[1]:  # few had been here: Welch would be wrong far out in its tails
                contrast = share_contrast(counts[0], counts[1], plain=contrast, level=experiment.level, least=FEWEST)
            p = _p(contrast, sides, ended=ended)
            if p is not None:
                found[f"{words}, {name(arm)} against {name(experiment.control)}"] = p
    return found


def _p(contrast: Contrast, sides: tuple[Value, Value], *, ended: bool) -> float | None:
    if contrast.absolute is None or ended:
        return contrast.absolute.p if contrast.absolute else None
    if min(contrast.n) < LEAST_READERS:
        return None
    return anytime_p(
        contrast.absolute.estimate / contrast.absolute.se, sum(contrast.n), planned_of(sides, alpha=BEFORE_BLOCK), alpha=BEFORE_BLOCK
    )


def _recomputed(experiment: Experiment, totals: Totals, compared: Comparisons) -> Check:
    ours = [
        Recomputed(e.arm, e.against, e.contrast.absolute.estimate, math.sqrt(_variance(compared, e.metric.name, (e.arm, e.against))))
        for e in compared.effects
        if e.role == "goal" and e.contrast.absolute is not None
    ]
    rows = totals.distinct.get(experiment.goal, ())
    if not ours:
        return agreement([], [])
    try:
        return agreement(ours, again(rows, pairs_of(experiment), shares=compared.shares))
    except ValueError as error:
        return Check("recomputed", "warn", None, None, None, f"The main result could not be computed a second time: {error}.")


def _variance(compared: Comparisons, metric: str, pair: tuple[str, str]) -> float:
    return math.fsum(compared.values[metric, arm].variance for arm in pair)


def _heavy(experiment: Experiment, totals: Totals, compared: Comparisons) -> Check | None:
    shifts = largest_shift(totals.distinct.get(experiment.goal, ()))
    figures = []
    for arm, against in pairs_of(experiment):
        effect = compared.of(experiment.goal, arm, against)
        if effect is not None and effect.contrast.absolute is not None and arm in shifts and against in shifts:
            figures.append((max(shifts[arm], shifts[against]), effect.contrast.absolute.se))
    return heavy_reader(*max(figures, key=lambda pair: pair[0] / pair[1])) if figures else None


def failed(checks: Sequence[Check]) -> list[str]:
    """Return the checks that block, in words for the verdict."""
    return [IN_WORDS[check.name] for check in checks if check.state == "block"]
