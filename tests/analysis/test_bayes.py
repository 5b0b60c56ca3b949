from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis.bayes import Prior, expected_gain, measured, posterior, prior_covariance
from analysis.fat_tails import CONFLICT, believe, fat_tailed, learnt_prior
from analysis.multiplicity import family_level
from experiments.errors import DataError
from experiments.experiment import Arm
from tests.analysis.tables import ARMS


def belief(values, variances, arms=ARMS, prior=Prior()):
    return posterior(arms, "status_quo", values, log_variances=variances, prior=prior)


def test_case_26_expected_loss_of_gbstats():
    assert (round(expected_gain(0.1, 0.05), 10), round(expected_gain(-0.1, 0.05), 10)) == (0.1004245351, 0.0004245351)


def test_expected_gain_far_away_is_its_limit():
    assert expected_gain(-50.0, 1.0) == 0.0
    assert expected_gain(50.0, 1.0) == 50.0
    assert expected_gain(0.2, 0.0) == 0.2


def test_one_arm_is_shrunk_by_hand():
    """Prior variance 0.0025, sampling variance 0.0025: half way."""
    two = ARMS[:2]
    found = belief({"status_quo": 1.0, "front": math.exp(0.1)}, {"status_quo": 0.0, "front": 0.0025}, arms=two)
    assert found.contrast("front", "status_quo") == pytest.approx((0.05, math.sqrt(0.00125)))


def test_the_posterior_is_the_textbook_one():
    variances = {"status_quo": 0.0004, "front": 0.0005, "als": 0.0006}
    found = belief({"status_quo": 2.0, "front": 2.1, "als": 2.2}, variances)
    before = np.array([[0.05**2, 0.05**2], [0.05**2, 0.05**2 + 0.03**2]])
    sampling = np.diag([0.0005, 0.0006]) + 0.0004
    precision = np.linalg.inv(before) + np.linalg.inv(sampling)
    mean = np.linalg.solve(precision, np.linalg.inv(sampling) @ np.log([1.05, 1.1]))
    assert found.mean == pytest.approx(mean, rel=1e-9)
    assert found.covariance == pytest.approx(np.linalg.inv(precision), rel=1e-9)


def test_model_against_heuristic_uses_the_shared_control_only_once():
    """Huge control variance: H and M against S are vague, M against H is not."""
    found = belief({"status_quo": 1.0, "front": 1.0, "als": 1.05}, {"status_quo": 1.0, "front": 1e-6, "als": 1e-6})
    assert found.contrast("als", "front") == pytest.approx((math.log(1.05), math.sqrt(2e-6)), rel=0.02)
    assert found.contrast("als", "status_quo")[1] > 0.03


def test_prior_says_what_each_kind_of_arm_is_worth():
    arms = [*ARMS, Arm("newest", "heuristic", 0.1)]
    a, b = 0.05**2, 0.03**2
    assert prior_covariance(arms, Prior()) == pytest.approx(np.array([[0, 0, 0, 0], [0, a, a, a], [0, a, a + b, a], [0, a, a, a + b]]))


def test_arms_without_an_estimate_are_left_out_and_a_missing_control_ends_it():
    assert belief({"status_quo": 1.0, "front": 1.1}, {"status_quo": 0.001, "front": 0.001}).arms == ("front",)
    assert belief({"front": 1.1, "als": 1.1}, {"front": 0.001, "als": 0.001}) is None
    assert belief({"status_quo": 0.0, "als": 1.1}, {"status_quo": 0.001, "als": 0.001}) is None


def test_better_means_lower_where_lower_is_better():
    found = belief({"status_quo": 1.0, "front": 0.9}, {"status_quo": 1e-5, "front": 1e-5})
    down, up = (found.shrunken("front", "status_quo", level=0.95, better=way) for way in ("down", "up"))
    assert down.p_better > 0.99
    assert up.p_better == pytest.approx(1 - down.p_better)
    assert down.expected_loss < 1e-6 < up.expected_loss


