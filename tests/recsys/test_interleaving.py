"""Interleaving: fair when there is no difference, and quick to find one."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from experiments.serving.recommender import Ranking
from recsys.interleaving import Draft, Team, credit, power_of, preference, readers_needed, team_draft

CLICK_BY_PLACE = np.array([0.30, 0.20, 0.15, 0.10, 0.08, 0.05])


def ranking(*articles: int) -> Ranking:
    return Ranking(np.array(articles, np.int32), np.linspace(1, 0, len(articles), dtype=np.float32), ("heat",) * len(articles))


A, B = ranking(1, 2, 3, 4, 5, 6, 7, 8), ranking(4, 11, 1, 12, 13, 14, 2, 15)


def test_each_arm_adds_its_best_unused_article_in_turn() -> None:
    for seed in range(20):
        draft = team_draft(A, B, n=6, seed=seed)
        assert len(set(draft.articles)) == 6
        for first in (0, 2, 4):
            assert set(draft.teams[first : first + 2]) == {"a", "b"}
        left = {"a": A.articles.tolist(), "b": B.articles.tolist()}
        for place, (article, team) in enumerate(zip(draft.articles, draft.teams, strict=True)):
            assert article == next(x for x in left[team] if x not in draft.articles[:place])


def test_the_coin_falls_either_way_and_the_same_seed_gives_the_same_list() -> None:
    firsts = Counter(team_draft(A, B, n=6, seed=seed).teams[0] for seed in range(2_000))
    assert firsts["a"] / 2_000 == pytest.approx(0.5, abs=0.045)  # 4 standard errors
    assert team_draft(A, B, n=6, seed=5) == team_draft(A, B, n=6, seed=5)


def test_every_round_has_a_coin_of_its_own() -> None:
    orders = Counter((d.teams[0], d.teams[2]) for d in (team_draft(A, B, n=6, seed=seed) for seed in range(400)))
    assert len(orders) == 4


def test_a_short_arm_leaves_the_rest_to_the_other_and_two_short_ones_give_a_short_list() -> None:
    assert set(team_draft(ranking(1), ranking(2, 3, 4), n=4, seed=0).articles) == {1, 2, 3, 4}
    assert set(team_draft(ranking(1), ranking(1), n=4, seed=0).articles) == {1}
    assert team_draft(Ranking.empty(), Ranking.empty(), n=4, seed=0) == Draft((), ())
    assert team_draft(A, B, n=0, seed=0) == Draft((), ())


def test_an_arm_with_a_short_list_is_not_beaten_by_the_places_it_could_not_fill() -> None:
    """Readers click every place alike; what the longer arm adds without a rival says nothing about the two."""
    for short, long in ((ranking(9), ranking(9, 10, 11)), (ranking(1, 2), A), (ranking(3), A)):
        drafts = [team_draft(short, long, n=6, seed=seed) for seed in range(200)]
        assert all(len(draft.articles) == min(6, len({*short.articles.tolist(), *long.articles.tolist()})) for draft in drafts)
        assert all(draft.teams.count("a") == draft.teams.count("b") for draft in drafts)
    assert any("a" in draft.teams for draft in drafts)


@pytest.mark.parametrize("n", [5, 6])
@pytest.mark.parametrize(
    ("a", "b"), [((1,), (1, 2, 3)), ((1, 2, 3), (1, 2)), ((1, 2, 3), (3, 4, 1, 5, 6)), ((1, 2, 3), (1, 2, 3)), ((), (1, 2))]
)
def test_places_alone_favour_neither_arm_when_lists_end_or_agree(a: tuple[int, ...], b: tuple[int, ...], n: int) -> None:
    """An only article that is also the other's best was credited at the first place, and to its arm alone: clicks by place gave it 5 of 8."""
    drafts = [team_draft(ranking(*a), ranking(*b), n=n, seed=seed) for seed in range(1_000)]
    gaps = [sum(CLICK_BY_PLACE[i] * ((t == "a") - (t == "b")) for i, t in enumerate(draft.teams)) for draft in drafts]
    assert abs(np.mean(gaps)) <= 4 * np.std(gaps) / np.sqrt(len(gaps))


