from __future__ import annotations

import math
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import fisher_exact, hypergeom

from analysis.checks import splits_evidence
from analysis.missing import alike, rates_p_value

HALVES = {0: {"a": 0.5, "b": 0.5}}


def sign(readers, marked):
    return SimpleNamespace(readers={0: readers}, marked={0: marked})


def test_two_percent_fewer_beacons_in_one_arm_are_found_while_the_test_runs():
    """SECURITY 7: 95 against 93 % of 50,000 readers per arm, found 100 times of 100."""
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(100):
        silent = {"a": int(rng.binomial(50_000, 0.05)), "b": int(rng.binomial(50_000, 0.07))}
        found += alike("no_beacon", sign({"a": 50_000, "b": 50_000}, silent), HALVES).state == "block"
    assert found == 100


def test_daily_looks_at_a_sign_that_has_nothing_to_do_with_the_arm_rarely_cry_wolf():
    rng, runs = np.random.default_rng(2), 2_000
    marked = rng.binomial(80, 0.5, (runs, 28)).cumsum(axis=1).tolist()
    evidence = cache(lambda a, day: splits_evidence({0: {"a": a, "b": 80 * (day + 1) - a}}, HALVES))
    alarms = sum(max(evidence(a, day) for day, a in enumerate(row)) > math.log(1 / 0.01) for row in marked)
    assert alarms / runs <= 0.01 + 3 * math.sqrt(0.01 * 0.99 / runs)


def test_at_the_end_a_false_alarm_comes_at_most_as_often_as_it_says():
    """All 41 ways in which 40 marked of 600 readers can fall on two arms, each with its chance."""
    alarms = [k for k in range(41) if rates_p_value({0: {"a": 300, "b": 300}}, {0: {"a": k, "b": 40 - k}}) < 0.05]
    assert 0.01 < hypergeom.pmf(alarms, 600, 300, 40).sum() <= 0.05


def test_two_arms_agree_with_the_exact_test():
    table = [[9, 91], [25, 75]]
    exact = fisher_exact(table, "less")[1]
    assert rates_p_value({0: {"a": 100, "b": 100}}, {0: {"a": 9, "b": 25}}) == pytest.approx(2 * exact, rel=1e-9)


def test_a_rare_sign_in_one_arm_only_is_found_at_the_end_though_not_before():
    lost = sign({"a": 5_000, "b": 5_000}, {"a": 16})
    assert alike("late", lost, HALVES).state == "ok"
    assert alike("late", lost, HALVES, ended=True).state == "block"


def test_evidence_of_earlier_looks_is_kept():
    calm = sign({"a": 50, "b": 50}, {"a": 5, "b": 5})
    assert alike("bots", calm, HALVES).state == "ok"
    assert alike("bots", calm, HALVES, most_evidence=7.0).state == "block"


def test_no_reader_and_no_sign_are_in_order():
    assert alike("bots", sign({}, {}), HALVES, ended=True).state == "ok"
    assert alike("bots", sign({"a": 9, "b": 9}, {}), HALVES, ended=True).p == 1.0


def test_an_arm_without_a_share_is_left_to_the_split_check():
    assert alike("bots", sign({"a": 50, "c": 50}, {"a": 5, "c": 5}), HALVES).state in ("ok", "warn")
