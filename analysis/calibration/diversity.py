"""Variety of articles: do the ranges by bucket jackknife raise as few false alarms as they say?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from analysis.calibration.figures import Row, tails_row
from analysis.calibration.readers import LEVEL
from analysis.diversity import diversity

__all__ = ["diversity_rows"]

ARTICLES, TOPICS, PLACES = 300, 6, 6
BUCKETS = 200
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Shown:
    arms: dict[str, tuple[Integers, Integers, Integers]]
    catalogue: int = ARTICLES
    buckets: int = BUCKETS


def diversity_rows(*, readers: int, runs: int) -> list[Callable[[np.random.Generator], Row]]:
    """Return the rows of coverage and Gini coefficient of two arms that choose alike; ``readers`` of both together."""
    return [partial(_row, measure=measure, readers=readers, runs=runs) for measure in ("coverage", "gini")]


def _row(rng: np.random.Generator, *, measure: str, readers: int, runs: int) -> Row:
    low = high = 0
    for _ in range(runs):
        sides = {arm: _arm(rng, readers // 2) for arm in ("front", "als")}
        found = diversity(_Shown(sides), dict.fromkeys(sides, readers // 2), [("als", "front")], level=LEVEL)
        change = next(pair.contrast.absolute for pair in found.pairs if pair.measure == measure)
        low, high = low + (change is not None and change.high < 0), high + (change is not None and change.low > 0)
    name = {"coverage": "coverage, bucket jackknife", "gini": "Gini coefficient, bucket jackknife"}[measure]
    return tails_row(name, "articles shown", readers, tails=(low, high), runs=runs, coverage=1 - (low + high) / runs, exact=False)


def _arm(rng: np.random.Generator, readers: int) -> tuple[Integers, Integers, Integers]:
    """Places of readers who come more or less often, each with topics of their own, among articles of unequal rank."""
    taste = rng.dirichlet(np.full(TOPICS, 0.5), readers)[:, np.arange(ARTICLES) % TOPICS] / (1 + np.arange(ARTICLES))
    often = 1 + rng.poisson(rng.gamma(1.5, 2.5, readers))
    counts = np.zeros((BUCKETS, ARTICLES), np.int64)
    np.add.at(counts, rng.integers(0, BUCKETS, readers), rng.multinomial(PLACES * often, taste / taste.sum(axis=1, keepdims=True)))
    bucket, article = np.nonzero(counts)
    return bucket, article, counts[bucket, article]
