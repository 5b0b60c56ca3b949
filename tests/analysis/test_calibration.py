from __future__ import annotations

import json

import numpy as np
import pytest

from analysis.calibration import MINUTES, calibrate, pair_row


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
        "anytime, daily looks",
        "split check, daily looks",
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