def test_pins_stand_where_they_are_and_earn_nobody_credit() -> None:
    for seed in range(20):
        draft = team_draft(A, B, n=6, seed=seed, pins={1: 99, 3: 1})
        assert (draft.articles[1], draft.articles[3]) == (99, 1)
        assert (draft.teams[1], draft.teams[3]) == ("", "")
        assert len(set(draft.articles)) == 6
        assert credit(draft, [99, 1]) == (0, 0)
    assert team_draft(ranking(1), ranking(2), n=6, seed=0, pins={2: 99}).articles[2:] == (99,)


def readers_of(a: Ranking, b: Ranking, appeal: dict[int, float], *, readers: int, seed: int) -> dict[str, list[tuple[int, int]]]:
    """Readers with one to four slates who look less at lower places; ``appeal`` multiplies what they click."""
    rng = np.random.default_rng(seed)
    credits: dict[str, list[tuple[int, int]]] = {}
    for reader in range(readers):
        mine = []
        for _ in range(int(rng.integers(1, 5))):
            draft = team_draft(a, b, n=6, seed=int(rng.integers(2**62)))
            chance = CLICK_BY_PLACE[: len(draft.articles)] * [appeal.get(x, 1.0) for x in draft.articles]
            mine.append(credit(draft, [x for x, c in zip(draft.articles, rng.random(len(chance)) < chance, strict=True) if c]))
        credits[str(reader)] = mine
    return credits


def test_when_readers_do_not_care_neither_arm_is_favoured() -> None:
    """Clicks follow places only. Over 200 tests the share of a is one half, and p is below 0.05 about as rarely as it says."""
    found = [preference(readers_of(A, B, {}, readers=60, seed=seed)) for seed in range(200)]
    a, b = sum(one.a for one in found), sum(one.b for one in found)
    assert a / (a + b) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(a + b))
    assert np.mean([one.p is not None and one.p < 0.05 for one in found]) <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 200)


def test_an_arm_with_better_articles_wins() -> None:
    better = dict.fromkeys((2, 3, 5, 6, 7), 2.5)
    found = preference(readers_of(A, B, better, readers=300, seed=1))
    assert found.a > found.b
    assert found.p is not None
    assert found.p < 0.001
    assert found.low is not None
    assert found.low > 0.5


def test_a_reader_counts_once_whatever_the_number_of_slates() -> None:
    found = preference({"heavy": [(1, 0)] * 100, "x": [(0, 1)], "y": [(0, 2)], "z": [(1, 1)], "none": []})
    assert (found.a, found.b, found.ties) == (1, 2, 2)
    assert found.p == pytest.approx(1.0)


def test_without_a_deciding_reader_there_is_no_share_and_no_p() -> None:
    found = preference({"r": [(1, 1)], "s": []})
    assert (found.a, found.b, found.ties, found.share, found.low, found.high, found.p) == (0, 0, 2, None, None, None, None)


def test_the_sign_test_is_the_exact_binomial_one() -> None:
    from scipy.stats import binomtest

    credits = {str(i): [(1, 0)] for i in range(31)} | {f"b{i}": [(0, 1)] for i in range(17)}
    assert preference(credits).p == pytest.approx(binomtest(31, 48).pvalue)


@pytest.mark.parametrize(("a", "b"), [(5, 0), (8, 2), (12, 4), (22, 10), (0, 6), (19, 2)])
def test_the_range_leaves_one_half_out_exactly_when_p_is_below_5_percent(a: int, b: int) -> None:
    from scipy.stats import binomtest

    found = preference({f"a{i}": [(1, 0)] for i in range(a)} | {f"b{i}": [(0, 1)] for i in range(b)})
    assert found.low is not None
    assert found.high is not None
    assert found.p is not None
    assert (found.low > 0.5 or found.high < 0.5) == (found.p < 0.05)
    exact = binomtest(a, a + b).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


def test_about_780_deciding_readers_find_55_to_45_four_times_in_five() -> None:
    assert readers_needed(0.55) == pytest.approx(780, abs=10)
    assert power_of(readers_needed(0.55), 0.55) == pytest.approx(0.8, abs=0.02)  # exact, whole numbers
    assert readers_needed(0.45) == readers_needed(0.55)


@pytest.mark.parametrize("team", ["a", "b"])
def test_only_the_picker_is_credited(team: Team) -> None:
    assert credit(Draft((7,), (team,)), [7]) == ((1, 0) if team == "a" else (0, 1))
