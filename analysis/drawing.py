"""The forest of a report for a notebook and for saved files: one line of marks per comparison, without script or style sheet.

The console draws the same in its own clothes (``web.charts.forest``), which a notebook does not have.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from analysis.comparison import Effect
from analysis.words import change, name

__all__ = ["draw_forest"]

MOST = 1.0  # of a relative change; longer ranges are cut there, their words stay exact
WIDTH, HEIGHT, INSET = 320, 22, 8  # pixels
COLOUR = {"goal": "#0b57d0", "secondary": "#767d87", "guardrail": "#9a5b00"}  # 3:1 at least on white and on black


def draw_forest(effects: Sequence[Effect]) -> str:
    """Return a table: metric and comparison, marks on one scale with no change as a dotted line, the range in words.

    Effects without a relative range have words instead of marks; nothing comes back where there is no range at all.
    """
    known = [effect for effect in effects if effect.contrast.relative is not None]
    if not known:
        return ""
    ends = [0.0, *(end for effect in known if (r := effect.contrast.relative) for end in (r.low, r.high))]
    low, high = max(min(ends), -MOST), min(max(ends), MOST)
    rows = "".join(_row(effect, low, high) for effect in effects)
    scale = f"<tr><td></td><td>{change(low)} to {change(high)}, dotted: no change</td><td></td></tr>"
    return f"<table><tbody>{rows}</tbody><tfoot>{scale}</tfoot></table>"


def _row(effect: Effect, low: float, high: float) -> str:
    found = effect.contrast.relative
    who = html.escape(f"{effect.metric.name}, {name(effect.arm)} against {name(effect.against)} ({effect.role})")
    if found is None:
        return f"<tr><th scope='row'>{who}</th><td></td><td>{html.escape(effect.contrast.reason or effect.contrast.status)}</td></tr>"
    words = f"{change(found.low)} to {change(found.high)}"
    left, middle, right, zero = (_at(value, low, high) for value in (found.low, found.estimate, found.high, 0.0))
    half, colour = HEIGHT / 2, COLOUR[effect.role]
    marks = (
        f'<line x1="{zero}" x2="{zero}" y1="0" y2="{HEIGHT}" stroke="currentColor" stroke-dasharray="2 3"/>'
        f'<line x1="{left}" x2="{right}" y1="{half}" y2="{half}" stroke="{colour}" stroke-width="3"/>'
        f'<circle cx="{middle}" cy="{half}" r="4.5" fill="{colour}"/>'
    )
    svg = f'<svg role="img" width="{WIDTH}" height="{HEIGHT}"><title>{who}: {words}</title>{marks}</svg>'
    return f"<tr><th scope='row'>{who}</th><td>{svg}</td><td>{words}</td></tr>"


def _at(value: float, low: float, high: float) -> str:
    kept = min(max(value, low), high)
    return f"{INSET + (kept - low) / ((high - low) or 1.0) * (WIDTH - 2 * INSET):.1f}"
