from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.bayes import Posterior
from analysis.information import best_length, known_part, studies, unknowns
from analysis.roi import expected_worth, lognormal, next_step, worth
from analysis.stakes import Stakes, stakes_of
from tests.analysis.tables import ARMS, plan

FREE = {"status_quo": 0.0, "front": 0.0, "als": 0.0}
STAKES = Stakes(value=(0.01, 0.01, 0.01), views_per_day=1000.0, horizon_days=100, build=FREE, per_day=FREE)


def believed(means=(0.05, 0.08), sds=(0.02, 0.03), correlation=0.5, sampling=None) -> Posterior:
    s = np.array(sds)
    covariance = np.outer(s, s) * np.array([[1, correlation], [correlation, 1]])
    return Posterior("status_quo", ("front", "als"), np.array(means), covariance, covariance if sampling is None else sampling)


def test_a_certain_effect_by_hand():
    """1000 views x 0.01 x 5 % x 100 days = 50, minus 10 to build and 0.2 a day."""
    stakes = replace(STAKES, build={**FREE, "front": 10.0}, per_day={**FREE, "front": 0.2})
    found = worth(believed((math.log(1.05), 0.0), (0.0, 0.0)), stakes, ARMS, test_days=0)
    front = found.scenarios[1]
    assert (front.arm, front.cost) == ("front", pytest.approx(30.0))
    assert (front.expected, front.low, front.high) == pytest.approx((20.0, 20.0, 20.0))
    assert (front.p_positive, front.p_best, front.regret) == (1.0, 1.0, 0.0)
    assert found.evpi == pytest.approx(0.0, abs=1e-9)


def test_the_control_is_worth_zero_and_only_extra_running_costs_count():
    stakes = replace(STAKES, per_day={"status_quo": 3.0, "front": 3.0, "als": 4.0})
    found = worth(believed((0.0, 0.0), (0.0, 0.0)), stakes, ARMS, test_days=0)
    assert [s.expected for s in found.scenarios] == pytest.approx([0.0, 0.0, -100.0])


def test_an_effect_that_halves_every_ten_days_is_worth_less():
    assert replace(STAKES, half_life_days=10.0).effective_days == pytest.approx(sum(2 ** (-t / 10) for t in range(100)))


def test_expected_benefit_and_chance_follow_the_normal_belief():
    found = worth(believed(), STAKES, ARMS, test_days=0)
    for scenario, mu, s in zip(found.scenarios[1:], (0.05, 0.08), (0.02, 0.03), strict=True):
        assert scenario.expected == pytest.approx(1000 * math.expm1(mu + s * s / 2), rel=1e-3)
        assert scenario.low == pytest.approx(1000 * math.expm1(mu - 1.645 * s), rel=5e-3)
        assert scenario.p_positive == pytest.approx(0.5 * math.erfc(-mu / s / math.sqrt(2)), abs=1e-3)
    assert sum(s.p_best for s in found.scenarios) == pytest.approx(1.0)


def test_fifty_dots_are_equally_likely_outcomes():
    scenario = worth(believed(), STAKES, ARMS, test_days=0).scenarios[2]
    assert len(scenario.quantiles) == 50
    assert list(scenario.quantiles) == sorted(scenario.quantiles)
    assert np.mean(scenario.quantiles) == pytest.approx(scenario.expected, rel=0.01)


def test_points_of_a_lognormal_are_met():
    z = np.array([-1.6448536, 0.0, 1.6448536])
    assert lognormal((0.5, 1.0, 2.0), z) == pytest.approx([0.5, 1.0, 2.0], rel=1e-6)


def test_value_of_perfect_information_of_two_options_is_the_closed_form():
    """EVPI = E max(0, X) - max(0, E X) for one arm; small effects, so that exp is nearly linear."""
    belief = Posterior("status_quo", ("front",), np.array([0.001]), np.array([[0.002**2]]), np.array([[0.002**2]]))
    found = worth(belief, STAKES, ARMS[:2], test_days=0)
    r = 0.5
    gain = 0.001 * 0.5 * math.erfc(-r / math.sqrt(2)) + 0.002 * math.exp(-r * r / 2) / math.sqrt(2 * math.pi)
    assert found.evpi == pytest.approx(1000 * (gain - 0.001), rel=0.02)


