"""Arms compared on the same queries: hit rates, exact McNemar, and differences with intervals clustered by reader."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr

__all__ = ["PLACES", "Compared", "bootstrap_difference", "compare", "mcnemar", "paired", "wilson"]

PLACES = 10
Z95 = 1.959963984540054
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Compared:
    """One arm against another on the same queries.

    wins, losses : queries only ``a`` (only ``b``) hit. p : exact McNemar.
    difference, low, high : of the hit rates, a minus b, 95 %, clustered by reader.
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
    """Return hit rates with Wilson intervals and every pair of arms, from ranks on the same queries.

    Examples
    --------
    >>> told = compare({"a": np.array([0.0, 3.0]), "b": np.array([0.0, np.inf])}, np.array([1, 2]))
    >>> [row["hit_rate_at_10"] for row in told["arms"]], told["pairs"][0]["wins"]
    ([1.0, 0.5], 1)
    """
    arms = []
    for name, values in ranks.items():
        hits = int((values < places).sum())
        low, high = wilson(hits, len(values))
        with np.errstate(divide="ignore"):
            reciprocal = np.where(values < places, 1.0 / (values + 1.0), 0.0)
        arms.append({"arm": name, "hit_rate_at_10": hits / len(values), "mrr_at_10": float(reciprocal.mean()), "low": low, "high": high})
    pairs = [paired(a, b, hits=(ranks[a] < places, ranks[b] < places), readers=readers) for a, b in combinations(ranks, 2)]
    inside = np.isfinite(next(iter(ranks.values()))) if ranks else np.zeros(0, bool)
    told = [{key: getattr(pair, key) for key in Compared.__slots__} for pair in pairs]
    return {"ceiling": float(inside.mean()) if len(inside) else None, "arms": arms, "pairs": told}


def paired(a: str, b: str, *, hits: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]], readers: npt.NDArray[np.int64]) -> Compared:
    """Compare two arms on the same queries: exact McNemar, and the difference with its interval clustered by reader."""
    first, second = hits
    wins, losses = int((first & ~second).sum()), int((second & ~first).sum())
    gaps = first.astype(np.float64) - second
    mean = float(gaps.mean())
    _, codes = np.unique(readers, return_inverse=True)
    clustered = np.bincount(codes, weights=gaps - mean)
    half = Z95 * math.sqrt(float((clustered**2).sum())) / len(gaps)
    return Compared(a, b, wins, losses, mcnemar(wins, losses), mean, mean - half, mean + half)


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


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927).

    Examples
    --------
    >>> [round(bound, 4) for bound in wilson(5, 10)]
    [0.2366, 0.7634]
    """
    share, spread = hits / n, Z95**2 / n
    middle, half = share + spread / 2, Z95 * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)
