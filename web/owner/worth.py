"""The money part of a report as dots, words and bars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from web.charts.bars import draw_bars
from web.charts.dots import draw_dots, money_scale
from web.charts.scale import Chart
from web.formatting import money, number
from web.owner.words import arm_label, capital, spoken

__all__ = ["Money", "MoneyLine", "counted_on", "money_of"]


@dataclass(frozen=True, slots=True)
class MoneyLine:
    """One arm: its dots, how many earn money, and what it costs."""

    label: str
    kind: str
    chart: Chart
    says: str
    expected: str
    cost: str


@dataclass(frozen=True, slots=True)
class Money:
    """Money of every arm but the control (0 by definition), unknowns by what settling them is worth, studies, next step."""

    horizon: str
    control: str
    lines: tuple[MoneyLine, ...]
    value_of_knowing: str
    unknowns: tuple[tuple[str, str, str], ...]
    learn: Mapping[str, str]
    studies: tuple[tuple[str, ...], ...]
    next: str
    assumes: str = ""


def money_of(roi: Mapping[str, Any], kinds: Mapping[str, str], *, control: str) -> Money:
    """Return what the money sections show; scenarios without stored outcomes are told in words only."""
    currency = roi["currency"]
    shown = [s for s in roi["scenarios"] if s["arm"] != control]
    scale = money_scale([s.get("quantiles") or (s["low"], s["high"]) for s in shown])
    lines = tuple(_line(s, currency, kinds.get(s["arm"], "other"), scale) for s in shown)
    unknowns = [(_unknown(u["name"]), u["evppi"] or 0.0) for u in roi.get("unknowns") or ()]
    bars = draw_bars(unknowns, label=lambda value: money(value, currency), head=("Knowing", "is worth"))
    studies = tuple(
        (
            capital(s["name"]),
            f"{number(s['days'])} days",
            money(s["evsi"], currency),
            money(s["cost"], currency),
            money(s["enbs"], currency, plus=True),
        )
        for s in roi.get("studies") or ()
    )
    return Money(
        f"{number(roi.get('horizon_days'))} days",
        arm_label(control),
        lines,
        money(roi.get("evpi"), currency),
        tuple(bars),
        LEARN,
        studies,
        roi.get("next") or "",
        _assumes(roi, currency),
    )


def _assumes(roi: Mapping[str, Any], currency: str) -> str:
    """What the amounts rest on: the worth of a view as the plan states it, and how many views there are."""
    value, views = roi.get("value_per_view"), roi.get("views_per_day")
    if not value or views is None:
        return ""
    low, middle, high = (money(value[key], currency) for key in ("low", "middle", "high"))
    worth = f"one view is worth {middle}" + (f" (nine times out of ten {low} to {high})" if low != high else "")
    each = [capital(spoken(sentence)) for sentence in counted_on(roi)]
    return " ".join([f"By the plan {worth}. The decision bears on {number(views)} article views a day.", *each])


def counted_on(roi: Mapping[str, Any]) -> list[str]:
    """Return which views every arm's money counts, where not all, and why an arm has none."""
    none = [f"{arm_label(arm)} has no price: {reason}." for arm, reason in (roi.get("unpriced") or {}).items()]
    return [*(roi.get("bears_on") or ()), *none]


LEARN = {
    "Value per view": "ask whoever sells the space what one more view brings",
    "Reader interest": "run the simple rule against today's site for longer",
}


def _unknown(name: str) -> str:
    return capital(spoken(name))


def _line(scenario: Mapping[str, Any], currency: str, kind: str, scale: Any) -> MoneyLine:
    label, outcomes = capital(arm_label(scenario["arm"])), scenario.get("quantiles") or ()
    earning = sum(1 for value in outcomes if value > 0)
    says = (
        f"In {earning} of {len(outcomes)} equally likely outcomes {arm_label(scenario['arm'])} earns money."
        if outcomes
        else "Single outcomes were not stored."
    )
    chart = draw_dots(outcomes, scale=scale, kind=kind, title=says, label=lambda value: money(value, currency))
    expected = f"{money(scenario['expected'], currency, plus=True)} expected, nine times out of ten {money(scenario['low'], currency)} to {money(scenario['high'], currency)}"
    return MoneyLine(label, kind, chart, says, expected, _cost(scenario, currency))


def _cost(scenario: Mapping[str, Any], currency: str) -> str:
    if scenario.get("build") is not None and scenario.get("per_day") is not None:
        return f"{money(scenario['build'], currency)} still to build, {money(scenario['per_day'], currency)} a day to run"
    return f"{money(scenario['cost'], currency)} in all" if scenario.get("cost") is not None else "costs were not stored"
