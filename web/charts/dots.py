"""Money as fifty dots: each is one of fifty equally likely outcomes; hollow means a loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from web.charts.scale import Chart, Scale, Table, nice_scale

__all__ = ["draw_dots", "money_scale"]

DOT = 9.0
NARROW = 260.0


def money_scale(arms: Sequence[Sequence[float]]) -> Scale:
    """Return the axis that all arms share; it holds zero."""
    return nice_scale([value for outcomes in arms for value in outcomes])


def draw_dots(outcomes: Sequence[float], *, scale: Scale, kind: str, title: str, label: Callable[[float], str]) -> Chart:
    """Stack one dot per outcome at its place on the axis; no two dots overlap at 260 px width.

    Parameters
    ----------
    outcomes : equally likely yearly net values (usually 50 quantiles), money.
    scale : shared by all arms of the page.
    title : what a screen reader says, the finding first.
    """
    levels = stack(outcomes, scale)
    height = 8 + DOT * (max(levels, default=0) + 1)
    dots = "".join(
        f'<circle class="k-{escape(kind)}{" loss" if value < 0 else ""}" cx="{scale.at(value)}" cy="{height - DOT / 2 - DOT * level:g}" r="3.6"/>'
        for value, level in zip(sorted(outcomes), levels, strict=True)
    )
    zero = f'<line class="zero" x1="{scale.at(0)}" x2="{scale.at(0)}" y1="0" y2="{height + 6:g}"/>'
    base = f'<line class="base" x1="0" x2="100%" y1="{height + 1:g}" y2="{height + 1:g}"/>'
    texts = "".join(
        f'<line class="base" x1="{scale.at(t)}" x2="{scale.at(t)}" y1="{height + 1:g}" y2="{height + 6:g}"/>'
        f'<text x="{scale.at(t)}" y="{height + 20:g}">{escape(label(t))}</text>'
        for t in _labelled(scale)
    )
    head = Markup('<svg class="dots" role="img" width="100%" height="{}"><title>{}</title>').format(f"{height + 26:g}", title)
    table = Table(("Outcome", "Net value"), tuple((str(i), label(v)) for i, v in enumerate(sorted(outcomes), 1)))
    return Chart(f"{head}{base}{zero}{dots}{texts}</svg>", title, table)


def stack(outcomes: Sequence[float], scale: Scale) -> list[int]:
    """Return the level of each outcome (smallest first): the lowest one on which it touches no other dot.

    Examples
    --------
    >>> stack([5, 5, 9], Scale(0, 10, (0, 10)))
    [0, 1, 0]
    """
    apart = DOT / NARROW * 100
    last: list[float] = []
    levels = []
    for value in sorted(outcomes):
        at = scale.position(value)
        level = next((i for i, taken in enumerate(last) if at - taken >= apart), len(last))
        last[level : level + 1] = [at]
        levels.append(level)
    return levels


def _labelled(scale: Scale) -> list[float]:
    """Every tick, or every second one counted from zero when there are many (amounts are wide words)."""
    zero = scale.ticks.index(0.0)
    return [tick for i, tick in enumerate(scale.ticks) if len(scale.ticks) <= 4 or (i - zero) % 2 == 0]
