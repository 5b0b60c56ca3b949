"""Bars, histograms and sparklines: lengths on one axis that starts at zero."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from web.charts.scale import Chart, Table

__all__ = ["draw_bar", "draw_bars", "draw_histograms", "draw_spark"]

SPARK_WIDTH, SPARK_HEIGHT = 120, 24
MOST_BINS = 50


def draw_bar(share: float, *, title: str, kind: str = "model") -> str:
    """Return one horizontal bar that fills ``share`` (0 to 1) of its cell; the words stand beside it in HTML."""
    width = f"{100 * min(max(share, 0.0), 1.0):.2f}%"
    head = Markup('<svg class="bar" role="img" width="100%" height="14"><title>{}</title>').format(title)
    return f'{head}<rect class="rail" width="100%" height="14"/><rect class="k-{escape(kind)}" width="{width}" height="14"/></svg>'


def draw_bars(
    rows: Sequence[tuple[str, float]], *, label: Callable[[float], str], head: tuple[str, str], kind: str = "model"
) -> list[tuple[str, str, str]]:
    """Return (label, drawing, words) per row, longest bar = largest value of all rows.

    Examples
    --------
    >>> [words for _, _, words in draw_bars([("a", 2.0), ("b", 1.0)], label=str, head=("x", "y"))]
    ['2.0', '1.0']
    """
    largest = max((abs(value) for _, value in rows), default=0.0) or 1.0
    return [
        (name, draw_bar(abs(value) / largest, title=f"{head[0]} {name}, {head[1]} {label(value)}", kind=kind), label(value))
        for name, value in rows
    ]


def draw_histograms(
    reference: Sequence[float], current: Sequence[float], *, bins: Sequence[str], name: str, label: Callable[[float], str]
) -> Chart:
    """Draw two histograms over the same bins, side by side per bin: reference (muted) and current (accent).

    Parameters
    ----------
    reference, current : share of each bin, 0 to 1, the same length (at most 50).
    bins : what each bin holds, in words.
    """
    n = min(len(bins), MOST_BINS)
    top = max((*reference[:n], *current[:n], 1e-12))
    step = 100 / max(n, 1)
    bars = "".join(
        f'<rect class="{kind}" x="{i * step + shift * step:.3f}%" width="{step * 0.42:.3f}%" '
        f'y="{60 * (1 - share / top):.2f}" height="{60 * share / top:.2f}"/>'
        for i in range(n)
        for kind, share, shift in (("k-status_quo", reference[i], 0.06), ("k-model", current[i], 0.5))
    )
    says = f"{name}: share of reads per bin, before (grey) and now (blue)."
    head = Markup('<svg class="histogram" role="img" width="100%" height="62"><title>{}</title>').format(says)
    table = Table(("Bin", "Before", "Now"), tuple((bins[i], label(reference[i]), label(current[i])) for i in range(n)))
    return Chart(f'{head}{bars}<line class="base" x1="0" x2="100%" y1="60.5" y2="60.5"/></svg>', says, table)


def draw_spark(values: Sequence[float], *, title: str) -> str:
    """Return a 120 px line of the last values; the axis starts at zero.

    Examples
    --------
    >>> draw_spark([], title="no run yet")
    ''
    """
    if not values:
        return ""
    shown = list(values)[-MOST_BINS:]
    top = max(*shown, 1e-12) if len(shown) > 1 else max(shown[0], 1e-12)
    step = (SPARK_WIDTH - 4) / max(len(shown) - 1, 1)
    points = " ".join(f"{2 + i * step:.1f},{SPARK_HEIGHT - 2 - (SPARK_HEIGHT - 4) * value / top:.1f}" for i, value in enumerate(shown))
    end = points.rsplit(" ", 1)[-1].split(",")
    head = Markup('<svg class="spark" role="img" width="{}" height="{}"><title>{}</title>').format(SPARK_WIDTH, SPARK_HEIGHT, title)
    return f'{head}<polyline points="{points}"/><circle cx="{end[0]}" cy="{end[1]}" r="2"/></svg>'
