from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis import boundaries
from analysis.boundaries import Look, Plan, boundary_now, critical_values, crossings
from analysis.spending import obrien_fleming, pocock, power_family
from experiments.errors import ExperimentError

FIFTHS = (0.2, 0.4, 0.6, 0.8, 1.0)
DAILY_14 = tuple(day / 14 for day in range(1, 15))
DAYS = tuple(range(7, 29))
DAILY_28 = tuple(day / 28 for day in DAYS)
FIXED = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)  # standardised effect that a test read once finds with 80 %
PLAN = Plan(effect=math.log1p(0.05), deadline_days=28)
TIMES = st.lists(st.integers(2, 50), min_size=2, max_size=4, unique=True).map(lambda marks: tuple(sorted(m / 50 for m in marks)))


def walks(times, *, drift=0.0, runs=40_000, seed=3):
    """Brownian motion at ``times``, as (runs, looks) standardised differences: knows nothing of the recursion."""
    growth = np.diff(times, prepend=0.0)
    steps = np.random.default_rng(seed).standard_normal((runs, len(times))) * np.sqrt(growth) + drift * growth
    return steps.cumsum(axis=1) / np.sqrt(times)


def first_crossing(z, critical):
    """(runs,) index of the first look beyond its critical value; the number of looks when there is none."""
    beyond = np.abs(z) > np.asarray(critical)
    return np.where(beyond.any(axis=1), beyond.argmax(axis=1), z.shape[1])


def three_errors(share, runs=40_000):
    return 3 * math.sqrt(share * (1 - share) / runs)


def error(times, critical):
    """Chance to cross when there is no effect, from the joint normal distribution of the looks (scipy's integral)."""
    tie = np.sqrt(np.minimum.outer(times, times) / np.maximum.outer(times, times))
    box = np.asarray(critical)
    return 1 - stats.multivariate_normal(cov=tie, abseps=1e-6, maxpts=300_000).cdf(box, lower_limit=-box)


@pytest.mark.parametrize(
    ("spending", "published", "within"),
    [
        (obrien_fleming, (4.877, 3.357, 2.680, 2.290, 2.031), 5e-4),
        (pocock, (2.438, 2.427, 2.410, 2.397, 2.386), 5e-4),
        (power_family(2.0), (3.0902, 2.7141, 2.4727, 2.2798, 2.1140), 2e-4),
    ],
    ids=["case 15, Lan-DeMets tables", "case 16, Lan-DeMets tables", "case 17, spotify-confidence 4.1.0"],
)
def test_five_equal_looks_as_published(spending, published, within):
    assert critical_values(FIFTHS, alpha=0.05, spending=spending) == pytest.approx(published, abs=within)


def test_one_look_at_the_end_is_a_test_read_once():
    assert critical_values([1.0], alpha=0.05) == pytest.approx([stats.norm.ppf(0.975)], abs=1e-11)


def test_first_look_by_hand():
    """At a quarter of the information z_{0.9875} / sqrt(1/4) = 4.4828; both tails of it, twice, are spent."""
    spent = 2 * 2 * stats.norm.sf(2 * stats.norm.ppf(0.9875))
    assert critical_values([0.25, 1.0], alpha=0.05)[0] == pytest.approx(stats.norm.isf(spent / 2), abs=1e-9)


@pytest.mark.parametrize("times", [(0.5, 1.0), (0.3, 0.31, 0.9), (0.2, 0.5, 0.5006), (0.4, 0.7, 1.3)])
def test_error_against_the_joint_normal_distribution(times):
    assert error(times, critical_values(times, alpha=0.05)) == pytest.approx(
        obrien_fleming(times[-1], 0.05), abs=5e-5
    )  # scipy integrates three looks by sampling


@settings(max_examples=25, deadline=None, derandomize=True)
@given(TIMES, st.sampled_from([obrien_fleming, pocock, power_family(1.5)]), st.sampled_from([0.01695, 0.05, 0.2]))
def test_more_looks_never_change_the_error_spent(times, spending, alpha):
    total = spending(times[-1], alpha)
    for looks in (times, times[1:], times[-1:]):
        spent = crossings(looks, critical_values(looks, alpha=alpha, spending=spending))[:2].sum()
        assert spent == pytest.approx(total, abs=1e-7)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(TIMES, st.integers(0, 1000))
