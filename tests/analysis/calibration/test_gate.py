from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import binom

from analysis.boundaries import critical_values
from analysis.calibration.belief import belief_row, beside_row
from analysis.calibration.figures import planned_power, row_of
from analysis.calibration.gate import calibrate, pair_row
from analysis.calibration.length import SITES, Site, chosen_length, forgone
from analysis.calibration.limits import known_limits, paid
from analysis.calibration.looks import looks_at, split_paths, walks
from analysis.calibration.readers import MINUTES, RARE, VISITS, Process, minutes
from analysis.calibration.rows import adjusted_row, share_row
from analysis.checks import split_evidence
from analysis.effect import Absolute, Contrast, arm_value
from analysis.moments import Moments
from analysis.quantile import quantile_contrast, quantile_value
from analysis.small_counts import small_count_contrast
from web.cli.calibration_page import markdown


@pytest.fixture(scope="module")
def rows():
    return calibrate(seed=3, quick=True, runs=100)


def test_every_range_of_the_gate_holds_what_it_promises(rows):
    assert [f"{row['estimator']}: {row['process']}" for row in rows if not row["pass"]] == []


def test_rows_have_the_documented_shape(rows):
    keys = {"estimator", "process", "readers", "false_positive", "low_tail", "high_tail", "coverage", "power", "mc_error", "pass"}
    more = {"bias", "se_ratio", "planned_power"}
    assert all(set(row) - {"bins"} == keys | more for row in rows)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


@pytest.mark.long
def test_looks_families_splits_and_beliefs_are_part_of_the_gate(rows):
    names = {row["estimator"] for row in rows}
    assert {
        "absolute",
        "relative",
        "guarded",
        "adjusted",
        "adjusted, absolute",
        "score test",
        "score test, ratio",
        "quantile, clustered",
    } < names
    assert {
        "family of three",
        "family of three, two differ",
        "belief after the test",
        "alike before, 28 looks",
        "length by what knowing is worth",
    } < names
    assert {f"planned, {n} looks" for n in (8, 22, 14, 28)} | {f"anytime, {n} looks" for n in ("14", "28", "1,000")} < names
    assert {f"planned, {n}" for n in ("6 looks, uneven", "4 looks, more than planned", "4 looks, less than planned")} < names
    assert {f"split check, 28 looks, {lost} of an arm lost" for lost in ("5%", "2%")} < names


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
    row = share_row(np.random.default_rng(1), part, RARE, sizes=(60, 60), runs=4_000)
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


def test_bias_and_standard_errors_are_counted_by_hand():
    """Estimates 0 and 2 around a truth of 1: no bias, true spread 1; reported 0.5, so the ratio is one half."""
    made = [Contrast((500, 500), (None, None), Absolute(x, 0.5, x - 9, x + 9, p=0.5)) for x in (0.0, 2.0)] * 50
    row = row_of("x", "x", 1000, runs=100, contrasts=lambda true: made, part="absolute", effect=(2.0, 1.0))
    assert (row.bias, row.se_ratio) == (0.0, 0.5)
    off = row_of("x", "x", 1000, runs=100, contrasts=lambda true: made, part="absolute", effect=(2.0, 3.0))
    assert off.bias == -2.0


@pytest.mark.parametrize(("se", "passed"), [(1.0, True), (0.8, False), (1.25, False)])
def test_a_standard_error_that_is_off_fails_a_row_although_its_ranges_hold(se, passed):
    rng = np.random.default_rng(1)
    made = [Contrast((500, 500), (None, None), Absolute(x, se, x - 1.96, x + 1.96, p=0.5)) for x in rng.standard_normal(20_000).tolist()]
    row = row_of("x", "x", 1000, runs=20_000, contrasts=lambda true: made, part="absolute", effect=(1.0, 0.0))
    assert row.passed is passed


def test_power_that_was_promised_and_missed_fails_a_row_and_too_little_promised_only_where_it_must_fit():
    rng = np.random.default_rng(1)
    z = rng.standard_normal(10_000)

    def contrasts(true):
        shift = 2.8 if true > 1 else 0.0
        return [Contrast((500, 500), (None, None), Absolute(x, 1.0, x - 1.96, x + 1.96, p=0.5)) for x in (z + shift).tolist()]

    def judged(planned, **how):
        how |= {"contrasts": contrasts, "part": "absolute", "effect": (2.0, 2.8), "planned": planned}
        return row_of("x", "x", 1000, runs=10_000, **how).passed

    assert (judged(0.80), judged(0.84), judged(0.76), judged(0.76, kept=True)) == (True, False, True, False)


def test_the_planner_promises_what_the_gate_finds():
    found = pair_row(np.random.default_rng(3), "relative", VISITS, sizes=(600, 600), runs=1_000, ratio=1.10)
    assert found.power == pytest.approx(planned_power(VISITS, (600, 600), 1.10), abs=0.01 + 3 * (0.25 / 1_000) ** 0.5)


