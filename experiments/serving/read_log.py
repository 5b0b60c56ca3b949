"""Recent page views kept in memory by the worker, so that a refresh of the signals reads only what is new."""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt

from experiments.events.reading import WHOLE_STORE_S
from experiments.events.sealed import DAY_US, Partition, partitions, present
from experiments.events.store import read_store, store_path
from experiments.serving.level_shares import levels_of
from experiments.serving.recommender import Catalogue
from experiments.serving.signals import HOUR, WINDOWS_H, Reads

__all__ = ["ReadLog", "View", "sessions_of"]

GAP_S = 30 * 60.0
ARTICLE = "CASE json_extract(body, '$.page_type') WHEN 'article' THEN json_extract(body, '$.article') ELSE '' END"
REFERRER = "coalesce(json_extract(body, '$.referrer'), '')"
PREFETCHED = "coalesce(json_extract(body, '$.prefetch'), 0)"
NEW_VIEWS = "seq > ? AND kind = 'view' AND bot = 0 AND late = 0 AND reader <> ''"
View = tuple[int, str, int, str, str, str]  # seq, reader, issued_at, article or empty, device, referrer
SealedViews = Callable[[Sequence[Partition], int], Iterable[View]]


def sessions_of(reader: npt.NDArray[np.int64], at: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Number the sessions of page views: one reader's views, split at pauses of 30 minutes or more.

    Parameters
    ----------
    reader : (n,) codes. at : (n,) unix seconds. Any order; the same rule as :mod:`experiments.events.lake` (a test holds them together).

    Examples
    --------
    >>> sessions_of(np.array([1, 2, 1, 1]), np.array([0.0, 1.0, 1799.0, 3599.0])).tolist()
    [0, 2, 0, 1]
    """
    order = np.lexsort((at, reader))
    new = np.ones(len(at), bool)
    new[1:] = (np.diff(reader[order]) != 0) | (np.diff(at[order]) >= GAP_S)
    numbers = np.empty(len(at), np.int64)
    numbers[order] = np.cumsum(new) - 1
    return numbers


class ReadLog:
    """Page views of the last 120 hours as arrays; :meth:`catch_up` adds what the loader stored since. Safe to use from several threads.

    Parameters
    ----------
    sealed : reads page views stored after a sequence number out of sealed files
        (:func:`experiments.events.sealed_files.views_after`; this folder knows no Parquet).
    """

    def __init__(self, home: Path, *, sealed: SealedViews | None = None) -> None:
        self.home, self._sealed, self._turn = home, sealed, threading.RLock()
        self._begin()

    def _begin(self) -> None:
        self.last_seq = 0
        self._gone = -np.inf  # unix seconds: older views may be missing
        self._codes: defaultdict[str, int] = defaultdict(itertools.count().__next__)
        self._reader, self._at = np.zeros(0, np.int64), np.zeros(0)
        self._article: list[str] = []
        self._levels = np.zeros((0, 2), np.int64)

    def catch_up(self, *, since_us: int = 0) -> int:
        """Read the rows stored since the last call; returns how many.

        Parameters
        ----------
        since_us : sealed days that ended before (UTC microseconds) are passed over.

        Raises
        ------
        DataError
            A sealed file is missing or was cut.
        """
        if not store_path(self.home).exists():
            return 0
        with self._turn:
            rows = self._since_last(since_us)
            if rows:
                self._add(rows)
        return len(rows)

    def _since_last(self, since_us: int) -> list[View]:
        with closing(read_store(store_path(self.home), longest_s=WHOLE_STORE_S)) as store:
            store.snapshot()
            views = store.facts(("seq", "reader", "issued_at", ARTICLE, "device", REFERRER, PREFETCHED), NEW_VIEWS, (self.last_seq,))
            rows = sorted(view[:6] for view in views if view[6] == 0)
            later = [one for one in partitions(store, self.home) if one.through_seq > self.last_seq]
            files = [one for one in later if (one.day + 1) * DAY_US > since_us]
            if files and self._sealed:
                rows = sorted([*self._sealed(present(files), self.last_seq), *rows])
        self._gone = max([self._gone, *((one.day + 1) * DAY_US / 1e6 for one in later if one not in files)])
        return rows

    def _add(self, rows: Sequence[View]) -> None:
        self.last_seq = int(rows[-1][0])
        codes = [self._codes[row[1]] for row in rows]
        self._reader = np.concatenate([self._reader, np.array(codes, np.int64)])
        self._at = np.concatenate([self._at, np.array([row[2] for row in rows], np.float64) / 1e6])
        self._article += [row[3] or "" for row in rows]
        numbers = {words: levels_of(*words) for words in {row[4:6] for row in rows}}
        self._levels = np.concatenate([self._levels, np.array([numbers[row[4:6]] for row in rows], np.int64)])

    def reads(self, catalogue: Catalogue, *, at: float) -> Reads:
        """Return the article reads before ``at`` (unix seconds) and forget views older than 120 hours."""
        since = at - max(WINDOWS_H) * HOUR
        with self._turn:
            if self._gone > since:  # the clock was ahead, and is back
                self._begin()
                self.catch_up(since_us=round(since * 1e6))
            self._gone = max(self._gone, self._at.max(initial=-np.inf, where=self._at < since))
            self._keep(self._at >= since)
            return self._reads(catalogue, at=at)

    def forget(self, readers: Collection[str]) -> None:
        """Remove erased readers, once the store has them no more."""
        with self._turn:
            codes = [self._codes[reader] for reader in readers if reader in self._codes]
            self._keep(~np.isin(self._reader, codes))

    def _keep(self, keep: npt.NDArray[np.bool_]) -> None:
        """Drop the other views, and the ids of readers who have none left."""
        if keep.all():
            return
        self._article = [article for article, kept in zip(self._article, keep.tolist(), strict=True) if kept]
        self._reader, self._at, self._levels = self._reader[keep], self._at[keep], self._levels[keep]
        left = set(self._reader.tolist())
        for reader in [reader for reader, code in self._codes.items() if code not in left]:
            del self._codes[reader]

    def _reads(self, catalogue: Catalogue, *, at: float) -> Reads:
        session = sessions_of(self._reader, self._at)
        positions = np.array([catalogue.positions.get(article, -1) for article in self._article], np.int32)
        order = np.argsort(self._at, kind="stable")
        order = order[(positions[order] >= 0) & (self._at[order] < at)]
        return Reads(self._reader[order], session[order], positions[order], self._at[order], self._levels[order])
