"""The figures of a report computed from arrays alone, beside those the report made of stored events."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import chisquare

from analysis.adjustment import Columns, adjust, adjusted_contrast
from analysis.calibration.requests import PLAN, Visitors, draw_visitors, report_of, store
from analysis.checks import split_evidence
from analysis.comparison import Effect, pairs_of
from analysis.effect import Contrast, Value, arm_value, compare
from analysis.looks import plan_of, take
from analysis.moments import Moments
from analysis.multiplicity import family_level
from analysis.quantile import quantile_value
from analysis.report import Report
from analysis.skew import Skew
from analysis.small_counts import share_contrast
from analysis.totals import pre_columns
from experiments.metric import metric

__all__ = ["Beside", "from_requests", "largest_gap"]

Ints = npt.NDArray[np.int64]
Arms = Mapping[str, Visitors]
Beside = tuple[str, float, float]  # what, in the report, from arrays
SIZES = {"status_quo": 70, "front": 60, "newest": 60}
LOOK_DAY, END = 8, 14
COVARIATES = pre_columns(metric("views_per_session"))


def from_requests(home: Path, rng: np.random.Generator) -> list[Beside]:
    """Draw readers of three arms, send them through outbox and loader, and return figure by figure what came out.

    Parameters
    ----------
    home : an empty folder for the stores.
    """
    arms = {arm: draw_visitors(rng, n, ratio=1 + 0.3 * i, days=END - 2) for i, (arm, n) in enumerate(SIZES.items())}
    store(home, arms)
    look = report_of(home, days=float(LOOK_DAY))
    return [*_beside_end(report_of(home, days=float(END)), arms), *_beside_look(look, _until(arms, LOOK_DAY - 2))]


def largest_gap(figures: Sequence[Beside]) -> float:
    """Return the largest difference between report and arrays, relative to the figure; inf where only one of them has it.

    Examples
    --------
    >>> largest_gap([("a", 1.0, 1.0), ("b", 2.0, 1.0), ("c", math.nan, math.nan)])
    0.5
    """
    gaps = [
        0.0 if seen == ours or (seen != seen and ours != ours) else abs(seen - ours) / max(abs(seen), abs(ours))
        for _, seen, ours in figures
    ]
    return max((math.inf if gap != gap else gap for gap in gaps), default=math.inf)


def _until(arms: Arms, day: int) -> Arms:
    """Readers whose first exposure was at most ``day`` days after the first one of all."""
    found = {}
    for arm, visitors in arms.items():
        kept = visitors.day <= day
        found[arm] = Visitors(**{name: getattr(visitors, name)[kept] for name in Visitors.__slots__})
    return found


def _columns(visitors: Visitors) -> dict[str, Ints]:
    """What every metric of the plan adds up, per reader; single-page sessions are all later ones and a first one without spare views."""
    v, known = visitors, (visitors.sessions_before > 0).astype(np.int64)
    return {
        "views": v.views, "sessions": v.sessions, "readers": np.ones_like(v.views), "returned": v.late.astype(np.int64), "dwell": v.dwell,
        "bounces": v.sessions - 1 + (v.views == v.sessions),
        **dict(zip(COVARIATES, (v.views_before, v.sessions_before, known), strict=True)),
    }  # fmt: skip


PARTS = {
    "views_per_session": ("views", "sessions"), "bounce_rate": ("bounces", "sessions"), "dwell_per_view": ("dwell", "views"),
    "sessions_per_reader": ("sessions", "readers"),
}  # fmt: skip


def _cells(arms: Arms, names: tuple[str, ...]) -> dict[tuple[str, int], Moments]:
    return {(arm, 0): Moments.from_rows(np.stack([_columns(v)[name] for name in names], axis=1), names) for arm, v in arms.items()}


def _values(arms: Arms, name: str) -> dict[str, Value]:
    top, bottom = PARTS[name]
    cells = _cells(arms, (top, bottom))
    return {arm: arm_value(cells, arm, numerator=top, denominator=bottom, shares={0: 1.0}) for arm in arms}


def _skew(arms: Arms) -> Skew:
    parts = []
    for visitors in arms.values():
        ratio = visitors.views.sum() / visitors.sessions.sum()
        parts.append((visitors.views / ratio - visitors.sessions) / visitors.sessions.mean())
    u = np.concatenate(parts)
    return Skew(float((u**2).sum() / (len(u) - len(parts))), float((u**3).mean()))


def _contrast(arms: Arms, name: str, pair: tuple[str, str], level: float) -> Contrast:
    if name == "slot_latency_p95":
        return compare(*(_waited(arms[arm], level) for arm in pair), level=level)
    if name == "returned":
        one, two = ((int(arms[arm].late.sum()), len(arms[arm].late)) for arm in pair)
        return share_contrast(one, two, plain=Contrast((one[1], two[1]), (None, None)), level=level)
    values = _values(arms, name)
    return compare(values[pair[0]], values[pair[1]], level=level, skew=_skew(arms) if name == PLAN.goal else None)


def _waited(visitors: Visitors, level: float) -> Value:
    """The time of 19 pages in 20: the first two pages of every reader, where there is a second."""
    opened = np.arange(2) < visitors.views[:, None]
    return quantile_value(np.nonzero(opened)[0], visitors.waits[opened] / 1000, q=0.95, level=level).value


def _beside_end(report: Report, arms: Arms) -> Iterator[Beside]:
    level = PLAN.level
    for effect in report.compared.effects:
        pair = (effect.arm, effect.against)
        yield from _both(
            f"{effect.metric.name}, {' against '.join(pair)}", effect.contrast, _contrast(arms, effect.metric.name, pair, level)
        )
        if effect.role == "goal":
            yield from _goal(effect, arms, pair)
    p = {check.name: check.p for check in report.checks}["split"]
    counts, shares = {arm: len(v.day) for arm, v in arms.items()}, PLAN.shares
    total = sum(counts.values())
    at_once = float(chisquare(list(counts.values()), [shares[arm] * total for arm in counts]).pvalue)
    yield "split of readers, p", math.nan if p is None else p, min(at_once, math.exp(-max(0.0, split_evidence(counts, shares))))


def _goal(effect: Effect, arms: Arms, pair: tuple[str, str]) -> Iterator[Beside]:
    values = _values(arms, PLAN.goal)
    strict = family_level({arm: value.variance for arm, value in values.items()}, pairs_of(PLAN), level=PLAN.level)
    family = _contrast(arms, PLAN.goal, pair, strict).absolute
    if effect.family is not None and family is not None:
        yield f"family of three, {' against '.join(pair)}, low", effect.family.low, family.low
        yield f"family of three, {' against '.join(pair)}, high", effect.family.high, family.high
    names = ("views", "sessions", *COVARIATES)
    adjustment = adjust(_cells(arms, names), list(arms), columns=Columns("views", "sessions", COVARIATES), shares={0: 1.0})
    plain = _contrast(arms, PLAN.goal, pair, PLAN.level)
    ours = adjusted_contrast(adjustment, pair, plain=plain, level=PLAN.level).contrast
    theirs = effect.adjusted.contrast if effect.adjusted else None
    if ours is not None or theirs is not None:
        yield from _both(
            f"adjusted, {' against '.join(pair)}", theirs or Contrast((0, 0), (None, None)), ours or Contrast((0, 0), (None, None))
        )


def _beside_look(report: Report, arms: Arms) -> Iterator[Beside]:
    values, plan = _values(arms, PLAN.goal), plan_of(PLAN, len(pairs_of(PLAN)))
    found = {(look.arm, look.against): look for look in report.look()}
    for pair in pairs_of(PLAN):
        contrast = _contrast(arms, PLAN.goal, pair, PLAN.level)
        wanted = take(plan, contrast, (values[pair[0]], values[pair[1]]), pair=pair, day=float(LOOK_DAY))
        for part in ("time", "critical", "difference_low", "difference_high"):
            seen, ours = (getattr(look, part) if look else math.nan for look in (found.get(pair), wanted))
            yield f"look on day {LOOK_DAY}, {' against '.join(pair)}, {part.replace('_', ' ')}", seen, ours


def _both(title: str, report: Contrast, arrays: Contrast) -> Iterator[Beside]:
    """Estimate, standard error and both ends of both ranges; nan where there is none."""
    for part, names in (("absolute", ("estimate", "se", "low", "high", "p")), ("relative", ("estimate", "low", "high"))):
        for name in names:
            seen, ours = (float(getattr(getattr(c, part), name, math.nan)) for c in (report, arrays))
            yield f"{title}, {part} {name}", seen, ours
