"""Article reads as arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.serving.level_shares import LEVELS

__all__ = ["Reads", "onward_reads"]


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


def onward_reads(reads: Reads) -> Reads:
    """Return those of the reads that followed another article in their session, with the levels of the page they came from."""
    order = np.argsort(reads.session, kind="stable")
    follows = (reads.session[order][1:] == reads.session[order][:-1]) & (reads.article[order][1:] != reads.article[order][:-1])
    opened, left = order[1:][follows], order[:-1][follows]
    by_time = np.argsort(opened)
    return replace(reads.take(opened[by_time]), levels=reads.levels[left[by_time]])
