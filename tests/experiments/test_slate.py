"""One builder turns any ranking into what readers see."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.serving.recommender import Catalogue, Context, Ranking
from experiments.serving.signals import Signals, Texts, with_texts
from experiments.serving.slate import Pin, Slate, SlateRules, build_slate, pool_at
from tests.conftest import NOW, article

AT = NOW.timestamp()


def context(catalogue: Catalogue, **changes: Any) -> Context:
    signals = Signals.empty(catalogue, AT)
    values = {"at": AT, "article": 0, "reads": (), "signals": signals, **changes}
    values.setdefault("pool", pool_at(catalogue, AT, article=values["article"]))
    return Context(**values)


def ranking(*positions: int) -> Ranking:
    return Ranking(np.array(positions, np.int32), np.linspace(1, 0.1, len(positions), dtype=np.float32), ("als",) * len(positions))


def shown(slate: Any) -> list[int]:
    return [item.article for item in slate.items]


CALM = SlateRules(explore=0.0)


def test_the_arms_order_is_kept(catalogue: Catalogue) -> None:
    assert shown(build_slate(ranking(5, 6, 7, 8, 9, 10), context(catalogue), rules=CALM)) == [5, 6, 7, 8, 9, 10]


def test_the_open_article_and_what_was_read_are_never_shown(catalogue: Catalogue) -> None:
    slate = build_slate(ranking(0, 1, 2, 3, 4), context(catalogue, reads=(1, 2)), rules=CALM)
    assert not {0, 1, 2} & set(shown(slate))


def test_at_most_two_of_a_section_unless_the_slate_would_be_short(catalogue: Catalogue) -> None:
    slate = build_slate(ranking(4, 8, 12, 16, 5, 6, 7), context(catalogue), rules=CALM)
    assert shown(slate)[:5] == [4, 8, 5, 6, 7]
    same = Catalogue([article(i, section="one") for i in range(8)])
    assert len(build_slate(ranking(1, 2, 3, 4, 5, 6), context(same), rules=CALM).items) == 6


def test_when_the_cap_gives_way_the_arms_own_order_fills_the_slate() -> None:
    same = Catalogue([article(i, section="one") for i in range(12)])
    slate = build_slate(ranking(11, 10, 9, 8, 7, 6, 5), context(same), rules=CALM)
    assert shown(slate) == [11, 10, 9, 8, 7, 6]
    assert {item.rung for item in slate.items} == {0}


def test_the_cap_gives_way_before_the_ladder_and_holds_in_the_ladder() -> None:
    catalogue = Catalogue([article(i, section="one" if i < 4 else f"s{i}") for i in range(10)])
    slate = build_slate(ranking(3, 2, 1), context(catalogue), rules=CALM)
    assert [(item.article, item.rung) for item in slate.items] == [(3, 0), (2, 0), (1, 0), (4, 2), (5, 2), (6, 2)]


def test_one_article_per_story() -> None:
    catalogue = Catalogue([article(i, story="storm" if i in (1, 2) else "") for i in range(10)])
    assert shown(build_slate(ranking(1, 2, 3, 4), context(catalogue), rules=CALM))[:2] == [1, 3]


def told(catalogue: Catalogue, vectors: list[list[float]], stories: list[int], **changes: Any) -> Context:
    """The first articles of the catalogue have words, with these directions and shared stories."""
    texts = Texts(np.arange(len(vectors), dtype=np.int32), np.array(vectors, np.float32), np.array(stories, np.int32))
    return context(catalogue, signals=with_texts(Signals.empty(catalogue, AT), texts), **changes)


def test_articles_that_say_the_same_are_one_story_and_the_best_scored_stays() -> None:
    catalogue = Catalogue([article(i, section=f"s{i}") for i in range(12)])
    asked = told(catalogue, [[1, 0], [0, 1], [0, 1], [1, 0]], [-1, 5, 5, -1])
    slate = shown(build_slate(ranking(2, 1, 3, 4, 5, 6, 7), asked, rules=CALM))
    assert slate[0] == 2
    assert 1 not in slate
    assert shown(build_slate(ranking(1, 3, 4), asked, rules=CALM, pins=(Pin(2, 0, AT - 1, AT + 1),)))[:2] == [2, 3]


def test_an_article_like_one_already_chosen_waits_until_the_arm_wants_nothing_else_as_much() -> None:
    catalogue = Catalogue([article(i, section=f"s{i}") for i in range(12)])
    alike = [[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    order = ranking(1, 2, 3, 4, 5, 6, 7)  # 2 says almost what 1 says; 3 and 4 do not
    assert shown(build_slate(order, told(catalogue, alike, [-1] * 5), rules=CALM)) == [1, 3, 4, 2, 5, 6]
    assert shown(build_slate(order, told(catalogue, alike, [-1] * 5), rules=replace(CALM, mixed_among=0))) == [1, 2, 3, 4, 5, 6]
    pinned = build_slate(ranking(2, 3, 4, 5, 6), told(catalogue, alike, [-1] * 5), rules=CALM, pins=(Pin(1, 0, AT - 1, AT + 1),))
    assert shown(pinned)[:3] == [1, 3, 2]


def test_scores_that_say_nothing_keep_the_arms_order() -> None:
    catalogue = Catalogue([article(i, section=f"s{i}") for i in range(12)])
    order = Ranking(np.array([3, 2, 1, 4, 5, 6], np.int32), np.full(6, np.inf, np.float32), ("x",) * 6)
    assert shown(build_slate(order, told(catalogue, [[1, 0]] * 5, [-1] * 5), rules=CALM)) == [3, 2, 1, 4, 5, 6]


def test_a_pin_stands_on_its_place_in_every_arm_while_it_lasts(catalogue: Catalogue) -> None:
    pins = (Pin(20, 1, AT - 10, AT + 10), Pin(21, 0, AT - 10, AT - 5))
    slate = build_slate(ranking(5, 6, 7, 8, 9, 10), context(catalogue), rules=CALM, pins=pins)
    assert shown(slate)[:3] == [5, 20, 6]
    assert slate.items[1].pinned


def test_a_pin_stands_also_where_a_small_site_has_nothing_for_the_places_above() -> None:
    small = Catalogue([article(i) for i in range(5)])
    slate = build_slate(ranking(2, 3), context(small, reads=(3,)), rules=CALM, pins=(Pin(4, 5, AT - 1, AT + 1),))
    assert shown(slate) == [2, 1, 4]
    assert [item.pinned for item in slate.items] == [False, False, True]


def test_an_article_that_is_pinned_on_two_places_stands_on_the_upper_one(catalogue: Catalogue) -> None:
    pins = tuple(Pin(20, place, AT - 1, AT + 1) for place in (4, 1, -1))
    slate = build_slate(ranking(5, 6, 7, 8, 9, 10), context(catalogue), rules=CALM, pins=pins)
    assert shown(slate) == [5, 20, 6, 7, 8, 9]


def test_all_places_may_be_pinned(catalogue: Catalogue) -> None:
    pins = tuple(Pin(20 + place, place, AT - 1, AT + 1) for place in range(6))
    slate = build_slate(ranking(5, 6, 7), context(catalogue), pins=pins)
    assert shown(slate) == [20, 21, 22, 23, 24, 25]
    assert {(item.pinned, item.propensity) for item in slate.items} == {(True, 1.0)}


def test_of_two_pins_on_one_place_the_later_stands_unless_it_may_not_be_shown() -> None:
    catalogue = Catalogue([article(i, withdrawn=i == 5) for i in range(20)])
    for pinned, stands in (((7, 8), 8), ((7, 5), 7), ((5, 7), 7)):
        pins = [Pin(position, 0, AT - 1, AT + 1) for position in pinned]
        assert build_slate(ranking(2, 3), context(catalogue), rules=CALM, pins=pins).items[0].article == stands


def test_a_withdrawn_article_is_not_shown_even_when_pinned() -> None:
    catalogue = Catalogue([article(i, withdrawn=i == 3) for i in range(12)])
    slate = build_slate(ranking(3, 4, 5), context(catalogue), rules=CALM, pins=(Pin(3, 0, 0, AT + 1),))
    assert 3 not in shown(slate)


def test_an_empty_ranking_falls_down_the_ladder_and_says_so(catalogue: Catalogue) -> None:
    slate = build_slate(Ranking.empty(), context(catalogue), rules=CALM)
    assert [item.rung for item in slate.items] == [1, 1, 2, 2, 2, 2]  # the cap of two holds for the open article's section, too
    assert {catalogue.articles[item.article].section for item in slate.items[:2]} == {catalogue.articles[0].section}


def test_the_ladder_of_a_site_that_nobody_reads_yet_begins_with_the_newest() -> None:
    hours = [20, 9, 3, 14, 7, 1, 30, 2]
    catalogue = Catalogue([article(i, section=f"s{i % 2 or i}", published_at=NOW - timedelta(hours=h)) for i, h in enumerate(hours)])
    slate = build_slate(Ranking.empty(), context(catalogue, article=6), rules=CALM)
    assert [hours[item.article] for item in slate.items] == [1, 2, 3, 7, 20, 9]  # two of s1 before the cap gives way


def test_what_was_shown_again_and_again_comes_back_only_where_a_small_site_has_nothing_else() -> None:
    small = Catalogue([article(i) for i in range(6)])
    asked = context(small, reads=(1, 2), tired=(2, 3, 5))
    assert shown(build_slate(ranking(5, 4, 3), asked, rules=CALM)) == [4, 3, 5]  # 2 was opened
    assert not {1, 2, 3} & set(
        shown(build_slate(ranking(1, 2, 3, 4), context(Catalogue([article(i) for i in range(12)]), tired=(1, 2, 3))))
    )


def test_with_nothing_fresh_the_editors_and_then_the_newest_fill_the_slate(catalogue: Catalogue) -> None:
    late = context(catalogue, at=AT + 90 * 86_400, pool=np.zeros(0, np.int32))
    slate = build_slate(Ranking.empty(), late, rules=CALM, editors=(30, 31))
    assert [(item.article, item.rung) for item in slate.items][:3] == [(30, 3), (31, 3), (1, 4)]


def test_of_the_editors_list_only_what_is_out_and_not_withdrawn_is_shown() -> None:
    catalogue = Catalogue([article(0), article(1, withdrawn=True), article(2, published_at=NOW + timedelta(hours=1)), article(3)])
    slate = build_slate(Ranking.empty(), context(catalogue, pool=np.zeros(0, np.int32)), rules=CALM, editors=(0, 1, 2, 3))
    assert [(item.article, item.source) for item in slate.items] == [(3, "editors")]


def test_an_empty_site_gives_an_empty_slate() -> None:
    catalogue = Catalogue([])
    assert build_slate(Ranking.empty(), context(catalogue, article=None), rules=CALM).items == ()


@pytest.mark.parametrize("n", [0, 1, 3, 1_000])
def test_any_number_of_places_is_allowed(catalogue: Catalogue, n: int) -> None:
    assert len(build_slate(ranking(5, 6, 7, 8, 9, 10, 11), context(catalogue, n=n)).items) == min(n, 6)


@given(seed=st.integers(0, 2**63), size=st.integers(0, 39))
def test_a_slate_is_always_distinct_eligible_and_repeatable(seed: int, size: int) -> None:
    catalogue = Catalogue([article(i) for i in range(40)])
    chosen = np.random.default_rng(seed).permutation(40)[:size]
    asked = context(catalogue, seed=seed)
    slate = build_slate(ranking(*chosen.tolist()), asked)
    assert len(set(shown(slate))) == len(slate.items) == 6
    assert set(shown(slate)) <= set(asked.pool.tolist())
    assert slate == build_slate(ranking(*chosen.tolist()), asked)


@pytest.mark.parametrize("pool", [[], [9, 3], [3, 5, 9, 12, 20, 22]])
def test_an_arm_places_no_article_that_is_not_in_the_pool(catalogue: Catalogue, pool: list[int]) -> None:
    ranked = ranking(-1, 9, 4, 3, 30, 20)  # -1 is what some libraries return for "none"
    slate = build_slate(ranked, context(catalogue, pool=np.array(pool, np.int32)), rules=CALM)
    assert [item.article for item in slate.items if item.rung == 0] == [i for i in (9, 3, 20) if i in pool]


def test_exploration_draws_with_the_propensity_it_logs(catalogue: Catalogue) -> None:
    rules = SlateRules(explore=0.5, explore_among=4, n=4)
    counts: dict[int, int] = {}
    logged: dict[int, float] = {}
    asked, order = context(catalogue), ranking(*range(5, 25))
    for seed in range(4_000):
        item = build_slate(order, replace(asked, seed=seed), rules=rules).items[3]
        counts[item.article] = counts.get(item.article, 0) + 1
        logged[item.article] = item.propensity
    assert sum(logged.values()) == pytest.approx(1.0)
    for found, propensity in logged.items():
        assert counts[found] / 4_000 == pytest.approx(propensity, abs=0.035)  # 4 standard errors of a share of 0.6


def test_what_an_arm_draws_from_its_seed_says_nothing_about_what_is_explored(catalogue: Catalogue) -> None:
    """Both drew from the same numbers: where the arm's first draw was low, the fourth place was explored 84 times in 100."""
    low = [seed for seed in range(4_000) if np.random.default_rng(seed).random() < SlateRules().explore]
    asked, mine = context(catalogue), ranking(5, 6, 7, 8, 9, 10, 11, 12)
    explored = sum(build_slate(mine, replace(asked, seed=seed)).items[3].explored for seed in low)
    assert explored < 0.12 * len(low)


