"""Past page views as requests: what an arm would have known then, and what the reader opened next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from experiments.serving.pair_rows import packed
from experiments.serving.recent import before_page, unread
from experiments.serving.recommender import Catalogue, Context
from experiments.serving.signals import HOUR, Past, Reads, SignalRules, Signals, Texts, build_signals, with_texts
from experiments.serving.slate import SlateRules, pool_at

__all__ = ["Request", "Site", "contexts", "next_reads"]


@dataclass(frozen=True, slots=True)
class Request:
    """One article view that was followed by another in the same session.

    Parameters
    ----------
    at : unix seconds at which the first article was opened; nothing later may be known.
    article : position of the open article. target : position of the next one.
    reader : code. reads : the last 20 articles the reader had read, oldest first, without the open one.
    session_position : article views of this session before the open one. answered_at : when the next one was opened.
    levels : device and referrer of the view of the open article.
    """

    at: float
    answered_at: float
    article: int
    target: int
    reader: int
    reads: tuple[int, ...]
    session_position: int
    levels: tuple[int, ...] = ()


@dataclass(frozen=True)
class Site:
    """What all readers of the site did, and its rules: signals come from everybody, also from readers no model may learn from.

    ``texts`` are made of articles alone, so those of later articles tell a request nothing: they are not in its pool.
    """

    catalogue: Catalogue
    reads: Reads
    signal_rules: SignalRules = field(default_factory=SignalRules)
    slate_rules: SlateRules = field(default_factory=SlateRules)
    refresh_s: float = HOUR
    texts: Texts = field(default_factory=Texts.none)

    @cached_property
    def past(self) -> Past:
        """The reads as snapshots at full hours need them."""
        return Past.of(self.reads, cap_per_hour=self.signal_rules.reader_cap_per_hour)


def next_reads(reads: Reads, *, since: float, until: float, most: int, seed: int) -> list[Request]:
    """Return requests with ``since <= at`` and their next read before ``until``, in order of time.

    Next reads of an article the reader had read before are left out: a slate never shows those.

    Parameters
    ----------
    most : when there are more, this many are drawn without replacement.
    """
    order = np.lexsort((reads.at, reads.session))
    same = reads.session[order][1:] == reads.session[order][:-1]
    opened, target = order[:-1][same], order[1:][same]
    usable = (reads.article[opened] != reads.article[target]) & (reads.at[opened] >= since) & (reads.at[target] < until)
    opened, target = opened[usable], target[usable]
    unread = ~_read_before(reads, opened, target)
    opened, target = opened[unread], target[unread]
    if len(opened) > most:
        drawn = np.sort(np.random.default_rng(seed).choice(len(opened), most, replace=False))
        opened, target = opened[drawn], target[drawn]
    place = _place_in_session(reads, order)
    by_reader = np.argsort(reads.reader, kind="stable")
    starts = np.searchsorted(reads.reader[by_reader], np.arange(int(reads.reader.max(initial=-1)) + 2))
    rank = np.empty(len(reads), np.int64)
    rank[by_reader] = np.arange(len(reads))
    found = []
    for first, second in zip(opened.tolist(), target.tolist(), strict=True):
        mine = by_reader[starts[reads.reader[first]] : rank[first]]
        article, wanted = int(reads.article[first]), int(reads.article[second])
        earlier = before_page(reads.article[mine].tolist(), article)
        when, levels = (float(reads.at[first]), float(reads.at[second])), tuple(reads.levels[first].tolist())
        found.append(Request(*when, article, wanted, int(reads.reader[first]), earlier, int(place[first]), levels))
    return sorted(found, key=lambda request: (request.at, request.reader))


def _read_before(reads: Reads, opened: npt.NDArray[np.intp], target: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """Whether the reader of row ``opened`` had read the article of row ``target`` before that row."""
    reader = np.concatenate([reads.reader, reads.reader[opened]])
    article = np.concatenate([reads.article, reads.article[target]]).astype(np.int64)
    _, first, pair = np.unique(packed(reader, article), return_index=True, return_inverse=True)
    return np.asarray(first[pair[len(reads) :]] < opened)


def _place_in_session(reads: Reads, order: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    sessions = reads.session[order]
    starts = np.flatnonzero(np.diff(sessions, prepend=-1) != 0)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    return place


def contexts(requests: Sequence[Request], site: Site) -> Iterator[tuple[Request, Context]]:
    """Yield each request with the context of its moment: signals as last published before it, never later.

    Parameters
    ----------
    requests : in order of time.
    """
    signals: Signals | None = None
    for request in requests:
        published = request.at // site.refresh_s * site.refresh_s
        if signals is None or signals.at != published:
            log = site.past if published % HOUR == 0 else site.reads
            signals = with_texts(build_signals(log, site.catalogue, at=published, rules=site.signal_rules), site.texts)
        pool = unread(pool_at(site.catalogue, request.at, article=request.article, rules=site.slate_rules), request.reads)
        yield (
            request,
            Context(
                request.at, request.article, request.reads, signals, pool, session_position=request.session_position, levels=request.levels
            ),
        )
