"""For whom did it change? Groups of readers that the plan names, to look at and not to decide on.

First the question whether the change differs between the groups at all, then every group's own change, with p-values
adjusted for how many of them were looked at (STATISTICS 5).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from scipy.special import chdtrc, fdtrc

from analysis.comparison import contrast_of, pairs_of, value_of
from analysis.effect import Contrast, phase_shares
from analysis.influence import merge_cells
from analysis.moments import Distinct, Totals
from analysis.multiplicity import exploratory
from experiments.experiment import Experiment
from experiments.metric import metric

__all__ = ["MOST_GROUPS", "OTHER", "Group", "Interaction", "Segment", "interaction", "look_at", "with_q"]

MOST_GROUPS = 8  # of one segment; the smallest ones are put together
OTHER = "all others"


@dataclass(frozen=True, slots=True)
class Group:
    """One comparison among the readers of one group; ``q`` is its p-value adjusted over all groups of the report."""

    name: str
    contrast: Contrast
    q: float | None = None


@dataclass(frozen=True, slots=True)
class Interaction:
    """Does the change differ between groups? ``scale`` says of what: ``relative`` changes or ``absolute`` differences.

    ``statistic`` is near chi-square with ``df`` degrees of freedom when it does not; None with a reason when fewer than
    two groups have a result. ``q`` is the p-value adjusted over all such tests of the report.
    """

    groups: int
    scale: str = "relative"
    statistic: float | None = None
    df: int = 0
    p: float | None = None
    q: float | None = None
    status: str = "ok"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Segment:
    """One comparison of the goal, group by group."""

    name: str
    arm: str
    against: str
    interaction: Interaction
    groups: tuple[Group, ...]


def look_at(experiment: Experiment, totals: Totals) -> tuple[Segment, ...]:
    """Return every segment of the plan for every comparison of the goal; nothing the plan does not name.

    Parameters
    ----------
    totals : with the totals of every group of readers.
    """
    goal, arms = metric(experiment.goal), [arm.name for arm in experiment.arms]
    found = []
    for name in experiment.segments:
        groups = _largest(totals.segments.get(name, {}))
        values = {}
        for group, part in groups.items():
            shares, _ = phase_shares(part.moments, arms)
            values[group] = {(goal.name, arm): value_of(experiment, part, goal, arm, shares) for arm in arms}
        for pair in pairs_of(experiment):
            own = tuple(Group(g, contrast_of(part, goal, pair, values[g], level=experiment.level)) for g, part in groups.items())
            found.append(Segment(name, *pair, interaction([group.contrast for group in own]), own))
    return with_q(found)


def interaction(contrasts: Sequence[Contrast]) -> Interaction:
    """Return the test that the change is the same in all groups, whose readers are disjoint.

    Relative changes are compared (as logarithms) where every group has one, else differences: a site on which phones
    open fewer articles need not gain fewer of them in proportion.

    References
    ----------
    Cochran (1954), Q = sum of w (d - mean d)^2 with weights w = 1 / variance, chi-square with k - 1 degrees of freedom in
    large groups; Welch (1951) for the p-value where the variances come from few readers.

    Examples
    --------
    >>> from analysis.effect import Absolute
    >>> one, two = (Contrast((50, 50), (d, 0.0), Absolute(d, 1.0, d - 2, d + 2, 0.5)) for d in (0.0, 2.0))
    >>> found = interaction([one, two])
    >>> found.scale, found.statistic, found.df, round(found.p, 3)
    ('absolute', 2.0, 1, 0.157)
    """
    known = [c for c in contrasts if c.absolute is not None and c.absolute.se > 0]
    if len(known) < 2:
        return Interaction(len(known), status="insufficient", reason="fewer than two groups have enough readers to be compared")
    logs = [_log(c) for c in known]
    relative = all(log is not None for log in logs)
    effects = (
        [log for log in logs if log is not None] if relative else [(c.absolute.estimate, c.absolute.se**2) for c in known if c.absolute]
    )
    weights = [1 / variance for _, variance in effects]
    mean = math.fsum(w * d for w, (d, _) in zip(weights, effects, strict=True)) / math.fsum(weights)
    statistic = math.fsum(w * (d - mean) ** 2 for w, (d, _) in zip(weights, effects, strict=True))
    freedom = [c.df if math.isfinite(c.df) else math.inf for c in known]
    return Interaction(len(known), "relative" if relative else "absolute", statistic, len(known) - 1, _chance(statistic, weights, freedom))


def _chance(statistic: float, weights: Sequence[float], freedom: Sequence[float]) -> float:
    """How often groups that do not differ give a statistic as large."""
    k, total = len(weights), math.fsum(weights)
    unsure = math.fsum((1 - w / total) ** 2 / df for w, df in zip(weights, freedom, strict=True))
    if unsure == 0:
        return float(chdtrc(k - 1, statistic))
    shrunken = statistic / (k - 1) / (1 + 2 * (k - 2) / (k * k - 1) * unsure)
    return float(fdtrc(k - 1, (k * k - 1) / (3 * unsure), shrunken))


def _log(contrast: Contrast) -> tuple[float, float] | None:
    variance, (treated, control) = contrast.change_log_variance, contrast.values
    if variance is None or not variance > 0 or not treated or not control or treated <= 0 or control <= 0:
        return None
    return math.log(treated / control), variance


def _largest(groups: Mapping[str, Totals]) -> dict[str, Totals]:
    """The groups with most readers (of all arms), the rest put together, in the order of names."""
    if len(groups) <= MOST_GROUPS:
        return dict(sorted(groups.items()))
    order = sorted(groups, key=lambda name: (-sum(groups[name].readers().values()), name))
    kept, rest = order[: MOST_GROUPS - 1], [groups[name] for name in order[MOST_GROUPS - 1 :]]
    return {**{name: groups[name] for name in sorted(kept)}, OTHER: reduce(_together, rest)}


def _together(one: Totals, two: Totals) -> Totals:
    distinct: dict[str, tuple[Distinct, ...]] = {}
    for name in sorted({*one.distinct, *two.distinct}):
        distinct[name] = (*one.distinct.get(name, ()), *two.distinct.get(name, ()))
    return Totals(merge_cells(one.moments, two.moments), None, distinct)


def with_q(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Return the segments with p-values adjusted over all groups, and over all interaction tests, of a report."""
    ps = [g.contrast.absolute.p if g.contrast.absolute else None for s in segments for g in s.groups]
    q, differs = iter(exploratory(ps)), exploratory([s.interaction.p for s in segments])
    return tuple(
        replace(s, interaction=replace(s.interaction, q=each), groups=tuple(replace(g, q=next(q)) for g in s.groups))
        for s, each in zip(segments, differs, strict=True)
    )