def test_an_arm_cannot_write_a_withdrawn_article_into_its_pool() -> None:
    catalogue = Catalogue([article(i, withdrawn=i == 5) for i in range(20)])
    asked = context(catalogue)
    with pytest.raises(ValueError, match="read-only"):
        asked.pool[0] = 5
    assert not replace(asked, pool=np.arange(3, dtype=np.int32)).pool.flags.writeable


def test_the_first_three_places_never_explore(catalogue: Catalogue) -> None:
    slates = [build_slate(ranking(*range(5, 25)), context(catalogue, seed=seed), rules=SlateRules(explore=1.0)) for seed in range(50)]
    assert {tuple(shown(slate)[:3]) for slate in slates} == {(5, 6, 7)}


@pytest.mark.parametrize(("alike", "most"), [("story", 1), ("section", 2)])
def test_exploration_keeps_one_article_per_story_and_two_per_section(alike: str, most: int) -> None:
    """Articles 7 to 19 are alike, and none of them is among the arm's first six."""
    catalogue = Catalogue([article(i, **{alike: "storm" if i >= 7 else f"other {i}"}) for i in range(20)])
    found = set()
    for seed in range(200):
        slate = build_slate(ranking(*range(20)), context(catalogue, seed=seed), rules=SlateRules(explore=0.8))
        found.add(sum(item.article >= 7 for item in slate.items))
    assert max(found) == most


