"""A log by weeks: what was known at a cut, and what readers went on to read in the seven days after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.errors import DataError
from recsys.recall import places_of

__all__ = ["FIRST_CUT_H", "WEEK_DAYS", "Log", "Ranking", "Week", "log_of", "week", "weeks"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
FIRST_CUT_H, STEP_DAYS, WEEK_DAYS = 120 * 24.0, 14.0, 7.0
MOST_CELLS = 50_000_000


@dataclass(frozen=True, slots=True)
class Log:
    """Events sorted by time, as arrays of equal length.

    reader, article : int64 codes from 0. day : float64, days since the first event of the log.
    weight : float64 of the event (1 for a read; importers know heavier events).
    shape : readers and articles of the whole log; codes of later ones do not occur here.
    """

    reader: Ints
    article: Ints
    day: Floats
    weight: Floats
    shape: tuple[int, int]

    def before(self, day: float) -> Log:
        return self.between(-np.inf, day)

    def between(self, start: float, end: float) -> Log:
        """Events with ``start <= day < end``."""
        span = slice(*np.searchsorted(self.day, [start, end]))
        return Log(self.reader[span], self.article[span], self.day[span], self.weight[span], self.shape)

    def read(self) -> npt.NDArray[np.bool_]:
        """(readers, articles) who has opened what."""
        table = np.zeros(self.shape, bool)
        table[self.reader, self.article] = True
        return table

    def first_reads(self) -> Log:
        """The first event of every reader on every article."""
        at = np.sort(np.unique(self.reader * self.shape[1] + self.article, return_index=True)[1])
        return Log(self.reader[at], self.article[at], self.day[at], self.weight[at], self.shape)

    def first_seen(self) -> Floats:
        """(articles,) day of the first event; infinite where there is none."""
        first = np.full(self.shape[1], np.inf)
        np.minimum.at(first, self.article, self.day)
        return first


Ranking = Callable[[Log, float, Ints], Floats]
"""(log before the cut, day of the cut, (q,) readers asked) -> (articles,) or (q, articles) scores, higher is better."""


@dataclass(frozen=True, slots=True)
class Week:
    """One cut.

    Parameters
    ----------
    past : the log before it. at : its day. readers : (q,) codes of readers with something wanted, ascending.
    row, wanted : (n,) row in ``readers`` and article of each article wanted, sorted by row. open : (q, articles) the candidates.
    """

    past: Log
    at: float
    readers: Ints
    row: Ints
    wanted: Ints
    open: npt.NDArray[np.bool_]

    def ranks(self, ranking: Ranking) -> Floats:
        """(n,) rank of each article wanted."""
        scores = np.broadcast_to(ranking(self.past, self.at, self.readers), self.open.shape)
        return places_of(np.where(self.open, scores, -np.inf), self.row, self.wanted)


def log_of(table: Any) -> Log:
    """Turn a parsed log (reader, article, at, weight; sorted by time) into codes and days.

    Raises
    ------
    DataError
        There is no event, or readers x articles is too large to hold as a table.
    """
    if not table.num_rows:
        raise DataError("the log has no event.")
    reader, article = (np.asarray(table[n].combine_chunks().dictionary_encode().indices).astype(np.int64) for n in ("reader", "article"))
    at = table["at"].to_numpy()
    shape = (int(reader.max()) + 1, int(article.max()) + 1)
    if shape[0] * shape[1] > MOST_CELLS:
        told = f"{shape[0]:,} readers x {shape[1]:,} articles are more than this protocol holds in memory ({MOST_CELLS:,} cells)."
        raise DataError(told, "Use --protocol next-click for a log of this size.")
    return Log(reader, article, (at - at[0]) / 8.64e10, table["weight"].to_numpy().astype(np.float64), shape)


def weeks(log: Log, since_h: float = FIRST_CUT_H, until_h: float | None = None) -> Iterator[Week]:
    """Yield the cuts from ``since_h`` on, every 14 days, whose week ends by ``until_h`` (hours; the last event by default)."""
    end = float(log.day[-1]) if until_h is None else min(until_h / 24, float(log.day[-1]))
    for at in np.arange(since_h / 24, end - WEEK_DAYS + 1e-9, STEP_DAYS):
        yield week(log, float(at))


def week(log: Log, at: float) -> Week:
    """Return the cut at day ``at``."""
    past = log.before(at)
    read, seen = past.read(), past.first_seen() < at
    following = log.between(at, at + WEEK_DAYS).read() & ~read & seen
    readers = np.flatnonzero(following.any(axis=1))
    row, wanted = np.nonzero(following[readers])
    return Week(past, at, readers, row, wanted, ~read[readers] & seen)
