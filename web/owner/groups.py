"""Groups of readers as the report page shows them: to look at, not to decide on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from web.formatting import count, interval, signed
from web.owner.words import arm_label, capital

__all__ = ["Comparison", "Groups", "groups_of"]

TITLES = {
    "device": "By device",
    "audience": "By agreement to personal choice",
    "returning": "New and returning readers",
    "section": "By section of the first article",
}
STANDS_OUT = 0.05


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison: does it differ between groups, and its rows (group, readers, change, does it stand out)."""

    label: str
    says: str
    rows: tuple[tuple[str, str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Groups:
    """One way to group readers, with every comparison."""

    title: str
    comparisons: tuple[Comparison, ...]


def groups_of(segments: Sequence[Mapping[str, Any]]) -> tuple[Groups, ...]:
    """Return the segments of a stored report, in the plan's order."""
    found: dict[str, list[Comparison]] = {}
    for segment in segments:
        label = f"{capital(arm_label(segment['arm']))} against {arm_label(segment['against'])}"
        rows = tuple(_row(group) for group in segment["groups"])
        found.setdefault(segment["segment"], []).append(Comparison(label, segment["says"], rows))
    return tuple(Groups(TITLES.get(name, capital(name)), tuple(comparisons)) for name, comparisons in found.items())


def _row(group: Mapping[str, Any]) -> tuple[str, str, str, str]:
    relative, absolute = group["relative"], group["absolute"]
    if relative["low"] is not None:
        words = interval(relative["low"], relative["high"])
    elif absolute["low"] is not None:
        words = f"{signed(absolute['low'])} to {signed(absolute['high'])}"
    else:
        words = f"not shown: {group['reason']}"
    known = group["q"] is not None
    stands = ("yes" if group["q"] < STANDS_OUT else "no") if known else "not judged"
    return capital(group["group"]), count(sum(group["n"].values())), words, stands
