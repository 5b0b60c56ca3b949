from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.bayes import Prior, expected_gain, posterior, prior_covariance
from analysis.multiplicity import family_level
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
