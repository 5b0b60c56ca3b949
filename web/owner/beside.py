"""What stands beside the effects, in sentences: readers who weigh much, totals above the ceiling, payers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from web.formatting import count, interval, number, percent, signed
from web.owner.words import arm_label, metric_says

__all__ = ["beside_of", "not_together"]


def beside_of(effects: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return one sentence or two per comparison that has something beside it, in the report's order."""
    says: list[str] = []
    for effect in effects:
        found = effect.get("beside") or {}
        who = f"{metric_says(effect['metric'])}, {arm_label(effect['arm'])} against {arm_label(effect['against'])}"
        parts = (_heavy(found.get("heavy")), _uncut(found.get("uncut"), effect), _payers(found.get("parts")))
        says.extend(f"{who}: {sentence}" for sentence in parts if sentence)
    return tuple(says)


def not_together(effects: Sequence[Mapping[str, Any]]) -> str:
    """Name the comparisons whose own range shows a change, while the range that decides does not."""
    found = []
    for effect in effects:
        ranges = [effect.get(key) or {} for key in ("absolute", "family")]
        if all(range_.get("low") is not None for range_ in ranges):
            shown, together = (not range_["low"] <= 0 <= range_["high"] for range_ in ranges)
            found += [f"{arm_label(effect['arm'])} against {arm_label(effect['against'])}"] if shown and not together else []
    if not found:
        return ""
    return f"Each range is that of its comparison alone. Wide enough for all comparisons and looks together, it reaches no change: {', '.join(found)}."


def _heavy(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    averaged = found["averaged"]["relative"]
    says = f"leaving out any one reader moves the difference by at most {percent(found['in_se'])} of its uncertainty."
    if averaged["low"] is not None:
        says += f" With every reader counted once it is {interval(averaged['low'], averaged['high'])}."
    if found["sign_change"]:
        says += " That points the other way: a few readers who come often decide this result."
    return says


def _uncut(found: Mapping[str, Any] | None, effect: Mapping[str, Any]) -> str:
    if found is None:
        return ""
    unit, absolute = effect.get("unit") or "", found["absolute"]
    above = " and ".join(f"{count(n)} with {arm_label(arm)}" for arm, n in found["above"].items())
    says = f"a reader's total counts up to {count(found['cap'])} {unit}; more came from {above}."
    if absolute["low"] is not None:
        says += f" Without this ceiling the difference is {signed(absolute['low'])} to {signed(absolute['high'])} {unit}."
    return says


def _payers(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    if found["status"] != "ok":
        return f"more payers or more per payer? Not known: {found['reason']}."
    rate, each = (found[name]["relative"] for name in ("payer_rate", "per_payer"))
    rates = " and ".join(f"{percent(value)} with {arm_label(arm)}" for arm, value in found["payer_rate"]["values"].items())
    says = f"readers who pay: {rates} ({interval(rate['low'], rate['high'])})."
    amounts = " and ".join(f"{number(value)} with {arm_label(arm)}" for arm, value in found["per_payer"]["values"].items())
    return f"{says} Per payer: {amounts} ({interval(each['low'], each['high'])}); this compares different people and shows no effect of the arm."
