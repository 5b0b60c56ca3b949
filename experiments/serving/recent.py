"""What a reader read before a page: one rule for the site, for training and for offline comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from experiments.serving.recommender import Ints

__all__ = ["KEPT_READS", "before_page", "last_reads", "unread"]

KEPT_READS = 20
Article = TypeVar("Article", int, str)


def last_reads(past: Sequence[Article]) -> tuple[Article, ...]:
    """Return the last 20 different articles of ``past`` (oldest first), each where it was read last.

    Examples
    --------
    >>> last_reads([3, 5, 3])
    (5, 3)
    """
    return tuple(dict.fromkeys(reversed(past)))[:KEPT_READS][::-1]


def before_page(past: Sequence[int], article: int | None) -> tuple[int, ...]:
    """Return what an arm is told of ``past``: the last 20 different articles, without the open one.

    Examples
    --------
    >>> before_page([3, 5, 7, 3, 5], 5)
    (7, 3)
    """
    return tuple(read for read in last_reads(past) if read != article)


def unread(pool: Ints, reads: Sequence[int]) -> Ints:
    """Return the ascending ``pool`` without ``reads``: no slate shows them, so they must not take the place of a candidate either.

    Examples
    --------
    >>> unread(np.array([2, 4, 6], np.int32), (6, 9)).tolist()
    [2, 4]
    """
    if not reads or not len(pool):
        return pool
    own = np.array(reads, np.int32)
    place = np.minimum(pool.searchsorted(own), len(pool) - 1)
    kept = np.ones(len(pool), bool)  # np.isin takes ten times as long on a pool
    kept[place[pool[place] == own]] = False
    return np.asarray(pool[kept])
