"""Effects as a forest: one row per comparison, equal scale, the words beside the marks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from web.charts.scale import Scale, Table, marker, nice_scale

__all__ = ["Forest", "ForestRow", "draw_forest"]


@dataclass(frozen=True, slots=True)
class ForestRow:
    """One comparison.

    Parameters
    ----------
    label : "ALS against Front"; group : heading it stands under (a metric).
    kind : of the arm, chooses the mark.
    estimate, low, high : relative effects as fractions; None when not estimable (``words`` then says why).
    limit : the largest acceptable harm as a signed fraction, drawn as a tick.
    words : what the text cell says.
    estimate_says, limit_says : what the table says where there is no fraction: in the measure's own unit, or why there is none.
    tone : good, bad or neutral.
    """

    label: str
    group: str
    kind: str
    estimate: float | None
    low: float | None
    high: float | None
    words: str
    limit: float | None = None
    tone: str = "neutral"
    estimate_says: str = "not estimable"
    limit_says: str = "none set"


@dataclass(frozen=True, slots=True)
class Forest:
    """Rows with their marks (same order), the axis below them, and the table twin."""

    rows: tuple[tuple[ForestRow, str], ...]
    axis: str
    scale: Scale
    table: Table


def draw_forest(rows: Sequence[ForestRow], *, label: Callable[[float], str], most: float = 1.0) -> Forest:
    """Draw the marks of every row on one scale that holds zero and every guardrail limit.

    Parameters
    ----------
    label : writes a tick ("+2%").
    most : longer ranges are cut at ±most and end in an arrow (their words stay exact).
    """
    drawn = [value for row in rows for value in (row.low, row.high, row.estimate) if value is not None]
    limits = [row.limit for row in rows if row.limit is not None]
    scale = nice_scale([*drawn, *limits], most=most)
    table = Table(
        ("Measure", "Comparison", "Estimate", "Range", "Limit"),
        tuple(
            (
                row.group,
                row.label,
                label(row.estimate) if row.estimate is not None else row.estimate_says,
                f"{label(row.low)} to {label(row.high)}" if row.low is not None and row.high is not None else row.words,
                label(row.limit) if row.limit is not None else row.limit_says,
            )
            for row in rows
        ),
    )
    return Forest(tuple((row, _marks(row, scale)) for row in rows), _axis(scale, label), scale, table)


def _marks(row: ForestRow, scale: Scale) -> str:
    title = escape(f"{row.group}, {row.label}: {row.words}")
    parts: list[str] = [Markup('<svg class="marks" role="img" width="100%" height="28"><title>{}</title>').format(title)]
    parts.append(f'<line class="zero" x1="{scale.at(0)}" x2="{scale.at(0)}" y1="0" y2="28"/>')
    if row.limit is not None and scale.holds(row.limit):
        parts.append(f'<line class="limit" x1="{scale.at(row.limit)}" x2="{scale.at(row.limit)}" y1="4" y2="24"/>')
    if row.low is not None and row.high is not None:
        parts.append(f'<line class="whisker k-{escape(row.kind)}" x1="{scale.at(row.low)}" x2="{scale.at(row.high)}" y1="14" y2="14"/>')
        parts.extend(_arrow(value, scale, towards) for value, towards in ((row.low, -1), (row.high, 1)) if not scale.holds(value))
    if row.estimate is not None and scale.holds(row.estimate):
        parts.append(marker(row.kind, x=scale.at(row.estimate), y=14))
    return "".join((*parts, "</svg>"))


def _arrow(value: float, scale: Scale, towards: int) -> str:
    return f'<svg x="{scale.at(value)}" y="14" overflow="visible"><path class="cut" d="M{-7 * towards}-5L0 0L{-7 * towards} 5"/></svg>'


def _axis(scale: Scale, label: Callable[[float], str]) -> str:
    ticks = "".join(
        f'<line x1="{scale.at(t)}" x2="{scale.at(t)}" y1="0" y2="5"/><text x="{scale.at(t)}" y="19">{escape(label(t))}</text>'
        for t in scale.ticks
    )
    ends = f'<line x1="{scale.at(scale.low)}" x2="{scale.at(scale.high)}" y1="0.5" y2="0.5"/>'
    return f'<svg class="axis" aria-hidden="true" width="100%" height="24">{ends}{ticks}</svg>'
