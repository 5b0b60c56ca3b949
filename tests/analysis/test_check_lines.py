"""Every check in full: name, state, figure, limit, p and the sentence, as an owner reads it."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from analysis.checks import (
    Check,
    balanced,
    before,
    exposure,
    fallback,
    heavy_reader,
    how_often,
    ran_long_enough,
    split,
    split_evidence,
    split_p_value,
    splits_evidence,
)
from experiments.errors import ExperimentError
from tests.analysis.tables import Line

HALVES = {"status_quo": 0.5, "als": 0.5}
CAUSES = " Likely causes: shares changed while running, lost events, or an arm that fails."


def long(days: float, *, running: bool = False) -> Check:
    return ran_long_enough(days=days, planned_days=14.0, minimum_days=7.0, running=running)


ALIKE = "Before their first exposure the readers of all arms were alike."
DIFFERED = "The arms already differed before anything was shown: {}. Chance does that once in {} tests."
LINES = [
    (lambda: heavy_reader(0.6, 2.0), Check("heavy_reader", "ok", 0.3, 0.5, None, "Leaving out any one reader moves the result by at most 30% of its uncertainty.")),
    (lambda: heavy_reader(1.0, 2.0), Check("heavy_reader", "ok", 0.5, 0.5, None, "Leaving out any one reader moves the result by at most 50% of its uncertainty.")),
    (lambda: heavy_reader(1.5, 2.0), Check("heavy_reader", "warn", 0.75, 0.5, None, "Leaving out any one reader moves the result by at most 75% of its uncertainty.")),
    (lambda: heavy_reader(1.5, 0.0), Check("heavy_reader", "ok", 0.0, 0.5, None, "Leaving out any one reader moves the result by at most 0.0% of its uncertainty.")),
    (lambda: before({}), Check("before", "ok", None, 0.001, None, "Nothing is known about readers before their first exposure.")),
    (
        lambda: before({}, running=True),
        Check("before", "ok", None, 0.001, None, "Too few readers so far, or nothing is known of them before their first exposure."),
    ),
    (lambda: before({"views of als": 0.4, "views of front": 0.3}), Check("before", "ok", 0.6, 0.001, 0.6, ALIKE)),
    (lambda: before({"views": 0.9, "sessions": 0.8}), Check("before", "ok", 1.0, 0.001, 1.0, ALIKE)),
    (lambda: before({"views": 0.0005, "sessions": 0.2}), Check("before", "ok", 0.001, 0.001, 0.001, ALIKE)),
    (lambda: before({"views": 0.0001, "sessions": 0.2}), Check("before", "block", 0.0002, 0.001, 0.0002, DIFFERED.format("views", "5,000"))),
    (lambda: before({"b": 1e-5, "a": 1e-5}), Check("before", "block", 2e-5, 0.001, 2e-5, DIFFERED.format("a", "50,000"))),
    (lambda: before({"views": 0.0}), Check("before", "block", 0.0, 0.001, 0.0, DIFFERED.format("views", "1,000,000,000,000"))),
    (lambda: long(14.0), Check("ran_long_enough", "ok", 14.0, 7.0, None, "Ran 14 days; 14 were planned.")),
    (lambda: ran_long_enough(days=1.0, planned_days=1.0, minimum_days=1.0, running=False), Check("ran_long_enough", "ok", 1.0, 1.0, None, "Ran 1 day; 1 were planned. These are not whole weeks, so weekdays do not count equally.")),
    (lambda: long(21.0), Check("ran_long_enough", "ok", 21.0, 7.0, None, "Ran 21 days; 14 were planned.")),
    (lambda: long(15.5), Check("ran_long_enough", "ok", 15.5, 7.0, None, "Ran 15.5 days; 14 were planned. These are not whole weeks, so weekdays do not count equally.")),
    (lambda: long(3.0), Check("ran_long_enough", "warn", 3.0, 7.0, None, "Stopped after 3 of 14 days, so the measured effect may be too large.")),
    (lambda: long(3.0, running=True), Check("ran_long_enough", "warn", 3.0, 14.0, None, "3 of 14 planned days are over.")),
    (lambda: fallback({"status_quo": 9}, {}), Check("fallbacks", "ok", None, 0.02, None, "No arm has fallen back: fewer than two arms were shown.")),
    (lambda: fallback({"status_quo": 9, "als": 0}, {"als": 3}), Check("fallbacks", "ok", None, 0.02, None, "No arm has fallen back: fewer than two arms were shown.")),
    (lambda: fallback({"status_quo": 1000, "als": 100}, {}), Check("fallbacks", "ok", 0.0, 0.02, None, "No arm was replaced on any of its pages.")),
    (lambda: fallback({"status_quo": 1000, "als": 100}, {"als": 25}), Check("fallbacks", "block", 0.25, 0.02, None, "Als was replaced on 25% of its pages, another arm on 0.0%.")),
    (lambda: fallback({"status_quo": 1000, "als": 99}, {"als": 33}), Check("fallbacks", "warn", 1 / 3, 0.02, None, "Als was replaced on 33% of its pages, another arm on 0.0%.")),
    (lambda: fallback({"a": 100, "b": 100, "c": 100}, {"a": 50, "b": 50, "c": 25}), Check("fallbacks", "block", 0.25, 0.02, None, "B was replaced on 50% of its pages, another arm on 25%.")),
    (lambda: fallback({"status_quo": 400, "als": 400, "front": 0}, {"status_quo": 1}), Check("fallbacks", "ok", 0.0025, 0.02, None, "Status quo was replaced on 0.2% of its pages, another arm on 0.0%.")),
    (lambda: balanced([]), Check("nothing_lost", "ok", 0.0, 0.0, None, "Nothing was lost: 0 events received, all accounted for.")),
    (lambda: balanced([Line(received=700), Line(kind="click", received=300)]), Check("nothing_lost", "ok", 0.0, 0.0, None, "Nothing was lost: 1,000 events received, all accounted for.")),
    (lambda: balanced([Line(received=700, pending=1200), Line(pending=34)]), Check("nothing_lost", "warn", 0.0, 0.0, None, "Nothing was lost: 800 events received, all accounted for; 1,234 not loaded yet.")),
    (lambda: balanced([Line("view", "status_quo", exact=False), Line("click", exact=False), Line()]), Check("nothing_lost", "block", 2.0, 0.0, None, "Events do not add up for view of status quo, click. Run presslab doctor.")),
    (lambda: balanced([Line(kind, exact=False) for kind in ("a", "b", "c", "d")]), Check("nothing_lost", "block", 4.0, 0.0, None, "Events do not add up for a, b, c. Run presslab doctor.")),
]  # fmt: skip


@pytest.mark.parametrize(("check", "wanted"), LINES, ids=[f"{wanted.name} {i}" for i, (_, wanted) in enumerate(LINES)])
def test_a_check_says_all_of_this(check, wanted):
    found = check()
    for part in ("name", "state", "threshold", "says"):
        assert getattr(found, part) == getattr(wanted, part)
    for part in ("figure", "p"):
        number, other = getattr(found, part), getattr(wanted, part)
        assert number == other or number == pytest.approx(other, rel=1e-12)


def test_what_was_shown_is_checked_three_times():
    fine = exposure(crossed=0, exposed=0, unknown_arms=0, clicks_without_exposure=0)
    assert fine == (
        Check("one_arm", "ok", 0.0, 0.01, None, "Shown is what was assigned: every reader saw one arm only."),
        Check("unknown_arms", "ok", 0.0, 0.0, None, "No exposures to an arm that the plan does not have."),
        Check("clicks_without_exposure", "ok", 0.0, 0.0, None, "No clicks without an exposure."),
    )
    assert exposure(crossed=1500, exposed=150_000, unknown_arms=2000, clicks_without_exposure=1) == (
        Check("one_arm", "block", 0.01, 0.01, None, "Shown is what was assigned: 1,500 of 150,000 readers saw two arms."),
        Check("unknown_arms", "block", 2000.0, 0.0, None, "2,000 exposures to an arm that the plan does not have."),
        Check("clicks_without_exposure", "block", 1.0, 0.0, None, "1 clicks without an exposure."),
    )
    assert [exposure(crossed=n, exposed=10_000, unknown_arms=0, clicks_without_exposure=0)[0].state for n in (9, 10, 99, 100)] == [
        "ok", "warn", "warn", "block",
    ]  # fmt: skip


# The split of readers


@pytest.mark.parametrize(("readers", "share"), [(30, 0.01), (300, 0.01), (1000, 0.002)])
def test_few_readers_in_a_small_arm_block_no_more_often_than_promised(readers, share):
    """The chi-squared test blocked up to 4.6 of 1,000 such tests."""
    planned = {"als": share, "status_quo": 1 - share}
    chances = stats.binom(readers, share)
    blocked = [
        n for n in range(40) if split("split", {1: {"als": n, "status_quo": readers - n}}, {1: planned}, ended=True).state == "block"
    ]
    assert 0 < sum(chances.pmf(n) for n in blocked) <= 0.001


def test_a_split_as_planned_in_full():
    counts = {"status_quo": 508, "als": 492}
    found = split("split", {1: counts}, {1: HALVES})
    says = "Traffic split: 51% of readers got status quo, 50% were planned; chance explains that."
    assert found == Check("split", "ok", pytest.approx(0.008), 0.001, 1.0, says)


def test_a_broken_split_in_full():
    """chi-squared 160 with one degree of freedom."""
    counts = {"status_quo": 800, "als": 1200}
    found, evidence = split("split_matured", {1: counts}, {1: HALVES}), split_evidence(counts, HALVES)
    says = (
        "40.0% of readers in the analysis got status quo; 50.0% were planned. Chance alone does this less than once in 1,000 tests."
        + CAUSES
    )
    assert found == Check("split_matured", "block", pytest.approx(-0.1), 0.001, pytest.approx(math.exp(-evidence)), says)
    ended = split("split_matured", {1: counts}, {1: HALVES}, ended=True)
    assert ended.p == min(math.exp(-evidence), split_p_value(counts, HALVES))


def test_a_split_that_is_a_little_off_warns():
    """448 against 552: chi-squared 10.816, p 0.001006."""
    found = split("split", {1: {"status_quo": 448, "als": 552}}, {1: HALVES}, ended=True)
    says = "44.8% of readers got status quo; 50.0% were planned. Chance alone does this about once in 1,000 tests." + CAUSES
    assert found == Check("split", "warn", pytest.approx(-0.052), 0.001, pytest.approx(stats.chi2.sf(10.816, 1)), says)
    assert [split("split", {1: HALVES}, {1: HALVES}, most_evidence=-math.log(p)).state for p in (0.0101, 0.0099, 0.00101, 0.00099)] == [
        "ok", "warn", "warn", "block",
    ]  # fmt: skip


def test_readers_without_a_share_block_at_once_in_full():
    counts = {1: {"status_quo": 10, "als": 1}, 2: {"status_quo": 9, "front_page": 1200, "als": 8}}
    found = split("split", counts, {1: {"status_quo": 1.0}, 2: {**HALVES, "front_page": 0.0}})
    says = "1 reader got als, 1,200 readers got front page, which had no share of the traffic then."
    assert found == Check("split", "block", 1201.0, 0.001, 0.0, says)


def test_nobody_in_any_phase_in_full():
    wanted = Check("split", "ok", None, 0.001, 1.0, "Traffic split: no reader yet.")
    assert split("split", {}, {}) == wanted
    assert split("split", {1: {"als": 0}, 2: {}}, {1: HALVES, 2: HALVES}) == wanted
    assert split("split_matured", {}, {}).says == "Traffic split: no reader in the analysis yet."


def test_the_arm_furthest_from_its_plan_over_all_phases_is_named():
    """Phase 1 plans 90 and 10 of 100, phase 2 (a third each of 90% of the traffic) 30, 30 and 30 of 90."""
    counts = {1: {"a": 85, "b": 15}, 2: {"a": 31, "b": 22, "c": 37}}
    found = split("split", counts, {1: {"a": 0.9, "b": 0.1}, 2: {"a": 0.3, "b": 0.3, "c": 0.3}})
    assert found.figure == pytest.approx((37 - 30) / 190)
    assert found.says.startswith("Traffic split: 19% of readers got c, 16% were planned")


def test_phases_add_up_their_statistics_and_their_degrees_of_freedom():
    """(60, 40) of halves is 4; (40, 30, 20) of thirds of 90 is 100 / 30 + 0 + 100 / 30."""
    counts = {1: {"a": 60, "b": 40}, 2: {"a": 40, "b": 30, "c": 20}, 3: {"a": 7}, 4: {}}
    shares = {1: {"a": 0.5, "b": 0.5}, 2: dict.fromkeys("abc", 1 / 3), 3: {"a": 1.0}, 4: {"a": 0.5, "b": 0.5}}
    found = split("split", counts, shares, ended=True)
    assert found.p == pytest.approx(stats.chi2.sf(4 + 200 / 30, 3), rel=1e-12)
    assert splits_evidence(counts, shares) == pytest.approx(sum(split_evidence(counts[k], shares[k]) for k in counts), rel=1e-12)


def test_the_p_value_of_a_split_by_hand():
    """(50, 30, 20) where (40, 40, 20) were planned: 100 / 40 + 100 / 40 + 0 = 5 with two degrees of freedom."""
    shares = {"a": 0.4, "b": 0.4, "c": 0.2}
    assert split_p_value({"a": 50, "b": 30, "c": 20}, shares) == pytest.approx(stats.chi2.sf(5, 2), rel=1e-12)
    assert (split_p_value({}, shares), split_p_value({"a": 9}, {"a": 1.0})) == (1.0, 1.0)
    assert split_p_value({"a": 0, "b": 9, "c": 2}, shares) == pytest.approx(3 * 2 * 0.6**11, rel=1e-12)  # 2.2 expected in c: exact


def test_a_split_of_few_readers_is_judged_by_either_tail_of_its_least_likely_arm():
    """Of two arms one says it all; of three each has a say, however many or few its readers are."""
    fifth = {"a": 0.2, "b": 0.8}
    assert split_p_value({"a": 5, "b": 0}, fifth) == pytest.approx(2 * 0.2**5, rel=1e-12)
    assert split_p_value({"a": 2, "b": 8}, fifth) == 1.0  # as planned: two readers or fewer come in 68%, two or more in 62%
    crowded = {"a": 9, "b": 0, "c": 1}  # one expected in a
    nine_or_ten = 10 * 0.1**9 * 0.9 + 0.1**10
    assert split_p_value(crowded, {"a": 0.1, "b": 0.45, "c": 0.45}) == pytest.approx(3 * 2 * nine_or_ten, rel=1e-9)


def test_five_expected_readers_are_enough_for_the_chi_squared_test():
    """(9, 1) where (5, 5) were planned: 16 / 5 twice."""
    assert split_p_value({"a": 9, "b": 1}, {"a": 0.5, "b": 0.5}) == pytest.approx(stats.chi2.sf(6.4, 1), rel=1e-12)


def test_evidence_of_an_uneven_plan_by_hand():
    """Shares .8 and .2: two readers in the second arm are foretold by 200/1000 * 201/1001, the plan says 1/25."""
    assert math.exp(split_evidence({"b": 2}, {"a": 0.8, "b": 0.2})) == pytest.approx(200 / 1000 * 201 / 1001 * 25, rel=1e-9)


def test_evidence_leaves_out_readers_without_a_share():
    assert splits_evidence({1: {"a": 90, "b": 110, "x": 5}}, {1: {"a": 0.5, "b": 0.5, "x": 0.0}}) == split_evidence(
        {"a": 90, "b": 110}, {"a": 0.5, "b": 0.5}
    )


def test_evidence_leaves_out_readers_of_an_arm_that_no_share_names():
    assert splits_evidence({1: {"a": 90, "b": 110, "x": 5}}, {1: {"a": 0.5, "b": 0.5}}) == split_evidence(
        {"a": 90, "b": 110}, {"a": 0.5, "b": 0.5}
    )


def test_a_test_with_one_arm_cannot_be_split_wrongly():
    found = split("split", {1: {"als": 30}}, {1: {"als": 1.0}}, ended=True)
    assert (found.state, found.p, found.figure) == ("ok", 1.0, 0.0)


def test_an_arm_that_nobody_got_is_the_furthest_from_its_plan():
    """Sixty too few of a, thirty too many of b and of z."""
    found = split("split", {1: {"b": 60, "z": 60}}, {1: {"a": 0.5, "b": 0.25, "z": 0.25}})
    assert found.figure == pytest.approx(-0.5)
    assert found.says.startswith("0.0% of readers got a; 50.0% were planned.")


@pytest.mark.parametrize(
    ("p", "says"),
    [
        (0.00099, "less than once in 1,000 tests"),
        (0.001, "about once in 1,000 tests"),
        (0.004, "about 4 times in 1,000 tests"),
        (0.6, "about 600 times in 1,000 tests"),
    ],
)
def test_how_often_chance_alone_does_it(p, says):
    assert how_often(p) == says


@pytest.mark.parametrize("days", [14.0, 28.0, 56.0, 70.0])
def test_whole_weeks_are_not_remarked_upon(days):
    assert long(days).says == f"Ran {days:g} days; 14 were planned."


def test_all_arms_without_a_share_are_named():
    with pytest.raises(ExperimentError, match=r"readers were counted in x, y, which the plan gives no share\."):
        split_p_value({"y": 1, "a": 9, "x": 2, "z": 0}, {"a": 1.0, "y": 0.0})