def test_case_27_partial_information_of_the_toy_model():
    """NB = {0, p1 + p2}, p1 ~ N(0, 1), p2 ~ N(0, 2): EVPPI 0.39894 and 0.79788, EVPI 0.89206."""
    from scipy.special import ndtri
    from scipy.stats import qmc

    z = ndtri(qmc.Sobol(2, rng=np.random.default_rng(1)).random_base2(14))
    p1, p2 = z[:, 0], 2 * z[:, 1]
    benefit = np.column_stack([np.zeros(len(z)), p1 + p2])
    parts = [np.maximum(known_part(benefit, p), 0).max(axis=1).mean() for p in (p1, p2)]
    assert parts == pytest.approx([0.39894, 0.79788], rel=0.01)
    assert benefit.max(axis=1).mean() == pytest.approx(0.89206, rel=0.005)


def test_knowing_one_thing_is_never_worth_more_than_knowing_everything():
    stakes = replace(STAKES, value=(0.005, 0.01, 0.02), build={**FREE, "front": 40.0, "als": 90.0})
    found = worth(believed(), stakes, ARMS, test_days=14)
    assert {u.name for u in found.unknowns} == {"reader interest", "what als adds to front", "value per view"}
    assert all(0 <= u.evppi <= found.evpi * 1.02 for u in found.unknowns)
    assert [u.evppi for u in found.unknowns] == sorted((u.evppi for u in found.unknowns), reverse=True)
    assert all(0 <= share <= 1.01 for u in found.unknowns for share in u.share_of_variance.values())
    assert 0 <= found.studies[0].evsi <= found.evpi


def test_a_known_value_is_no_unknown():
    names = [u.name for u in worth(believed(), STAKES, ARMS, test_days=0).unknowns]
    assert "value per view" not in names


def test_an_arm_is_called_by_its_effect_when_the_plan_has_no_heuristic():
    logs = np.random.default_rng(1).normal(size=(256, 1))
    found = unknowns(logs, np.ones(256), np.column_stack([np.zeros(256), logs]), names=("front", "als"), kinds={"als": "model"})
    assert [u.name for u in found] == ["effect of als"]


def test_a_longer_test_teaches_more_and_costs_more():
    stakes = replace(STAKES, per_day={**FREE, "front": 0.5, "als": 0.8})
    tests = [
        worth(believed(sampling=believed().covariance * scale), stakes, ARMS, test_days=days).studies[0]
        for days, scale in ((7.0, 4.0), (14.0, 2.0), (28.0, 1.0))
    ]
    learnt = [s.evsi * 100 / (100 - s.days) for s in tests]
    assert learnt == sorted(learnt)
    assert [s.cost for s in tests] == sorted(s.cost for s in tests)
    assert all(s.enbs == s.evsi - s.cost for s in tests)


def test_another_length_is_offered_only_where_it_pays():
    """Everything is known: two tests that both cost more than they are worth are one too many."""
    known = believed((0.3, 0.1), (0.001, 0.001), sampling=believed().covariance * 1e-6)
    offered = worth(known, STAKES, ARMS, test_days=13).studies
    assert [study.days for study in offered] == [13]
    assert offered[0].enbs < 0


def test_a_test_longer_than_the_horizon_is_not_offered():
    assert worth(believed(), STAKES, ARMS, test_days=100).studies == ()


def test_the_next_step_is_computed_from_values_and_prices():
    stop = worth(believed((0.05, 0.08), (0.0, 0.0)), STAKES, ARMS, test_days=0)
    assert next_step(stop) == "Stop testing: knowing everything would be worth €0."
    nearly = worth(believed((0.05, 0.09), (0.0116, 0.0116), correlation=0.0), replace(STAKES, views_per_day=10.0), ARMS, test_days=0)
    assert 0 < nearly.unknowns[0].evppi < 0.005
    assert next_step(nearly).startswith("Stop testing")
    unsure = worth(believed((0.0, 0.0), (0.05, 0.06)), STAKES, ARMS, test_days=7)
    assert next_step(unsure).startswith("Next: the same test again, 14 days; it is worth about €")
    dear = replace(STAKES, per_day={**FREE, "als": 50.0})
    assert "no study on offer pays for itself" in next_step(worth(believed((0.0, 0.0), (0.05, 0.06)), dear, ARMS, test_days=50))