def test_error_is_what_was_spent_in_simulated_tests(times, seed):
    critical = critical_values(times, alpha=0.2, spending=pocock)
    crossed = first_crossing(walks(times, seed=seed), critical) < len(times)
    spent = pocock(times[-1], 0.2)
    assert abs(crossed.mean() - spent) < 3.5 * math.sqrt(spent * (1 - spent) / len(crossed))  # eight draws: 3 would fail too often


def test_fourteen_daily_looks_err_in_one_of_twenty_tests():
    """STATISTICS 4: false positives 0.050, naive 0.219."""
    z, critical = walks(DAILY_14), critical_values(DAILY_14, alpha=0.05)
    assert abs((first_crossing(z, critical) < 14).mean() - 0.05) < three_errors(0.05)
    assert abs((first_crossing(z, [1.959964] * 14) < 14).mean() - 0.219) < three_errors(0.219) + 0.0016 * 3
    assert crossings(DAILY_14, critical)[:2].sum() == pytest.approx(0.05, abs=1e-7)


def test_fourteen_daily_looks_find_what_the_charter_says():
    """STATISTICS 4, planned for 80 % when read once: power 0.782 (MC SE 0.0013), mean days 10.7, and 6.1 at twice the effect."""
    critical = critical_values(DAILY_14, alpha=0.05)
    chances = crossings(DAILY_14, critical, drift=FIXED)
    assert chances[:2].sum() == pytest.approx(0.782, abs=3 * 0.0013)
    stopped = first_crossing(walks(DAILY_14, drift=FIXED), critical)
    assert abs((stopped < 14).mean() - chances[:2].sum()) < three_errors(0.78)
    assert np.minimum(stopped + 1, 14).mean() == pytest.approx(10.7, abs=0.1)
    twice = first_crossing(walks(DAILY_14, drift=2 * FIXED), critical)
    assert np.minimum(twice + 1, 14).mean() == pytest.approx(6.1, abs=0.1)


@pytest.mark.parametrize(("looks", "published", "within"), [(5, 0.142, 5e-4), (10, 0.193, 5e-4), (14, 0.219, 0.004), (28, 0.274, 0.005)])
def test_naive_looks_err_as_often_as_published(looks, published, within):
    """Armitage, McPherson, Rowe (1969) for 5 and 10 looks; STATISTICS 4 (simulated) for 14 and 28."""
    times = [(k + 1) / looks for k in range(looks)]
    assert crossings(times, [1.959964] * looks)[:2].sum() == pytest.approx(published, abs=within)


def test_twenty_two_looks_do_not_depend_on_the_grid(monkeypatch):
    coarse = critical_values(DAILY_28, alpha=0.05)
    monkeypatch.setattr(boundaries, "POINTS", 1601)
    assert critical_values(DAILY_28, alpha=0.05) == pytest.approx(coarse, abs=1e-7)


def test_looks_close_together_do_not_fall_between_grid_points(monkeypatch):
    """The step from 0.2 to 0.2002 is as long as one space of 401 points: Simpson's rule would be wrong by 1e-5."""
    times = (0.2, 0.2002, 1.0)
    found = critical_values(times, alpha=0.05)
    monkeypatch.setattr(boundaries, "POINTS", 3001)
    assert critical_values(times, alpha=0.05) == pytest.approx(found, abs=1e-7)


def test_equal_looks_become_less_strict():
    found = critical_values(DAILY_28, alpha=0.05)
    assert list(found) == sorted(found, reverse=True)
    assert found[-1] > 1.96


def test_a_look_with_nothing_to_spend_cannot_be_crossed():
    """At 1 % of the information 4 sf(22.4) is spent: no number of ours could be compared with it."""
    with_it, without = critical_values([0.01, 0.5, 1.0], alpha=0.05), critical_values([0.5, 1.0], alpha=0.05)
    assert with_it[0] == math.inf
    assert with_it[1:] == pytest.approx(without, abs=1e-8)
    assert critical_values([0.5, 1.0, 1.5], alpha=0.05)[2] == math.inf
    assert crossings([0.01, 0.5, 1.0], with_it, drift=3.0)[0, 0] == 0


