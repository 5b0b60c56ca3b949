"""Does a guardrail hold? By the range at the planned end, or by the one that may be looked at every day before it."""

from __future__ import annotations

from analysis.comparison import Effect
from analysis.verdict import Guardrail

__all__ = ["guardrail_state"]


def guardrail_state(effect: Effect, *, early: bool) -> Guardrail:
    """Say whether a guardrail holds: by the range at the planned end, or by the anytime range before it.

    Improvements count upwards whatever the metric's direction: a guardrail holds when the low end is above minus the
    margin, and broke when harm is certain and more than the margin cannot be excluded. Where the control is at zero no
    margin bounds a relative change, so that certain harm is beyond it.
    """
    range_ = _range(effect, early=early)
    if range_ is None and _harms(effect, early=early):
        return "broke"
    if range_ is None:
        same = effect.contrast.status == "no_variation" and effect.contrast.values[0] == effect.contrast.values[1]
        return "holds" if same or effect.contrast.status == "undefined_for_arm" else "unclear"
    low, high = range_ if effect.metric.direction == "up" else (-range_[1], -range_[0])
    holds = low > -(effect.margin or 0.0)
    if high < 0:
        return "worse" if holds else "broke"
    return "holds" if holds else "unclear"


def _harms(effect: Effect, *, early: bool) -> bool:
    """Whether the difference alone shows harm."""
    absolute, anytime = effect.contrast.absolute, effect.anytime
    if early:
        ends = None if anytime is None else (anytime.difference_low, anytime.difference_high)
    else:
        ends = None if absolute is None else (absolute.low, absolute.high)
    return ends is not None and (ends[1] < 0 if effect.metric.direction == "up" else ends[0] > 0)


def _range(effect: Effect, *, early: bool) -> tuple[float, float] | None:
    """The range that is held against the margin: relative, but of a quantile the difference in its unit."""
    absolute, relative, anytime = effect.contrast.absolute, effect.contrast.relative, effect.anytime
    if early:
        found = None if anytime is None else (anytime.difference_low, anytime.difference_high)
        if effect.metric.quantile is not None or anytime is None:
            return found
        return None if anytime.low is None or anytime.high is None else (anytime.low, anytime.high)
    if effect.metric.quantile is not None:
        return None if absolute is None else (absolute.low, absolute.high)
    return None if relative is None else (relative.low, relative.high)
