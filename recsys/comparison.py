"""Arms compared on the same queries: hit rates, exact McNemar, and differences with intervals clustered by reader."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, stdtrit

__all__ = ["PLACES", "Compared", "compare", "gap_range", "mcnemar", "paired", "share_range", "wilson"]

PLACES = 10
Z95 = 1.959963984540054
Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Compared:
    """One arm against another on the same queries.

    wins, losses : queries only ``a`` (only ``b``) hit. p : exact McNemar.
    difference, low, high : of the hit rates, a minus b, 95 % unless another level was asked for, clustered by reader.
    """

    a: str
    b: str
    wins: int
    losses: int
    p: float
    difference: float
    low: float
    high: float


def compare(ranks: Mapping[str, Floats], readers: npt.NDArray[np.int64], *, places: int = PLACES) -> dict[str, Any]:
    """Return hit rates with their intervals and every pair of arms, from ranks on the same queries.

    Examples
    --------
    >>> told = compare({"a": np.array([0.0, 3.0]), "b": np.array([0.0, np.inf])}, np.array([1, 2]))
    >>> [row["hit_rate_at_10"] for row in told["arms"]], told["pairs"][0]["wins"]
    ([1.0, 0.5], 1)
    """
    arms = []
    for name, values in ranks.items():
        hits = values < places
        low, high = share_range(hits, readers)
        with np.errstate(divide="ignore"):
            reciprocal = np.where(values < places, 1.0 / (values + 1.0), 0.0)
        arms.append({"arm": name, "hit_rate_at_10": float(hits.mean()), "mrr_at_10": float(reciprocal.mean()), "low": low, "high": high})
    pairs = [paired(a, b, hits=(ranks[a] < places, ranks[b] < places), readers=readers) for a, b in combinations(ranks, 2)]
    inside = np.isfinite(next(iter(ranks.values()))) if ranks else np.zeros(0, bool)
    told = [{key: getattr(pair, key) for key in Compared.__slots__} for pair in pairs]
    return {"ceiling": float(inside.mean()) if len(inside) else None, "arms": arms, "pairs": told}


def paired(
    a: str, b: str, *, hits: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]], readers: npt.NDArray[np.int64], level: float = 0.95
) -> Compared:
    """Compare two arms on the same queries: exact McNemar, and the difference with its interval clustered by reader."""
    first, second = hits
    wins, losses = int((first & ~second).sum()), int((second & ~first).sum())
    gaps = first.astype(np.float64) - second
    low, high = gap_range(gaps, readers, level=level)
    return Compared(a, b, wins, losses, mcnemar(wins, losses), float(gaps.mean()), low, high)


def gap_range(gaps: Floats, readers: Codes, *, level: float = 0.95, weeks: Codes | None = None) -> tuple[float, float]:
    """Interval of a mean of gaps between -1 and 1: readers drawn whole, and two more who cancel each other out.

    Without the two, gaps that are all alike would have a range of no width; one reader alone says nothing, -1 to 1.

    Parameters
    ----------
    gaps : (n,), one arm minus the other. readers : (n,) codes. weeks : (n,) codes; when there are several, they are drawn too.

    References
    ----------
    Agresti and Min, Simple improved confidence intervals for comparing matched proportions, 2005, by reader; quantiles of
    Student's t with as many degrees of freedom as readers (or weeks, if fewer), less one.

    Examples
    --------
    >>> same, gaps = np.zeros(40), np.tile([0.0, 0.5], 20)
    >>> [round(bound, 2) for bound in gap_range(gaps, np.arange(40))], gap_range(gaps, same)
    ([0.15, 0.33], (-1.0, 1.0))
    """
    count = len(np.unique(readers))
    if count < 2:
        return -1.0, 1.0
    each = len(gaps) / count  # page views of the two
    whole = len(gaps) + 2 * each
    middle = float(gaps.sum()) / whole
    spread, freedom = _drawn_whole(gaps - middle, readers, weeks)
    half = float(stdtrit(freedom, 0.5 + level / 2)) * math.sqrt(spread + each**2 * (1 + 2 * middle**2)) / whole
    return max(-1.0, middle - half), min(1.0, middle + half)


def _drawn_whole(deviations: Floats, readers: Codes, weeks: Codes | None) -> tuple[float, int]:
    """Variance of the sum of deviations when readers, and weeks, are drawn whole, and its degrees of freedom.

    A reader is asked once a week, so what both share is the variance of independent questions. One week says nothing of others.

    References
    ----------
    Cameron, Gelbach and Miller, Robust inference with multiway clustering, 2011; never less than by readers alone.
    """
    spread, count = _spread(deviations, readers)
    if weeks is None or len(np.unique(weeks)) < 2:
        return spread, count - 1
    weekly, several = _spread(deviations, weeks)
    return spread + max(0.0, weekly - float((deviations**2).sum())), min(count, several) - 1


def _spread(deviations: Floats, groups: Codes) -> tuple[float, int]:
    _, codes = np.unique(groups, return_inverse=True)
    count = int(codes.max()) + 1
    return float((np.bincount(codes, weights=deviations) ** 2).sum()) * count / max(count - 1, 1), count


def mcnemar(wins: int, losses: int) -> float:
    """Two-sided exact p-value that wins and losses are equally likely.

    Examples
    --------
    >>> mcnemar(0, 5), mcnemar(3, 3)
    (0.0625, 1.0)
    """
    return min(1.0, 2.0 * float(bdtr(min(wins, losses), wins + losses, 0.5))) if wins + losses else 1.0


def share_range(hits: npt.NDArray[Any], readers: Codes, *, weeks: Codes | None = None) -> tuple[float, float]:
    """95 % interval of a hit rate: Wilson's, of as many page views as these are worth when those of one reader are alike.

    Parameters
    ----------
    hits : (n,) of n >= 1 page views, 0 to 1 (recall has parts of a hit). readers : (n,) codes.
    weeks : (n,) codes, as in :func:`gap_range`; the quantile is Student's then.

    References
    ----------
    Design effect: variance with readers drawn whole over the one of independent page views, at least 1 (Kish 1965).

    Examples
    --------
    >>> four = np.array([True, True, False, False])
    >>> [round(bound, 3) for bound in share_range(four, np.arange(4))], [round(bound, 3) for bound in share_range(four, np.zeros(4, np.int64))]
    ([0.125, 0.875], [0.055, 0.945])
    """
    share, n, count = float(hits.mean()), len(hits), len(np.unique(readers))
    alone = n * share * (1 - share)
    if count < 2 or not alone:
        return wilson(share, count)
    together, freedom = _drawn_whole(hits - share, readers, weeks)
    quantile = Z95 if weeks is None else float(stdtrit(freedom, 0.975))
    return wilson(share, n / max(1.0, together / alone), quantile)


def wilson(share: float, n: float, quantile: float = Z95) -> tuple[float, float]:
    """95 % interval of a share of n (Wilson 1927); ``quantile`` of the normal distribution, unless another is given.

    Examples
    --------
    >>> [round(bound, 4) for bound in wilson(0.5, 10)]
    [0.2366, 0.7634]
    """
    spread = quantile**2 / n
    middle, half = share + spread / 2, quantile * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)
