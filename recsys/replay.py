"""Past page views asked again of several arms, through the slate builder that readers are served by."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from experiments.serving.answers import within
from experiments.serving.recommender import Context, Recommender
from experiments.serving.signals import HOUR
from experiments.serving.slate import build_slate
from recsys.judging import place_of
from recsys.requests import Request, Site, contexts

__all__ = ["Replayed", "Variety", "replay", "variety"]

ANSWER_S = 10.0
Floats = npt.NDArray[np.float64]


@dataclass(slots=True)
class Replayed:
    """What one arm did on every page view.

    Parameters
    ----------
    places : (n,) place of the article opened next, 0 the first, infinite when it was not ranked. readers : (n,) codes.
    history : (n,) bool, whether the reader had earlier reads. shown, ages_h : one entry per place shown.
    left : one entry per place that the pool could fill, True where the ladder did because the arm had ranked too few.
    articles : that could have been shown at some time. slate_ms, cpu_ms : milliseconds per slate, by the clock and of
        computing; the rest is waiting, for a core or for whatever the arm waits for.
    """

    places: Floats
    readers: npt.NDArray[np.int64]
    history: npt.NDArray[np.bool_]
    articles: int = 0
    shown: list[int] = field(default_factory=list)
    ages_h: list[float] = field(default_factory=list)
    left: list[bool] = field(default_factory=list)
    slate_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def hits(self, most: int) -> npt.NDArray[np.bool_]:
        """(n,) whether the article opened next was among the first ``most``."""
        return np.asarray(self.places < most)


@dataclass(frozen=True, slots=True)
class Variety:
    """How broad an arm's slates are: different articles shown, Gini of how often each was, median age, share from the ladder."""

    articles: int
    gini: float
    age_h: float
    ladder_share: float


def replay(
    arms: Mapping[str, Recommender], asked: Sequence[Request], site: Site, *, timed: str, slates: int, hopeless_ms: float
) -> dict[str, Replayed]:
    """Ask every arm every page view; the one called ``timed`` as often as makes that many ``slates``.

    An arm that does not answer within 10 s is an :class:`ArmError`. Once more than a hundredth of them took longer than ``hopeless_ms`` no further one is timed: its 99th percentile lies above that.
    """
    n, rules = len(asked), replace(site.slate_rules, explore=0.0)
    readers = np.array([request.reader for request in asked], np.int64)
    history = np.array([bool(request.reads) for request in asked])
    found = {name: Replayed(np.empty(n), readers, history) for name in arms}
    eligible: set[int] = set()
    slow = 0
    for row, (request, context) in enumerate(contexts(asked, site)):
        eligible.update(context.pool.tolist())
        for name, arm in arms.items():
            mine = found[name]
            mine.places[row] = within(ANSWER_S, partial(place_of, arm, request, context), doing=f"'{name}'")
            ranking = arm.rank(context)
            own = set(ranking.articles.tolist())
            for item in build_slate(ranking, context, rules=rules).items:
                mine.shown.append(item.article)
                mine.ages_h.append((context.at - site.catalogue.published[item.article]) / HOUR)
                if item.rung <= 2:  # further down the pool is used up, whatever the arm
                    mine.left.append(item.article not in own)
        times = found[timed].slate_ms
        for _ in range(-(-slates // n)):
            if slow <= slates // 100:
                by_clock, computing = _milliseconds(arms[timed], context)
                times.append(by_clock)
                found[timed].cpu_ms.append(computing)
                slow += by_clock > hopeless_ms
    for mine in found.values():
        mine.articles = len(eligible)
    return found


def _milliseconds(arm: Recommender, context: Context) -> tuple[float, float]:
    began, computed = time.perf_counter(), time.thread_time()
    build_slate(arm.rank(context), context)
    return (time.perf_counter() - began) * 1_000, (time.thread_time() - computed) * 1_000


def variety(replayed: Replayed) -> Variety:
    """Return how broad the slates were; articles that could have been shown and never were count as zero in the Gini coefficient.

    Examples
    --------
    >>> one = Replayed(np.zeros(1), np.zeros(1, np.int64), np.zeros(1, bool), 4, [0, 0, 1, 1], [1.0] * 4, [False] * 3 + [True])
    >>> variety(one)
    Variety(articles=2, gini=0.5, age_h=1.0, ladder_share=0.25)
    """
    often = np.unique(replayed.shown, return_counts=True)[1]
    counts = np.sort(np.append(often, np.zeros(max(0, replayed.articles - len(often)))))
    n, total = len(counts), counts.sum()
    gini = float((2 * np.arange(1, n + 1) - n - 1) @ counts / (n * total)) if total else 0.0
    return Variety(len(often), gini, float(np.median(replayed.ages_h)), float(np.mean(replayed.left or [False])))
