"""The JSON shape of what stands beside effects: heavy readers, ceilings, payers, groups of readers, variety of articles."""

from __future__ import annotations

import math
from typing import Any

from analysis.beside import Beside
from analysis.diversity import Diversity, Pair, Variety, within
from analysis.effect import Contrast, Value
from analysis.segments import Group, Segment
from analysis.sentences import of_segment as in_words
from analysis.sentences import of_variety
from analysis.winsor import Decomposition, Part

__all__ = ["EARLY", "absolute", "number", "of_beside", "of_diversity", "of_segment", "relative"]

EARLY = "before the planned end"


def number(value: float | None) -> float | None:
    """Return a finite number or None.

    Examples
    --------
    >>> number(math.nan) is None, number(0.5)
    (True, 0.5)
    """
    return None if value is None or not math.isfinite(value) else float(value)


def absolute(contrast: Contrast) -> dict[str, Any]:
    """Return a difference in the metric's unit."""
    found = contrast.absolute
    if found is None:
        return dict.fromkeys(("estimate", "se", "low", "high", "p"))
    return {"estimate": found.estimate, "se": found.se, "low": found.low, "high": found.high, "p": found.p}


def relative(contrast: Contrast) -> dict[str, Any]:
    """Return a relative change as fractions."""
    found = contrast.relative
    return {"estimate": found.estimate, "low": found.low, "high": found.high} if found else dict.fromkeys(("estimate", "low", "high"))


def of_segment(segment: Segment, *, shown: bool) -> dict[str, Any]:
    """Return one comparison group by group; before the planned end only how many readers there are."""
    found = segment.interaction
    names = ("scale", "statistic", "df", "p", "q", "status", "reason")
    test = {name: getattr(found, name) for name in names} if shown else {**dict.fromkeys(names), "status": "insufficient", "reason": EARLY}
    return {
        "segment": segment.name,
        "arm": segment.arm,
        "against": segment.against,
        "interaction": test,
        "says": in_words(segment) if shown else f"Not yet, {EARLY}.",
        "groups": [_of_group(group, (segment.arm, segment.against), shown=shown) for group in segment.groups],
    }


def _of_group(group: Group, sides: tuple[str, str], *, shown: bool) -> dict[str, Any]:
    contrast = group.contrast if shown else Contrast(group.contrast.n, (None, None), status="insufficient", reason=EARLY)
    return {
        "group": group.name,
        **_sides(contrast, sides),
        "q": number(group.q) if shown else None,
    }


def _sides(contrast: Contrast, sides: tuple[str, str]) -> dict[str, Any]:
    return {
        "n": dict(zip(sides, contrast.n, strict=True)),
        "values": dict(zip(sides, map(number, contrast.values), strict=True)),
        "absolute": absolute(contrast),
        "relative": relative(contrast),
        "status": contrast.status,
        "reason": contrast.reason,
    }


def of_diversity(found: Diversity, *, level: float) -> dict[str, Any]:
    """Return how varied the articles of every arm were, and arms against each other."""
    return {
        "catalogue": found.catalogue,
        "compared_at": found.compared_at,
        "arms": [_of_variety(variety, level=level) for variety in found.arms],
        "pairs": [_of_pair(pair) for pair in found.pairs],
    }


def _of_variety(found: Variety, *, level: float) -> dict[str, Any]:
    return {
        "arm": found.arm,
        "readers": found.readers,
        "places": found.places,
        "articles": found.articles,
        "coverage": _own(found.coverage, level=level),
        "gini": _own(found.gini, level=level),
    }


def _own(found: Value, *, level: float) -> dict[str, Any]:
    low, high = within(found, level=level) or (None, None)
    return {"estimate": number(found.estimate), "low": low, "high": high, "status": found.status, "reason": found.reason}


def _of_pair(pair: Pair) -> dict[str, Any]:
    sides = (pair.arm, pair.against)
    return {"measure": pair.measure, "arm": pair.arm, "against": pair.against, "says": of_variety(pair), **_sides(pair.contrast, sides)}


def of_beside(found: Beside | None, sides: tuple[str, str]) -> dict[str, Any] | None:
    """Return what stands beside one comparison; None when there is nothing."""
    if found is None:
        return None
    heavy, both = found.heavy, found.uncut
    return {
        "heavy": None
        if heavy is None
        else {
            "shift": heavy.shift,
            "in_se": heavy.in_se,
            "flagged": heavy.flagged,
            "averaged": _sides(heavy.averaged, sides),
            "sign_change": heavy.sign_change,
        },
        "uncut": None if both is None else {"cap": both.cap, "above": dict(zip(sides, both.above, strict=True)), **_sides(both.raw, sides)},
        "parts": None if found.parts is None else _parts(found.parts, sides),
    }


def _parts(found: Decomposition, sides: tuple[str, str]) -> dict[str, Any]:
    parts = {"revenue": found.revenue, "payer_rate": found.payer_rate, "per_payer": found.per_payer}
    return {**{name: _part(part, sides) for name, part in parts.items()}, "status": found.status, "reason": found.reason}


def _part(part: Part | None, sides: tuple[str, str]) -> dict[str, Any] | None:
    return None if part is None else {"log_change": part.change, "causal": part.causal, **_sides(part.contrast, sides)}
