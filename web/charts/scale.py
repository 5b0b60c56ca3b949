"""Where a value lies on an axis, in percent of the width, so that drawings stretch while their text does not."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Chart", "Scale", "Table", "marker", "nice_scale"]


@dataclass(frozen=True, slots=True)
class Table:
    """The twin of a drawing: the same values in words."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing (SVG text), the sentence it tells, and its table."""

    svg: str
    says: str
    table: Table


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear axis from ``low`` to ``high`` with ``ticks`` (values); ``inset`` percent stay free on either side."""

    low: float
    high: float
    ticks: tuple[float, ...]
    inset: float = 3.0

    def position(self, value: float) -> float:
        """Return percent of the width.

        Examples
        --------
        >>> Scale(0, 10, (0, 5, 10), inset=0).position(5)
        50.0
        """
        return self.inset + (value - self.low) / (self.high - self.low) * (100 - 2 * self.inset)

    def at(self, value: float) -> str:
        """Return the position as an SVG length; values beyond the axis end at its edge."""
        return f"{min(max(self.position(value), 0.0), 100.0):.3f}%"

    def value(self, position: float) -> float:
        """Return the value at a position in percent (what a mark on the drawing stands for)."""
        return self.low + (position - self.inset) / (100 - 2 * self.inset) * (self.high - self.low)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


def nice_scale(values: Iterable[float], *, most: float = math.inf, around: Iterable[float] = (0.0,)) -> Scale:
    """Return an axis of round numbers that holds ``values``, zero and everything in ``around``.

    Parameters
    ----------
    values : what is drawn; may be empty.
    most : the axis never reaches beyond ±most (longer marks are cut, with an arrow).

    Examples
    --------
    >>> nice_scale([-0.012, 0.064]).ticks
    (-0.02, 0.0, 0.02, 0.04, 0.06, 0.08)
    """
    kept = [min(max(v, -most), most) for v in (*values, *around) if math.isfinite(v)]
    low, high = min(kept, default=0.0), max(kept, default=0.0)
    if low == high:
        low, high = (low - 1, high + 1) if low == 0 else (min(low, 0.0), max(high, 0.0))
    step = _step((high - low) / 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(k * step, 12) + 0.0 for k in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], ticks)


def _step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    for factor in (1, 2, 2.5, 5):
        if factor * power >= rough * 0.999:
            return factor * power
    return 10 * power


def marker(kind: str, *, x: str, y: float, size: float = 5.0) -> str:
    """Return the mark of a kind of arm: ● status quo, ▲ heuristic, ■ model, ◆ any other; shape beside colour.

    Examples
    --------
    >>> marker("model", x="50%", y=10)
    '<svg x="50%" y="10" overflow="visible"><path class="k-model" d="M-5-5h10v10h-10z"/></svg>'
    """
    s, t = f"{size:g}", f"{2 * size:g}"
    shapes = {
        "status_quo": f"M-{s} 0a{s} {s} 0 1 0 {t} 0a{s} {s} 0 1 0-{t} 0z",
        "heuristic": f"M0-{s}L{s} {s}H-{s}z",
        "model": f"M-{s}-{s}h{t}v{t}h-{t}z",
    }
    shape = shapes.get(kind, f"M0-{s}L{s} 0L0 {s}L-{s} 0z")
    return f'<svg x="{x}" y="{y:g}" overflow="visible"><path class="k-{kind if kind in shapes else "other"}" d="{shape}"/></svg>'