def test_ranges_hold_truths_drawn_from_the_prior():
    rng, hits, runs = np.random.default_rng(3), 0, 2000
    s = 0.04
    for _ in range(runs):
        truth = rng.normal(0, 0.05)
        seen = rng.normal(truth, s)
        found = belief({"status_quo": 1.0, "front": math.exp(seen)}, {"status_quo": 0.0, "front": s * s})
        range_ = found.shrunken("front", "status_quo", level=0.9)
        hits += range_.low <= math.expm1(truth) <= range_.high
    assert abs(hits / runs - 0.9) < 3 * math.sqrt(0.09 / runs)


def test_three_equal_arms_need_a_critical_value_of_2_344():
    from scipy.special import ndtri

    arms = {"s": 1.0, "h": 1.0, "m": 1.0}
    three = family_level(arms, [("h", "s"), ("m", "s"), ("m", "h")], level=0.95)
    two = family_level(arms, [("h", "s"), ("m", "s")], level=0.95)
    assert -ndtri((1 - three) / 2) == pytest.approx(2.344, abs=0.01)
    assert -ndtri((1 - two) / 2) == pytest.approx(2.212, abs=0.01)


def test_pairs_without_an_estimate_do_not_make_the_others_stricter():
    assert family_level({"s": 1.0, "h": 1.0}, [("h", "s"), ("m", "s")], level=0.95) == 0.95


def test_the_chance_of_being_best_is_that_of_draws_from_the_belief():
    arms = [*ARMS, Arm("newest", "heuristic", 0.1)]
    found = belief(
        {"status_quo": 2.0, "front": 2.05, "als": 2.08, "newest": 1.98},
        dict.fromkeys(("status_quo", "front", "als", "newest"), 4e-4),
        arms=arms,
    )
    draws = np.random.default_rng(5).multivariate_normal(found.mean, found.covariance, 200_000)
    best = np.column_stack([np.zeros(len(draws)), draws]).argmax(axis=1)
    chances = found.p_best()
    assert sum(chances.values()) == pytest.approx(1, abs=1e-4)
    for i, arm in enumerate(("status_quo", *found.arms)):
        assert chances[arm] == pytest.approx((best == i).mean(), abs=4 * math.sqrt(0.25 / len(draws)))
    assert found.p_best() == chances
    worst = np.column_stack([np.zeros(len(draws)), draws]).argmin(axis=1)
    assert found.p_best(better="down")["newest"] == pytest.approx((worst == 3).mean(), abs=0.005)


def test_with_two_arms_the_chance_of_being_best_is_the_chance_of_being_better():
    found = belief({"status_quo": 1.0, "front": 1.03}, {"status_quo": 0.001, "front": 0.001}, arms=ARMS[:2])
    better = found.shrunken("front", "status_quo", level=0.95).p_better
    assert (found.p_best()["front"], found.p_best()["status_quo"]) == pytest.approx((better, 1 - better), rel=1e-9)


def test_a_prior_with_a_mean_pulls_towards_it():
    """Half way between 0.1 and the prior's mean; the model's prior mean is the sum of both."""
    prior = Prior(0.05, 0.05, interest_mean=0.02, learning_mean=0.01)
    found = belief({"status_quo": 1.0, "front": math.exp(0.1)}, {"status_quo": 0.0, "front": 0.0025}, arms=ARMS[:2], prior=prior)
    assert found.contrast("front", "status_quo")[0] == pytest.approx(0.06)
    vague = belief(dict.fromkeys(("status_quo", "front", "als"), 1.0), {"status_quo": 0.0, "front": 1e9, "als": 1e9}, prior=prior)
    assert vague.mean == pytest.approx([0.02, 0.03], abs=1e-9)


def t_prior(width):
    """Student's t with 3 degrees of freedom and this standard deviation."""
    return stats.t(3, scale=width / math.sqrt(3))


