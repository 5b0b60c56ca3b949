"""How varied the articles of every arm were, as the report page shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from web.formatting import count, number, percent
from web.owner.words import arm_label, capital, spoken

__all__ = ["Varied", "varied_of"]


@dataclass(frozen=True, slots=True)
class Varied:
    """What is counted, one row per arm (arm, different articles, coverage, Gini coefficient), and sentences on pairs of arms."""

    says: str
    rows: tuple[tuple[str, str, str, str], ...]
    pairs: tuple[str, ...]


def varied_of(found: Mapping[str, Any] | None) -> Varied | None:
    """Return the diversity of a stored report; None before the planned end and where nothing was shown."""
    if not found or not any(arm["places"] for arm in found["arms"]):
        return None
    says = f"{count(found['catalogue'])} articles were opened or shown. Coverage is the share of them among {count(found['compared_at'])} places, so that the size of an arm does not count. "
    says += "The Gini coefficient is 0 when all are shown equally often, and near 1 when a few are shown to everybody."
    return Varied(says, tuple(_row(arm) for arm in found["arms"]), tuple(spoken(pair["says"]) for pair in found["pairs"]))


def _row(arm: Mapping[str, Any]) -> tuple[str, str, str, str]:
    label, articles = capital(arm_label(arm["arm"])), count(arm["articles"])
    if arm["coverage"]["low"] is None:
        why = f"not shown: {arm['coverage']['reason']}"
        return label, articles, why, why
    coverage, gini = arm["coverage"], arm["gini"]
    return (
        label,
        articles,
        f"{percent(coverage['estimate'])} ({percent(coverage['low'])} to {percent(coverage['high'])})",
        f"{number(gini['estimate'])} ({number(gini['low'])} to {number(gini['high'])})",
    )
