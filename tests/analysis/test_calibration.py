from __future__ import annotations

import json

import numpy as np
import pytest

from analysis.calibration import MINUTES, VISITS, calibrate, pair_row
from analysis.calibration_looks import walks
from analysis.effect import arm_value
from analysis.totals import Moments


@pytest.fixture(scope="module")
def rows():
    return calibrate(seed=3, runs=200)


def test_every_range_of_the_gate_holds_what_it_promises(rows):
    assert [f"{row['estimator']}: {row['process']}" for row in rows if not row["pass"]] == []


def test_rows_have_the_documented_shape(rows):
    keys = {"estimator", "process", "readers", "false_positive", "low_tail", "high_tail", "coverage", "power", "mc_error", "pass"}
    assert all(set(row) == keys for row in rows)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_looking_daily_and_comparing_three_arms_are_part_of_the_gate(rows):
    names = {row["estimator"] for row in rows}
    assert names == {
        "absolute",
        "relative",
        "guarded",
        "family of three",
        "family of three, two differ",
        "planned, 8 looks",
        "planned, 22 looks",
        "anytime, 14 looks",
        "anytime, 1,000 looks",
        "split check, 28 looks",
        "split check, 1,000 looks",
        "belief after the test",
    }


def test_more_readers_find_more(rows):
    power = {row["readers"]: row["power"] for row in rows if row["estimator"] == "relative" and row["process"] == "views per session"}
    assert power[100] < power[400]


def test_a_range_that_is_too_narrow_fails_the_gate():
    """The unguarded range of a tiny arm of skewed readers, which the guard exists for."""
    assert not pair_row(np.random.default_rng(1), "relative", MINUTES, sizes=(30, 3000), runs=500).passed


def test_the_same_seed_gives_the_same_row():
    one, two = (pair_row(np.random.default_rng(5), "relative", MINUTES, sizes=(60, 60), runs=50) for _ in range(2))
    assert one == two


def test_the_walks_of_the_gate_are_the_values_of_a_report():
    difference, se = next(walks(np.random.default_rng(2), looks=3, a_look=40, ratio=1.1, runs=2))
    rng = np.random.default_rng(2)
    sides = [VISITS.draw(rng, (2, 120), ratio) for ratio in (1.1, 1.0)]
    for run in range(2):
        one, two = (
            arm_value({("x", 0): Moments.from_rows(np.stack([top[run, :80], bottom[run, :80]], axis=1), ("n", "d"))},
                      "x", numerator="n", denominator="d", shares={0: 1.0})
            for top, bottom in sides
        )  # fmt: skip
        assert difference[run, 1] == pytest.approx(one.estimate - two.estimate, rel=1e-12)
        assert se[run, 1] == pytest.approx((one.variance + two.variance) ** 0.5, rel=1e-12)


def test_naive_daily_looks_would_fail_the_gate():
    alarms = 0
    for difference, se in walks(np.random.default_rng(4), looks=14, a_look=30, ratio=1.0, runs=1_000):
        alarms += int((np.abs(difference / se)[:, 2:] > 1.96).any(1).sum())
    assert alarms > 130
