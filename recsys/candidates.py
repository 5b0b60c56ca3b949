"""Which articles the ranker looks at: the hottest, those read after this one, those ALS proposes, and those on the same subject."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from experiments.serving.recommender import Context
from experiments.serving.signals import Signals
from recsys.factors import Folded

__all__ = ["Union", "als_scores", "candidates"]

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


def als_scores(reader: Folded | None, articles: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """Return (k,) scores; NaN for articles without a vector and for readers without a read: missing is not low."""
    scores = np.full(len(articles), np.nan)
    if reader is not None:
        known = reader.factors.known[articles]
        scores[known] = reader.scores(articles[known])
    return scores


def candidates(context: Context, reader: Folded | None) -> Union:
    """Return the union of the four lists, from ``context.pool`` alone."""
    signals: Signals = context.signals
    pool = np.unique(context.pool)
    als = als_scores(reader, pool)
    following = signals.followed_by(context.article, pool).astype(np.float64)
    lists = {
        "co_read": _best(following, CO_READ, above=0.0),
        "heat": _best(signals.warmth(pool, context.at).astype(np.float64), HEAT),
        "als": _best(als, ALS),
        "text": _best(signals.texts.likeness(context.article, pool), TEXT, above=0.0),
    }
    source = np.full(len(pool), "", dtype="<U8")
    for name, places in lists.items():
        source[places[source[places] == ""]] = name
    chosen = np.flatnonzero(source != "")
    return Union(pool[chosen].astype(np.int32), als[chosen], tuple(source[chosen].tolist()))


def _best(values: npt.NDArray[np.float64], most: int, above: float = -np.inf) -> npt.NDArray[np.intp]:
    """Places of the largest values, ties by place; NaN never."""
    allowed = np.flatnonzero(np.isfinite(values) & (values > above))
    return allowed[np.argsort(-values[allowed], kind="stable")[:most]]
