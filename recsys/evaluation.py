"""Offline evaluation: rankings against clicks that came later, with paired intervals."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr

from experiments.errors import ArmError, DataError, nearest
from recsys.factors import Factors
from recsys.fit_als import AlsRecipe, article_vectors
from recsys.importers.log import parse_log
from recsys.interactions import Interactions
from recsys.next_click import HEAT_SHARE, SMOOTHING, Clicks, Hour, clicks, hours

__all__ = ["RANKINGS", "Compared", "compare", "evaluate", "next_click_ranks", "paired"]

RANKINGS = ("newest", "heat", "co_read", "co_read_heat", "als", "last_hour")
PLACES = 10
SERVED_SESSIONS = 10  # a co-read pair is shown to readers from this many sessions on
REFIT_H = 6
Z95 = 1.959963984540054
Floats = npt.NDArray[np.float64]
Scorer = Callable[[Hour], npt.NDArray[Any]]


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


def evaluate(
    log: Path, *, format: str = "globo", arms: Sequence[str] = RANKINGS, span: tuple[int, int] = (120, 168), seed: int = 42
) -> dict[str, Any]:
    """Return the next-click comparison of rankings on a log, as ``presslab evaluate --json`` prints it.

    Parameters
    ----------
    arms : of :data:`RANKINGS`; ``heat_4`` is heat with a half-life of 4 h. ``co_read_heat`` is scored with every pair
        (k = 1) and again with the pairs that are shown to readers (k = 10).
    span : evaluation hours [from, to), counted from the first click of the log.

    Raises
    ------
    ArmError
        A ranking is unknown.
    DataError
        The log has no query in the span.
    """
    parsed = parse_log(format, log)
    data = clicks(parsed.table)
    ranks, readers, seconds = next_click_ranks(data, arms, span=span, seed=seed)
    told = compare(ranks, readers)
    for row in told["arms"]:
        row["seconds"] = round(seconds[row["arm"]], 3)
        row["co_read_sessions"] = {"co_read": 1, "co_read_heat": 1, f"co_read_heat_k{SERVED_SESSIONS}": SERVED_SESSIONS}.get(row["arm"])
    head = {"protocol": "next-click", "split": "time", "log": log.name, "from": span[0], "to": span[1], "seed": seed}
    return {**head, "queries": len(readers), **told}


def next_click_ranks(
    data: Clicks, arms: Sequence[str], *, span: tuple[int, int], seed: int = 42
) -> tuple[dict[str, Floats], npt.NDArray[np.int64], dict[str, float]]:
    """Return per arm the rank of every query's click (0 = first, infinite = not among the candidates), the readers and the seconds."""
    scorers = _scorers(data, arms, seed)
    ranks: dict[str, list[Floats]] = {name: [] for name in scorers}
    seconds = dict.fromkeys(scorers, 0.0)
    readers: list[npt.NDArray[np.int64]] = []
    for hour in hours(data, *span):
        if not len(hour.queries) or not len(hour.candidates):
            continue
        readers.append(data.reader[hour.queries])
        for name, scorer in scorers.items():
            started = time.perf_counter()
            ranks[name].append(hour.ranks(scorer(hour)))
            seconds[name] += time.perf_counter() - started
    if not readers:
        last = float(data.hour[-1]) if len(data.hour) else 0.0
        raise DataError(f"no click in hours {span[0]} to {span[1]} has an earlier one in its session; the log ends at hour {last:.0f}.")
    return {name: np.concatenate(parts) for name, parts in ranks.items()}, np.concatenate(readers), seconds


