"""Stopping an arm that costs views: with a large loss, never for a small or unsure one, never before anything can be said."""

from __future__ import annotations

import numpy as np

from analysis.harm import change_of
from analysis.moments import Moments, Totals
from experiments.experiment import Arm, Experiment
from experiments.metric import metric

ARMS = (Arm("status_quo", "status_quo", 0.5), Arm("tide", "heuristic", 0.5))
PLAN = Experiment("related", "Does it pay?", "status_quo", ARMS)
KEYS = (metric("views_per_session").numerator.key, metric("views_per_session").denominator.key)


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
