"""Stopping an arm: rarely without a cause, soon with one, and never before anything can be said."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.harm import COUNT_ALPHA, TOLERATED, change_of, failing_evidence
from analysis.moments import Moments, Totals
from experiments.experiment import Arm, Experiment
from experiments.metric import metric

ARMS = (Arm("status_quo", "status_quo", 0.5), Arm("tide", "heuristic", 0.5))
PLAN = Experiment("related", "Does it pay?", "status_quo", ARMS)
KEYS = (metric("views_per_session").numerator.key, metric("views_per_session").denominator.key)


def test_evidence_by_hand() -> None:
    by_hand = np.mean([t**2 / (1 + 0.5 * (t - 1)) ** 3 for t in (1.5, 2, 4, 8, 16, 32)])
    assert failing_evidence(2, 3, 0.5) == pytest.approx(by_hand, rel=1e-12)
    assert failing_evidence(10**6, 10**6, 0.01) > 1 / COUNT_ALPHA  # no overflow
    assert failing_evidence(0, 10**7, 0.5) < 1e-6


@pytest.mark.parametrize("share", [TOLERATED, 0.5])
def test_an_arm_like_the_others_is_stopped_at_no_look_in_99_of_100_tests(share: float) -> None:
    """By Ville's inequality at most 1 of 100; 1,500 tests with a look after each of 600 readers who count."""
    affected = np.cumsum(np.random.default_rng(5).random((1_500, 600)) < share, axis=1)
    factors, n = np.array([1.5, 2, 4, 8, 16, 32])[:, None, None], np.arange(1, 601)
    evidence = np.exp(affected * np.log(factors) - n * np.log1p(share * (factors - 1))).mean(axis=0)
    assert evidence[3, -1] == pytest.approx(failing_evidence(int(affected[3, -1]), 600, share))
    assert (evidence.max(axis=1) > 1 / COUNT_ALPHA).mean() < COUNT_ALPHA + 0.008  # three simulation errors


def totals(control: np.ndarray, tide: np.ndarray) -> Totals:
    cells = {
        (arm, 0): Moments.from_rows(np.column_stack([views, np.ones(len(views))]), KEYS)
        for arm, views in (("status_quo", control), ("tide", tide))
    }
    return Totals(cells, None)  # type: ignore[arg-type]


def test_a_large_loss_is_harmful_and_a_small_or_unsure_one_is_not() -> None:
    rng = np.random.default_rng(1)
    many = rng.poisson(2.5, 20_000) + 1.0
    assert change_of(PLAN, totals(many, many * 0.9), "tide").harmful
    assert not change_of(PLAN, totals(many, many * 0.985), "tide").harmful
    few = change_of(PLAN, totals(many[:150], many[:150] * 0.97), "tide")
    assert few.low is not None
    assert few.high is not None
    assert few.low < -0.03 < few.high
    assert not few.harmful


def test_below_a_hundred_readers_an_arm_has_no_number_and_a_reason() -> None:
    views = np.arange(1.0, 100.0)
    found = change_of(PLAN, totals(views, views), "tide")
    assert (found.estimate, found.low, found.high, found.harmful) == (None, None, None, False)
    assert "100 are needed" in found.reason
