"""What readers in the same situation went on to: onward reads by the device and the referrer of the page they left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

__all__ = ["LEVELS", "UNKNOWN", "LevelShares", "level", "level_shares", "levels_of"]

LEVELS = ("device", "referrer")  # of a page view
UNKNOWN = 0
HALF_LIFE_H, PRIOR_READS = 1.5, 30.0


def level(column: str, word: str) -> int:
    """Return the number that stands for a word of one of the columns, in every process alike; 0 for an empty word.

    Examples
    --------
    >>> level("device", ""), level("device", "phone") == level("referrer", "phone")
    (0, False)
    """
    return crc32(f"{column}={word}".encode()) if word else UNKNOWN


def levels_of(*words: str) -> tuple[int, ...]:
    """Return the numbers of a page view's words, given in the order of :data:`LEVELS`."""
    return tuple(level(column, word) for column, word in zip(LEVELS, words, strict=True))


@dataclass(frozen=True, slots=True)
class LevelShares:
    """Where onward reads went, per level of the page they came from; only articles that had any are in it.

    levels (l,) int64, ascending, the first 0 (all readers); articles (m,) int32, ascending; shares (l, m) float32: each row adds up to 1.
    """

    levels: npt.NDArray[np.int64]
    articles: npt.NDArray[np.int32]
    shares: npt.NDArray[np.float32]

    def of(self, levels: Sequence[int], among: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """(1 + levels, k) share of each of ``among`` with all readers, and with those of each level; all readers' where a level is unknown."""
        found = np.zeros((1 + len(levels), len(among)))
        if len(self.articles):
            asked = np.array([UNKNOWN, *levels])
            row = np.minimum(self.levels.searchsorted(asked), len(self.levels) - 1)
            row[self.levels[row] != asked] = 0
            place = np.minimum(self.articles.searchsorted(among), len(self.articles) - 1)
            found[:] = np.where(self.articles[place] == among, self.shares[row[:, None], place], 0.0)
        return found

    def arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays to publish, each called ``name_part``."""
        return {f"{name}_{part.name}": getattr(self, part.name) for part in fields(self)}

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> LevelShares:
        return cls(**{part.name: arrays[f"{name}_{part.name}"] for part in fields(cls)})


def level_shares(article: npt.NDArray[np.int32], at: npt.NDArray[np.float64], levels: npt.NDArray[np.int64], *, now: float) -> LevelShares:
    """Count decayed onward reads per level, each level drawn towards all readers by thirty reads.

    Parameters
    ----------
    article : (n,) positions of what was opened. at : (n,) unix seconds, before ``now``. levels : (n, columns) of the page before, 0 unknown.

    References
    ----------
    ``(c_la + 30 p_a) / (c_l + 30)`` with ``p_a`` the article's share of all onward reads; a read counts ``0.5 ** (age / 1.5 h)``.

    Examples
    --------
    >>> phone, desk = 7, 9
    >>> opened, where = np.array([1, 1, 2], np.int32), np.array([[phone], [phone], [desk]])
    >>> found = level_shares(opened, np.zeros(3), where, now=0.0)
    >>> found.of([desk], np.array([1, 2, 3])).round(3).tolist()
    [[0.667, 0.333, 0.0], [0.645, 0.355, 0.0]]
    """
    articles, place = np.unique(article, return_inverse=True)
    weight = 0.5 ** ((now - at) / 3600.0 / HALF_LIFE_H)
    total = np.bincount(place, weights=weight, minlength=len(articles))
    usual = total / max(float(total.sum()), 1e-12)
    numbers, rows = [np.array([UNKNOWN])], [usual[None, :]]
    for column in levels.T:
        found, row = np.unique(column, return_inverse=True)
        counts = np.bincount(row * len(articles) + place, weights=weight, minlength=len(found) * len(articles))
        counts = counts.reshape(len(found), len(articles))
        drawn = (counts + PRIOR_READS * usual) / (counts.sum(axis=1, keepdims=True) + PRIOR_READS)
        numbers.append(found[found != UNKNOWN])
        rows.append(drawn[found != UNKNOWN])
    known = np.concatenate(numbers)
    order = np.argsort(known)
    return LevelShares(known[order], articles.astype(np.int32), np.concatenate(rows)[order].astype(np.float32))
