from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.checks import balanced, exposure, fallback, heavy_reader, ran_long_enough, split, split_evidence, split_p_value
from experiments.errors import ExperimentError
from tests.analysis.tables import Line

HALVES = {"a": 0.5, "b": 0.5}


def check(counts, shares=HALVES):
    return split("split", {1: counts}, {1: shares})


def test_case_14_microsoft_split():
    assert split_p_value({"a": 821588, "b": 815482}, HALVES) == pytest.approx(1.8e-6, rel=0.03)


def test_an_arm_without_share_leaves_sum_and_degrees_of_freedom():
    """gbstats keeps the df of an arm of weight zero: 1.1e-5 instead of 1.8e-6."""
    with_zero = split_p_value({"a": 821588, "b": 815482, "c": 0}, {**HALVES, "c": 0.0})
    assert with_zero == split_p_value({"a": 821588, "b": 815482}, HALVES)
    assert split_evidence({"a": 90, "b": 110, "c": 0}, {**HALVES, "c": 0.0}) == split_evidence({"a": 90, "b": 110}, HALVES)


def test_shares_need_not_add_up_to_one():
    assert split_p_value({"a": 60, "b": 40}, {"a": 0.1, "b": 0.1}) == split_p_value({"a": 60, "b": 40}, HALVES)


def test_evidence_of_one_reader_by_hand():
    """One reader in a of two equal arms: the prior predicts it with 1/2, the plan too: E = 1."""
    assert split_evidence({"a": 1, "b": 0}, HALVES) == pytest.approx(0.0, abs=1e-9)  # differences of ln Gamma(1000)


def test_evidence_of_two_readers_by_hand():
    """Both in a: the prior says 500/1000 * 501/1001, the plan 1/4."""
    assert math.exp(split_evidence({"a": 2, "b": 0}, HALVES)) == pytest.approx(500 / 1000 * 501 / 1001 / 0.25, rel=1e-9)


def test_readers_of_an_unplanned_arm_are_refused():
    with pytest.raises(ExperimentError, match="in c, which the plan gives no share"):
        split_p_value({"a": 1, "c": 1}, HALVES)


def test_a_split_as_planned_is_ok_and_one_that_is_off_blocks():
    assert check({"a": 1010, "b": 990}).state == "ok"
    off = check({"a": 1200, "b": 800})
    assert off.state == "block"
    assert off.p < 0.001
    assert "60.0% of readers got" in off.says or "40.0% of readers got" in off.says


def test_nobody_exposed_is_not_a_broken_split():
    found = check({})
    assert (found.state, found.p) == ("ok", 1.0)


def test_each_phase_is_held_to_its_own_shares():
    counts = {1: {"a": 900, "b": 100}, 2: {"a": 500, "b": 500}}
    assert split("split", counts, {1: {"a": 0.9, "b": 0.1}, 2: HALVES}).state == "ok"
    assert split("split", counts, {1: HALVES, 2: HALVES}).state == "block"


def test_earlier_evidence_is_not_forgotten():
    assert split("split", {1: {"a": 100, "b": 100}}, {1: HALVES}, most_evidence=20.0).state == "block"


def test_looking_every_day_for_four_weeks_rarely_cries_wolf():
    """Chi-squared at 0.001, looked at daily, fires ten times too often; the e-process does not."""
    rng, runs, chi, evidence = np.random.default_rng(2), 200, 0, 0
    for _ in range(runs):
        days = rng.binomial(1000, 0.5, 28).cumsum()
        looks = [{"a": int(a), "b": 1000 * (i + 1) - int(a)} for i, a in enumerate(days)]
        chi += min(split_p_value(look, HALVES) for look in looks) < 0.02
        evidence += max(split_evidence(look, HALVES) for look in looks) > math.log(1 / 0.02)
    assert evidence / runs <= 0.02
    assert chi / runs > 0.06


def test_losing_one_reader_in_ten_of_an_arm_is_found():
    rng = np.random.default_rng(4)
    found = sum(check({"a": int(rng.binomial(20_000, 0.5)), "b": int(rng.binomial(18_000, 0.5))}).state == "block" for _ in range(100))
    assert found >= 99


