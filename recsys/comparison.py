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

__all__ = ["PLACES", "Compared", "bootstrap_difference", "compare", "mcnemar", "paired", "share_range", "wilson"]

PLACES = 10
Z95 = 1.959963984540054
Floats = npt.NDArray[np.float64]


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
    low, high = _gap_range(gaps, readers, level)
    return Compared(a, b, wins, losses, mcnemar(wins, losses), float(gaps.mean()), low, high)


def _gap_range(gaps: Floats, readers: npt.NDArray[np.int64], level: float) -> tuple[float, float]:
    """Interval of a mean of gaps between -1 and 1: readers drawn whole, and two more who cancel each other out.

    Without the two, gaps that are all alike would have a range of no width; one reader alone says nothing, -1 to 1.

    References
    ----------
    Agresti and Min, Simple improved confidence intervals for comparing matched proportions, 2005, by reader; quantiles of
    Student's t with as many degrees of freedom as readers, less one.
    """
    _, codes = np.unique(readers, return_inverse=True)
    count = int(codes.max(initial=-1)) + 1
    if count < 2:
        return -1.0, 1.0
    each = len(gaps) / count  # page views of the two
    whole = len(gaps) + 2 * each
    middle = float(gaps.sum()) / whole
    spread = float((np.bincount(codes, weights=gaps - middle) ** 2).sum()) * count / (count - 1)
    half = float(stdtrit(count - 1, 0.5 + level / 2)) * math.sqrt(spread + each**2 * (1 + 2 * middle**2)) / whole
    return max(-1.0, middle - half), min(1.0, middle + half)


def bootstrap_difference(gaps: Floats, readers: npt.NDArray[np.int64], *, seed: int = 0, draws: int = 2_000) -> tuple[float, float, float]:
    """Return the mean of paired differences and its 95 % percentile interval over readers drawn whole.

    Parameters
    ----------
    gaps : (n,) one arm minus the other on the same page view. readers : (n,) codes.

    Examples
    --------
    >>> bootstrap_difference(np.array([1.0, 1.0]), np.array([7, 8]), draws=10)
    (1.0, 1.0, 1.0)
    """
    _, codes = np.unique(readers, return_inverse=True)
    sums, counts = np.bincount(codes, weights=gaps), np.bincount(codes)
    chosen = np.random.default_rng(seed).integers(len(sums), size=(draws, len(sums)))
    low, high = np.percentile(sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1), [2.5, 97.5])
    return float(gaps.mean()), float(low), float(high)


def mcnemar(wins: int, losses: int) -> float:
    """Two-sided exact p-value that wins and losses are equally likely.

    Examples
    --------
    >>> mcnemar(0, 5), mcnemar(3, 3)
    (0.0625, 1.0)
    """
    return min(1.0, 2.0 * float(bdtr(min(wins, losses), wins + losses, 0.5))) if wins + losses else 1.0


def share_range(hits: npt.NDArray[np.bool_], readers: npt.NDArray[np.int64]) -> tuple[float, float]:
    """95 % interval of a hit rate: Wilson's, of as many page views as these are worth when those of one reader are alike.

    Parameters
    ----------
    hits : (n,) of n >= 1 page views. readers : (n,) codes.

    References
    ----------
    Design effect: variance with readers drawn whole over the one of independent page views, at least 1 (Kish 1965).

    Examples
    --------
    >>> four = np.array([True, True, False, False])
    >>> [round(bound, 3) for bound in share_range(four, np.arange(4))], [round(bound, 3) for bound in share_range(four, np.zeros(4, np.int64))]
    ([0.125, 0.875], [0.055, 0.945])
    """
    _, codes = np.unique(readers, return_inverse=True)
    share, n, count = float(hits.mean()), len(hits), int(codes.max()) + 1
    alone = n * share * (1 - share)
    if count < 2 or not alone:
        return wilson(share, count)
    together = float((np.bincount(codes, weights=hits - share) ** 2).sum()) * count / (count - 1)
    return wilson(share, n / max(1.0, together / alone))


def wilson(share: float, n: float) -> tuple[float, float]:
    """95 % interval of a share of n (Wilson 1927).

    Examples
    --------
    >>> [round(bound, 4) for bound in wilson(0.5, 10)]
    [0.2366, 0.7634]
    """
    spread = Z95**2 / n
    middle, half = share + spread / 2, Z95 * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)