def _scorers(data: Clicks, arms: Sequence[str], seed: int) -> dict[str, Scorer]:
    known: dict[str, Scorer] = {
        "newest": lambda hour: data.first_seen[hour.candidates],
        "heat": lambda hour: hour.heat(1.0),
        "last_hour": lambda hour: hour.clicks_in(1.0),
        "co_read": _co_read,
        "co_read_heat": lambda hour: _co_read_heat(hour, 1),
        f"co_read_heat_k{SERVED_SESSIONS}": lambda hour: _co_read_heat(hour, SERVED_SESSIONS),
    }
    chosen: dict[str, Scorer] = {}
    for name in arms:
        if name == "als":
            chosen[name] = _Als(data, AlsRecipe(window_h=72.0, half_life_h=24.0), seed)
        elif name.startswith("heat_") and name[5:].replace(".", "", 1).isdecimal() and float(name[5:]) > 0:
            chosen[name] = lambda hour, half_life_h=float(name[5:]): hour.heat(half_life_h)  # type: ignore[misc]
        elif name in known:
            chosen[name] = known[name]
        else:
            raise ArmError(f"no ranking is called '{name}'; {nearest(name, [*known, 'als'])}")
        if name == "co_read_heat":
            chosen[f"co_read_heat_k{SERVED_SESSIONS}"] = known[f"co_read_heat_k{SERVED_SESSIONS}"]
    return chosen


def _co_read(hour: Hour) -> Floats:
    heat = hour.heat(1.0)
    return np.asarray(hour.co_reads()[0] + 1e-9 * heat / max(heat.sum(), 1e-12))


def _co_read_heat(hour: Hour, least_sessions: int) -> Floats:
    together, total = hour.co_reads(least_sessions)
    heat = hour.heat(1.0)
    return np.asarray(together / (total[:, None] + SMOOTHING) + HEAT_SHARE * heat / max(heat.sum(), 1e-12))


class _Als:
    """Refit every six hours on the last 72 h; fold in the reader's clicks of the window and of the live session."""

    def __init__(self, data: Clicks, recipe: AlsRecipe, seed: int) -> None:
        self.data, self.recipe, self.seed = data, recipe, seed
        self.window_h, self.half_life_h = float(recipe.window_h or 72), float(recipe.half_life_h or 24)
        self.fitted_at = -1
        self.factors: Factors | None = None

    def __call__(self, hour: Hour) -> Floats:
        if self.factors is None or hour.at - self.fitted_at >= REFIT_H:
            self.factors, self.fitted_at = self._fit(hour), hour.at
        scores = np.full((len(hour.queries), len(hour.candidates)), -np.inf)
        known = self.factors.known[hour.candidates]
        for row, query in enumerate(hour.queries):
            read = self._reads(int(query), hour.at)
            reader = self.factors.fold_in(
                self.data.article[read], 0.5 ** (np.maximum(hour.at - self.data.hour[read], 0) / self.half_life_h)
            )
            if reader is not None:
                scores[row, known] = reader.scores(hour.candidates[known])
        return scores

    def _reads(self, query: int, at: int) -> npt.NDArray[np.int64]:
        order, starts = self.data.by_reader
        mine = order[starts[self.data.reader[query]] : starts[self.data.reader[query] + 1]]
        return mine[(mine < query) & (self.data.hour[mine] >= at - self.window_h)]

    def _fit(self, hour: Hour) -> Factors:
        from scipy.sparse import coo_matrix

        span = slice(int(np.searchsorted(self.data.hour, hour.at - self.window_h)), hour.now)
        readers, rows = np.unique(self.data.reader[span], return_inverse=True)
        weight = 0.5 ** ((hour.at - self.data.hour[span]) / self.half_life_h)
        matrix = coo_matrix((weight, (rows, self.data.article[span])), shape=(len(readers), self.data.articles)).tocsr().astype(np.float32)
        vectors = article_vectors(Interactions(matrix, readers, float(hour.at)), self.recipe, seed=self.seed)
        return Factors(vectors, self.recipe.alpha, self.recipe.regularization)


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


def hit_rate(ranks: Iterable[float], *, places: int = PLACES) -> float:
    """Share of ranks among the first ``places``."""
    values = np.fromiter(ranks, float)
    return float((values < places).mean())