def test_once_an_article_of_a_story_is_drawn_the_next_place_draws_from_the_others() -> None:
    """The arm's third and fourth, then three spare articles, two of which are one story."""
    catalogue = Catalogue([article(i, story="storm" if i in (5, 6) else "") for i in range(8)])
    rules, found = SlateRules(explore=0.8, explore_from=2, n=4), dict[int, set[int]]()
    asked = context(catalogue)
    for seed in range(400):
        third, fourth = build_slate(ranking(*range(8)), replace(asked, seed=seed), rules=rules).items[2:]
        found.setdefault(third.article, set()).add(fourth.article)
        assert third.propensity == pytest.approx(0.2 * (third.article == 3) + 0.8 / 5)
        wanted, among = (4 if third.article == 3 else 3), (3 if third.article in (5, 6) else 4)
        assert fourth.propensity == pytest.approx(0.2 * (fourth.article == wanted) + 0.8 / among)
    assert found == {3: {4, 5, 6, 7}, 4: {3, 5, 6, 7}, 5: {3, 4, 7}, 6: {3, 4, 7}, 7: {3, 4, 5, 6}}


@pytest.mark.parametrize("sections", [1, 2, 3, 13])
def test_every_slate_comes_as_often_as_its_logged_propensities_say(sections: int) -> None:
    """Each of 1,500 seeds is a page view; the chance of a slate is the product of what is logged at its places."""
    n, counts, chance = 1_500, Counter[tuple[int, ...]](), dict[tuple[int, ...], float]()
    catalogue = Catalogue([article(i, section=f"s{i % sections}", story="storm" if i in (8, 9) else "") for i in range(14)])
    asked, order, rules = context(catalogue), ranking(*range(1, 14)), SlateRules(explore=0.6, explore_among=3)
    for seed in range(n):
        items = build_slate(order, replace(asked, seed=seed), rules=rules).items
        slate = tuple(item.article for item in items)
        counts[slate] += 1
        chance[slate] = math.prod(item.propensity for item in items)
    assert sum(chance.values()) == pytest.approx(1.0)  # the rarest comes 12 times: none was missed
    off = sum((counts[slate] - n * p) ** 2 / (n * p) for slate, p in chance.items())
    assert off < len(chance) - 1 + 5 * math.sqrt(2 * (len(chance) - 1))  # chi-squared, five standard deviations
    assert all(len({slate[place] for slate in chance}) > 1 for place in (3, 4, 5))


