"""Offline evaluation: rankings against clicks that came later, with paired intervals."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.errors import ArmError, DataError, nearest
from recsys import fit_als
from recsys.comparison import compare
from recsys.factors import Factors
from recsys.fit_als import AlsRecipe, article_vectors
from recsys.importers.log import LogFile
from recsys.importers.table import Layout
from recsys.interactions import Interactions
from recsys.next_click import HEAT_SHARE, SMOOTHING, Clicks, Hour, clicks, hours, scored
from recsys.published import published
from recsys.ranker_protocol import ranker
from recsys.weekly import weekly

__all__ = ["PROTOCOLS", "RANKINGS", "evaluate", "next_click_ranks"]

RANKINGS = ("newest", "heat", "co_read", "co_read_heat", "als", "last_hour")
SERVED_SESSIONS = 10  # a co-read pair is shown to readers from this many sessions on
REFIT_H = 6
Floats = npt.NDArray[np.float64]
Scorer = Callable[[Hour], npt.NDArray[Any]]


def evaluate(
    log: Path,
    *,
    protocol: str = "next-click",
    arms: Sequence[str] | None = None,
    since: float | None = None,
    until: float | None = None,
    signals_minutes: int | None = None,
    layout: Layout = Layout(),
) -> dict[str, Any]:
    """Return the comparison of rankings on a log, as ``presslab evaluate --json`` prints it, and what of the log was used for it.

    Parameters
    ----------
    protocol : of :data:`PROTOCOLS`. arms : rankings of that protocol; None takes all it compares by default.
    since, until : evaluation hours [since, until), counted from the first click of the log; whole hours; None as the protocol has them.
    signals_minutes : protocol ``ranker`` only: how often all arms' signals are computed, 60 by default.
    layout : how a table of reads is written.

    Raises
    ------
    ArmError
        A ranking is unknown.
    DataError
        The protocol is unknown or has no such option, an hour is no number, the file is not a log, or the log has no query in the span.
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"no protocol is called '{protocol}'; {nearest(protocol, PROTOCOLS)}")
    if not all(hour is None or math.isfinite(hour) for hour in (since, until)):
        raise DataError("--from and --to are hours counted from the first click, such as 120.")
    file = LogFile(log, layout)
    if signals_minutes is None:
        told = PROTOCOLS[protocol](file, arms, since, until)
    elif protocol == "ranker":
        told = ranker(file, arms, since, until, signals_minutes=signals_minutes)
    else:
        raise DataError(f"protocol '{protocol}' knows no minutes between signals.", "Leave them out, or choose `ranker`.")
    used = file.parsed
    return told | {"read": used.read, "kept": used.table.num_rows, "refused": used.reasons, "notes": list(used.notes)}


def next_click(log: LogFile, arms: Sequence[str] | None, since: float | None, until: float | None) -> dict[str, Any]:
    """Return protocol A on a log.

    Parameters
    ----------
    arms : of :data:`RANKINGS`; ``heat_4`` is heat with a half-life of 4 h. ``co_read_heat`` is scored with every pair
        (k = 1) and again with the pairs that are shown to readers (k = 10).
    """
    span = (math.floor(120 if since is None else since), math.ceil(168 if until is None else until))
    data = clicks(log.parsed.table)
    ranks, readers, seconds = next_click_ranks(data, arms or RANKINGS[:5], span=span)
    told = compare(ranks, readers)
    for row in told["arms"]:
        row["seconds"] = round(seconds[row["arm"]], 3)
        row["co_read_sessions"] = {"co_read": 1, "co_read_heat": 1, f"co_read_heat_k{SERVED_SESSIONS}": SERVED_SESSIONS}.get(row["arm"])
    first, last = scored(data, *span)
    head = {"protocol": "next-click", "split": "time", "log": log.name, "from": first, "to": last}
    return {**head, "queries": len(readers), **told}


PROTOCOLS: Mapping[str, Callable[[LogFile, Sequence[str] | None, float | None, float | None], dict[str, Any]]] = {
    "next-click": next_click,
    "ranker": ranker,
    "weekly": weekly,
    "published": published,
}


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
            chosen[name] = _Als(data, fit_als.BUSY, seed)
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
        self.window_h, self.half_life_h = float(recipe.window_h or 0), recipe.half_life_h
        self.fitted_at = -1.0
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

    def _reads(self, query: int, at: float) -> npt.NDArray[np.int64]:
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
        return Factors(vectors, self.recipe.alpha, float(self.recipe.regularization or 0))
