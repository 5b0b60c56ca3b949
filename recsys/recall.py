"""Recall, nDCG and reciprocal rank at ten for questions that have several right answers, compared reader by reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.comparison import PLACES, gap_range, mcnemar, share_range

__all__ = ["Asked", "at_ten", "compare_recall", "places_of"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a protocol asks: queries, each with one or more articles that the reader went on to read.

    Parameters
    ----------
    query : (n,) int64, the query of each article wanted, ascending from 0. reader : (queries,) int64 codes.
    cut : (queries,) float64, the day of each query's cut; one value when there is a single split.
    slices : name -> (queries,) bool, parts to report by themselves.
    """

    query: Ints
    reader: Ints
    cut: Floats
    slices: Mapping[str, Bools] = field(default_factory=dict)


def places_of(scores: Floats, rows: Ints, wanted: Ints) -> Floats:
    """Return the rank of each wanted article in its row: better articles plus half the ties, 0 = first.

    Parameters
    ----------
    scores : (queries, articles), higher is better; -inf leaves an article out (rank: infinite).
    rows, wanted : (n,) row and column of each wanted article.

    Examples
    --------
    >>> places_of(np.array([[3.0, 1.0, 1.0, -np.inf]]), np.array([0, 0, 0]), np.array([0, 2, 3])).tolist()
    [0.0, 1.5, inf]
    """
    found = np.full(len(rows), np.inf)
    for start in range(0, len(rows), 1_000):  # rows are copied; a thousand at a time keeps the copy small
        some = slice(start, start + 1_000)
        line = scores[rows[some]]
        value = line[np.arange(len(line)), wanted[some]][:, None]
        better, equal = (line > value).sum(axis=1), (line == value).sum(axis=1)
        found[some] = np.where(np.isfinite(value[:, 0]), better + 0.5 * (equal - 1), np.inf)
    return found


def at_ten(ranks: Floats, query: Ints) -> tuple[Floats, Floats, Floats]:
    """Return per query recall, nDCG and reciprocal rank of the first hit, all within the first ten places.

    Recall divides by ``min(10, wanted)``: a reader who went on to read twelve articles can be served ten of them.

    Examples
    --------
    >>> recall, ndcg, reciprocal = at_ten(np.array([1.0, 50.0, 0.0]), np.array([0, 0, 1]))
    >>> recall.tolist(), ndcg.round(3).tolist(), reciprocal.tolist()
    ([0.5, 1.0], [0.387, 1.0], [0.5, 1.0])
    """
    most = np.minimum(np.bincount(query), PLACES)
    hit = ranks < PLACES
    place = np.where(hit, ranks, 0.0)
    ideal = np.cumsum(1 / np.log2(np.arange(PLACES) + 2.0))[most - 1]
    recall = np.bincount(query, weights=hit) / most
    ndcg = np.bincount(query, weights=hit / np.log2(place + 2.0)) / ideal
    reciprocal = np.zeros(len(most))
    np.maximum.at(reciprocal, query, hit / (place + 1.0))
    return recall, ndcg, reciprocal


def compare_recall(ranks: Mapping[str, Floats], asked: Asked) -> dict[str, Any]:
    """Return arms and pairs as ``evaluate --json`` prints them; intervals draw readers whole, and weeks where there are several.

    ``wins`` and ``losses`` of a pair count readers, each with all queries together, and ``p`` is their exact sign test.
    With more than one cut, ``cuts_won`` and ``cuts_lost`` count cuts: readers of one week read the same articles, so that
    the weeks, not the readers, are the smaller sample. A range says what to expect of other readers in other weeks.
    """
    figures = {name: at_ten(values, asked.query) for name, values in ranks.items()}
    arms = []
    for name, (recall, ndcg, reciprocal) in figures.items():
        low, high = share_range(recall, asked.reader, weeks=asked.cut)
        means = {"recall_at_10": recall.mean(), "ndcg_at_10": ndcg.mean(), "mrr_at_10": reciprocal.mean()}
        row: dict[str, Any] = {"arm": name, **{key: float(value) for key, value in means.items()}}
        row |= {"low": low, "high": high}
        row |= {part: float(recall[inside].mean()) if inside.any() else None for part, inside in asked.slices.items()}
        arms.append(row)
    return {"arms": arms, "pairs": [_pair(a, b, figures[a][0] - figures[b][0], asked) for a, b in combinations(figures, 2)]}


def _pair(a: str, b: str, gaps: Floats, asked: Asked) -> dict[str, Any]:
    low, high = gap_range(gaps, asked.reader, weeks=asked.cut)
    wins, losses = _won(gaps, asked.reader)
    told = {"a": a, "b": b, "wins": wins, "losses": losses, "p": mcnemar(wins, losses)}
    told |= {"difference": float(gaps.mean()), "low": low, "high": high}
    if len(np.unique(asked.cut)) > 1:
        told["cuts_won"], told["cuts_lost"] = _won(gaps, asked.cut)
    return told


def _won(gaps: Floats, group: npt.NDArray[Any]) -> tuple[int, int]:
    _, codes = np.unique(group, return_inverse=True)
    total = np.bincount(codes, weights=gaps).round(9)  # 1/3 + 2/3 - 1 is no win
    return int((total > 0).sum()), int((total < 0).sum())