def test_information_beyond_the_plan_keeps_the_error():
    """0.9 -> 1.3: critical values made for a last look at exactly 1 would err in 5.8 % of all tests."""
    times = (0.3, 0.5, 0.7, 0.9, 1.3)
    z = walks(times)
    assert abs((first_crossing(z, critical_values(times, alpha=0.05)) < 5).mean() - 0.05) < three_errors(0.05)
    clipped = critical_values((*times[:-1], 1.0), alpha=0.05)
    assert crossings(times, clipped)[:2].sum() == pytest.approx(0.0581, abs=1e-4)


@pytest.mark.parametrize("times", [(), (0.5, 0.5), (0.5, 0.4), (0.5, 0.5001), (0.0, 1.0), (-0.1,), (math.nan,), (0.5, math.inf)])
def test_times_that_cannot_follow_each_other_are_refused(times):
    with pytest.raises(ExperimentError, match="cannot be taken one after the other"):
        critical_values(times, alpha=0.05)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.05, math.nan])
def test_an_alpha_that_is_no_chance_is_refused(alpha):
    with pytest.raises(ExperimentError, match="no chance of an error"):
        critical_values([1.0], alpha=alpha)


def test_spending_starts_at_nothing_and_ends_with_alpha():
    for spending in (obrien_fleming, pocock, power_family(3.0)):
        spent = [spending(t, 0.05) for t in (0.0, 0.1, 0.5, 0.9, 1.0, 1.4)]
        assert spent == sorted(spent)
        assert (spent[0], spent[-1]) == (0.0, pytest.approx(0.05, rel=1e-12))
    with pytest.raises(ExperimentError, match="does not start at zero"):
        power_family(0.0)


def test_planned_information_by_hand():
    """1.049 * (1.95996 + 0.84162)^2 / 0.05^2 = 3293.4; half the variance of 1 / 3293.4 is twice the information."""
    plan = Plan(effect=0.05, deadline_days=28)
    assert plan.information == pytest.approx(1.049 * 7.848879734 / 0.0025, rel=1e-9)
    assert plan.look(9, 1 / plan.information).time == pytest.approx(1.0)
    assert plan.look(9, 2 / plan.information) == Look(9.0, pytest.approx(0.5))


@pytest.mark.parametrize("change", [{"effect": 0.0}, {"deadline_days": 0}, {"alpha": 1.2}, {"power": 0.01}, {"inflation": 0.9}])
def test_plans_that_make_no_sense_are_refused(change):
    with pytest.raises(ExperimentError, match="cannot be used"):
        Plan(**{"effect": 0.05, "deadline_days": 28, **change})


@pytest.mark.parametrize("variance", [0.0, -1.0, math.nan, math.inf])
def test_a_difference_without_variance_gives_no_look(variance):
    with pytest.raises(ExperimentError, match="variance"):
        PLAN.look(9, variance)


@pytest.mark.parametrize(
    ("taken", "now", "reason"),
    [
        ([], Look(6.5, 0.4), "the first look is on day 7, this is day 6.5"),
        ([], Look(5, 1.2), "the first look is on day 7, this is day 5"),
        ([], Look(9, 0.15), "a first look needs 20% of the planned information, 15.0% is there"),
        ([Look(9, 0.5)], Look(10, 0.5), "hardly anything is known that the last look did not know"),
        ([Look(9, 0.5)], Look(10, 0.4), "hardly anything is known that the last look did not know"),
        ([Look(28, 0.7)], Look(35, 0.9), "the last look was on day 28; all permitted error is spent"),
    ],
)
def test_when_no_look_may_be_taken_there_is_a_reason_and_no_number(taken, now, reason):
    found = boundary_now(PLAN, taken, now)
    assert (found.critical, found.look, found.reason) == (None, None, reason)


def test_a_plan_too_strict_for_an_early_look_says_so():
    found = boundary_now(Plan(effect=0.05, deadline_days=28, alpha=1e-9), [], Look(7, 0.2))
    assert (found.critical, found.reason) == (None, "so little error may be spent this early that no difference would count")