def test_a_site_of_three_sections_explores_in_the_last_three_places_and_shows_two_of_each() -> None:
    catalogue = Catalogue([article(i, section=f"s{i % 3}") for i in range(30)])
    asked, order = context(catalogue), ranking(*range(1, 30))
    slates = [build_slate(order, replace(asked, seed=seed)) for seed in range(600)]
    assert {tuple(sorted(Counter(i % 3 for i in shown(slate)).values())) for slate in slates} == {(2, 2, 2)}
    explored = [sum(slate.items[place].explored for slate in slates) / 600 for place in range(6)]
    assert explored[:3] == [0, 0, 0]
    assert min(explored[3:]) > 0.02  # of 5 % the draws that fall on what the arm wants anyway, and three simulation errors


def test_a_pin_above_hides_no_section_from_the_draws_below() -> None:
    """Beside a pinned article of s0, places 2 and 3 take one of s1 and one of s2: the fourth may be any section's."""
    catalogue = Catalogue([article(i, section=f"s{i % 3}") for i in range(30)])
    asked, order, rules = context(catalogue), ranking(*range(1, 30)), SlateRules(explore=1.0)
    fourth = [build_slate(order, replace(asked, seed=seed), rules=rules, pins=(Pin(3, 0, AT - 1, AT + 1),)).items[3] for seed in range(100)]
    assert {item.article % 3 for item in fourth} == {0, 1, 2}
    assert {item.propensity for item in fourth} == {1 / 20}


