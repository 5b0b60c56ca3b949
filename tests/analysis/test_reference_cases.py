"""Published figures of other programs and papers, from our own functions. The number is that of the list they come from."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtr, stdtr
from scipy.stats import dunnett

from analysis.bayes import Prior, expected_gain, posterior
from analysis.checks import split_p_value
from analysis.effect import Value, arm_value
from analysis.information import known_part
from analysis.moments import Moments
from analysis.multiplicity import exploratory, family_level
from analysis.power import Design, Rollout, readers_for_difference
from analysis.sequential import anytime_critical, anytime_p, tuning
from experiments.experiment import Arm


def value(total: float, squares: float, n: int) -> Value:
    """A mean from sum, sum of squares and n."""
    cross = np.array([[squares - total**2 / n, 0.0], [0.0, 0.0]])
    cells = {("x", 0): Moments(n, ("y", "one"), np.array([total / n, 1.0]), cross)}
    return arm_value(cells, "x", numerator="y", denominator="one", shares={0: 1.0})


def delta_relative(treated: Value, control: Value) -> tuple[float, float]:
    """Relative difference and its delta-method standard error, as gbstats has it (ours is Fieller's)."""
    ratio = treated.estimate / control.estimate
    return ratio - 1, ratio * math.sqrt(treated.variance / treated.estimate**2 + control.variance / control.estimate**2)


def test_4_gbstats_relative_effect_of_two_proportions() -> None:
    control, treated = (value(x, x, n) for x, n in ((14, 28), (16, 30)))
    ratio = treated.estimate / control.estimate
    # gbstats divides a proportion's variance by n, not by n - 1
    squared = sum(side.variance * (side.n - 1) / side.n / side.estimate**2 for side in (treated, control))
    se = ratio * math.sqrt(squared)
    assert (ratio - 1, se) == pytest.approx((0.06667, 0.2717), abs=6e-5)
    assert 2 * stdtr(56, -(ratio - 1) / se) == pytest.approx(0.80707, abs=6e-6)


def test_5_gbstats_asymptotic_confidence_sequence() -> None:
    control, treated = value(1396.87, 52377.9767, 3000), value(2422.7, 134698.29, 3461)
    estimate, se = delta_relative(treated, control)
    n = 6461
    rho2 = (-2 * math.log(0.05) + math.log(1 - 2 * math.log(0.05))) / 1000
    n_star = tuning(1.0, alpha=0.05) / rho2  # the number of readers whose best tuning is GrowthBook's
    half = anytime_critical(n, n_star, alpha=0.05) * se
    assert (estimate, estimate - half, estimate + half) == pytest.approx((0.50336, -0.55844, 1.56516), abs=6e-4)
    assert anytime_p(estimate / se, n, n_star, alpha=0.05) == 1.0


def test_8_tea_tasting_benjamini_hochberg() -> None:
    assert exploratory([0.118, 0.0211, 0.0213, 0.00218]) == pytest.approx([0.118, 0.0284, 0.0284, 0.00872], abs=6e-5)
    assert exploratory([None, 0.04]) == [None, 0.04]


def test_14_split_of_kohavi_tang_xu() -> None:
    assert split_p_value({"a": 821588, "b": 815482}, {"a": 0.5, "b": 0.5}) == pytest.approx(1.8e-6, abs=5e-8)


def test_18_confseq_two_sided_normal_mixture() -> None:
    rho = 100 / (2 * math.log(20) + math.log(1 + 2 * math.log(20)))
    assert rho == pytest.approx(12.60056, abs=5e-6)
    n_star = tuning(1.0, alpha=0.05) * rho  # so that n * rho^2 of ours is V / rho of theirs at V = n = 100
    assert anytime_critical(100, n_star, alpha=0.05) * 10 == pytest.approx(30.35209, abs=5e-6)


def test_19_dunnett_of_the_scipy_documentation_and_our_normal_limit() -> None:
    control = [7.40, 8.50, 7.20, 8.24, 9.84, 8.32]
    a, b = [9.76, 8.80, 7.68, 9.36], [12.80, 9.68, 12.16, 9.20, 10.55]
    assert dunnett(a, b, control=control, rng=np.random.default_rng(1)).pvalue == pytest.approx([0.62010, 0.00578], abs=2e-4)
    variances = {"s": 1.0, "h": 1.0, "m": 1.0}
    two, three = (family_level(variances, pairs, level=0.95) for pairs in ([("h", "s"), ("m", "s")], [("h", "s"), ("m", "s"), ("m", "h")]))
    assert 2 * ndtr(-2.212) == pytest.approx(1 - two, abs=5e-4)
    assert 2 * ndtr(-2.344) == pytest.approx(1 - three, abs=5e-4)


def test_20_benjamini_hochberg_1995() -> None:
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    assert sum(q is not None and q <= 0.05 for q in exploratory(p)) == 4
    assert sum(x * len(p) <= 0.05 for x in p) == 3


def test_23_test_and_roll_of_feit_and_berman() -> None:
    mean, arms_sd, readers = 0.68, 0.03, 100_000
    noise = mean * (1 - mean)
    found = Rollout.best(readers, arms_sd=arms_sd, readers_sd=math.sqrt(noise))
    perfect = readers * (mean + arms_sd / math.sqrt(math.pi))
    assert (round(found.each), round(readers * mean + found.gain)) == (2284, 69_536)
    assert 1 - (readers * mean + found.gain) / perfect == pytest.approx(0.0022, abs=5e-5)
    assert found.wrong == pytest.approx(0.100, abs=5e-4)
    assert round(readers_for_difference(Design(), difference=0.02 * mean, variances=(noise, noise)) / 2) == 18_468


def test_24_gbstats_chance_to_win_and_risks_with_a_flat_prior() -> None:
    control, treated = (0.49, 100), (0.51, 100)
    ratio = treated[0] / control[0]
    sd = ratio * math.sqrt(sum((1 - p) / p / n for p, n in (treated, control)))
    assert ndtr((ratio - 1) / sd) == pytest.approx(0.60918, abs=5e-6)
    assert (expected_gain(ratio - 1, sd), expected_gain(1 - ratio, sd)) == pytest.approx((0.0814, 0.04058), abs=5e-5)


def test_25_gbstats_posterior_with_a_prior_that_is_not_centred_at_zero() -> None:
    control, treated = value(100.0, 1002.25, 10), value(105.0, 1111.5, 10)
    change, se = delta_relative(treated, control)
    arms = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5))
    measured = {"estimates": {"status_quo": 1.0, "front": math.exp(change)}, "log_variances": {"status_quo": 0.0, "front": se**2}}
    found = posterior(
        arms, "status_quo", measured["estimates"], log_variances=measured["log_variances"], prior=Prior(math.sqrt(0.1), interest_mean=0.1)
    )
    mean, sd = found.contrast("front", "status_quo")
    assert (mean, mean - 1.959964 * sd, mean + 1.959964 * sd) == pytest.approx((0.05063, -0.01893, 0.12019), abs=6e-6)
    assert ndtr(mean / sd) == pytest.approx(0.92315, abs=5e-6)


def test_26_expected_gain_and_loss() -> None:
    assert (expected_gain(0.1, 0.05), expected_gain(-0.1, 0.05)) == pytest.approx((0.1004245351, 0.0004245351), abs=5e-11)


def test_27_value_of_information_of_a_sum_of_two_normals() -> None:
    assert expected_gain(0.0, math.sqrt(5)) == pytest.approx(0.89206, abs=5e-6)
    rng = np.random.default_rng(1)
    p1, p2 = rng.normal(0, 1, 2**15), rng.normal(0, 2, 2**15)
    for unknown, published in ((p1, 0.39894), (p2, 0.79788)):
        assert np.maximum(0, known_part(p1 + p2, unknown)).mean() == pytest.approx(published, abs=0.02)
