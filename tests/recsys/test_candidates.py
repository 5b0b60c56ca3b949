"""The union of candidates: quick, and exactly what a look at every article of the pool would find."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np

from experiments.serving.recommender import Catalogue, Context
from experiments.serving.signals import Reads, SignalRules, Signals, Texts, build_signals, with_texts
from experiments.serving.slate import pool_at
from recsys.arms.als import folded
from recsys.arms.ranked import Ranked
from recsys.candidates import ALS, CO_READ, HEAT, TEXT, Shelf, Union, candidates
from recsys.factors import Factors, Folded
from recsys.features import FEATURES
from recsys.trees import Trees
from tests.conftest import NOW, article

SIZE = 400
CATALOGUE = Catalogue([replace(article(i), published_at=NOW - timedelta(hours=60 * i / SIZE)) for i in range(SIZE)])
AT = NOW.timestamp()


def site(seed: int) -> tuple[Signals, Factors]:
    """Reads, vectors and words with many equal values; a third of the articles lacks each."""
    rng = np.random.default_rng(seed)
    session = np.arange(3_000) // 5
    read = (rng.zipf(1.5, 3_000) % SIZE).astype(np.int32)
    signals = build_signals(
        Reads(session, session, read, np.sort(AT - rng.random(3_000) * 3_600 * 30)), CATALOGUE, at=AT, rules=SignalRules(co_read_sessions=1)
    )
    rows = np.sort(rng.choice(SIZE, 2 * SIZE // 3, replace=False)).astype(np.int32)
    words = rng.integers(-2, 3, (len(rows), 6)).astype(np.float32)
    vectors = rng.integers(-2, 3, (SIZE, 4)).astype(np.float32)
    vectors[rng.random(SIZE) < 1 / 3] = 0.0
    return with_texts(signals, Texts(rows, words, np.full(len(rows), -1, np.int32))), Factors(vectors, 10.0, 0.1)


def asked(signals: Signals, seed: int) -> Context:
    rng = np.random.default_rng(seed)
    opened = int(rng.integers(SIZE)) if seed % 4 else None
    pool = pool_at(CATALOGUE, AT - 3_600 * (seed % 3), article=opened)
    reads = tuple(rng.integers(0, SIZE, 5).tolist())
    return Context(AT, opened, reads, signals, pool[rng.random(len(pool)) > 0.1 * (seed % 2)], session_position=1)


def plainly(context: Context, reader: Folded | None) -> Union:
    """The definition: four full lists, each sorted whole, the first that has an article names it."""
    signals: Signals = context.signals
    pool = np.unique(context.pool)
    scores = {"co_read": signals.followed_by(context.article, pool), "heat": signals.warmth(pool, context.at)}
    scores["als"] = np.array([reader.scores(np.array([i]))[0] if reader and reader.factors.known[i] else np.nan for i in pool])
    scores["text"] = signals.texts.likeness(context.article, pool)
    source: dict[int, str] = {}
    for name, most, above in (("co_read", CO_READ, 0.0), ("heat", HEAT, -np.inf), ("als", ALS, -np.inf), ("text", TEXT, 0.0)):
        values = scores[name]
        order = [i for i in np.lexsort((pool, -values)).tolist() if values[i] > above]
        for place in order[:most]:
            source.setdefault(int(pool[place]), name)
    chosen = np.array([i in source for i in pool.tolist()])
    return Union(pool[chosen], scores["als"][chosen], tuple(source[i] for i in pool[chosen].tolist()))


def assert_same(found: Union, expected: Union) -> None:
    np.testing.assert_array_equal(found.articles, expected.articles)
    np.testing.assert_array_equal(found.als, expected.als)
    assert found.sources == expected.sources


def test_the_union_is_that_of_four_lists_sorted_whole() -> None:
    sources = set()
    for seed in range(24):
        signals, factors = site(seed % 5)
        context = asked(signals, seed)
        reader = folded(factors, context, 10.0) if seed % 6 else None
        expected = plainly(context, reader)
        assert_same(candidates(context, reader), expected)
        assert_same(candidates(replace(context, pool=np.repeat(context.pool[::-1], 2)), reader), expected)  # any order, repeated or not
        sources |= set(expected.sources)
    assert sources == {"co_read", "heat", "als", "text"}


def test_a_shelf_made_for_other_requests_changes_nothing_and_is_kept_while_it_reaches() -> None:
    (signals, factors), (later, _) = site(1), site(2)
    trees = Trees(*(np.zeros(0) for _ in range(10)))
    arm = Ranked(trees, factors, version="1", recent_reads=10.0)
    for seed in range(12):
        context = asked(signals if seed < 8 else later, seed)
        union, features = arm.inputs(context)
        assert_same(union, candidates(context, folded(factors, context, 10.0)))
        assert features.shape == (len(union.articles), len(FEATURES))
    context = asked(later, 7)
    shelf = Shelf.of(later, factors, context.pool)
    kept, place = shelf.reaching(replace(context, pool=context.pool[1:]), factors)
    assert kept is shelf
    assert place.tolist() == list(range(1, len(context.pool)))
    wider, place = shelf.reaching(replace(context, pool=np.arange(SIZE, dtype=np.int32)), factors)
    assert wider is not shelf
    assert wider.articles[place].tolist() == list(range(SIZE))
    assert shelf.reaching(replace(context, signals=signals), factors)[0].signals is signals
    assert shelf.reaching(context, Factors(factors.vectors, 10.0, 0.1))[0] is not shelf


def test_no_article_no_reader_and_no_pool_are_served_too() -> None:
    signals, _ = site(0)
    nothing = Context(AT, None, (), signals, np.zeros(0, np.int32))
    assert candidates(nothing, None).sources == ()
    only_heat = replace(nothing, pool=pool_at(CATALOGUE, AT))
    assert set(candidates(only_heat, None).sources) == {"heat"}
