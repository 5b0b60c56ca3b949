"""Looks at a running test: which may be taken, what they show, and what they leave for the end.

A look is stored when it is taken (never computed again), so that no later report can change what was seen. Every
comparison of the goal has its own boundary at the Sidak level of the family; looks are a day apart at least.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy.special import ndtr

from analysis.boundaries import Boundary, Look, Plan, boundary_now, student_critical
from analysis.effect import Contrast, Value, interval_at
from analysis.power import Design, with_looks
from experiments.experiment import Experiment

__all__ = ["Taken", "plan_of", "sequential_range", "take"]


@dataclass(frozen=True, slots=True)
class Taken:
    """One stored look at one comparison of the goal.

    Parameters
    ----------
    day : since the start of the test. time : information so far over the information planned.
    critical : standard errors that would decide were the spread known; the ranges take Student's t of the same chance.
    spent : error spent with this look.
    estimate, low, high : relative change and its range, which holds at all looks together.
    difference_low, difference_high : the same range in the metric's unit; it decides.
    final : no look may follow.
    """

    arm: str
    against: str
    day: float
    time: float
    critical: float
    spent: float
    estimate: float
    low: float
    high: float
    difference_low: float
    difference_high: float
    final: bool = False

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Taken:
        """Read what :meth:`to_dict` wrote."""
        return cls(**{name: stored[name] for name in cls.__slots__})

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def plan_of(experiment: Experiment, comparisons: int) -> Plan:
    """Return what the test set out to find: the smallest uplift worth having, at the level each comparison needs.

    Examples
    --------
    >>> from experiments.experiment import Arm
    >>> arms = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5))
    >>> plan_of(Experiment("related", "Does it pay?", "status_quo", arms, smallest_uplift=0.05), 1).alpha
    0.05
    """
    shares = (1 / len(experiment.arms),) * 2
    alpha = round(1 - experiment.level, 12)
    asked = Design(shares, alpha=alpha, hypotheses=comparisons, guardrails=len(experiment.guardrails))
    design = with_looks(asked, experiment.planned_days)
    return Plan(
        math.log1p(experiment.smallest_uplift), experiment.planned_days,
        alpha=design.alpha_each, power=design.power_each, inflation=design.inflation,
    )  # fmt: skip


def _boundary(plan: Plan, contrast: Contrast, taken: Sequence[Taken], day: float) -> Boundary | None:
    """The boundary of a comparison; None where its error is not of the kind the boundary is for."""
    if contrast.status != "ok" or contrast.log_variance is None or math.isnan(contrast.df):
        return None
    if any(look.final for look in taken):  # of a version that ended a test's looks with all planned information
        return None
    now = plan.look(day, math.fsum(contrast.log_variance))
    return boundary_now(plan, [Look(look.day, look.time) for look in taken], now)


def _range(plan: Plan, contrast: Contrast, sides: tuple[Value, Value], critical: float) -> Contrast:
    return interval_at(contrast, *sides, level=1 - plan.alpha, critical=float(student_critical(critical, contrast.df)))


def take(
    plan: Plan, contrast: Contrast, sides: tuple[Value, Value], *, pair: tuple[str, str], day: float, taken: Sequence[Taken] = ()
) -> Taken | None:
    """Return the look that may be taken at one comparison now, or None.

    Parameters
    ----------
    contrast, sides : of the data up to ``day`` (days since the start).
    taken : earlier looks at the same comparison, in any order.
    """  # fmt: skip
    boundary = _boundary(plan, contrast, taken, day)
    if boundary is None or boundary.critical is None or boundary.look is None:
        return None
    wide = _range(plan, contrast, sides, boundary.critical)
    if wide.relative is None or wide.absolute is None:
        return None
    return Taken(
        *pair, day, boundary.look.time, boundary.critical, boundary.spent, wide.relative.estimate, wide.relative.low, wide.relative.high,
        wide.absolute.low, wide.absolute.high, boundary.final,
    )  # fmt: skip


def sequential_range(
    plan: Plan, contrast: Contrast, sides: tuple[Value, Value], *, taken: Sequence[Taken], day: float
) -> tuple[float, float, float] | None:
    """Return (level, low, high) of the difference at the end of a test that was looked at before.

    Where no further look is permitted the last one stands; None when nobody looked.
    """
    if not taken:
        return None
    boundary = _boundary(plan, contrast, taken, day)
    last = max(taken, key=lambda look: look.day)
    if boundary is None or boundary.critical is None:
        return 1 - 2 * float(ndtr(-last.critical)), last.difference_low, last.difference_high
    wide = _range(plan, contrast, sides, boundary.critical).absolute
    return None if wide is None else (1 - 2 * float(ndtr(-boundary.critical)), wide.low, wide.high)
