"""What the ranker knows about a candidate, as of the request. One function computes it, in training and in serving."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from experiments.serving.recommender import Context
from experiments.serving.signals import HOUR, Signals

__all__ = ["ALS_FEATURES", "CO_READ_FEATURES", "FEATURES", "compute_features", "fingerprint"]

# name -> what it means; the order is the order of the columns
FEATURES = {
    "pop05": "reads in the last half hour",
    "pop1": "reads in the last hour",
    "pop3": "reads in the last 3 hours",
    "pop24": "reads in the last 24 hours",
    "pop120": "reads in the last 120 hours",
    "share1": "share of the site's reads of the last hour",
    "poprank": "rank among the candidates by reads of the last hour",
    "trend": "reads of the last hour over the hourly mean of the last 24",
    "age": "hours since publication, at most 999",
    "covis": "decayed co-reads with the open article",
    "covis_norm": "share of the open article's co-reads",
    "covis_rank": "rank among the candidates by co-reads",
    "als": "score of the folded-in reader; missing without a vector",
    "als_rank": "rank among the candidates by that score; missing without a vector",
    "affinity": "share of the reader's own reads in this section, over the pool's share",
    "pos": "article views of this session before this one",
    "hour": "hour of the day, UTC",
}
ALS_FEATURES = ("als", "als_rank")
CO_READ_FEATURES = ("covis", "covis_norm", "covis_rank")
OLDEST_H = 999.0
AFFINITY_READS, AFFINITY_PRIOR = 20, 10.0


def fingerprint() -> str:
    """Return a short hash of names and order; a bundle carries it, and another list is refused."""
    return blake2b("\n".join(FEATURES).encode(), digest_size=8).hexdigest()


def compute_features(context: Context, union: npt.NDArray[np.int32], als: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return (candidates, features) float64 with NaN where a feature does not exist.

    Parameters
    ----------
    context : its signals were published before the request, so nothing later can enter.
    union : (k,) candidate positions. als : (k,) scores, NaN without a vector or without a read.
    """
    signals: Signals = context.signals
    reads_in = signals.reads_in[:, union].astype(np.float64)
    hourly, daily = reads_in[1], reads_in[3]
    together = np.zeros(len(signals.catalogue), np.float64)
    total = 0.0
    if context.article is not None:
        columns, weights = signals.co_reads(context.article)
        together[columns] = weights
        total = float(signals.co_total[context.article])
    together = together[union]
    age = np.clip((context.at - signals.catalogue.published[union]) / HOUR, 0.0, OLDEST_H)
    k = len(union)
    columns_ = [
        *reads_in,
        hourly / max(float(signals.reads_in[1].sum()), 1.0),
        _ranks(hourly),
        hourly / (daily / 24.0 + 1.0),
        age,
        together,
        together / (total + 1.0),
        _ranks(together),
        als,
        _ranks(als),
        _affinity(context, union),
        np.full(k, float(context.session_position)),
        np.full(k, context.at % (24 * HOUR) // HOUR),
    ]
    return np.stack(columns_, axis=1)


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """0 for the largest; equal values share the lowest rank; NaN stays NaN."""
    known = np.isfinite(values)
    ordered = np.sort(-values[known])
    ranks = np.full(len(values), np.nan)
    ranks[known] = np.searchsorted(ordered, -values[known])
    return ranks


def _affinity(context: Context, union: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """``(n_s + 10 p_s) / (n + 10)`` over ``p_s``, the section's share of the pool: 1 for a reader without reads."""
    catalogue = context.signals.catalogue
    sections = len(catalogue.sections)
    usual = np.bincount(catalogue.section[context.pool], minlength=sections) + 1.0
    usual /= usual.sum()
    own = catalogue.section[list(context.reads[-AFFINITY_READS:])]
    counts = np.bincount(own, minlength=sections)
    share = (counts + AFFINITY_PRIOR * usual) / (len(own) + AFFINITY_PRIOR)
    return np.asarray((share / usual)[catalogue.section[union]])
