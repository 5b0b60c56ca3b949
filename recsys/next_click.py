"""The next-click task: what was known at the full hour, and the clicks that followed within it.

Protocol A of RECOMMENDING §10. Every hour h: statistics from clicks before h; queries are clicks in [h, h+1) with an
earlier click in the session; candidates are the articles clicked in the last 24 h minus the session's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Clicks", "Hour", "clicks", "hours", "moments", "scored"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
CO_READ_WINDOW_H, CO_READ_HALF_LIFE_H, SMOOTHING, HEAT_SHARE = 48, 8.0, 5.0, 0.3


@dataclass(frozen=True)
class Clicks:
    """A log sorted by time, as arrays of equal length.

    reader, session, article : int64 codes from 0. hour : float64, hours since the first click of the log.
    previous : int64, index of the click before it in the same session, -1 for the first.
    first_seen : (articles,) float64, hour of an article's first click in the log.
    """

    reader: Ints
    session: Ints
    article: Ints
    hour: Floats
    previous: Ints
    first_seen: Floats

    @property
    def articles(self) -> int:
        return len(self.first_seen)

    @cached_property
    def by_reader(self) -> tuple[Ints, Ints]:
        """Click indices grouped by reader (in time order) and where each reader's group starts."""
        order = np.argsort(self.reader, kind="stable")
        return order, np.searchsorted(self.reader[order], np.arange(int(self.reader.max(initial=-1)) + 2))

    def session_so_far(self, index: int) -> list[int]:
        """Indices of the clicks before this one in its session, newest first."""
        found, step = [], int(self.previous[index])
        while step >= 0:
            found.append(step)
            step = int(self.previous[step])
        return found


def clicks(table: Any) -> Clicks:
    """Turn a parsed log (reader, session, article, at; sorted by time) into codes and hours."""
    reader, session, article = (_codes(table[name]) for name in ("reader", "session", "article"))
    at = table["at"].to_numpy()
    hour = (at - (at[0] if len(at) else 0)) / 3.6e9
    order = np.argsort(session, kind="stable")
    same = session[order][1:] == session[order][:-1]
    previous = np.full(len(at), -1, np.int64)
    previous[order[1:][same]] = order[:-1][same]
    first_seen = np.full(int(article.max(initial=-1)) + 1, np.inf)
    np.minimum.at(first_seen, article, hour)
    return Clicks(reader, session, article, hour, previous, first_seen)


def _codes(column: Any) -> Ints:
    return np.asarray(column.combine_chunks().dictionary_encode().indices).astype(np.int64)


@dataclass(frozen=True)
class Hour:
    """One evaluation hour, or a part of it (:func:`moments`).

    Parameters
    ----------
    at : the full hour or the moment within it (statistics use clicks before it). queries : (q,) indices of the target clicks.
    candidates : (c,) article codes, ascending.
    """

    log: Clicks
    at: float
    queries: Ints
    candidates: Ints

    @cached_property
    def now(self) -> int:
        """Index of the first click at or after the hour."""
        return int(np.searchsorted(self.log.hour, self.at))

    @cached_property
    def column(self) -> Ints:
        """(articles,) place of an article among the candidates, -1 outside."""
        places = np.full(self.log.articles, -1, np.int64)
        places[self.candidates] = np.arange(len(self.candidates))
        return places

    @cached_property
    def shown(self) -> npt.NDArray[np.bool_]:
        """(q, c) False where the session had read the article before."""
        allowed = np.ones((len(self.queries), len(self.candidates)), bool)
        rows, step = np.arange(len(self.queries)), self.log.previous[self.queries]
        while (step >= 0).any():
            rows, step = rows[step >= 0], step[step >= 0]
            place = self.column[self.log.article[step]]
            allowed[rows[place >= 0], place[place >= 0]] = False
            step = self.log.previous[step]
        return allowed

    @cached_property
    def target(self) -> Ints:
        """(q,) place of the clicked article among the candidates; -1 is a miss for every ranking."""
        place = self.column[self.log.article[self.queries]]
        return np.where((place >= 0) & self.shown[np.arange(len(place)), place], place, -1)

    def heat(self, half_life_h: float) -> Floats:
        """(c,) decayed clicks before the hour."""
        age = self.at - self.log.hour[: self.now]
        counts = np.bincount(self.log.article[: self.now], weights=0.5 ** (age / half_life_h), minlength=self.log.articles)
        return np.asarray(counts[self.candidates])

    def clicks_in(self, window_h: float) -> Floats:
        """(c,) clicks in the last ``window_h`` hours."""
        since = int(np.searchsorted(self.log.hour, self.at - window_h))
        return np.bincount(self.log.article[since : self.now], minlength=self.log.articles)[self.candidates].astype(np.float64)

    def co_reads(self, least_sessions: int = 1) -> tuple[Floats, Floats]:
        """(q, c) decayed co-reads of each query's open article, and (q,) their sum over all articles.

        Consecutive clicks i -> j of one session within 48 h, weight ``0.5 ** (age / 8 h)``, plus half the reverse.
        """
        n = self.log.articles
        since = int(np.searchsorted(self.log.hour, self.at - CO_READ_WINDOW_H))
        step = np.arange(since, self.now)
        step = step[self.log.previous[step] >= 0]
        source, target = self.log.article[self.log.previous[step]], self.log.article[step]
        usable = (source != target) & _often_enough(source, target, self.log.session[step], n=n, least=least_sessions)
        source, target = source[usable], target[usable]
        weight = 0.5 ** ((self.at - self.log.hour[step][usable]) / CO_READ_HALF_LIFE_H)
        opened = self.log.article[self.log.previous[self.queries]]
        row_of, asked = np.full(n, -1, np.int64), np.unique(opened)
        row_of[asked] = np.arange(len(asked))
        rows = np.zeros((len(asked), n))
        for start, end, values in ((source, target, weight), (target, source, 0.5 * weight)):
            wanted = row_of[start] >= 0
            np.add.at(rows, (row_of[start][wanted], end[wanted]), values[wanted])
        mine = rows[row_of[opened]]
        return mine[:, self.candidates], mine.sum(axis=1)

    @cached_property
    def lots(self) -> Floats:
        """(q,) in [0, 1), the same for every ranking and every run."""
        return np.random.default_rng(round(self.at * 60)).random(len(self.queries))

    def ranks(self, scores: npt.NDArray[Any]) -> Floats:
        """(q,) better articles plus those of equal score that come first by lot, 0 = first; infinite where the target is outside.

        With half the ties instead, few candidates that are all equal would all be hits, and a few more none.

        Parameters
        ----------
        scores : (c,) or (q, c), higher is better; -inf leaves an article out.
        """
        dense = np.where(self.shown, np.asarray(scores, np.float64), -np.inf)
        inside = np.flatnonzero(self.target >= 0)
        value = dense[inside, self.target[inside]][:, None]
        equal = (dense[inside] == value).sum(axis=1)  # at least 1, itself
        found = (dense[inside] > value).sum(axis=1) + np.floor(self.lots[inside] * equal)
        ranks = np.full(len(self.queries), np.inf)
        ranks[inside] = np.where(np.isfinite(value[:, 0]), found, np.inf)
        return ranks