@given(sections=st.lists(st.integers(0, 4), min_size=1, max_size=30), pinned=st.booleans(), seed=st.integers(0, 2**32))
def test_a_slate_with_drawn_articles_is_as_long_as_the_arms_own_and_no_section_has_more(
    sections: list[int], pinned: bool, seed: int
) -> None:
    catalogue = Catalogue([article(i, section=f"s{code}") for i, code in enumerate(sections)])
    order = ranking(*np.random.default_rng(seed).permutation(len(sections)).tolist())
    pins = [Pin(len(sections) - 1, 4, AT - 1, AT + 1)] if pinned else []
    own, drawn = (build_slate(order, context(catalogue, seed=seed), rules=rules, pins=pins) for rules in (CALM, SlateRules(explore=0.9)))
    wanted, found = (Counter(sections[i] for i in shown(slate)) for slate in (own, drawn))
    assert len(drawn.items) == len(own.items)
    assert all(count <= max(2, wanted[section]) for section, count in found.items())


def test_the_pool_holds_fresh_and_evergreen_articles_only() -> None:
    catalogue = Catalogue([article(1), article(100), article(101, evergreen=True), article(-2), article(3, withdrawn=True)])
    assert [catalogue.ids[i] for i in pool_at(catalogue, AT)] == ["a001", "a101"]


