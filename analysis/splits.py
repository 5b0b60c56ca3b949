"""A/A on a real log: readers who saw the same site, split at random again and again, must differ as rarely as promised.

Readers with the same figures are interchangeable, so a split of a million readers is one binomial draw per distinct
figure; the distribution is that of tossing a coin for every reader, at a thousandth of the cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from analysis.effect import Value, arm_value, compare
from analysis.moments import Moments
from experiments.errors import DataError

__all__ = ["METRICS", "Figures", "SplitRow", "naive_alarms", "reader_figures", "split_alarms"]

Ints = npt.NDArray[np.int64]
KEYS = ("numerator", "denominator")
LONG = 4  # views from which a session counts as long
METRICS: Mapping[str, tuple[str, str]] = {
    "views per session": ("views", "sessions"),
    "sessions per reader": ("sessions", "ones"),
    "share of long sessions": ("long", "sessions"),
}
BATCH = 500


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """What readers did, one entry per distinct combination.

    Parameters
    ----------
    views, sessions, long : (c,) per reader: article views, sessions, sessions of four views or more.
    squares : (c,) sum over the reader's sessions of squared views (for the naive test).
    readers : (c,) readers with these figures.
    """

    views: Ints
    sessions: Ints
    long: Ints
    squares: Ints
    readers: Ints

    @property
    def ones(self) -> Ints:
        return np.ones_like(self.views)


@dataclass(frozen=True, slots=True)
class SplitRow:
    """One metric over all splits: share of alarms, downwards and upwards, and the simulation error of the share."""

    metric: str
    readers: int
    splits: int
    false_positive: float
    low_tail: float
    high_tail: float
    mc_error: float
    passed: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the row in the shape of ``presslab calibrate``."""
        return {
            "estimator": "A/A on a real log", "process": self.metric, "readers": self.readers, "false_positive": self.false_positive,
            "low_tail": self.low_tail, "high_tail": self.high_tail, "coverage": 1 - self.false_positive, "power": None,
            "mc_error": self.mc_error, "pass": self.passed,
        }  # fmt: skip


def reader_figures(reader: npt.ArrayLike, session: npt.ArrayLike) -> Figures:
    """Count what every reader did.

    Parameters
    ----------
    reader, session : (n,) codes, one entry per article view; a session belongs to one reader.

    Raises
    ------
    DataError
        There is no view.

    Examples
    --------
    >>> found = reader_figures(["a", "a", "b"], [1, 1, 2])
    >>> found.views.tolist(), found.readers.tolist()
    ([1, 2], [1, 1])
    """
    readers, sessions = np.asarray(reader), np.asarray(session)
    if not len(readers):
        raise DataError("the log has no view.")
    _, who = np.unique(readers, return_inverse=True)
    _, first, which = np.unique(sessions, return_index=True, return_inverse=True)
    views = np.bincount(which)
    owner = who[first]
    size = int(who.max()) + 1
    columns = (views, np.ones_like(views), (views >= LONG).astype(np.int64), views * views)
    rows = np.stack([np.bincount(owner, weights=c, minlength=size) for c in columns], axis=1).astype(np.int64)
    distinct, count = np.unique(rows, axis=0, return_counts=True)
    views, one, long, squares = np.ascontiguousarray(distinct.T)
    return Figures(views, one, long, squares, count.astype(np.int64))


def _halves(figures: Figures, *, splits: int, rng: np.random.Generator) -> Iterator[tuple[Ints, Ints]]:
    """Yield (b, c) counts of readers in the one half and in the other."""
    for start in range(0, splits, BATCH):
        drawn = rng.binomial(figures.readers, 0.5, (min(BATCH, splits - start), len(figures.readers)))
        yield drawn, figures.readers - drawn


def split_alarms(figures: Figures, *, splits: int, level: float = 0.95, seed: int = 1) -> list[SplitRow]:
    """Return false alarms of the report's own comparison over random halves of the readers, per metric of :data:`METRICS`.

    A row passes when the share of alarms and each tail lie within three simulation errors of what was promised.
    """
    rng = np.random.default_rng(seed)
    tails = {name: [0, 0] for name in METRICS}
    for halves in _halves(figures, splits=splits, rng=rng):
        for name, columns in METRICS.items():
            top, bottom = (getattr(figures, column) for column in columns)
            sides = [_values(half, top, bottom) for half in halves]
            for one, two in zip(*sides, strict=True):
                found = compare(one, two, level=level).absolute
                if found is not None:
                    tails[name][0] += found.high < 0
                    tails[name][1] += found.low > 0
    return [_row(name, int(figures.readers.sum()), splits, low, high, alpha=1 - level) for name, (low, high) in tails.items()]


def _row(name: str, readers: int, splits: int, low: int, high: int, *, alpha: float) -> SplitRow:
    rate, error = (low + high) / splits, math.sqrt(alpha * (1 - alpha) / splits)
    tail_error = math.sqrt(alpha / 2 * (1 - alpha / 2) / splits)
    passed = abs(rate - alpha) <= 3 * error and all(abs(tail / splits - alpha / 2) <= 3 * tail_error for tail in (low, high))
    return SplitRow(name, readers, splits, rate, low / splits, high / splits, error, passed)


def _values(counts: Ints, top: Ints, bottom: Ints) -> Iterator[Value]:
    features = np.stack([np.ones_like(top), top, bottom, top * top, top * bottom, bottom * bottom], axis=1)
    for n, a, b, aa, ab, bb in (counts @ features).tolist():
        moments = Moments.from_sums(n, KEYS, (a, b), ((aa, ab), (ab, bb)))
        yield arm_value({("half", 0): moments}, "half", numerator=KEYS[0], denominator=KEYS[1], shares={0: 1.0})


def naive_alarms(figures: Figures, *, splits: int, level: float = 0.95, seed: int = 1) -> float:
    """Return the share of alarms of the test that takes sessions for independent: what not to do."""
    rng = np.random.default_rng(seed)
    features = np.stack([figures.sessions, figures.views, figures.squares], axis=1)
    alarms = 0
    for halves in _halves(figures, splits=splits, rng=rng):
        (n1, v1, q1), (n0, v0, q0) = ((counts @ features).T.astype(np.float64) for counts in halves)
        difference = v1 / n1 - v0 / n0
        variance = (q1 / n1 - (v1 / n1) ** 2) / (n1 - 1) + (q0 / n0 - (v0 / n0) ** 2) / (n0 - 1)
        alarms += int((2 * ndtr(-np.abs(difference) / np.sqrt(variance)) < 1 - level).sum())
    return alarms / splits
