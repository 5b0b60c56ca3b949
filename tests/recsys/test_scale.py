"""A request looks at the pool, however many articles the site has: what it allocates does not grow with the catalogue."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from experiments.serving.recommender import Article, Catalogue, Context, Recommender
from experiments.serving.signals import HOUR, Reads, SignalRules, Signals, build_signals
from experiments.serving.slate import build_slate, pool_at
from heuristics.front import Front
from heuristics.front_personal import FrontPersonal
from recsys.arms.als import Als
from recsys.arms.ranked import Ranked
from recsys.factors import Factors
from recsys.features import FEATURES
from recsys.fit_ranked import flatten

AT = datetime(2026, 1, 5, tzinfo=UTC).timestamp()
OLD, FRESH = 60_000, 40


@lru_cache(maxsize=1)
def signals() -> Signals:
    """Sixty thousand articles of last year and forty of today, read by one session after the other."""
    age_h = np.concatenate([np.linspace(9_000, 100, OLD), np.linspace(20, 1, FRESH)])
    catalogue = Catalogue(
        [Article(f"{i:06d}", "", "", "", f"s{i % 5}", "", datetime.fromtimestamp(AT - h * HOUR, UTC)) for i, h in enumerate(age_h.tolist())]
    )
    article = np.tile(np.arange(OLD, OLD + FRESH, dtype=np.int32), 20)
    session = np.arange(len(article), dtype=np.int64) // 4
    return build_signals(
        Reads(session, session, article, AT - HOUR + np.arange(len(article))), catalogue, at=AT, rules=SignalRules(co_read_sessions=1)
    )


def factors() -> Factors:
    vectors = np.zeros((OLD + FRESH, 8), np.float32)
    vectors[OLD:] = np.random.default_rng(0).normal(size=(FRESH, 8))
    made = Factors(vectors, 10.0, 0.1)
    assert made.base.shape == (8, 8)
    assert made.known.sum() == FRESH
    return made


def ranked() -> Ranked:
    x = np.random.default_rng(0).normal(size=(400, len(FEATURES)))
    with threadpool_limits(1):
        model = HistGradientBoostingClassifier(max_iter=5, early_stopping=False).fit(x, x[:, 1] > 0)
    return Ranked(flatten(model), factors(), version="", recent_reads=10.0)


@pytest.mark.parametrize("make", [Front, FrontPersonal, lambda: Als(factors(), version="", recent_reads=10.0), ranked])
def test_a_request_allocates_less_than_a_byte_an_article(make: Callable[[], Recommender]) -> None:
    arm, now = make(), signals()

    def ask() -> int:
        context = Context(AT, OLD + 3, (OLD + 7, OLD + 9), now, pool_at(now.catalogue, AT, article=OLD + 3))
        return len(build_slate(arm.rank(context), context).items)

    assert ask() == 6  # and warm: tables and sums are made once
    tracemalloc.start()
    assert ask() == 6
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < OLD, f"{peak:,} bytes for a pool of {FRESH} articles"
