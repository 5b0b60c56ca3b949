from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy.stats import kstest

from analysis.assignment_check import as_assigned, assigned_anew, elsewhere, reassign, split_p_values
from experiments.assignment import allocation, assign, reader_key
from tests.analysis.tables import plan

PLAN = plan()
AT = datetime(2026, 5, 1, tzinfo=UTC)


def logged(n=600):
    readers = [f"r{i}" for i in range(n)]
    return readers, [assign(allocation(PLAN), reader_key(r)).arm for r in readers], [0] * n


def test_what_the_plan_assigns_is_never_elsewhere():
    assert elsewhere(PLAN, logged(), {0: PLAN.shares}) == 0


def test_each_reader_who_saw_another_arm_is_counted_once():
    readers, arms, phases = logged()
    moved = {"status_quo": "front", "front": "als", "als": "ghost"}
    changed = [moved[arm] if i < 7 else arm for i, arm in enumerate(arms)]
    assert elsewhere(PLAN, (readers, changed, phases), {0: PLAN.shares}) == 7
    assert elsewhere(PLAN, ([*readers, *readers], [*changed, *changed], [*phases, *phases]), {0: PLAN.shares}) == 7
    assert as_assigned(7, 600).state == "block"


def test_a_reader_beyond_the_share_in_force_was_not_to_be_shown_anything():
    readers, arms, _ = logged()
    ramped = {"status_quo": 0.1, "front": 0.3, "als": 0.3}
    outside = sum(a == "status_quo" for a in arms) - sum(
        (found := assign(allocation(PLAN, ramped), reader_key(r))) is not None and found.arm == "status_quo" for r in readers
    )
    assert outside > 100
    assert elsewhere(PLAN, (readers, arms, [1] * len(readers)), {0: PLAN.shares, 1: ramped}) == outside


def people(n=3_000):
    rng = np.random.default_rng(4)
    sessions = 1 + rng.poisson(2.0, n)
    return [f"reader-{i}" for i in range(n)], rng.poisson(sessions * rng.gamma(2.0, 1.0, n)), sessions


def test_assigning_anew_finds_differences_as_often_as_chance_does():
    found = reassign(*people(), at=AT)
    assert (found.readers, found.runs) == (3_000, 1_000)
    assert found.p is not None
    assert found.p > 0.001


def test_the_same_readers_at_the_same_time_are_assigned_the_same_way_again():
    one, two = (reassign(*people(600), at=AT, runs=50) for _ in range(2))
    assert one == two != reassign(*people(600), at=AT + timedelta(days=1), runs=50)


def test_readers_given_twice_make_the_spread_look_too_small_and_are_noticed():
    """Copies of a reader share a key and so an arm: the reader is no longer the unit, and p-values are not uniform."""
    readers, views, sessions = people(600)
    found = reassign(readers * 4, np.tile(views, 4), np.tile(sessions, 4), at=AT, runs=400)
    assert found.p_effect is not None
    assert found.p_effect < 0.001
    assert assigned_anew(found.to_dict(), at=AT).state == "block"


@pytest.mark.parametrize("readers", [400, 3_000])
def test_a_fair_split_is_called_unfair_as_rarely_as_the_level_says(readers):
    rng = np.random.default_rng(9)
    alarms = [kstest(split_p_values(rng.binomial(readers, 0.5, 1_000), readers, seed=run), "uniform").pvalue < 0.01 for run in range(200)]
    assert sum(alarms) <= 7  # 2 are expected; half of the own chance instead of a random part gave 30 at 400 readers


def test_too_few_readers_give_a_reason_and_no_number():
    found = reassign(*people(50), at=AT)
    line = assigned_anew(found.to_dict(), at=AT)
    assert (line.state, line.p, found.p_effect) == ("ok", None, None)
    assert "Too few readers to assign anew: 50 at the last try, 1,000 are needed." in line.says


@pytest.mark.parametrize(("days", "state", "when"), [(0, "ok", "today"), (1, "ok", "1 day ago"), (46, "warn", "46 days ago")])
def test_the_age_of_the_last_run_is_told_and_an_old_one_warned_about(days, state, when):
    stored = reassign(*people(1_000), at=AT, runs=60).to_dict() | {"p": 0.5}
    line = assigned_anew(stored, at=AT + timedelta(days=days))
    assert line.state == state
    assert f"Last done {when}." in line.says


def test_it_never_ran():
    assert assigned_anew(None, at=AT).state == "warn"