def test_an_arm_earns_on_the_views_at_which_it_would_be_shown():
    """Of 1000 views a day 400 are those of readers who agreed: 400 x 0.01 x 5 % x 100 days = 20, of a rule for all 50."""
    agreed = plan((ARMS[0], ARMS[1], replace(ARMS[2], audience="agreed")), value_per_view=0.01, value_spread=1.0, horizon_days=100)
    stakes = replace(stakes_of(agreed, 1000.0, audience_share=0.4), build=FREE, per_day=FREE)
    found = worth(believed((math.log(1.05), math.log(1.05)), (0.0, 0.0)), stakes, ARMS, test_days=0)
    assert [s.expected for s in found.scenarios] == pytest.approx([0.0, 50.0, 20.0])
    assert [expected_worth(stakes, arm, "status_quo", change=0.05) for arm in ("front", "als")] == pytest.approx([50.0, 20.0])
    assert stakes.bears_on == (
        "front is counted on all views. It was tried on readers who agreed to personal choice; all others are taken to change as they did.",
        "als is counted on the 400 views a day of readers who agreed to personal choice. All others would keep the status quo.",
    )


def test_an_arm_for_all_beside_a_control_for_readers_who_agreed_counts_their_views_only():
    """What all others read today is not the control, so nobody knows what the arm changes for them."""
    control = replace(plan(), arms=(replace(ARMS[2], share=0.5, audience="agreed"), replace(ARMS[1], share=0.5)), control="als")
    found = stakes_of(control, 1000.0, audience_share=0.4)
    assert found.views_of("front") == 400
    assert found.bears_on[0].endswith("All others would read something else too, which is not counted.")
    assert stakes_of(control, 1000.0, audience_share=0.0) is None


def test_a_test_of_readers_who_agreed_earns_on_their_views_only_while_it_runs():
    """The arm brings 10 a day if shipped to all; a half of 40 % of them brings 2: eight a day less than deciding now."""
    sure = Posterior("status_quo", ("front",), np.array([math.log(1.1)]), np.array([[0.0]]), np.array([[1.0]]))
    costs, shares = dict.fromkeys(("status_quo", "front"), (0.0, 0.0)), {"status_quo": 0.5, "front": 0.5}
    (study,) = studies(sure, 10_000.0, costs=costs, shares=shares, days=10, horizon=100, tested=4_000.0)
    assert (study.evsi, study.cost) == pytest.approx((0.0, 80.0))


def test_nothing_more_is_to_be_learnt_of_an_arm_that_may_not_be_shipped():
    unsure = believed((0.0, 0.0), (0.05, 0.06), sampling=believed().covariance * 20)
    whole = worth(unsure, STAKES, ARMS, test_days=7)
    one = worth(unsure, STAKES, ARMS, test_days=7, ruled_out=["als"])
    assert one.scenarios == whole.scenarios
    assert 0 < one.evpi < whole.evpi
    assert all(u.evppi <= one.evpi * 1.02 for u in one.unknowns)
    alone = replace(unsure, arms=("front",), **{k: getattr(unsure, k)[..., :1][:1] for k in ("mean", "covariance", "sampling")})
    assert one.studies == worth(alone, STAKES, ARMS, test_days=7).studies
    assert next_step(one).endswith("Left out of this: als, which may not be shipped.")
    none = worth(unsure, STAKES, ARMS, test_days=7, ruled_out=["front", "als"])
    assert (none.evpi, none.studies, {u.evppi for u in none.unknowns}) == (0.0, (), {0.0})
    assert next_step(none).startswith("Stop testing")