def test_a_biased_process_is_told_from_its_truth():
    """The truth said to be 3 % above what is drawn."""
    wrong = Process("dwell per view", 60.0, lambda rng, shape, ratio: minutes(rng, shape, 1 + (ratio - 1) * 0.8))
    assert not pair_row(np.random.default_rng(1), "relative", wrong, sizes=(400, 400), runs=2_000).passed


def test_boundaries_of_the_gate_are_those_of_a_running_test():
    even = [0.25, 0.5, 0.75, 1.0]
    assert looks_at(even) == pytest.approx(critical_values(even, alpha=0.05), rel=1e-9)
    short = looks_at([0.25, 0.5, 0.75])
    assert short[:2] == pytest.approx(critical_values(even[:2], alpha=0.05), rel=1e-9)
    assert short[2] < critical_values(even[:3], alpha=0.05)[2]


def test_the_split_of_the_gate_is_the_split_check_of_a_report():
    found = split_paths(np.random.default_rng(5), looks=4, a_look=50, kept=0.9, runs=3)
    rng = np.random.default_rng(5)
    one = rng.binomial(50, 0.5, (3, 4))
    two = rng.binomial(50 - one, 0.9)
    for run in range(3):
        seen = zip(one[run].cumsum().tolist(), two[run].cumsum().tolist(), strict=True)
        wanted = max(split_evidence({"a": a, "b": b}, {"a": 0.5, "b": 0.5}) for a, b in seen)
        assert found[run] == pytest.approx(wanted, rel=1e-9)


def test_believed_chances_come_true():
    row = belief_row(np.random.default_rng(2), readers=200, runs=500)
    assert row.passed
    assert sum(n for _, _, n in row.bins) == 500
    assert all(low <= chance <= low + 0.1 for low, (chance, _, _) in zip(np.arange(10) / 10, row.bins, strict=False) if len(row.bins) == 10)


def test_a_rule_that_does_nothing_is_seldom_believed_to_matter_beside_a_model_that_wins(monkeypatch):
    assert beside_row(np.random.default_rng(2), readers=400, model=1.33, runs=60).passed
    monkeypatch.setattr("analysis.fat_tails.CONFLICT", 0.0)  # the normal prior whatever was measured
    assert not beside_row(np.random.default_rng(2), readers=400, model=1.33, runs=60).passed


def test_a_length_chosen_by_what_it_teaches_forgoes_no_more_than_fourteen_days_anywhere(rows):
    row = next(row for row in rows if row["estimator"] == "length by what knowing is worth")
    assert row["pass"]
    assert row["power"] > 0.05  # saves something on all sites together


def test_small_sites_and_large_ones_are_tested_for_other_lengths():
    days = {(site.readers_per_day, site.cost): study.days for site in SITES if (study := chosen_length(site)) is not None}
    assert days[400, 0.0] > days[4_000, 0.0]
    assert chosen_length(Site(40, 0.5)) is None  # nothing it could find would pay for the arm


def test_what_a_test_forgoes_by_hand():
    """An arm that gains 10 % and costs 3 %: known, it earns 7 %; 73 of 365 days at half gain and full cost, the rest in full or not at all."""
    site, truth = Site(10**9, 0.03), np.array([np.log(1.1)])
    sure = forgone(site, truth, np.zeros(1), days=73.0)
    assert sure == pytest.approx(0.07 - 0.2 * (0.05 - 0.03) - 0.8 * 0.07)
    missed = forgone(Site(1, 0.03), truth, np.zeros(1), days=73.0)  # one reader a day says nothing: the prior does not ship it
    assert missed == pytest.approx(0.07 - 0.2 * (0.05 - 0.03))
    assert forgone(site, truth, np.zeros(1), days=0.0) == pytest.approx(0.07)


def test_a_length_that_is_far_off_would_fail():
    site, rng = SITES[4], np.random.default_rng(1)
    truths, luck = rng.normal(0, 0.05, 400), rng.standard_normal(400)
    assert forgone(site, truths, luck, days=168.0).mean() > 1.5 * forgone(site, truths, luck, days=chosen_length(site).days).mean()


def test_what_is_known_to_err_is_measured_by_the_same_functions_and_shown_without_a_verdict():
    one, two = (known_limits(seed=2, runs=20) for _ in range(2))
    assert one == two
    assert one[0]["process"] == "euros, 5.0% pay, 4,000 beside 16,000"
    page = markdown([], [], command="x", limits=one)
    assert page.count("| euros, ") == len(one) == 4
    assert "Where ranges err more" not in markdown([], [], command="x")


def test_readers_who_pay_pay_what_is_said_on_average():
    top, bottom = paid(0.05)(np.random.default_rng(1), (1, 200_000), 2.0)
    assert (top > 0).mean() == pytest.approx(0.05, abs=0.002)
    assert top.mean() == pytest.approx(100.0, rel=0.05)
    assert bottom.min() == bottom.max() == 1
