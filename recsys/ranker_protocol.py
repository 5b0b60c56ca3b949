"""Protocol B: the ranker, trained on two days of a real log and asked about the hours after them.

Candidates and features come from the code that serves readers (:mod:`recsys.candidates`, :mod:`recsys.features`); only the
log plays the site. Every arm ranks the same candidates, so what differs is the order. Protocol B of RECOMMENDING §10.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.errors import ArmError, DataError, nearest
from experiments.serving.recent import before_page
from experiments.serving.recommender import Catalogue, Context, discover
from experiments.serving.signals import HOUR, Reads, SignalRules, build_signals
from recsys.arms.als import folded
from recsys.candidates import Union, candidates
from recsys.comparison import compare
from recsys.factors import Factors
from recsys.features import FEATURES, GROUPS, compute_features
from recsys.fit_als import AlsRecipe, als_factors
from recsys.fit_ranked import Examples, RankedRecipe, drawn, fit_trees
from recsys.importers.log import LogFile
from recsys.interactions import to_reads
from recsys.next_click import HEAT_SHARE, Clicks, Hour, clicks, hours, moments, scored

__all__ = ["RANKER_ARMS", "Asked", "World", "ranker", "ranker_ranks", "world"]

RANKER_ARMS = (
    "ranked",
    "ranked_without_als",
    "ranked_without_context",
    "ranked_without_recent",
    "ranked_without_co_read",
    "co_read_heat",
    "co_read_last_hour",
    "last_hour",
    "als",
)
WITHOUT: Mapping[str, tuple[str, ...]] = {"ranked": (), **{f"ranked_without_{name}": group for name, group in GROUPS.items()}}
FIRST_H, LAST_H, TRAIN_H, REFIT_H, LEAST_QUERIES = 168, 191, 48, 12, 20
Floats = npt.NDArray[np.float64]
Scorer = Callable[["Asked"], npt.NDArray[Any]]


@dataclass(frozen=True)
class World:
    """A log as the site would have seen it.

    Parameters
    ----------
    log : article codes are positions in ``catalogue``. reads : the same clicks as the signals read them.
    recipe : of the ranker. queries_per_hour : at most so many clicks are asked about.
    signals_minutes : signals and candidates of a click are those of the last multiple of so many minutes; divides 60.
    """

    log: Clicks
    reads: Reads
    catalogue: Catalogue
    recipe: RankedRecipe = field(default_factory=lambda: RankedRecipe(als=AlsRecipe(iterations=8)))
    seed: int = 42
    queries_per_hour: int = 250
    signals_minutes: int = 60
    signal_rules: SignalRules = field(default_factory=lambda: SignalRules(co_read_sessions=1))

    @cached_property
    def started(self) -> float:
        """Unix seconds of the first click."""
        return float(self.reads.at[0])

    def factors(self, hour: float) -> Factors:
        """Article vectors learned from the clicks before a full hour."""
        return als_factors(self.reads, self.catalogue, self.recipe.als, until=self.started + hour * HOUR, seed=self.seed)


@dataclass(frozen=True, slots=True)
class Asked:
    """One click asked of the arms.

    Parameters
    ----------
    reader : code. context : what was known at the full hour and in the session. union : the candidates; features : (k, features).
    place : of the clicked article among the candidates; None is a miss for every arm.
    """

    reader: int
    context: Context
    union: Union
    features: Floats
    place: int | None

    def rank(self, scores: npt.NDArray[Any]) -> float:
        """Better candidates plus half the ties, 0 = first; infinite where the clicked article is not ranked."""
        value = scores[self.place] if self.place is not None else np.nan
        if not np.isfinite(value):
            return np.inf
        return float((scores > value).sum() + 0.5 * ((scores == value).sum() - 1))


def world(log: LogFile) -> World:
    """Read a log; an article is published when it is first read, unless the log says when."""
    parsed = log.parsed
    catalogue = Catalogue(parsed.articles)
    reads = to_reads(parsed.table, catalogue)
    found, article = clicks(parsed.table), reads.article.astype(np.int64)
    first_seen = np.full(len(catalogue), np.inf)
    first_seen[article] = found.first_seen[found.article]
    return World(replace(found, article=article, first_seen=first_seen), reads, catalogue)


def asked(world: World, start: int, end: int) -> Iterator[Asked]:
    """Yield the clicks of the hours [start, end), each with what was known of it when signals were last computed."""
    factors, fitted_at = None, -1.0
    for hour in hours(world.log, start, end, queries_per_hour=world.queries_per_hour):
        if not len(hour.queries) or not len(hour.candidates):
            continue
        if factors is None or hour.at // REFIT_H * REFIT_H > fitted_at:
            fitted_at = hour.at // REFIT_H * REFIT_H
            factors = world.factors(fitted_at)
        for part in moments(hour, world.signals_minutes):
            yield from _asked_at(world, part, factors)


def _asked_at(world: World, hour: Hour, factors: Factors) -> Iterator[Asked]:
    signals = build_signals(world.reads, world.catalogue, at=world.started + hour.at * HOUR, rules=world.signal_rules)
    for row, query in enumerate(hour.queries.tolist()):
        context = _context(world.reads, hour, row, signals)
        union = candidates(context, folded(factors, context, world.recipe.als.recent_reads))
        place = np.flatnonzero(union.articles == world.log.article[query])
        features = compute_features(context, union.articles, union.als)
        yield Asked(int(world.log.reader[query]), context, union, features, int(place[0]) if len(place) else None)


def _context(reads: Reads, hour: Hour, row: int, signals: Any) -> Context:
    log, query = hour.log, int(hour.queries[row])
    opened = int(log.previous[query])
    article = int(log.article[opened])
    order, starts = log.by_reader
    mine = order[starts[log.reader[query]] : starts[log.reader[query] + 1]]
    past = log.article[mine[mine < opened]]
    return Context(
        signals.at,
        article,
        before_page(past.tolist(), article),
        signals,
        hour.candidates[hour.shown[row]].astype(np.int32),
        session_position=len(log.session_so_far(opened)),
        levels=tuple(reads.levels[opened].tolist()),
    )


def examples(world: World, start: int, end: int) -> Examples:
    """Return the clicked candidate of every click of the hours, and some of those beside it.

    Raises
    ------
    DataError
        There are too few of them to learn from.
    """
    total, found, rng = 0, [], np.random.default_rng(world.seed)
    for one in asked(world, start, end):
        total += 1
        if one.place is not None:
            opened = np.arange(len(one.features)) == one.place
            rows = drawn(opened, world.recipe.negatives, rng)
            found.append((one.features[rows], opened[rows], one.context.at))
    if len(found) < LEAST_QUERIES:
        raise DataError(f"only {len(found)} clicks of hours {start} to {end} can be learned from; {LEAST_QUERIES} are needed.")
    features = np.concatenate([rows for rows, _, _ in found])
    opened = np.concatenate([marks for _, marks, _ in found])
    times = np.concatenate([np.full(len(rows), at) for rows, _, at in found])
    return Examples(features, opened, times, total, len(found) / total)


def ranker_ranks(
    world: World, arms: Sequence[str], *, span: tuple[int, int]
) -> tuple[dict[str, Floats], npt.NDArray[np.int64], dict[str, float]]:
    """Return per arm the rank of every click (0 = first, infinite = not among the candidates), the readers and the seconds.

    The ranker learns from the 48 hours before ``span`` and is not touched within it.

    Raises
    ------
    ArmError
        An arm is unknown. DataError: the log has too few clicks.
    """
    seconds = dict.fromkeys(arms, 0.0)
    scorers = _scorers(world, arms, span[0], seconds)
    ranks: dict[str, list[float]] = {name: [] for name in arms}
    readers: list[int] = []
    for one in asked(world, *span):
        readers.append(one.reader)
        for name, scorer in scorers.items():
            began = time.perf_counter()
            ranks[name].append(one.rank(np.asarray(scorer(one), np.float64)))
            seconds[name] += time.perf_counter() - began
    if not readers:
        raise DataError(f"no click in hours {span[0]} to {span[1]} has an earlier one in its session.")
    return {name: np.array(values) for name, values in ranks.items()}, np.array(readers), seconds


def _scorers(world: World, arms: Sequence[str], start: int, seconds: dict[str, float]) -> dict[str, Scorer]:
    classes = discover()
    known = [*WITHOUT, *RULES, *(name for name, kind in classes.items() if not hasattr(kind, "load"))]
    for name in arms:
        if name not in known:
            raise ArmError(f"no ranking is called '{name}'; {nearest(name, known)}")
    rows = examples(world, start - TRAIN_H, start) if set(arms) & set(WITHOUT) else None
    chosen: dict[str, Scorer] = {}
    for name in arms:
        if rows is not None and name in WITHOUT:
            began = time.perf_counter()
            trees = fit_trees(rows, world.recipe, without=WITHOUT[name])
            seconds[name] += time.perf_counter() - began
            chosen[name] = lambda one, trees=trees: trees.decision(one.features)  # type: ignore[misc]
        else:
            chosen[name] = RULES[name] if name in RULES else _served(classes[name]())
    return chosen


def _column(one: Asked, name: str) -> Floats:
    return one.features[:, list(FEATURES).index(name)]


def _co_read_heat(one: Asked) -> npt.NDArray[Any]:
    signals, articles = one.context.signals, one.union.articles
    return np.asarray(
        signals.followed_by(one.context.article, articles) + HEAT_SHARE * signals.heat[articles] / max(signals.heat.sum(), 1e-9)
    )


RULES: Mapping[str, Scorer] = {
    "newest": lambda one: -_column(one, "age"),
    "heat": lambda one: one.context.signals.heat[one.union.articles],
    "last_hour": lambda one: _column(one, "pop1"),
    "co_read": lambda one: _column(one, "covis") + 1e-9 * _column(one, "share1"),
    "co_read_heat": _co_read_heat,
    "co_read_last_hour": lambda one: _column(one, "covis_norm") + HEAT_SHARE * _column(one, "share1"),
    "als": lambda one: np.where(np.isnan(one.union.als), -np.inf, one.union.als),
}


def _served(arm: Any) -> Scorer:
    """A rule as readers get it: asked to rank the candidates; what it leaves out is not ranked."""

    def score(one: Asked) -> Floats:
        ranking = arm.rank(replace(one.context, pool=one.union.articles))
        scores = np.full(len(one.union.articles), -np.inf)
        scores[np.searchsorted(one.union.articles, ranking.articles)] = ranking.scores
        return scores

    return score


def ranker(
    log: LogFile, arms: Sequence[str] | None, since: float | None, until: float | None, *, signals_minutes: int = 60
) -> dict[str, Any]:
    """Return protocol B on a log (see :func:`recsys.evaluation.evaluate`).

    Raises
    ------
    DataError
        ``signals_minutes`` does not divide 60.
    """
    if not 1 <= signals_minutes <= 60 or 60 % signals_minutes:
        raise DataError(
            f"signals every {signals_minutes} minutes do not meet the full hour.", "Choose 1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30 or 60."
        )
    span = (math.floor(FIRST_H if since is None else since), math.ceil(LAST_H if until is None else until))
    asking = replace(world(log), signals_minutes=signals_minutes)
    ranks, readers, seconds = ranker_ranks(asking, arms or RANKER_ARMS, span=span)
    told = compare(ranks, readers)
    for row in told["arms"]:
        row["seconds"] = round(seconds[row["arm"]], 3)
    first, last = scored(asking.log, *span)
    head = {"protocol": "ranker", "split": "time", "log": log.name, "from": first, "to": last}
    head |= {"learned_from": span[0] - TRAIN_H, "signals_minutes": signals_minutes}
    return {**head, "queries": len(readers), **told}
