from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import binom

from analysis.calibration import MINUTES, VISITS, calibrate, pair_row, row_of
from analysis.calibration_looks import walks
from analysis.calibration_rows import adjusted_row, small_counts_row
from analysis.effect import Absolute, Contrast, arm_value
from analysis.quantile import quantile_contrast, quantile_value
from analysis.small_counts import small_count_contrast
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
        "adjusted",
        "adjusted, absolute",
        "small counts",
        "small counts, ratio",
        "quantile, clustered",
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


def row_from(ranges, **how):
    """A row of the same comparisons without and with an effect of 1; a range is (low, high) or None."""
    made = [Contrast((9, 9), (None, None), None if r is None else Absolute(0.0, 1.0, *r, p=0.5)) for r in ranges]
    return row_of("x", "x", 18, runs=len(ranges), contrasts=lambda true: made, part="absolute", effect=(2.0, 1.0), **how)


def test_a_row_counts_tails_coverage_and_power_by_hand():
    row = row_from([(-3, -2)] * 2 + [(0.5, 3)] * 3 + [(-2, 2)] * 94 + [None])
    assert (row.low_tail, row.high_tail, row.false_positive, row.power) == (0.02, 0.03, 0.05, 0.03)
    assert (row.coverage, row.passed) == (0.97, True)
    assert row_from([(-3, -2)] * 3 + [(-2, 2)] * 57 + [None] * 40).coverage == 0.57
    assert row_from([(-3, -2)] * 3 + [(-2, 2)] * 57 + [None] * 40, unprinted=True).coverage == 0.95


def test_ranges_that_are_too_wide_pass_only_where_they_may_be_and_too_narrow_ones_never():
    wide, narrow = [(-9, 9)] * 1_000, [(-9, 9)] * 900 + [(-3, -2)] * 100
    assert (row_from(wide).passed, row_from(wide, careful=True).passed) == (False, True)
    assert (row_from(narrow).passed, row_from(narrow, careful=True).passed) == (False, False)
    assert not row_from([(-9, 0.5)] * 1_000, careful=True).passed  # no false alarm, and never the effect of 1


@pytest.mark.parametrize("part", ["absolute", "relative"])
def test_the_row_of_small_counts_agrees_with_adding_up_every_table(part):
    """60 readers an arm, 3 in 100 of the control: all tables with their binomial chances."""
    alarm, held, printed = 0.0, 0.0, 0.0
    for x in range(13):
        for y in range(10):
            found = small_count_contrast((x, 60), (y, 60), level=0.95)
            if (range_ := getattr(found, part)) is None:
                continue
            alarm += binom.pmf(x, 60, 0.03) * binom.pmf(y, 60, 0.03) * (range_.low > 0 or range_.high < 0)
            chance, truth = binom.pmf(x, 60, 0.05) * binom.pmf(y, 60, 0.03), 0.02 if part == "absolute" else 2 / 3
            held, printed = held + chance * (range_.low <= truth <= range_.high), printed + chance
    row = small_counts_row(np.random.default_rng(1), part, sizes=(60, 60), runs=4_000)
    assert row.false_positive == pytest.approx(alarm, abs=4 * (alarm / 4_000) ** 0.5)
    assert row.coverage == pytest.approx(held / printed, abs=4 * row.mc_error)


def test_what_readers_did_before_finds_more():
    adjusted = adjusted_row(np.random.default_rng(1), "relative", sizes=(300, 300), runs=200)
    plain = pair_row(np.random.default_rng(1), "relative", VISITS, sizes=(300, 300), runs=200)
    assert adjusted.power > plain.power + 0.05


def test_a_median_whose_events_are_taken_for_independent_fails_the_gate():
    rng = np.random.default_rng(1)

    def median(ratio):
        often = 1 + rng.poisson(rng.gamma(1.5, 2.5, 100))
        waits = ratio * np.exp(rng.normal(0, 0.85, 100).repeat(often) + rng.normal(0, 1, often.sum()))
        return quantile_value(range(len(waits)), waits, q=0.5)

    def contrasts(true):
        return (quantile_contrast(median(true), median(1.0), level=0.95) for _ in range(100))

    assert not row_of("x", "x", 200, runs=100, contrasts=contrasts, part="relative", effect=(1.15, 0.15)).passed