@pytest.mark.parametrize(("crossed", "state"), [(0, "ok"), (1, "warn"), (10, "block")])
def test_readers_in_two_arms(crossed, state):
    assert exposure(crossed=crossed, exposed=1000, unknown_arms=0, clicks_without_exposure=0)[0].state == state


def test_one_unknown_arm_or_stray_click_blocks():
    states = {c.name: c.state for c in exposure(crossed=0, exposed=10, unknown_arms=1, clicks_without_exposure=1)}
    assert states == {"one_arm": "ok", "unknown_arms": "block", "clicks_without_exposure": "block"}


def test_a_balance_that_is_off_by_one_event_blocks_and_names_it():
    found = balanced([Line(), Line(kind="click", arm="als", exact=False)])
    assert found.state == "block"
    assert "click of als" in found.says


def test_events_that_were_sent_again_do_not_change_a_word():
    assert balanced([Line(received=130, duplicate=30)]) == balanced([Line(received=100)])


def test_events_still_on_their_way_only_warn():
    assert balanced([Line(pending=3)]).state == "warn"
    assert balanced([Line()]).state == "ok"


@pytest.mark.parametrize(("fallen", "state"), [(0, "ok"), (4, "ok"), (5, "warn"), (19, "warn"), (20, "block")])
def test_gate_6_compares_fallbacks_between_arms(fallen, state):
    assert fallback({"a": 1000, "b": 1000}, {"b": fallen}).state == state


def test_one_fallback_among_few_pages_does_not_block():
    assert fallback({"a": 44, "b": 47}, {"b": 1}).state == "warn"


def test_fallbacks_common_to_all_arms_pass():
    assert fallback({"a": 1000, "b": 1000}, {"a": 300, "b": 301}).state == "ok"


def test_how_long_it_ran_never_blocks():
    def state(days, running):
        return ran_long_enough(days=days, planned_days=14.0, minimum_days=7.0, running=running)

    assert state(14.0, False).state == "ok"
    assert "whole weeks" not in state(14.0, False).says
    assert "not whole weeks" in state(15.0, False).says
    assert state(3.0, True).state == "warn"
    assert "Stopped after 3 of 14 days" in state(3.0, False).says


def test_one_reader_who_moves_the_result_by_more_than_half_its_uncertainty_is_flagged():
    assert heavy_reader(0.6, 1.0).state == "warn"
    assert heavy_reader(0.4, 1.0).state == "ok"


def test_a_broken_split_of_few_readers_is_blocked_at_the_end_though_daily_looks_only_warn() -> None:
    counts, thirds = {"status_quo": 232, "front": 216, "als": 327}, dict.fromkeys(("status_quo", "front", "als"), 1 / 3)
    assert split("split", {0: counts}, {0: thirds}).state == "warn"
    ended = split("split", {0: counts}, {0: thirds}, ended=True)
    assert ended.state == "block"
    assert ended.p is not None
    assert ended.p < 1e-5


def test_at_the_end_an_even_split_raises_a_false_alarm_in_at_most_two_of_a_thousand_tests() -> None:
    rng = np.random.default_rng(11)
    thirds = dict.fromkeys(("a", "b", "c"), 1 / 3)
    draws = rng.multinomial(900, [1 / 3] * 3, 4_000)
    alarms = sum(
        split("split", {0: dict(zip("abc", row.tolist(), strict=True))}, {0: thirds}, ended=True).state == "block" for row in draws
    )
    assert alarms / 4_000 <= 0.002 + 3 * (0.002 / 4_000) ** 0.5  # three Monte Carlo standard errors


def test_phases_are_added_up_at_the_end() -> None:
    lopsided, mirrored, halves = {"a": 560, "b": 440}, {"a": 440, "b": 560}, {"a": 0.5, "b": 0.5}
    assert split("split", {0: lopsided, 1: mirrored}, {0: halves, 1: halves}, ended=True).state == "block"
