"""Does an effect fade or grow while readers get used to an arm? The second half of their windows against the first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.bayes import Posterior, Prior
from analysis.checks import Check
from analysis.effect import Contrast, Value, arm_value, compare, phase_shares
from analysis.fat_tails import believe
from analysis.moments import Moments
from analysis.words import change, name
from experiments.experiment import Experiment

__all__ = ["Faded", "Halves", "change_of", "faded", "late_belief", "novelty"]

Cells = Mapping[tuple[str, int], Moments]
NO_HALVES = "Whether the effect fades cannot be told for this goal."
WAIT = "Whether the effect fades is told once, at the planned end."


@dataclass(frozen=True, slots=True)
class Halves:
    """Moments of both halves of readers' windows; ``early`` and ``late`` name (numerator, denominator) among their columns."""

    cells: Cells
    early: tuple[str, str]
    late: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Faded:
    """How much larger an arm's effect was in the second half: ``contrast`` is of late minus early, in the goal's unit."""

    arm: str
    early: Contrast
    late: Contrast
    contrast: Contrast
    p: float | None


def change_of(halves: Halves, arm: str, shares: Mapping[int, float]) -> Value:
    """Return the goal of the second half minus the goal of the first, of one arm, with its variance over readers.

    References
    ----------
    Delta method on (N_early, D_early, N_late, D_late): a reader's influence is that on the late ratio minus that on the
    early one, so what a reader does in both halves is not counted as two readers.

    Examples
    --------
    >>> cells = {("a", 0): Moments.from_rows([[1, 1, 2, 1], [2, 1, 3, 1], [3, 1, 4, 1]], ("n", "d", "m", "e"))}
    >>> found = change_of(Halves(cells, ("n", "d"), ("m", "e")), "a", {0: 1.0})
    >>> found.estimate, found.variance
    (1.0, 0.0)
    """
    blocks = [
        (w, halves.cells[arm, phase].n, *halves.cells[arm, phase].block((*halves.early, *halves.late)))
        for phase, w in sorted(shares.items())
        if (arm, phase) in halves.cells
    ]
    n = sum(readers for _, readers, _, _ in blocks)
    if n < 2 or any(readers < 2 for _, readers, _, _ in blocks):
        return Value(n, status="insufficient", reason=f"{arm} has too few readers whose window has ended")
    mean = np.sum([w * m for w, _, m, _ in blocks], axis=0)
    if mean[1] == 0 or mean[3] == 0:
        return Value(n, status="undefined_denominator", reason=f"half a window of {arm} has a denominator that adds up to zero")
    early, late = float(mean[0] / mean[1]), float(mean[2] / mean[3])
    slope = np.array([-1 / mean[1], early / mean[1], 1 / mean[3], -late / mean[3]])
    spreads = [float(w * w * (slope @ cross @ slope) / ((readers - 1) * readers)) for w, readers, _, cross in blocks]
    parts = tuple((s if s > 1e-18 else 0.0, readers - 1) for s, (_, readers, _, _) in zip(spreads, blocks, strict=True))
    return Value(n, late - early, math.fsum(part for part, _ in parts), parts)


def faded(experiment: Experiment, halves: Halves) -> tuple[Faded, ...]:
    """Return every arm against the control: effect early, effect late, and their difference at the level all need together."""
    shares, _ = phase_shares(halves.cells, list(experiment.shares))
    arms = [arm for arm in experiment.shares if arm != experiment.control]
    strict = 1 - (1 - experiment.level) / len(arms)
    found = []
    for arm in arms:
        pair = (arm, experiment.control)
        early, late = (
            compare(*(arm_value(halves.cells, a, numerator=c[0], denominator=c[1], shares=shares) for a in pair), level=experiment.level)
            for c in (halves.early, halves.late)
        )
        contrast = compare(*(change_of(halves, a, shares) for a in pair), level=strict)
        p = min(1.0, len(arms) * contrast.absolute.p) if contrast.absolute else None
        found.append(Faded(arm, early, late, contrast, p))
    return tuple(found)


def novelty(experiment: Experiment, halves: Halves | None, *, ended: bool = True) -> Check:
    """Say whether the effect changed while readers got used to it; warns, never blocks.

    Parameters
    ----------
    halves : None before the planned end, and where the goal cannot be told for half a window.
    """
    limit = 1 - experiment.level
    if halves is None or not ended:
        return Check("novelty", "ok", None, limit, None, NO_HALVES if ended else WAIT)
    told = [f for f in faded(experiment, halves) if f.p is not None]
    if not told:
        return Check("novelty", "ok", None, limit, None, "Too few readers to tell whether the effect fades.")
    worst = min(told, key=lambda f: (f.p, f.arm))
    figure = worst.contrast.absolute.estimate if worst.contrast.absolute else None
    if worst.p is None or worst.p >= limit:
        says = "The effect is as large in the second half of readers' windows as in the first, as far as can be told."
        return Check("novelty", "ok", figure, limit, worst.p, says)
    sides = [f"{change(c.relative.estimate)}" if c.relative else "an unknown change" for c in (worst.early, worst.late)]
    says = f"The effect of {name(worst.arm)} is not the same all along: {sides[0]} in the first half of a reader's"
    says += f" {experiment.window_days:g} day{'' if experiment.window_days == 1 else 's'}, {sides[1]} in the second. Money below is reckoned with the second half."
    return Check("novelty", "warn", figure, limit, worst.p, says)


def late_belief(experiment: Experiment, halves: Halves | None, *, prior: Prior) -> Posterior | None:
    """Return what is believed about the goal from the second half alone, if the effect certainly changed; otherwise None."""
    if halves is None or novelty(experiment, halves).state == "ok":
        return None
    shares, _ = phase_shares(halves.cells, list(experiment.shares))
    top, bottom = halves.late
    values = {arm: arm_value(halves.cells, arm, numerator=top, denominator=bottom, shares=shares) for arm in experiment.shares}
    logs: dict[str, float] = {}
    for f in faded(experiment, halves):
        if f.late.log_variance is not None:
            logs[f.arm] = f.late.log_variance[0]
            logs[experiment.control] = max(logs.get(experiment.control, 0.0), f.late.log_variance[1])
    estimates = {arm: values[arm].estimate for arm in logs}
    return believe(experiment.arms, experiment.control, estimates, log_variances=logs, prior=prior)