def test_a_test_that_brings_next_to_nothing_is_not_advised():
    """The arm hardly ever pays: a study is worth ten cents, the outcomes lie 145 euros apart."""
    far = Posterior("status_quo", ("front",), np.array([0.1]), np.array([[0.04**2]]), np.array([[0.05**2]]))
    found, never = (worth(far, replace(STAKES, build={**FREE, "front": cost}), ARMS[:2], test_days=7) for cost in (160.0, 200.0))
    assert 0.09 < max(study.enbs for study in found.studies) < found.least_net
    assert found.least_net == pytest.approx(0.01 * (found.scenarios[1].high - found.scenarios[1].low))
    assert next_step(found).endswith("The best study on offer brings only €0.10 more than it costs.")
    assert next_step(never) == "Stop testing: knowing everything would be worth €0.35, where outcomes lie €146 apart."


def test_the_same_seed_gives_the_same_figures():
    assert worth(believed(), STAKES, ARMS, test_days=7) == worth(believed(), STAKES, ARMS, test_days=7)


def test_money_needs_a_stated_value_and_counted_views():
    assert stakes_of(plan(value_per_view=None), 1000.0) is None
    assert stakes_of(plan(), 0.0) is None
    assert stakes_of(plan(value_per_view=0.02, value_spread=4.0), 10.0).value == (0.005, 0.02, 0.08)


@pytest.mark.parametrize(("n", "spread", "noise"), [(100_000, 0.003, 0.1), (10_000, 0.01, 0.3)])
def test_two_arms_alike_are_tested_as_long_as_feit_and_berman_say(n, spread, noise):
    """Arms whose means differ by ``spread``, readers by ``noise``: n* = (sqrt(9 s^4 + 4 N s^2 sigma^2) - 3 s^2) / (4 sigma^2) per arm."""
    s2, sigma2, horizon = noise**2, spread**2, 1_000
    wanted = (math.sqrt(9 * s2**2 + 4 * n * s2 * sigma2) - 3 * s2) / (4 * sigma2) * 2 / n * horizon
    a_day = np.array([[2 * s2 / (n / horizon / 2)]])
    belief = Posterior("status_quo", ("front",), np.array([-sigma2]), np.array([[2 * sigma2]]), a_day)  # exp(.) has mean 1
    costs, shares = dict.fromkeys(("status_quo", "front"), (0.0, 0.0)), dict.fromkeys(("status_quo", "front"), 0.5)
    lengths = [wanted * factor for factor in np.exp(np.arange(-20, 21) * 0.05)]
    found = best_length(belief, 1.0, costs=costs, shares=shares, days=1.0, lengths=lengths, horizon=horizon)
    assert found is not None
    assert found.days == pytest.approx(wanted, rel=0.11)


def test_a_length_that_pays_more_is_offered_beside_the_same_test_again():
    """After three days little is known: the offer of three more days comes with a longer one, at a higher net worth."""
    same, longer = worth(believed((0.0, 0.0), (0.05, 0.06), sampling=believed().covariance * 20), STAKES, ARMS, test_days=3).studies
    assert (same.days, same.name) == (3, longer.name)
    assert longer.days in (7, 14, 21, 28)
    assert longer.enbs > same.enbs


def test_the_loss_if_we_are_wrong_is_that_of_the_outcomes_that_lose():
    """Mean of -X given X < 0 for X ~ N(mu, s): s phi(mu/s) / Phi(-mu/s) - mu; over all outcomes it is 30 times less here."""
    belief = Posterior("status_quo", ("front",), np.array([0.0018]), np.array([[0.001**2]]), np.array([[0.001**2]]))
    front = worth(belief, STAKES, ARMS[:2], test_days=0).scenarios[1]
    wrong = 0.5 * math.erfc(1.8 / math.sqrt(2))
    density = math.exp(-1.8 * 1.8 / 2) / math.sqrt(2 * math.pi)
    assert front.loss_if_wrong == pytest.approx(1000 * 0.001 * (density / wrong - 1.8), rel=0.03)
    assert front.regret == pytest.approx(front.loss_if_wrong * wrong, rel=0.03)
    sure = worth(believed((0.05, 0.0), (0.0, 0.0)), STAKES, ARMS, test_days=0).scenarios[1]
    assert sure.loss_if_wrong is None


