"""Simulated readers of the calibration: how they behave, and the values a report makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.effect import Value, arm_value
from analysis.moments import Moments
from analysis.skew import Skew

__all__ = [
    "ARTICLES",
    "CONVERSIONS",
    "KEYS",
    "LEVEL",
    "MINUTES",
    "RARE",
    "SLOTS",
    "VISITS",
    "Process",
    "batches",
    "moments",
    "skews",
    "sums_of",
    "value",
    "values",
]

Ints = npt.NDArray[np.int64]
Readers = tuple[Ints, Ints]  # numerators and denominators, (runs, readers)
LEVEL = 0.95
KEYS = ("numerator", "denominator")
WHOLE = {0: 1.0}  # one phase
BATCH = 400_000  # readers at once


@dataclass(frozen=True, slots=True)
class Process:
    """How readers behave: ``draw`` gives (runs, readers) of them, with the metric at ``mean`` times the given ratio.

    ``zero_or_one``: every reader does it or not. ``per_reader``: the denominator is 1 for every reader.
    """

    name: str
    mean: float
    draw: Callable[[np.random.Generator, tuple[int, int], float], Readers]
    zero_or_one: bool = False
    per_reader: bool = False


def visits(rng: np.random.Generator, shape: tuple[int, int], ratio: float) -> Readers:
    """Articles per session of readers who differ in how often and how much they read; the mean is 2.5 times ``ratio``."""
    sessions = 1 + rng.poisson(rng.gamma(0.7, 1.0, shape))
    appetite = rng.gamma(2.0, 0.5, shape)
    return sessions + rng.poisson(sessions * appetite * (2.5 * ratio - 1.0)), sessions


def articles(rng: np.random.Generator, shape: tuple[int, int], ratio: float) -> Readers:
    """Articles per reader, of the same readers: 4.25 times ``ratio``."""
    views, _ = visits(rng, shape, ratio)
    return views, np.ones(shape, np.int64)


def minutes(rng: np.random.Generator, shape: tuple[int, int], ratio: float) -> Readers:
    """Skewed reading time per article, in seconds, of readers with very different numbers of articles."""
    articles = 1 + rng.poisson(rng.gamma(0.5, 4.0, shape))
    return (60 * ratio * articles * rng.lognormal(-0.32, 0.8, shape)).astype(np.int64), articles


def share(rate: float) -> Callable[[np.random.Generator, tuple[int, int], float], Readers]:
    """A share ``rate`` of the readers does it, times the ratio."""

    def draw(rng: np.random.Generator, shape: tuple[int, int], ratio: float) -> Readers:
        return (rng.random(shape) < rate * ratio).astype(np.int64), np.ones(shape, np.int64)

    return draw


def slots(rng: np.random.Generator, shape: tuple[int, int], ratio: float) -> Readers:
    """Clicks per filled slot, where nine in ten readers had none: 0.25 times ``ratio``."""
    filled = np.where(rng.random(shape) < 0.1, 1 + rng.poisson(2.0, shape), 0)
    return rng.binomial(filled, np.minimum(1.0, ratio * rng.beta(2.0, 6.0, shape))), filled


VISITS = Process("views per session", 2.5, visits)
ARTICLES = Process("articles per reader", 4.25, articles, per_reader=True)
MINUTES = Process("dwell per view", 60.0, minutes)
CONVERSIONS = Process("conversion", 0.2, share(0.2), zero_or_one=True, per_reader=True)
SLOTS = Process("clicks per filled slot, few have one", 0.25, slots)
RARE = Process("rare event", 0.03, share(0.03), zero_or_one=True, per_reader=True)


def batches(
    rng: np.random.Generator, process: Process, sizes: Sequence[int], *, ratios: Sequence[float], runs: int
) -> Iterator[list[Readers]]:
    """Yield simulated arms in batches that fit into memory."""
    batch = max(1, BATCH // sum(sizes))
    for start in range(0, runs, batch):
        n = min(batch, runs - start)
        yield [process.draw(rng, (n, size), ratio) for size, ratio in zip(sizes, ratios, strict=True)]


def sums_of(readers: Readers) -> Ints:
    """Return (runs, 5): sums of numerator and denominator, of their squares and of their product."""
    top, bottom = readers
    return np.stack([top.sum(1), bottom.sum(1), (top * top).sum(1), (bottom * bottom).sum(1), (top * bottom).sum(1)], axis=1)


def moments(n: int, sums: Sequence[int]) -> Moments:
    """Return the moments of ``n`` readers with one row of :func:`sums_of`."""
    a, b, aa, bb, ab = sums
    return Moments.from_sums(n, KEYS, (a, b), ((aa, ab), (ab, bb)))


def value(found: Moments) -> Value:
    """Return the value of an arm as a report makes it."""
    return arm_value({("arm", 0): found}, "arm", numerator=KEYS[0], denominator=KEYS[1], shares=WHOLE)


def values(readers: Readers) -> list[Value]:
    """Return the value of an arm in every run."""
    n = readers[0].shape[1]
    return [value(moments(n, row)) for row in sums_of(readers).tolist()]


def skews(treated: Readers, control: Readers) -> list[Skew]:
    """Pooled skew of every run, as :func:`analysis.skew.skew_of` computes it from distinct rows."""
    parts = []
    for top, bottom in (treated, control):
        ratio = top.sum(1, keepdims=True) / bottom.sum(1, keepdims=True)
        parts.append((top / ratio - bottom) / bottom.mean(1, keepdims=True))
    u = np.concatenate(parts, axis=1)
    n = u.shape[1]
    return [Skew(float(v), float(t)) for v, t in zip((u**2).sum(1) / (n - 2), (u**3).mean(1), strict=True)]
