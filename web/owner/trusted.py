"""The part "can we trust it?" of a report: every check, gathered under the few questions an owner asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from web.owner.words import capital

__all__ = ["CheckLine", "TrustLine", "trust_lines"]

QUESTIONS = {
    "Traffic split": ("split", "split_matured", "assignment"),
    "One reader, one arm; shown is what was assigned": ("one_arm", "as_assigned", "unknown_arms"),
    "Alike before the test": ("before", "look_ahead", "carry_over"),
    "Nothing was lost": ("nothing_lost", "clicks_without_exposure", "no_beacon", "late"),
    "Arms answered in time": ("fallbacks", "degraded"),
    "Ran long enough": ("ran_long_enough", "cut_short", "novelty", "left_out"),
    "Robots, and readers who object": ("bots", "erased"),
    "The result holds": ("recomputed", "heavy_reader", "interference"),
}
MARKS = {"ok": ("✓", "good-text", "in order"), "warn": ("!", "warn-text", "look at this"), "block": ("✗", "bad-text", "failed")}
ORDER = ("block", "warn", "ok")


@dataclass(frozen=True, slots=True)
class CheckLine:
    """One check in words; ``mark`` is its sign, ``tone`` its colour, ``state`` what a screen reader says."""

    mark: str
    tone: str
    state: str
    says: str


@dataclass(frozen=True, slots=True)
class TrustLine:
    """One question: marked as its worst check; what is not in order is said at once, the rest on request."""

    title: str
    mark: str
    tone: str
    state: str
    says: tuple[str, ...]
    more: tuple[CheckLine, ...]


def trust_lines(checks: Sequence[Mapping[str, Any]]) -> tuple[TrustLine, ...]:
    """Return one line per question that some check answers, what failed first; a check nobody asked for is its own question.

    A question in order shows the check that answers it best, the first of ``QUESTIONS``.

    Examples
    --------
    >>> [line] = trust_lines([{"name": "below_zero", "state": "warn", "says": "'paid' is below zero in 1 row."}])
    >>> line.title, line.mark, line.says
    ('Below zero', '!', ("'paid' is below zero in 1 row.",))
    """
    asked = {name: title for title, names in QUESTIONS.items() for name in names}
    groups: dict[str, list[Mapping[str, Any]]] = {title: [] for title in QUESTIONS}
    for check in checks:
        groups.setdefault(asked.get(check["name"], capital(check["name"].replace("_", " "))), []).append(check)
    lines = [(ORDER.index(_worst(found)), _line(title, found)) for title, found in groups.items() if found]
    return tuple(line for _, line in sorted(lines, key=lambda pair: pair[0]))


def _worst(checks: Sequence[Mapping[str, Any]]) -> str:
    return next(state for state in ORDER if any(check["state"] == state for check in checks))


def _line(title: str, checks: Sequence[Mapping[str, Any]]) -> TrustLine:
    place = {name: i for i, name in enumerate(QUESTIONS.get(title, ()))}
    ranked = sorted(checks, key=lambda check: (ORDER.index(check["state"]), place.get(check["name"], len(place))))
    first = [check for check in ranked if check["state"] != "ok"] or ranked[:1]
    rest = tuple(CheckLine(*MARKS[check["state"]], check["says"]) for check in ranked if check not in first)
    return TrustLine(title, *MARKS[_worst(checks)], tuple(check["says"] for check in first), rest)