def test_looks_one_by_one_give_exactly_the_numbers_of_all_together():
    """Nothing is remembered but the list, whatever its order; a report made again gives the same bytes."""
    taken, found = [], []
    for day, time in zip(DAYS[::3], DAILY_28[::3], strict=True):
        answer = boundary_now(PLAN, taken[::-1], Look(day, time))
        taken.append(answer.look)
        found.append(answer.critical)
        assert boundary_now(PLAN, taken, Look(day, time)) == answer
        assert answer.spent == pytest.approx(obrien_fleming(time, 0.05))
        assert answer.final == (day == 28)
    together = critical_values(DAILY_28[::3], alpha=0.05)
    assert tuple(found[:-1]) == together[:-1]
    assert found[-1] == pytest.approx(together[-1], abs=1e-9)


def test_at_the_deadline_what_is_left_is_spent_however_little_is_known():
    """Underrun: looks at 0.3 and 0.5, deadline at 0.62: the three looks together err in 5 %."""
    found = boundary_now(PLAN, [Look(10, 0.3), Look(20, 0.5)], Look(28, 0.62))
    assert (found.final, found.spent, found.look) == (True, 0.05, Look(28, 0.62))
    before = critical_values((0.3, 0.5), alpha=0.05)
    assert error((0.3, 0.5, 0.62), (*before, found.critical)) == pytest.approx(0.05, abs=5e-5)
    assert boundary_now(PLAN, [], Look(28, 0.05)).critical == pytest.approx(1.959964, abs=1e-6)


@pytest.mark.parametrize("truth", [0.5001, 0.55, 0.7, 1.5])
def test_information_that_shrank_still_gets_its_last_look_and_errs_no_more_often(truth):
    """Estimated 0.5 -> 0.48 at the deadline: 0.05 - 0.00305 are left, c = 1.9869, valid whatever the true growth."""
    found = boundary_now(PLAN, [Look(20, 0.5)], Look(28, 0.48))
    assert (found.final, found.spent, found.look) == (True, 0.05, Look(28, pytest.approx(0.5005)))
    assert found.critical == pytest.approx(stats.norm.isf((0.05 - obrien_fleming(0.5, 0.05)) / 2), abs=1e-9)
    first = critical_values((0.5,), alpha=0.05)[0]
    assert 0.0469 < error((0.5, truth), (first, found.critical)) <= 0.05


def test_more_readers_than_planned_do_not_end_the_looks():
    found = boundary_now(PLAN, [Look(10, 0.6)], Look(16, 1.2))
    spent = [obrien_fleming(day / 28, 0.05) for day in (10, 16)]
    assert (found.final, found.spent) == (False, pytest.approx(spent[1]))
    assert error((0.6, 1.2), (first_of(0.6, spent[0]), found.critical)) == pytest.approx(spent[1], abs=2e-6)


def first_of(time, spent):
    return critical_values((time,), alpha=0.05, spending=lambda _, alpha: spent)[0]


@pytest.mark.parametrize("times", [1.0, 1.5, 3.0, 10.0])
def test_a_test_with_any_number_of_readers_errs_as_often_as_promised_and_decides_by_all_of_them(times):
    """Daily looks from day 7; information comes evenly, up to ten times what was planned."""
    taken, critical = [], []
    for day in range(7, 29):
        found = boundary_now(PLAN, taken, Look(day, times * day / 28))
        taken.append(found.look)
        critical.append(found.critical)
    assert [found.final, found.look.day] == [True, 28]
    up, down, _ = crossings([look.time for look in taken], critical)
    assert up.sum() + down.sum() == pytest.approx(0.05, abs=1e-6)
    least = {1.0: 0.76, 1.5: 0.91, 3.0: 0.997, 10.0: 0.9999}[times]
    drift = PLAN.drift / math.sqrt(PLAN.inflation) * math.sqrt(1.049)
    assert stats.norm.sf(critical[-1] - drift * math.sqrt(times)) > least


def test_stored_looks_that_contradict_each_other_are_refused():
    with pytest.raises(ExperimentError, match=r"0.5, 0.4"):
        boundary_now(PLAN, [Look(9, 0.5), Look(10, 0.4)], Look(11, 0.8))
