"""Ranges that hold at every look, by hand and against their own definition."""

from __future__ import annotations

import math

import pytest
from scipy.optimize import minimize_scalar

from analysis.sequential import anytime_critical, anytime_p, planned_readers, tuning


def half_width(rho2: float, n: float, alpha: float) -> float:
    """STATISTICS 4, of readers with a standard deviation of 1."""
    return math.sqrt(2 * (n * rho2 + 1) / (n * n * rho2) * math.log(math.sqrt(n * rho2 + 1) / alpha))


def test_the_tuning_is_the_published_number():
    assert tuning(1.0, alpha=0.05) == pytest.approx(8.21197, abs=5e-6)
    assert tuning(500.0, alpha=0.05) == pytest.approx(tuning(1.0, alpha=0.05) / 500, rel=1e-12)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_the_tuning_makes_the_range_narrowest_at_the_planned_readers(alpha):
    best = minimize_scalar(lambda log: half_width(math.exp(log), 400, alpha), bounds=(-12, 3), method="bounded", options={"xatol": 1e-9})
    assert tuning(400, alpha=alpha) == pytest.approx(math.exp(best.x), rel=1e-4)


@pytest.mark.parametrize("n", [100, 400, 5000])
def test_the_critical_value_is_the_half_width_in_standard_errors(n):
    rho2 = tuning(400, alpha=0.05)
    assert anytime_critical(n, 400, alpha=0.05) == pytest.approx(half_width(rho2, n, 0.05) * math.sqrt(n), rel=1e-12)


@pytest.mark.parametrize("n", [100, 400, 5000])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_p_is_alpha_exactly_where_the_range_reaches_zero(n, alpha):
    z = anytime_critical(n, 400, alpha=alpha)
    assert anytime_p(z, n, 400, alpha=alpha) == pytest.approx(alpha, rel=1e-10)
    assert anytime_p(-z, n, 400, alpha=alpha) == pytest.approx(alpha, rel=1e-10)
    assert anytime_p(z * 1.01, n, 400, alpha=alpha) < alpha < anytime_p(z * 0.99, n, 400, alpha=alpha)


def test_p_by_hand_and_never_above_one():
    """n rho^2 = 8.21197 at n = n*: sqrt(9.21197) exp(-8.21197 * 9 / (2 * 9.21197)) for three standard errors."""
    assert anytime_p(3.0, 700, 700, alpha=0.05) == pytest.approx(math.sqrt(9.21197) * math.exp(-8.21197 * 9 / 18.42394), rel=1e-4)
    assert anytime_p(0.1, 700, 700, alpha=0.05) == 1.0


def test_planned_readers_by_hand():
    """(1.959964 + 0.841621)^2 * 2 * (1 / 0.3 + 1 / 0.2) / ln(1.05)^2."""
    expected = 7.8488797 * 2 * (1 / 0.3 + 1 / 0.2) / math.log(1.05) ** 2
    assert planned_readers(2.0, (0.3, 0.2)) == pytest.approx(expected, rel=1e-7)
    strict = planned_readers(2.0, (0.3, 0.2), alpha=0.01, power=0.9)
    assert strict == pytest.approx(expected * (2.5758293 + 1.2815516) ** 2 / 7.8488797, rel=1e-7)