@pytest.mark.parametrize(("seen", "s"), [(0.02, 0.02), (0.3, 0.02), (-0.08, 0.05)])
def test_a_fat_tailed_prior_against_integration_over_the_effect(seen, s):
    two = measured(ARMS[:2], "status_quo", {"status_quo": 1.0, "front": math.exp(seen)}, log_variances={"status_quo": 0.0, "front": s * s})
    found = fat_tailed(two, Prior()).shrunken("front", "status_quo", level=0.9)
    grid = np.linspace(-2, 2, 400_001)
    chance = t_prior(0.05).pdf(grid) * stats.norm.pdf(seen, grid, s)
    chance /= chance.sum()
    low, high = (math.expm1(grid[np.searchsorted(chance.cumsum(), share)]) for share in (0.05, 0.95))
    assert found.mean == pytest.approx(chance @ np.expm1(grid), rel=1e-5)
    assert (found.low, found.high) == pytest.approx((low, high), abs=3e-5)
    assert found.p_better == pytest.approx(chance @ np.heaviside(np.round(grid, 9), 0.5), abs=1e-7)
    assert found.expected_loss == pytest.approx(chance @ np.maximum(0, -grid), rel=1e-3, abs=1e-12)


def test_a_fat_tailed_prior_of_both_effects_against_integration_over_both():
    """Status quo exact: a is seen at 0.06 (0.02), a + b at 0.16 (0.02); the model is believed by integrating over a and b."""
    three = measured(ARMS, "status_quo", {"status_quo": 1.0, "front": math.exp(0.06), "als": math.exp(0.16)},
                     log_variances={"status_quo": 0.0, "front": 4e-4, "als": 4e-4})  # fmt: skip
    found = fat_tailed(three, Prior()).shrunken("als", "front", level=0.95, better="up")

    def density(b, a):
        return t_prior(0.05).pdf(a) * t_prior(0.03).pdf(b) * stats.norm.pdf(0.06, a, 0.02) * stats.norm.pdf(0.16, a + b, 0.02)

    a, b = np.meshgrid(np.linspace(-0.3, 0.4, 1401), np.linspace(-0.4, 0.5, 1801), indexing="ij")
    weight = density(b, a)
    assert found.mean == pytest.approx((weight * np.expm1(b)).sum() / weight.sum(), rel=1e-5)
    assert found.p_better == pytest.approx(weight[b > 0].sum() / weight.sum(), abs=1e-3)


def test_fat_tails_pull_large_effects_less_and_small_ones_more():
    def both(seen):
        values, variances = {"status_quo": 1.0, "front": math.exp(seen)}, {"status_quo": 0.0, "front": 4e-4}
        fat = fat_tailed(measured(ARMS[:2], "status_quo", values, log_variances=variances), Prior())
        level = {"level": 0.95}
        return fat.shrunken("front", "status_quo", **level).mean, belief(values, variances, arms=ARMS[:2]).shrunken(
            "front", "status_quo", **level
        ).mean

    large, small = both(0.4), both(0.02)
    assert large[0] > large[1]
    assert small[0] < small[1]


def test_how_likely_the_prior_held_the_effects_by_drawing_from_it():
    """Two arms share readers of the control, so their effects hang together."""
    values, variances = (
        {"status_quo": 1.0, "front": math.exp(0.08), "als": math.exp(0.16)},
        dict.fromkeys(("status_quo", "front", "als"), 1e-3),
    )
    found, prior = measured(ARMS, "status_quo", values, log_variances=variances), Prior(interest_mean=0.01)
    rng = np.random.default_rng(5)
    a, b = rng.normal(0.01, 0.05, 200_000), rng.normal(0.0, 0.03, 200_000)
    errors = rng.normal(0.0, math.sqrt(1e-3), (3, 200_000))
    drawn = np.array([a + errors[1] - errors[0], a + b + errors[2] - errors[0]])
    inverse, mean = np.linalg.inv(np.cov(drawn)), np.array([[0.01], [0.01]])
    apart, seen = drawn - mean, found.logs - mean[:, 0]
    further = np.einsum("ir,ij,jr->r", apart, inverse, apart) >= seen @ inverse @ seen
    assert found.foretold(prior) == pytest.approx(further.mean(), abs=0.004)


