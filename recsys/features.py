"""What the ranker knows about a candidate, as of the request. One function computes it, in training and in serving."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from experiments.serving.level_shares import LEVELS, UNKNOWN
from experiments.serving.recommender import Context
from experiments.serving.signals import HOUR, Signals

__all__ = ["FEATURES", "GROUPS", "compute_features", "fingerprint"]

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
    "near": "share of what sessions read close to the open article lately",
    "near_session": "the same, summed over this session's articles, older ones weighing less",
    "following": "share of what was opened right after the open article lately",
    "onward_share": "share of the site's onward reads of the last quarter of an hour",
    "onward_share1": "share of the site's onward reads of the last hour",
    "onward_rate": "onward reads over all reads of the last 24 hours",
    "device_share": "share of the onward reads of the last six hours that came from a page on this device",
    "device_lift": "log of that share over the one of all readers",
    "referrer_share": "share of the onward reads of the last six hours that came from a page reached as this one was",
    "referrer_lift": "log of that share over the one of all readers",
    "als": "score of the folded-in reader; missing without a vector",
    "als_rank": "rank among the candidates by that score; missing without a vector",
    "text": "cosine of its words with the open article's; missing without a vector",
    "affinity": "share of the reader's own reads in this section, over the pool's share",
    "pos": "article views of this session before this one",
    "hour": "hour of the day, UTC",
}
NEAR = ("near", "near_session", "following")
ONWARD = ("onward_share", "onward_share1", "onward_rate")
CONTEXT = ("device_share", "device_lift", "referrer_share", "referrer_lift")
GROUPS = {  # what an ablation leaves out together
    "als": ("als", "als_rank"),
    "co_read": ("covis", "covis_norm", "covis_rank", *NEAR),
    "near": NEAR,
    "onward": ONWARD,
    "context": CONTEXT,
    "recent": (*NEAR, *ONWARD, *CONTEXT),
}
OLDEST_H, LEAST_SHARE = 999.0, 1e-6
AFFINITY_READS, AFFINITY_PRIOR = 20, 10.0
SESSION_READS, SESSION_DECAY = 6, 0.7


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
    together, total = np.zeros(len(union)), 0.0
    if context.article is not None:
        together = signals.read_with(context.article, union).astype(np.float64)
        total = float(signals.co_total[context.article])
    age = np.minimum(np.maximum((context.at - signals.catalogue.published[union]) / HOUR, 0.0), OLDEST_H)  # np.clip takes twice as long
    k = len(union)
    columns = [
        *reads_in,
        hourly / max(float(signals.site_reads[1]), 1.0),
        _ranks(hourly),
        hourly / (daily / 24.0 + 1.0),
        age,
        together,
        together / (total + 1.0),
        _ranks(together),
        *_paired(context, union),
        *_onward(signals, union),
        *_by_level(context, union),
        als,
        _ranks(als),
        signals.texts.likeness(context.article, union),
        _affinity(context, union),
        np.full(k, float(context.session_position)),
        np.full(k, context.at % (24 * HOUR) // HOUR),
    ]
    return np.array(columns).T  # column by column in memory, as trees read them


def _paired(context: Context, union: npt.NDArray[np.int32]) -> list[npt.NDArray[np.float64]]:
    """``near``, ``near_session`` and ``following``; 0 without an open article."""
    signals: Signals = context.signals
    if context.article is None:
        return [np.zeros(len(union))] * 3
    near = signals.near.shares(context.article, union)
    before = context.reads[::-1][: min(context.session_position, SESSION_READS - 1)]
    session = near + sum(SESSION_DECAY ** (place + 1) * signals.near.shares(article, union) for place, article in enumerate(before))
    return [near, session, signals.following.shares(context.article, union)]


def _onward(signals: Signals, union: npt.NDArray[np.int32]) -> list[npt.NDArray[np.float64]]:
    """``onward_share``, ``onward_share1`` and ``onward_rate``."""
    totals = np.maximum(signals.site_onward, 1.0)
    quarter, hour, day = signals.onward_in[:, union].astype(np.float64)
    return [quarter / totals[0], hour / totals[1], day / (signals.reads_in[3, union] + 1.0)]


def _by_level(context: Context, union: npt.NDArray[np.int32]) -> list[npt.NDArray[np.float64]]:
    """Share and lift per level of the open page; all readers' share and no lift where a level is unknown."""
    signals: Signals = context.signals
    everybody, *shares = signals.by_level.of(context.levels or (UNKNOWN,) * len(LEVELS), union)
    return [column for share in shares for column in (share, np.log((share + LEAST_SHARE) / (everybody + LEAST_SHARE)))]


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """0 for the largest; equal values share the lowest rank; NaN stays NaN."""
    cost = -values
    ordered = np.sort(cost)  # NaN last
    return np.where(np.isfinite(values), ordered.searchsorted(cost), np.nan)


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