@given(
    ages=st.lists(st.sampled_from([-1.0, 0.0, 1.0, 47.0, 48.0, 50.0, 72.0, 73.0]), max_size=12),
    busy=st.integers(1, 6),
    open_one=st.booleans(),
)
def test_the_pool_is_what_a_look_at_every_article_finds(ages: list[float], busy: int, open_one: bool) -> None:
    made = [article(i, evergreen=i % 5 == 4, withdrawn=i % 4 == 3) for i in range(len(ages))]
    catalogue = Catalogue([replace(a, published_at=NOW - timedelta(hours=h)) for a, h in zip(made, ages, strict=True)])
    rules, opened = SlateRules(busy_pool=busy), 0 if open_one and made else None
    age_h = (AT - catalogue.published) / 3_600
    out = (age_h >= 0) & ~catalogue.withdrawn
    hours = 48.0 if (out & (age_h <= 48)).sum() >= busy else 72.0
    expected = np.flatnonzero(out & ((age_h <= hours) | catalogue.evergreen) & (np.arange(len(made)) != (-1 if opened is None else opened)))
    pool = pool_at(catalogue, AT, article=opened, rules=rules)
    assert pool.tolist() == expected.tolist()
    assert pool.dtype == np.int32


def test_exploration_may_draw_each_article_once_when_the_arm_ranks_too_few(catalogue: Catalogue) -> None:
    """A place of the section of the open article and one of the whole site name the same article; it is one chance, as logged."""
    at_four = [
        build_slate(ranking(1, 2, 3, 5, 6), context(catalogue, seed=seed), rules=SlateRules(explore=1.0)).items[3] for seed in range(400)
    ]
    assert {round(1 / item.propensity) for item in at_four} == {len({item.article for item in at_four})}


@given(
    st.lists(st.tuples(st.floats(-100, 100), st.booleans(), st.booleans()), min_size=1, max_size=30),
    st.lists(st.integers(-1, 40), unique=True, max_size=12),
    st.lists(st.integers(0, 29), max_size=8),
    st.integers(0, 1_000),
)
def test_whatever_an_arm_and_the_editors_want_nothing_withdrawn_unpublished_or_open_is_shown(
    kinds: list[tuple[float, bool, bool]], wanted: list[int], listed: list[int], seed: int
) -> None:
    articles = [
        article(i, published_at=NOW - timedelta(hours=hours), evergreen=lasting, withdrawn=withdrawn)
        for i, (hours, lasting, withdrawn) in enumerate(kinds)
    ]
    known = [i for i in listed if i < len(articles)]
    now = context(Catalogue(articles), seed=seed)
    pins = [Pin(i, place, AT - 1, AT + 1) for place, i in enumerate(known)]
    items = build_slate(ranking(*wanted), now, rules=SlateRules(explore=0.5), pins=pins, editors=known).items
    assert all(not articles[a].withdrawn and articles[a].published_at <= NOW and a != 0 for a in shown(Slate(items)))