def test_the_belief_of_fat_tails_keeps_mean_and_covariance_of_the_mixture():
    values, variances = {"status_quo": 1.0, "front": 1.1, "als": 1.3}, dict.fromkeys(("status_quo", "front", "als"), 1e-3)
    mixture = fat_tailed(measured(ARMS, "status_quo", values, log_variances=variances), Prior())
    rng = np.random.default_rng(6)
    which = rng.choice(len(mixture.parts), 40_000, p=[weight for weight, _ in mixture.parts])
    parts = {i: mixture.parts[i][1] for i in set(which.tolist())}
    drawn = np.concatenate([rng.multivariate_normal(p.mean, p.covariance, (which == i).sum()) for i, p in parts.items()])
    found = mixture.normal()
    assert found.shape == "fat_tailed"
    assert found.mean == pytest.approx(drawn.mean(axis=0), abs=1e-3)
    assert found.covariance == pytest.approx(np.cov(drawn.T), rel=0.05)


def test_effects_the_prior_foretold_are_believed_as_before():
    values, variances = {"status_quo": 1.0, "front": 1.04, "als": 1.07}, dict.fromkeys(("status_quo", "front", "als"), 1e-3)
    found, before = believe(ARMS, "status_quo", values, log_variances=variances, prior=Prior()), belief(values, variances)
    assert (found.shape, found.mean.tolist(), found.covariance.tolist()) == ("normal", before.mean.tolist(), before.covariance.tolist())
    assert found.measured.foretold(Prior()) > CONFLICT
    assert believe(ARMS, "status_quo", {}, log_variances={}, prior=Prior()) is None


def test_a_rule_without_effect_is_not_believed_to_work_because_the_model_beside_it_does():
    """100 tests: the rule is worth nothing, the model a third. The normal prior alone was sure of the rule in two thirds of them."""
    rng, sure, plain, held = np.random.default_rng(7), 0, 0, 0
    for luck in rng.normal(0.0, math.sqrt(1e-3), (100, 3)):
        values = dict(zip(("status_quo", "front", "als"), np.exp(luck + np.log([1.0, 1.0, 4 / 3])).tolist(), strict=True))
        found = believe(ARMS, "status_quo", values, log_variances=dict.fromkeys(values, 1e-3), prior=Prior())
        sure += found.shrunken("front", "status_quo", level=0.95).p_better >= 0.95
        plain += found.measured.given(Prior())[0].shrunken("front", "status_quo", level=0.95).p_better >= 0.95
        mean, s = found.contrast("als", "front")
        held += abs(mean - math.log(4 / 3)) <= 1.96 * s
    assert plain > 50
    assert sure <= 5
    assert held >= 88


def test_from_twenty_finished_tests_on_their_effects_decide_the_width_of_the_prior():
    rng = np.random.default_rng(4)
    truths, sampling = rng.normal(0, 0.08, 400), rng.uniform(1e-4, 4e-3, 400)
    effects = list(zip((truths + rng.normal(0, np.sqrt(sampling))).tolist(), sampling.tolist(), strict=True))
    found = learnt_prior(effects, effects[:19])
    assert found.interest == pytest.approx(0.08, abs=4 * 0.08 / math.sqrt(800))
    assert found.learning == Prior().learning
    assert learnt_prior([], effects).learning == found.interest


def test_the_width_of_the_prior_maximises_what_was_penalised():
    rng = np.random.default_rng(6)
    effects = [(float(rng.normal(0, 0.03)), 4e-4) for _ in range(25)]
    width = learnt_prior(effects, []).interest

    def worth(tau):
        return stats.norm.logpdf([e for e, _ in effects], 0, math.sqrt(tau**2 + 4e-4)).sum() + math.log(tau)

    assert worth(width) > max(worth(width * 0.999), worth(width * 1.001))


def test_tests_that_found_nothing_leave_a_narrow_prior_but_never_none():
    found = learnt_prior([(0.0, 1e-4)] * 30, [])
    assert 0 < found.interest < 0.01


@pytest.mark.parametrize("effect", [(math.nan, 0.1), (0.1, 0.0), (0.1, math.inf)])
def test_finished_tests_without_a_spread_are_refused(effect):
    with pytest.raises(DataError, match="finished test"):
        learnt_prior([effect], [])


def test_a_family_is_never_less_strict_than_one_comparison():
    """Two arms without any spread differ from the third by the same draw; the drawn level was 0.94996."""
    assert family_level({"s": 1.0, "h": 0.0, "m": 0.0}, [("h", "s"), ("m", "s"), ("m", "h")], level=0.95) == 0.95
