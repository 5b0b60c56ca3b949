"""What else may have moved the numbers: arms that feed on the same data, and tests that ran in the same place before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from scipy.special import ndtr

from analysis.checks import Check
from analysis.effect import LEAST_READERS, arm_value, compare
from analysis.moments import Moments
from analysis.words import change, name, percent
from experiments.experiment import Experiment
from experiments.metric import Metric

__all__ = ["Ran", "carry_over", "interference"]

SHARED = "All arms learn from what all readers do, so one arm may help another (signals are shared)."


@dataclass(frozen=True, slots=True)
class Ran:
    """Another test: where it ran, with which salt, and when (``stopped`` is None while it runs)."""

    name: str
    slot: str
    layer: str
    salt: str
    started: datetime
    stopped: datetime | None


@dataclass(frozen=True, slots=True)
class _AtShare:
    """The effect of an arm in one phase, in which it had this share of readers."""

    share: float
    estimate: float
    se: float


def interference(
    experiment: Experiment,
    cells: Mapping[tuple[str, int], Moments],
    shares: Mapping[int, Mapping[str, float]],
    *,
    goal: Metric,
    ended: bool,
    reads: Mapping[str, int] = MappingProxyType({}),
) -> Check:
    """Say whether arms share their data, and whether the effect depends on the share of readers an arm had.

    Information only: shares change with time, and so may other things.

    Parameters
    ----------
    cells : moments per (arm, phase). shares : phase -> arm -> planned share.
    ended : before the planned end nothing about effects is told.
    reads : arm -> articles its readers opened since their first exposure, "" for everybody else's meanwhile.
    """
    if not ended:
        return Check("interference", "ok", None, None, None, f"{SHARED} Whether that shows is told at the planned end.")
    arms = [arm for arm in experiment.shares if arm != experiment.control]
    each = {arm: _by_share(experiment, cells, shares, arm=arm, goal=goal) for arm in arms}
    told = {arm: found for arm, found in each.items() if len({f.share for f in found}) > 1}
    shared = " ".join(filter(None, (SHARED, _mix(experiment, reads))))
    if not told:
        return Check("interference", "ok", None, None, None, f"{shared} The shares never changed, so it cannot be measured here.")
    slopes = {arm: _slope(found) for arm, found in told.items()}
    arm = min(slopes, key=lambda a: (slopes[a][1], a))
    slope, p = slopes[arm][0], min(1.0, len(slopes) * slopes[arm][1])
    parts = ", ".join(f"{change(f.estimate)} at {percent(f.share)} of readers" for f in told[arm])
    says = f"{shared} Effect of {name(arm)}: {parts}; "
    says += "chance explains the gap." if p >= 1 - experiment.level else "chance does not explain the gap, though time may."
    return Check("interference", "ok", slope, None, p, says)


def _mix(experiment: Experiment, reads: Mapping[str, int]) -> str:
    """Whose readers opened the articles that all arms learnt from."""
    whole = sum(reads.values())
    if not whole:
        return ""
    parts = [f"of {name(arm)} {percent(reads.get(arm, 0) / whole)}" for arm in experiment.shares]
    others = percent(reads.get("", 0) / whole)
    return f"Articles opened during the test: {whole:,}, by readers {', '.join(parts)}, by others {others}."


def _by_share(
    experiment: Experiment,
    cells: Mapping[tuple[str, int], Moments],
    shares: Mapping[int, Mapping[str, float]],
    *,
    arm: str,
    goal: Metric,
) -> list[_AtShare]:
    found = []
    for phase in sorted({phase for _, phase in cells}):
        if any((a, phase) not in cells or cells[a, phase].n < LEAST_READERS for a in (arm, experiment.control)):
            continue
        values = (
            arm_value(cells, a, numerator=goal.numerator.key, denominator=goal.denominator.key, shares={phase: 1.0})
            for a in (arm, experiment.control)
        )
        contrast = compare(*values, level=experiment.level)
        if contrast.relative is not None and contrast.change_log_variance:
            share = shares.get(phase, experiment.shares).get(arm, 0.0)
            found.append(_AtShare(share, contrast.relative.estimate, math.sqrt(contrast.change_log_variance)))
    return found


def _slope(found: Sequence[_AtShare]) -> tuple[float, float]:
    """Slope of the effect over the share by weighted least squares, and its two-sided p-value."""
    weights = [1 / f.se**2 for f in found]
    total = math.fsum(weights)
    middle = math.fsum(w * f.share for w, f in zip(weights, found, strict=True)) / total
    spread = math.fsum(w * (f.share - middle) ** 2 for w, f in zip(weights, found, strict=True))
    slope = math.fsum(w * (f.share - middle) * math.log1p(f.estimate) for w, f in zip(weights, found, strict=True)) / spread
    return slope, 2 * float(ndtr(-abs(slope) * math.sqrt(spread)))


def carry_over(experiment: Experiment, start: datetime, others: Sequence[Ran]) -> Check:
    """Warn when an earlier test in the same place may still be felt: same salt, or less than a window ago.

    Parameters
    ----------
    start : of the test that is reported. others : every other test of the installation.
    """
    place = [r for r in others if r.started < start and (r.layer == experiment.layer or r.slot == experiment.slot)]
    same = [r for r in place if r.layer == experiment.layer and (r.salt or r.name) == (experiment.salt or experiment.name)]
    soon = [r for r in place if r.stopped is None or start - r.stopped < experiment.window]
    if same:
        says = f"'{same[0].name}' ran in the same place with the same salt: its arms had the very same readers."
        says += " What it did to them is counted here too. Give every test a salt of its own."
        return Check("carry_over", "warn", float(len(same)), 0.0, None, says)
    if soon:
        last = max(soon, key=lambda r: (r.stopped or start, r.name))
        gap = max(0.0, (start - (last.stopped or start)) / timedelta(days=1))
        says = f"This test began {gap:.3g} day{'' if gap == 1 else 's'} after '{last.name}' ended in the same place."
        says += f" Readers may still act on what they saw then; leave {experiment.window_days:g} day{'' if experiment.window_days == 1 else 's'} between tests."
        return Check("carry_over", "warn", gap, experiment.window_days, None, says)
    return Check("carry_over", "ok", None, None, None, "No other test ran in this place shortly before, or with the same split of readers.")