@pytest.mark.parametrize(
    ("mean", "build", "a_day", "days"), [(0.02, 3000.0, 0.0, 14), (0.02, 3000.0, 0.0, 56), (0.05, 3000.0, 5.0, 112), (0.03, 0.0, 2.0, 28)]
)
def test_the_net_worth_of_a_test_is_what_playing_it_through_brings(mean, build, a_day, days):
    """Truth, data, decision, money: 400,000 sites that test first against deciding now; building is paid by who ships, once."""
    rng, value, horizon, sites = np.random.default_rng(5), 100_000.0, 365, 400_000
    prior, noise = 0.03**2, 0.03**2 * 14 / days
    truth = rng.normal(mean, math.sqrt(prior), sites)
    seen = truth + rng.normal(0.0, math.sqrt(noise), sites)
    posterior = mean + prior / (prior + noise) * (seen - mean)
    spread = prior * noise / (prior + noise)

    def shipped(log, for_days):
        return value * for_days / horizon * np.expm1(log) - a_day * for_days - build

    ships = shipped(posterior + spread / 2, horizon - days) > 0
    tested = np.where(ships, shipped(truth, horizon - days), 0.0) + days * (value / horizon * np.expm1(truth) / 2 - a_day)
    at_once = max(0.0, shipped(mean + prior / 2, horizon))
    belief = Posterior("status_quo", ("front",), np.array([mean]), np.array([[prior]]), np.array([[noise]]))
    costs, shares = {"status_quo": (0.0, 0.0), "front": (build + a_day * horizon, a_day)}, {"status_quo": 0.5, "front": 0.5}
    (study,) = studies(belief, value, costs=costs, shares=shares, days=float(days), horizon=horizon)
    brought, error = tested.mean() - at_once, 4 * tested.std() / math.sqrt(sites)
    if study.cost > 0:
        assert study.enbs == pytest.approx(brought, abs=error)
    else:  # what the test itself earns meanwhile is not counted for it
        assert 0 < study.enbs <= brought + error


def test_no_test_is_offered_that_is_over_before_its_readers_are_or_shorter_than_the_plan_permits():
    """What a few readers teach is worth most after a week; with a window of a week nobody is counted by then."""
    unsure = believed((0.0, 0.0), (0.05, 0.06), sampling=believed((0.0, 0.0), (0.05, 0.06)).covariance * 0.03)

    def offered(days: float, **limits: float) -> list[float]:
        return [study.days for study in worth(unsure, replace(STAKES, **limits), ARMS, test_days=days).studies]

    assert offered(28) == [28, 7]
    assert offered(28, window_days=7.0) == offered(28, minimum_days=14.0) == [28, 14]
    assert offered(10, minimum_days=14.0)[0] == 14
    assert offered(7, window_days=7.0) == []


def test_a_longer_test_teaches_what_the_days_before_its_last_window_bring():
    """8 days leave one day of readers whose week is over, 14 leave seven: a seventh of the uncertainty, not four sevenths."""
    belief, costs = believed((0.0, 0.0), (0.05, 0.06)), dict.fromkeys(FREE, (0.0, 0.0))
    asked = {"costs": costs, "shares": dict.fromkeys(FREE, 1 / 3), "horizon": 100}
    found = best_length(belief, 1000.0, days=8.0, window_days=7.0, lengths=(14.0,), **asked)
    (study,) = studies(replace(belief, sampling=belief.sampling / 7), 1000.0, days=14.0, **asked)
    assert found is not None
    assert (found.evsi, found.cost) == pytest.approx((study.evsi, study.cost), rel=1e-9)


def test_the_stakes_of_a_plan_know_its_window_and_its_shortest_test():
    found = stakes_of(plan(window_days=7.0, minimum_days=14.0, value_per_view=0.01), 1000.0)
    assert found is not None
    assert (found.window_days, found.minimum_days) == (7.0, 14.0)
