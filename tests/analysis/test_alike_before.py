"""Were the arms' readers alike before the test? Asked every day, and answered without more false alarms for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.moments import Moments, Totals
from analysis.trust import before_p_values
from experiments.experiment import Arm, Experiment
from experiments.metric import metric
from tests.analysis.tables import SESSIONS, VIEWS, counts

PLAN = Experiment("related", "Does it pay?", "status_quo", (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5)))
KEYS = (VIEWS, SESSIONS, f"pre:{VIEWS}", f"pre:{SESSIONS}", "has_pre")
ARTICLES = f"{metric(PLAN.goal).says.lower()}, front against status quo"


def readers(rng: np.random.Generator, n: int, more: float = 1.0) -> np.ndarray:
    known = rng.random(n) < 0.6
    sessions = known * (1 + rng.poisson(1.5, n))
    views = sessions + rng.poisson(1.5 * more * sessions)
    return np.stack([np.ones(n, int), np.ones(n, int), views, sessions, known], axis=1)


def totals_of(arms: dict[str, np.ndarray]) -> Totals:
    cells = {(arm, 1): Moments.from_rows(rows, KEYS) for arm, rows in arms.items()}
    return Totals(cells, counts({1: {arm: len(rows) for arm, rows in arms.items()}}))


def smallest(arms: dict[str, np.ndarray], *, ended: bool) -> float:
    found = before_p_values(PLAN, totals_of(arms), shares={1: 1.0}, ended=ended)
    return min(1.0, min(found.values(), default=1.0) * len(found))


def alarms(runs: int, *, ended: bool) -> float:
    """Share of tests without any difference in which one of 14 daily looks, 110 readers an arm each, finds one at 5 %."""
    rng, n = np.random.default_rng(7), 0
    for _ in range(runs):
        arms = {arm: readers(rng, 14 * 110) for arm in PLAN.shares}
        n += any(smallest({arm: rows[: day * 110] for arm, rows in arms.items()}, ended=ended) < 0.05 for day in range(1, 15))
    return n / runs


def test_daily_looks_raise_no_more_false_alarms_than_one_look_may():
    assert alarms(80, ended=False) <= 0.05
    assert alarms(40, ended=True) > 0.1  # what the plain p-value would do


@pytest.mark.parametrize("ended", [True, False])
def test_arms_that_differed_are_found(ended):
    rng = np.random.default_rng(1)
    found = before_p_values(
        PLAN, totals_of({"status_quo": readers(rng, 3_000), "front": readers(rng, 3_000, 1.2)}), shares={1: 1.0}, ended=ended
    )
    assert min(found, key=found.get) == ARTICLES
    assert found[ARTICLES] < 1e-4


def test_a_running_test_waits_for_a_hundred_readers_an_arm():
    rng = np.random.default_rng(1)
    arms = {"status_quo": readers(rng, 500), "front": readers(rng, 99, 3.0)}
    assert before_p_values(PLAN, totals_of(arms), shares={1: 1.0}, ended=False) == {}
    assert len(before_p_values(PLAN, totals_of(arms), shares={1: 1.0}, ended=True)) == 2
    assert len(before_p_values(PLAN, totals_of(arms | {"front": readers(rng, 100)}), shares={1: 1.0}, ended=False)) == 2


def test_the_end_is_judged_as_one_look():
    rng = np.random.default_rng(2)
    arms = {arm: readers(rng, 2_000) for arm in PLAN.shares}
    once, always = (before_p_values(PLAN, totals_of(arms), shares={1: 1.0}, ended=ended)[ARTICLES] for ended in (True, False))
    assert once < always <= 1


def test_readers_without_a_past_say_nothing():
    arms = {arm: np.array([[1, 1]] * 200) for arm in PLAN.shares}
    cells = {(arm, 1): Moments.from_rows(rows, KEYS[:2]) for arm, rows in arms.items()}
    assert (
        before_p_values(
            PLAN, replace(totals_of({"front": readers(np.random.default_rng(1), 200)}), moments=cells), shares={1: 1.0}, ended=True
        )
        == {}
    )
    none = {arm: np.array([[1, 1, 0, 0, 0]] * 200) for arm in PLAN.shares}
    assert before_p_values(PLAN, totals_of(none), shares={1: 1.0}, ended=False) == {}


def test_few_readers_who_had_been_here_before_raise_no_more_alarms_than_promised():
    """A tenth of 100 and of 900 readers: Welch's test of a rare share blocks 26 tests of 1,000 at .001."""
    rng, blocked, runs = np.random.default_rng(4), 0, 400
    for _ in range(runs):
        arms = {arm: readers(rng, n) for arm, n in (("front", 100), ("status_quo", 900))}
        for rows in arms.values():
            rows[:, 2:] *= (rng.random(len(rows)) < 1 / 6)[:, None]  # of 60 % who are known
        blocked += smallest(arms, ended=True) < 0.001
    assert blocked <= 2


def test_an_arm_in_which_nobody_had_been_here_before_is_judged_as_a_share():
    """0 of 100 beside 60 of 900: p is .008; with a spread of zero in one arm Welch's would be 1e-15."""
    arms = {
        arm: np.array([[1, 1, 2, 1, 1]] * known + [[1, 1, 0, 0, 0]] * (n - known))
        for arm, known, n in (("front", 0, 100), ("status_quo", 60, 900))
    }
    assert 0.001 < smallest(arms, ended=True) < 0.05
