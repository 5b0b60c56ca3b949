"""Article reads as arrays, and the orders in which signals look at them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.serving.level_shares import LEVELS
from experiments.serving.pair_rows import crowded, packed

__all__ = ["Past", "Reads"]


@dataclass(frozen=True, slots=True)
class Reads:
    """Article reads as arrays of equal length, sorted by time.

    reader : (n,) int64 codes; session : (n,) int64 codes; article : (n,) int32 catalogue positions;
    at : (n,) float64 unix seconds; levels : (n, 2) int64, device and referrer of the page view (:func:`level`), 0 where unknown.
    """

    reader: npt.NDArray[np.int64]
    session: npt.NDArray[np.int64]
    article: npt.NDArray[np.int32]
    at: npt.NDArray[np.float64]
    levels: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, len(LEVELS)), np.int64))

    def __post_init__(self) -> None:
        if not len(self.levels):  # nobody said them
            object.__setattr__(self, "levels", np.zeros((len(self.at), len(LEVELS)), np.int64))

    def __len__(self) -> int:
        return len(self.at)

    def take(self, rows: Any) -> Reads:
        """Return these rows (a slice, a mask or places)."""
        return Reads(*(getattr(self, column.name)[rows] for column in fields(self)))

    def before(self, until: float, since: float = -np.inf) -> Reads:
        """Reads with ``since <= at < until``."""
        lo, hi = np.searchsorted(self.at, [since, until])
        return self.take(slice(lo, hi))


@dataclass(frozen=True, slots=True)
class Past:
    """Reads of a log in the orders that signals need, found once for any number of moments.

    Parameters
    ----------
    reads : without those of reader-hours above a cap, sorted by time.
    same_day : (n,) place of the read before by the same reader of the same article on the same day (from the epoch), -1 for the first.
    left : (n,) place of the read right before in the session if it was of another article, else -1.
    by_session : (n,) places in the order of sessions, then of time.
    """

    reads: Reads
    same_day: npt.NDArray[np.int64]
    left: npt.NDArray[np.int64]
    by_session: npt.NDArray[np.int64]

    @classmethod
    def of(cls, reads: Reads, *, cap_per_hour: int) -> Past:
        """Sort ``reads``; reader-hours with more than ``cap_per_hour`` reads are left out."""
        reads = _without_scrapers(reads, cap_per_hour)
        by_session = _sorted(reads.session)
        before = _before(reads.session, by_session)
        left = np.where(reads.article[before] != reads.article, before, -1)
        key = packed(reads.reader, reads.article.astype(np.int64), (reads.at // 86_400).astype(np.int64))
        return cls(reads, _before(key, _sorted(key)), left, by_session)

    def within(self, at: float, hours: float) -> slice:
        """Rows of the last ``hours`` before ``at``."""
        return slice(*np.searchsorted(self.reads.at, [at - hours * 3600.0, at]).tolist())

    def once_a_day(self, rows: slice) -> npt.NDArray[np.int64]:
        """Places of the first reads per reader, article and day within ``rows``."""
        return np.asarray(rows.start + np.flatnonzero(self.same_day[rows] < rows.start))

    def onward(self, places: npt.NDArray[np.int64], *, since: int) -> npt.NDArray[np.int64]:
        """Those of ``places`` whose read followed another article, at ``since`` or later, in its session; ``left`` says which."""
        return places[self.left[places] >= since]

    def sessions(self, rows: slice) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        """Session, article and time of ``rows``, in the order of sessions, then of time."""
        places = self.by_session[(self.by_session >= rows.start) & (self.by_session < rows.stop)]
        return self.reads.session[places], self.reads.article[places], self.reads.at[places]


def _sorted(key: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Places in the order of ``key``, equal ones as they come."""
    n = max(len(key), 1)
    if int(key.max(initial=0)) >= (1 << 62) // n:
        return np.argsort(key, kind="stable")
    return np.sort(key * n + np.arange(len(key))) % n  # sorting numbers beats sorting places


def _before(groups: npt.NDArray[np.int64], order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Place of the row before in the same group, -1 for the first; ``order`` sorts by group, then place."""
    found = np.full(len(groups), -1, np.int64)
    found[order[1:]] = np.where(groups[order[1:]] == groups[order[:-1]], order[:-1], -1)
    return found


def _without_scrapers(reads: Reads, cap: int) -> Reads:
    """Drop reads of reader-hours with more than ``cap`` articles."""
    key = packed(reads.reader, (reads.at // 3600.0).astype(np.int64))
    rows = crowded(key, cap + 1)
    _, inverse, counts = np.unique(key[rows], return_inverse=True, return_counts=True)
    many = rows[counts[inverse] > cap]
    return reads.take(np.delete(np.arange(len(reads)), many)) if len(many) else reads
