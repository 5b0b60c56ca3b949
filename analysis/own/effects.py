"""Effects of somebody's own file: every metric in every arm against the control, by the rules of a report.

And the same as text and as rows, for those who read them in a notebook.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from analysis.adjustment import Adjusted, Adjustment, Columns, adjust, adjusted_contrast
from analysis.checks import Check
from analysis.comparison import FEW, Effect, Family, Role
from analysis.effect import LEAST_READERS, Contrast, Value, arm_value, compare
from analysis.moments import Moments
from analysis.multiplicity import exploratory, family_level
from analysis.own.plan import ONE, Wanted
from analysis.skew import Skew
from analysis.small_counts import binary_counts, is_small, share_contrast
from analysis.verdict import Verdict
from analysis.words import change, count, name, rounded

__all__ = ["NO_COVARIATE", "Outcome", "contrast_of", "effects_of", "records", "written"]

Pair = tuple[str, str]  # (arm, against)
NO_COVARIATE = "no covariate was named"

HEADS = ("metric", "role", "arm", "against", "change", "range", "adjusted range", "q")
MARKS = {"ok": "✓", "warn": "!", "block": "✗"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One metric as the file has it.

    Parameters
    ----------
    cells : moments per (arm, phase); a file has only phase 0.
    zero_or_one : arms in which every reader has 0 or 1, where there is no denominator.
    skew : of readers, where arms are so unequal in size that it matters.
    """

    wanted: Wanted
    cells: Mapping[tuple[str, int], Moments]
    zero_or_one: frozenset[str] = frozenset()
    skew: Skew | None = None

    @property
    def below(self) -> str:
        return self.wanted.denominator or ONE

    def value(self, arm: str) -> Value:
        """Return the metric in one arm; an arm without readers has a reason instead of a number."""
        found = arm_value(self.cells, arm, numerator=self.wanted.numerator, denominator=self.below, shares={0: 1.0})
        return replace(found, reason=f"{arm} has {count(found.n, 'reader')}") if found.status == "insufficient" else found


def effects_of(outcomes: Sequence[Outcome], pairs: Sequence[Pair], *, level: float) -> tuple[Effect, ...]:
    """Return every comparison; the first metric is the goal, the others are secondary and carry q-values.

    Parameters
    ----------
    pairs : (arm, against), all judged together on the goal.
    level : of every interval, 0 to 1.
    """
    goal = outcomes[0]
    strict = _family_level(goal, pairs, level)
    effects = []
    for outcome in outcomes:
        role: Role = "goal" if outcome is goal else "secondary"
        adjustment = _adjustment(outcome, pairs)
        for pair in pairs:
            contrast = contrast_of(outcome, pair, level)
            family = _family(goal, pair, strict) if outcome is goal else None
            adjusted = _adjusted(outcome, adjustment, pair, plain=contrast, level=level)
            effects.append(Effect(outcome.wanted.metric, role, *pair, contrast, family=family, adjusted=adjusted))
    return _with_q(effects)


def contrast_of(outcome: Outcome, pair: Pair, level: float) -> Contrast:
    """Return one comparison of a metric: by the score test where every reader did it or not."""
    plain, counts = compare(*map(outcome.value, pair), level=level, skew=outcome.skew), _counts(outcome, pair)
    return share_contrast(*counts, plain=plain, level=level, least=LEAST_READERS) if counts else plain


def _few_events(outcome: Outcome, pair: Pair) -> bool:
    """Whether the delta method would need more events."""
    counts = _counts(outcome, pair)
    return counts is not None and is_small(*counts)


def _counts(outcome: Outcome, pair: Pair) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """(events, readers) of both arms where every reader of them did it or not, whatever readers of other arms did."""
    if not outcome.zero_or_one.issuperset(pair):
        return None
    one, two = (binary_counts(outcome.cells, arm, numerator=outcome.wanted.numerator, denominator=outcome.below) for arm in pair)
    return (one, two) if one is not None and two is not None else None


def _family_level(goal: Outcome, pairs: Sequence[Pair], level: float) -> float:
    judged = [pair for pair in pairs if contrast_of(goal, pair, level).absolute is not None]
    return family_level({arm: goal.value(arm).variance for pair in judged for arm in pair}, judged, level=level)


def _family(goal: Outcome, pair: Pair, level: float) -> Family | None:
    """The difference once more at the stricter level; the score test has no standard error to stretch."""
    wide = contrast_of(goal, pair, level).absolute
    return Family(level, wide.low, wide.high) if wide else None


