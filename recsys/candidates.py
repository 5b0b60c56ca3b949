"""Which articles the ranker looks at: the hottest, those read after this one, those ALS proposes, and those on the same subject."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.serving.recommender import Context
from experiments.serving.signals import Signals
from experiments.serving.slate_rows import ascending
from recsys.factors import Factors, Folded

__all__ = ["Shelf", "Union", "candidates"]

HEAT, CO_READ, ALS, TEXT = 60, 60, 40, 40


@dataclass(frozen=True, slots=True)
class Union:
    """Candidates of one request.

    Parameters
    ----------
    articles : (k,) int32 positions, ascending, all from the pool.
    als : (k,) float64 scores, NaN without a vector. sources : k words, the first list an article came from.
    """

    articles: npt.NDArray[np.int32]
    als: npt.NDArray[np.float64]
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shelf:
    """Vectors of a pool side by side: requests of one minute ask for nearly the same articles.

    Parameters
    ----------
    signals, factors : what the vectors were taken from. articles : (w,) int32 positions, ascending.
    vectors : (w, factors) float64; zero without a vector, and no columns without ``factors``; known : (w,) whether an article has one.
    words : (w, d) float32 of :class:`experiments.serving.signals.Texts`; worded : (w,) whether an article has some.
    """

    signals: Signals
    factors: Factors | None
    articles: npt.NDArray[np.int32]
    vectors: npt.NDArray[np.float64]
    known: npt.NDArray[np.bool_]
    words: npt.NDArray[np.float32]
    worded: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, signals: Signals, factors: Factors | None, articles: npt.NDArray[np.int32]) -> Shelf:
        """Take the vectors of ``articles``, ascending."""
        vectors = factors.vectors[articles].astype(np.float64) if factors is not None else np.zeros((len(articles), 0))
        known = factors.known[articles] if factors is not None else np.zeros(len(articles), bool)
        rows, texts = signals.text_rows, signals.text_vectors
        words, place = np.zeros((len(articles), texts.shape[1]), np.float32), np.searchsorted(rows, articles)
        worded = np.append(rows, -1)[place] == articles
        words[worded] = texts[place[worded]]
        return cls(signals, factors, articles, vectors, known, words, worded)

    def places(self, pool: npt.NDArray[np.int32]) -> npt.NDArray[np.intp] | None:
        """(m,) where each of ``pool``, ascending, stands on this shelf; None when one does not."""
        if not len(self.articles):
            return None
        place = np.minimum(self.articles.searchsorted(pool), len(self.articles) - 1)
        return place if (self.articles[place] == pool).all() else None

    def reaching(self, context: Context, factors: Factors | None) -> tuple[Shelf, npt.NDArray[np.intp]]:
        """Return this shelf if it holds the pool's vectors, else another that does, and where the pool stands on it."""
        signals, pool = context.signals, ascending(context.pool)
        same = self.signals is signals and self.factors is factors
        place = self.places(pool) if same else None
        if place is not None:
            return self, place
        wider = ascending(np.concatenate([self.articles, pool])) if same else pool
        return Shelf.of(signals, factors, wider), wider.searchsorted(pool)

    def scores(self, reader: Folded | None) -> npt.NDArray[np.float64]:
        """(w,) scores of the reader; NaN without a vector or a reader: missing is not low."""
        if reader is None:
            return np.full(len(self.articles), np.nan)
        return np.where(self.known, np.vecdot(self.vectors, reader.vector), np.nan)

    def likeness(self, article: int | None) -> npt.NDArray[np.float64]:
        """(w,) cosine with the words of ``article``; NaN where one of the two has none."""
        rows = self.signals.text_rows
        place = len(rows) if article is None else int(np.searchsorted(rows, article))
        if place == len(rows) or rows[place] != article:
            return np.full(len(self.articles), np.nan)
        return np.where(self.worded, np.vecdot(self.words, self.signals.text_vectors[place]), np.nan)


def candidates(context: Context, reader: Folded | None, standing: tuple[Shelf, npt.NDArray[np.intp]] | None = None) -> Union:
    """Return the union of the four lists, from ``context.pool`` alone.

    Parameters
    ----------
    standing : a shelf and where the pool stands on it (:meth:`Shelf.reaching`); without one it is made for this request. The result
        is the same.
    """
    signals: Signals = context.signals
    pool = ascending(context.pool)
    shelf, place = standing or (Shelf.of(signals, reader.factors if reader else None, pool), np.arange(len(pool)))
    als = shelf.scores(reader)[place]
    lists = (
        ("text", _best(shelf.likeness(context.article)[place], TEXT, above=0.0)),
        ("als", _best(als, ALS)),
        ("heat", _best(signals.warmth(pool, context.at), HEAT)),
        ("co_read", _best(signals.followed_by(context.article, pool), CO_READ, above=0.0)),
    )
    source = np.full(len(pool), -1, np.int8)
    for code, (_, places) in enumerate(lists):
        source[places] = code  # the later list wins
    chosen = np.flatnonzero(source >= 0)
    names = [name for name, _ in lists]
    return Union(pool[chosen], als[chosen], tuple([names[code] for code in source[chosen].tolist()]))


def _best(values: npt.NDArray[np.floating[Any]], most: int, above: float = -np.inf) -> npt.NDArray[np.intp]:
    """Places of the largest values, ties by place; NaN never."""
    allowed = np.flatnonzero(np.isfinite(values) & (values > above))
    if len(allowed) > most:
        least = np.partition(values[allowed], -most)[-most]  # sorting a whole pool takes twenty times as long
        allowed = allowed[values[allowed] >= least]
    return allowed[np.argsort(-values[allowed], kind="stable")[:most]]