def _often_enough(source: Ints, target: Ints, session: Ints, *, n: int, least: int) -> npt.NDArray[np.bool_]:
    """Which steps belong to a pair (either direction) that at least ``least`` sessions made."""
    if least <= 1:
        return np.ones(len(source), bool)
    _, pair = np.unique(np.minimum(source, target) * n + np.maximum(source, target), return_inverse=True)
    sessions = np.unique(pair * (session.max(initial=0) + 1) + session) // (session.max(initial=0) + 1)
    return np.asarray(np.bincount(sessions, minlength=int(pair.max(initial=-1)) + 1)[pair] >= least)


def scored(log: Clicks, start: int, end: int) -> tuple[int, int]:
    """Return the hours of [start, end) that the log has."""
    return max(start, 0), min(end, math.floor(log.hour[-1]) + 1 if len(log.hour) else 0)


def hours(log: Clicks, start: int, end: int, *, queries_per_hour: int = 250) -> Iterator[Hour]:
    """Yield the hours in [start, end) that the log has; at most ``queries_per_hour`` clicks each, drawn with the hour as seed."""
    for at in range(*scored(log, start, end)):
        day, now, until = np.searchsorted(log.hour, [at - 24, at, at + 1])
        queries = np.arange(now, until)
        queries = queries[log.previous[queries] >= 0]
        if len(queries) > queries_per_hour:
            drawn = np.random.RandomState(at).choice(len(queries), queries_per_hour, replace=False)  # as pandas' sample(random_state=at)
            queries = queries[drawn]
        yield Hour(log, at, queries, np.unique(log.article[day:now]))


def moments(hour: Hour, minutes: int) -> Iterator[Hour]:
    """Yield the queries of an hour by the last multiple of ``minutes`` at or before them, with the candidates as of then.

    Parameters
    ----------
    minutes : divides 60; 60 yields the hour as it is.

    Examples
    --------
    >>> at = np.array([0.0, 1.0, 1.25, 1.6])
    >>> some = np.array([0, 1, 2, 3])
    >>> log = Clicks(some, some, some, at, some - 1, at)
    >>> [(part.at, part.queries.tolist(), part.candidates.tolist()) for part in moments(Hour(log, 1, some[1:], some[:1]), 30)]
    [(1.0, [1, 2], [0]), (1.5, [3], [0, 1, 2])]
    """
    if minutes == 60:
        yield hour
        return
    log, parts = hour.log, 60 // minutes
    part = np.floor((log.hour[hour.queries] - hour.at) * parts).astype(np.int64)
    part -= hour.at + part / parts > log.hour[hour.queries]  # where rounding would put the moment after the click
    for number in np.unique(part).tolist():
        at = hour.at + number / parts
        day, now = np.searchsorted(log.hour, [at - 24, at])
        yield replace(hour, at=at, queries=hour.queries[part == number], candidates=np.unique(log.article[day:now]))