def _adjustment(outcome: Outcome, pairs: Sequence[Pair]) -> Adjustment:
    if not outcome.wanted.pre:
        return Adjustment({}, reason=NO_COVARIATE)
    columns = Columns(outcome.wanted.numerator, outcome.below, (outcome.wanted.pre,))
    return adjust(outcome.cells, list(dict.fromkeys(arm for pair in pairs for arm in pair)), columns=columns, shares={0: 1.0})


def _adjusted(outcome: Outcome, found: Adjustment, pair: Pair, *, plain: Contrast, level: float) -> Adjusted:
    if not found.reason and _few_events(outcome, pair):
        return Adjusted(None, dropped=found.dropped, reason=FEW)
    return adjusted_contrast(found, pair, plain=plain, level=level)


def _with_q(effects: Sequence[Effect]) -> tuple[Effect, ...]:
    secondary = [i for i, effect in enumerate(effects) if effect.role == "secondary"]
    q = exploratory([found.p if (found := effects[i].contrast.absolute) else None for i in secondary])
    known = dict(zip(secondary, q, strict=True))
    return tuple(replace(effect, q=known.get(i)) for i, effect in enumerate(effects))


def written(verdict: Verdict, checks: Sequence[Check], effects: Sequence[Effect]) -> str:
    """Return verdict, trust checks and a table of effects as Markdown, rounded for reading."""
    lines = [f"**{_safe(verdict.sentence)}**", "", *(f"- {_safe(reason)}" for reason in verdict.reasons)]
    lines += ["", "Can we trust it?", "", *(f"- {MARKS[check.state]} {_safe(check.says)}" for check in checks)]
    table = [HEADS, ("---",) * len(HEADS), *map(_line, effects)]
    return "\n".join([*lines, "", *(f"| {' | '.join(cells)} |" for cells in table), ""])


def records(effects: Sequence[Effect]) -> list[dict[str, Any]]:
    """Return one row per effect, in full precision; a number that cannot be estimated is nan, and ``reason`` says why."""
    return [_record(effect) for effect in effects]


def _safe(text: str) -> str:
    """Names come from a file: they may not become markup."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")


def _line(effect: Effect) -> tuple[str, ...]:
    contrast, adjusted = effect.contrast, effect.adjusted.contrast if effect.adjusted else None
    who = (effect.metric.name, effect.role, name(effect.arm), name(effect.against))
    q = "–" if effect.q is None else f"{rounded(effect.q):g}"
    return (*map(_safe, (*who, *_range(contrast), _range(adjusted)[1] if adjusted else "–")), q)


def _range(contrast: Contrast) -> tuple[str, str]:
    """Change and range in percent; where only the difference can be told, in the metric's unit."""
    if contrast.relative is not None:
        found = contrast.relative
        least = max(found.low, -1.0) if found.high > -1 else found.low  # as analysis.words.span says it
        return change(found.estimate), f"{change(least)} to {change(found.high)}"
    if contrast.absolute is None:
        return "–", contrast.reason
    estimate, low, high = (f"{rounded(value):+,g}" for value in (contrast.absolute.estimate, contrast.absolute.low, contrast.absolute.high))
    return estimate, f"{low} to {high}"


def _record(effect: Effect) -> dict[str, Any]:
    contrast, adjusted = effect.contrast, effect.adjusted.contrast if effect.adjusted else None
    absolute, relative, moved = contrast.absolute, contrast.relative, adjusted.absolute if adjusted else None
    who = {"metric": effect.metric.name, "role": effect.role, "arm": effect.arm, "against": effect.against}
    value, other = (math.nan if v is None else v for v in contrast.values)
    sides = {"n": contrast.n[0], "n_against": contrast.n[1], "value": value, "value_against": other}
    figures = {
        **{part: getattr(absolute, part, math.nan) for part in ("estimate", "se", "low", "high", "p")},
        "q": math.nan if effect.q is None else effect.q,
        **{f"relative_{part}": getattr(relative, part, math.nan) for part in ("estimate", "low", "high")},
        **{f"family_{part}": getattr(effect.family, part, math.nan) for part in ("low", "high")},
        **{f"adjusted_{part}": getattr(moved, part, math.nan) for part in ("estimate", "se", "low", "high", "p")},
    }
    return {**who, **sides, **figures, "status": contrast.status, "reason": contrast.reason}
