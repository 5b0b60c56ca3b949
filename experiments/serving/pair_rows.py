"""Which articles sessions read together: sparse rows of decayed pairs, shown only from enough sessions on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["PairRows", "PairRules", "crowded", "packed", "pair_rows"]

Ints = npt.NDArray[np.int64]
SHRINK = 5.0


@dataclass(frozen=True, slots=True)
class PairRules:
    """How a session's reads become pairs.

    Parameters
    ----------
    half_life_h : of a pair, hours since its later read. backwards : weight of j -> i beside i -> j.
    steps : reads up to this many places apart are a pair; each further place weighs ``step_decay`` of the one before.
    least_sessions : a pair (either direction) shows only when at least this many sessions contain it (privacy; DESIGN §9).
    """

    half_life_h: float
    backwards: float
    steps: int = 1
    step_decay: float = 1.0
    least_sessions: int = 10


@dataclass(frozen=True, slots=True)
class PairRows:
    """A sparse matrix of pairs, one row per article (CSR).

    indptr (n+1,) int32, articles (nnz,) int32, weights (nnz,) float32; total : (n,) float32, row sums.
    """

    indptr: npt.NDArray[np.int32]
    articles: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]
    total: npt.NDArray[np.float32]

    def of(self, article: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Positions read together with ``article`` and their weights."""
        span = slice(self.indptr[article], self.indptr[article + 1])
        return self.articles[span], self.weights[span]

    def shares(self, article: int, among: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """Share of the article's pairs that went to each of ``among`` (ascending), shrunk by five: ``C_ij / (Σ_j C_ij + 5)``."""
        columns, weights = self.of(article)
        found = np.zeros(len(among))
        if len(among):
            place = np.minimum(among.searchsorted(columns), len(among) - 1)
            inside = among[place] == columns
            found[place[inside]] = weights[inside] / (float(self.total[article]) + SHRINK)
        return found

    def arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays to publish, each called ``name_part``."""
        return {f"{name}_{part.name}": getattr(self, part.name) for part in fields(self)}

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> PairRows:
        return cls(**{part.name: arrays[f"{name}_{part.name}"] for part in fields(cls)})


def packed(*columns: Ints) -> Ints:
    """Return one number per row that orders rows of codes as their columns do: sorting it is many times as fast as sorting rows.

    Examples
    --------
    >>> packed(np.array([2, 1, 2]), np.array([5, 9, 7])).tolist()
    [5, 4, 7]
    """
    key = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        low = column.min() if len(column) else 0
        key = key * (column.max(initial=low) - low + 1) + (column - low)
    return key


def crowded(key: Ints, least: int) -> npt.NDArray[np.intp]:
    """Return places of rows: all whose key occurs at least ``least`` times, few others. Counting keys by their last bits takes no sorting.

    Examples
    --------
    >>> crowded(np.array([7, 7, 0, 7]), 3).tolist()
    [0, 1, 3]
    """
    bucket = key & ((2 << len(key).bit_length()) - 1)
    return np.flatnonzero(np.bincount(bucket)[bucket] >= least)


def pair_rows(reads: tuple[Ints, npt.NDArray[Any], npt.NDArray[np.float64]], n: int, *, at: float, rules: PairRules) -> PairRows:
    """Return the decayed pairs of sessions.

    Parameters
    ----------
    reads : session codes, article positions and unix seconds, of reads before ``at``, sorted by session, then time. n : articles.
    """
    session, article, when = reads[0], reads[1].astype(np.int64), reads[2]
    firsts = [
        np.flatnonzero((session[step:] == session[:-step]) & (article[step:] != article[:-step])) for step in range(1, rules.steps + 1)
    ]
    first = np.concatenate(firsts)
    step = np.repeat(np.arange(1, rules.steps + 1), [len(some) for some in firsts])
    if rules.least_sessions > 1:
        shown = _often_enough(article[first], article[first + step], session[first], least=rules.least_sessions)
        first, step = first[shown], step[shown]
    source, target = article[first], article[first + step]
    weight = 0.5 ** ((at - when[first + step]) / 3600.0 / rules.half_life_h) * rules.step_decay ** (step - 1)
    keys, values = source * n + target, weight
    if rules.backwards:
        keys, values = np.concatenate([keys, target * n + source]), np.concatenate([values, rules.backwards * weight])
    unique, inverse = np.unique(keys, return_inverse=True)
    summed = np.bincount(inverse, weights=values, minlength=len(unique))
    row = unique // max(n, 1)
    indptr = np.searchsorted(row, np.arange(n + 1)).astype(np.int32)
    total = np.bincount(row, weights=summed, minlength=n).astype(np.float32)
    return PairRows(indptr, (unique % max(n, 1)).astype(np.int32), summed.astype(np.float32), total)


def _often_enough(source: Ints, target: Ints, session: Ints, *, least: int) -> npt.NDArray[np.intp]:
    """Places of the rows whose pair (either direction) at least ``least`` sessions contain."""
    low, high = np.minimum(source, target), np.maximum(source, target)
    rows = crowded(low * 2_654_435_761 + high, least)  # a pair in fewer rows is in fewer sessions
    low, high, session = low[rows], high[rows], session[rows]
    number = np.cumsum(np.bincount(np.concatenate([low, high])) > 0)  # of articles that occur: a pair and a session fit into 64 bits
    pair, sessions = number[low] * (number.max(initial=0) + 1) + number[high], int(session.max(initial=0)) + 1
    visits = np.sort(pair * sessions + session)
    visited = visits[np.diff(visits, prepend=-1) > 0] // sessions  # a session counts once per pair
    starts = np.flatnonzero(np.diff(visited, prepend=-1))
    often = visited[starts[np.diff(np.append(starts, len(visited))) >= least]]
    return rows[np.isin(pair, often)]
