"""How quickly a read should cool down on this site: chosen from its own last week, and only when the choice is clear."""

from __future__ import annotations

import math
from dataclasses import dataclass

from recsys.comparison import PLACES, paired
from recsys.evaluation import next_click_ranks
from recsys.next_click import Clicks

__all__ = ["CHOICES_H", "Proposal", "propose_half_life"]

CHOICES_H = (0.5, 1.0, 2.0, 4.0, 8.0, 24.0, 72.0)
WEEK_H = 168


@dataclass(frozen=True, slots=True)
class Proposal:
    """Half-lives compared on the same page views.

    Parameters
    ----------
    current, best : hours. hit_rates : half-life -> share of next clicks among its first ten. queries : page views.
    low, high : 95 % range of best minus current. proposed : the half-life to use; the current one unless the range lies above 0.
    """

    current: float
    best: float
    hit_rates: dict[float, float]
    queries: int
    low: float
    high: float
    proposed: float


def propose_half_life(data: Clicks, *, current: float) -> Proposal:
    """Score the half-lives of heat with protocol A on the last seven days of a log.

    Parameters
    ----------
    current : hours, the one in use.

    Raises
    ------
    DataError
        No click of the last seven days has an earlier one in its session.
    """
    last = math.ceil(float(data.hour[-1])) if len(data.hour) else 1
    names = {f"heat_{h:g}": h for h in sorted({*CHOICES_H, current})}
    ranks, readers, _ = next_click_ranks(data, list(names), span=(max(1, last - WEEK_H), last))
    hits = {h: ranks[name] < PLACES for name, h in names.items()}
    rates = {h: float(found.mean()) for h, found in hits.items()}
    best = max(rates, key=lambda h: (rates[h], h == current))
    gap = paired(f"{best:g}", f"{current:g}", hits=(hits[best], hits[current]), readers=readers)
    return Proposal(current, best, rates, len(readers), gap.low, gap.high, best if gap.low > 0 else current)
