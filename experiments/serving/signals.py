"""What all arms may know about the site: heat, co-reading and reads by window, as of one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.errors import ArtefactError
from experiments.serving.level_shares import LevelShares, level_shares
from experiments.serving.pair_rows import PairRows, PairRules, pair_rows
from experiments.serving.reads import Past, Reads
from experiments.serving.recommender import Catalogue

__all__ = ["Past", "Reads", "Signals", "SignalRules", "Texts", "build_signals", "signals_from_arrays", "signals_to_arrays", "with_texts"]

HOUR = 3600.0
WINDOWS_H = (0.5, 1.0, 3.0, 24.0, 120.0)
MOST_READ = 10  # how many articles may be called most read
BUSY_READS_PER_HOUR = 2_000
ONWARD_WINDOWS_H = (0.25, 1.0, 24.0)
PARTS: Mapping[str, Any] = {"near": PairRows, "following": PairRows, "by_level": LevelShares}  # published array by array
LEVEL_WINDOW_H = 6.0
NEAR_STEPS, NEAR_DECAY, NEAR_HALF_LIVES = 5, 0.7, 8.0  # pairs of a session; those left out weigh less than 1/256


@dataclass(frozen=True, slots=True)
class SignalRules:
    """Constants of the signals.

    Parameters
    ----------
    half_life_h : of heat, hours; None chooses 1 h from 2,000 reads an hour on (mean of the last day), else 24 h.
    co_read_window_h, co_read_half_life_h : hours.
    co_read_sessions : a pair shows only when at least this many sessions contain it (privacy; DESIGN §9).
    reader_cap_per_hour : readers above this many articles an hour are ignored.
    fresh_h : articles younger than this say what is typical for their section.
    """

    half_life_h: float | None = None
    co_read_window_h: float = 48.0
    co_read_half_life_h: float = 8.0
    co_read_sessions: int = 10
    reader_cap_per_hour: int = 60
    fresh_h: float = 72.0


@dataclass(frozen=True, slots=True)
class Texts:
    """Unit vectors of what articles are about (made by ``recsys.text``).

    rows : (m,) int32 positions, ascending. vectors : (m, d) float32.
    stories : (m,) int32, equal for articles that tell the same; -1 for one that stands alone.
    """

    rows: npt.NDArray[np.int32]
    vectors: npt.NDArray[np.float32]
    stories: npt.NDArray[np.int32]

    @classmethod
    def none(cls) -> Texts:
        return cls(np.zeros(0, np.int32), np.zeros((0, 0), np.float32), np.zeros(0, np.int32))

    def known(self, positions: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        """Row of each of ``positions`` and whether it is that article's: one without words has no row."""
        place = np.minimum(self.rows.searchsorted(positions), len(self.rows) - 1)
        return place, self.rows[place] == positions

    def story(self, articles: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """(k,) number of the story each of ``articles`` shares with others, -1 for none."""
        if not len(self.rows):
            return np.full(len(articles), -1, np.int32)
        place, known = self.known(articles)
        return np.where(known, self.stories[place], np.int32(-1))

    def likeness(self, article: int | None, among: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """(k,) cosine of ``article`` with each of ``among``; NaN where one of the two has no vector."""
        found = np.full(len(among), np.nan)
        if article is None or not len(self.rows):
            return found
        place, known = self.known(np.append(among, article))
        if known[-1]:
            found[known[:-1]] = self.vectors[place[:-1][known[:-1]]] @ self.vectors[place[-1]]
        return found


@dataclass(frozen=True)
class Signals:
    """One snapshot. Arrays are indexed by catalogue position and cannot be written to.

    heat : (n,) float32, decayed reads as of ``at`` (one per reader, article and 24 h).
    reads_in : (5, n) float32, reads in the last 0.5, 1, 3, 24 and 120 hours (one per reader, article and day).
    co_indptr (n+1,) int32, co_articles (nnz,) int32, co_weights (nnz,) float32 : rows of the co-reading matrix, ascending by article.
    co_total : (n,) float32, row sums.
    typical : (sections,) float32, median heat of the section's fresh articles (of all fresh ones where it has fewer than five).
    onward_in : (3, n) float32, reads in the last 0.25, 1 and 24 hours that followed another article in their session (counted alike).
    near : articles up to five reads apart in a session, either way, with twice the half-life of heat.
    following : the article opened right after, with the half-life of heat.
    by_level : where onward reads of the last six hours went, by device and referrer of the page they came from.
    last_offset : highest event sequence number that went in (-1: none).
    text_rows, text_vectors, text_stories : of :class:`Texts`; empty where no text was read yet.
    """

    catalogue: Catalogue
    at: float
    half_life_h: float
    heat: npt.NDArray[np.float32]
    reads_in: npt.NDArray[np.float32]
    co_indptr: npt.NDArray[np.int32]
    co_articles: npt.NDArray[np.int32]
    co_weights: npt.NDArray[np.float32]
    co_total: npt.NDArray[np.float32]
    typical: npt.NDArray[np.float32]
    onward_in: npt.NDArray[np.float32]
    near: PairRows
    following: PairRows
    by_level: LevelShares
    last_offset: int = -1
    text_rows: npt.NDArray[np.int32] = field(default_factory=lambda: Texts.none().rows)
    text_vectors: npt.NDArray[np.float32] = field(default_factory=lambda: Texts.none().vectors)
    text_stories: npt.NDArray[np.int32] = field(default_factory=lambda: Texts.none().stories)

    def __post_init__(self) -> None:
        """Let nobody write: all requests of a process share these arrays, and an arm of somebody else may try."""
        for array in signals_to_arrays(self).values():
            array.flags.writeable = False

    @property
    def texts(self) -> Texts:
        return Texts(self.text_rows, self.text_vectors, self.text_stories)

    @property
    def busy(self) -> bool:
        """Whether the site had 2,000 reads an hour or more over the last day: a busy site stays one at night."""
        return bool(self.site_reads[3] >= 24 * BUSY_READS_PER_HOUR)

    @cached_property
    def site_reads(self) -> npt.NDArray[np.float64]:
        """(5,) reads of all articles in the windows of :attr:`reads_in`."""
        return np.asarray(self.reads_in.sum(axis=1, dtype=np.float64))

    @cached_property
    def most_read_from(self) -> npt.NDArray[np.float32]:
        """(5,) reads from which on an article is one of the ten most read in the windows of :attr:`reads_in`; at least 1.

        Of articles that tie beyond the tenth place none is: more than ten would be, or chance would choose among them.
        """
        eleventh = len(self.catalogue) - MOST_READ - 1
        return np.partition(self.reads_in, eleventh, axis=1)[:, eleventh] + 1 if eleventh >= 0 else np.ones(5, np.float32)

    @cached_property
    def site_onward(self) -> npt.NDArray[np.float64]:
        """(3,) onward reads of all articles in the windows of :attr:`onward_in`."""
        return np.asarray(self.onward_in.sum(axis=1, dtype=np.float64))

    def co_reads(self, article: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Positions read together with ``article`` and their weights."""
        span = slice(self.co_indptr[article], self.co_indptr[article + 1])
        return self.co_articles[span], self.co_weights[span]

    def warmth(self, pool: npt.NDArray[np.int32], at: float) -> npt.NDArray[np.float32]:
        """Heat of ``pool`` plus what a new article gets on credit: the section's median heat, fading out with age.

        References
        ----------
        ``m_s * max(0, 1 - age / N)`` with N = 1 h on a busy site and 24 h on a small one, whatever the half-life of heat.
        """
        age_h = (at - self.catalogue.published[pool]) / HOUR
        credit_h = 1.0 if self.busy else 24.0
        credit = self.typical[self.catalogue.section[pool]] * np.minimum(np.maximum(1.0 - age_h / credit_h, 0.0), 1.0)
        return (self.heat[pool] + credit).astype(np.float32)

    def followed_by(self, article: int | None, pool: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Share of co-reads of ``article`` that went to each article of ``pool``, shrunk by five: ``C_ij / (sum_j C_ij + 5)``."""
        if article is None:
            return np.zeros(len(pool), np.float32)
        return np.asarray(self.read_with(article, pool) / (self.co_total[article] + np.float32(5.0)))

    def read_with(self, article: int, pool: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """(m,) float32 weights of the pairs of ``article`` and each article of ``pool``; 0 where the two were never read together."""
        columns, weights = self.co_reads(article)
        if not len(columns):
            return np.zeros(len(pool), np.float32)
        place = np.minimum(columns.searchsorted(pool), len(columns) - 1)
        return np.where(columns[place] == pool, weights[place], np.float32(0.0))

    @classmethod
    def empty(cls, catalogue: Catalogue, at: float) -> Signals:
        """No read has happened yet."""
        none = Reads(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0))
        return build_signals(none, catalogue, at=at)


def build_signals(
    reads: Reads | Past, catalogue: Catalogue, *, at: float, rules: SignalRules = SignalRules(), last_offset: int = -1
) -> Signals:
    """Compute the snapshot as of ``at`` from reads before ``at``.

    Parameters
    ----------
    reads : sorted by time; only rows with ``at < at`` are used. A :class:`Past` (with the cap of ``rules``) serves many full
        hours; at other moments it is too strict, because it judges reader-hours that have not ended.
    at : unix seconds.

    References
    ----------
    Heat: a read counts ``0.5 ** (age / half-life)``. Co-reads: consecutive reads i -> j of one session within 48 h,
    weight ``0.5 ** (age / 8 h)``, plus half the reverse direction.
    """
    if isinstance(reads, Reads):
        reads = Past.of(reads.before(at, at - max(WINDOWS_H) * HOUR), cap_per_hour=rules.reader_cap_per_hour)
    past, article, n = reads, reads.reads.article, len(catalogue)
    reads_in = np.stack([np.bincount(article[past.once_a_day(past.within(at, w))], minlength=n) for w in WINDOWS_H])
    half_life_h = rules.half_life_h or (1.0 if reads_in[3].sum() >= 24 * BUSY_READS_PER_HOUR else 24.0)
    first = past.once_a_day(past.within(at, max(WINDOWS_H)))
    age_h = (at - past.reads.at[first]) / HOUR
    heat = np.bincount(article[first], weights=0.5 ** (age_h / half_life_h), minlength=n).astype(np.float64)
    since = past.within(at, 2 * max(ONWARD_WINDOWS_H)).start  # no session pauses for a day
    onward_of = [past.onward(past.once_a_day(past.within(at, w)), since=since) for w in (*ONWARD_WINDOWS_H, LEVEL_WINDOW_H)]
    lately = onward_of.pop()
    near_h, least = 2.0 * half_life_h, rules.co_read_sessions
    recent = past.sessions(past.within(at, NEAR_HALF_LIVES * near_h))
    read_together = past.sessions(past.within(at, rules.co_read_window_h))
    co = pair_rows(read_together, n, at=at, rules=PairRules(rules.co_read_half_life_h, 0.5, least_sessions=least))
    return Signals(
        catalogue,
        at,
        half_life_h,
        heat.astype(np.float32),
        reads_in.astype(np.float32),
        *(co.indptr, co.articles, co.weights, co.total),
        _typical(heat, catalogue, at=at, fresh_h=rules.fresh_h),
        np.stack([np.bincount(article[rows], minlength=n) for rows in onward_of]).astype(np.float32),
        pair_rows(recent, n, at=at, rules=PairRules(near_h, NEAR_DECAY, NEAR_STEPS, NEAR_DECAY, least)),
        pair_rows(recent, n, at=at, rules=PairRules(half_life_h, 0.0, least_sessions=least)),
        level_shares(article[lately], past.reads.at[lately], past.reads.levels[past.left[lately]], now=at),
        last_offset,
    )


def _typical(heat: npt.NDArray[np.float64], catalogue: Catalogue, *, at: float, fresh_h: float) -> npt.NDArray[np.float32]:
    age_h = (at - catalogue.published) / HOUR
    fresh = (age_h >= 0) & (age_h <= fresh_h) & ~catalogue.withdrawn
    site = float(np.median(heat[fresh])) if fresh.any() else 0.0
    inside = [heat[fresh & (catalogue.section == code)] for code in range(len(catalogue.sections))]
    return np.array([np.median(values) if len(values) >= 5 else site for values in inside], np.float32)


def with_texts(signals: Signals, texts: Texts) -> Signals:
    """Return the snapshot with these vectors of words."""
    return replace(signals, text_rows=texts.rows, text_vectors=texts.vectors, text_stories=texts.stories)


def signals_to_arrays(signals: Signals) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays to publish (all but the catalogue, whose version goes into the manifest)."""
    flat = {f.name: np.asarray(getattr(signals, f.name)) for f in fields(signals) if f.name not in ("catalogue", *PARTS)}
    for name in PARTS:
        flat |= getattr(signals, name).arrays(name)
    return flat


def signals_from_arrays(arrays: Mapping[str, npt.NDArray[Any]], catalogue: Catalogue) -> Signals:
    """Rebuild a snapshot; raises :class:`ArtefactError` when it belongs to a catalogue of another size, or lacks an array."""
    if arrays["heat"].shape != (len(catalogue),):
        raise ArtefactError(f"signals speak of {arrays['heat'].shape[0]} articles, the catalogue has {len(catalogue)}.")
    try:
        values: dict[str, Any] = {f.name: arrays[f.name] for f in fields(Signals) if f.name not in ("catalogue", *PARTS)}
        values |= {name: part.from_arrays(name, arrays) for name, part in PARTS.items()}
    except KeyError as error:
        raise ArtefactError(
            f"the signals lack {error}: another version of Presslab wrote them.", "Run `presslab jobs run signals`."
        ) from error
    values |= {"at": float(arrays["at"]), "half_life_h": float(arrays["half_life_h"]), "last_offset": int(arrays["last_offset"])}
    signals = Signals(catalogue=catalogue, **values)
    _ = signals.site_reads, signals.site_onward, signals.most_read_from  # computed here, not in the first request
    return signals
