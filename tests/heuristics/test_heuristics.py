"""Each rule puts first what its name says."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from experiments.serving.recommender import Catalogue, Context, arm_class
from experiments.serving.signals import HOUR, Reads, SignalRules, Signals, build_signals
from experiments.serving.slate import pool_at
from tests.conftest import NOW, article

AT = NOW.timestamp()


@pytest.fixture
def asked(catalogue: Catalogue) -> Context:
    """Article 10 is open; 30 was read most, 20 is what readers of 10 read next."""
    rows = [(r, r, 30, 1.0) for r in range(9)] + [(r + 20, r + 20, a, 0.9 - a / 100) for r in range(4) for a in (10, 20)]
    rows.sort(key=lambda row: -row[3])
    reader, session, opened, hours = (np.array(column) for column in zip(*rows, strict=True))
    signals = build_signals(
        Reads(reader, session, opened.astype(np.int32), AT - hours * HOUR), catalogue, at=AT, rules=SignalRules(co_read_sessions=2)
    )
    return Context(AT, 10, (), signals, pool_at(catalogue, AT, article=10))


@pytest.mark.parametrize(("name", "first", "source"), [("newest", 0, "newest"), ("most_read", 30, "heat"), ("front", 20, "co_read")])
def test_the_rule_puts_first_what_it_says(asked: Context, name: str, first: int, source: str) -> None:
    ranking = arm_class(name)().rank(asked)
    assert (int(ranking.articles[0]), ranking.sources[0]) == (first, source)


def test_without_an_open_article_the_front_rule_follows_heat(asked: Context) -> None:
    from dataclasses import replace

    assert int(arm_class("front")().rank(replace(asked, article=None)).articles[0]) == 30


def test_the_status_quo_recommends_nothing(asked: Context) -> None:
    assert len(arm_class("status_quo")().rank(asked).articles) == 0


@pytest.mark.parametrize("name", ["most_read", "front", "front_personal"])
def test_of_articles_that_were_read_alike_the_newest_comes_first(name: str) -> None:
    """Nobody has read anything yet; the order of the catalogue is not that of publication."""
    hours = np.random.default_rng(1).permutation(30)
    catalogue = Catalogue([article(i, published_at=NOW - timedelta(hours=int(hour))) for i, hour in enumerate(hours)])
    asked = Context(AT, 0, (), Signals.empty(catalogue, AT), pool_at(catalogue, AT, article=0))
    shown = [int(hours[i]) for i in arm_class(name)().rank(asked).articles]
    assert shown == sorted(shown)
