from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from analysis.moments import add_up
from analysis.neighbours import Ran, carry_over, interference
from experiments.metric import metric
from tests.analysis.tables import COLUMNS, crowd, plan, row

START = datetime(2026, 5, 1, tzinfo=UTC)
PLAN = plan(salt="own", window_days=3.0)
GOAL = metric("views_per_session")


def ran(name="earlier", *, layer="related", salt="", before=30.0, ended=20.0):
    started = START - timedelta(days=before)
    return Ran(name, "article.related", layer, salt, started, None if ended is None else START - timedelta(days=ended))


@pytest.mark.parametrize(
    ("others", "state"),
    [
        ([], "ok"),
        ([ran()], "ok"),
        ([ran(ended=2.9)], "warn"),
        ([ran(ended=3.0)], "ok"),
        ([ran(ended=None)], "warn"),
        ([ran(salt="own")], "warn"),
        ([ran("own")], "warn"),
        ([ran(salt="own", layer="other")], "ok"),
        ([ran(salt="own", before=-1, ended=-9)], "ok"),
    ],
)
def test_what_ran_before_in_the_same_place(others, state):
    assert carry_over(PLAN, START, others).state == state


def cells(rng, effects):
    tables = {}
    for phase, (front, als) in enumerate(effects):
        for arm, views in (("status_quo", 1.0), ("front", front), ("als", als)):
            tables[arm, phase] = crowd(rng, 900, views=views)
    return add_up(row(arm, table, phase=phase, keys=COLUMNS) for (arm, phase), table in tables.items())


RAMP = {0: {"status_quo": 0.9, "front": 0.05, "als": 0.05}, 1: {"status_quo": 0.4, "front": 0.3, "als": 0.3}}


def test_one_share_of_readers_measures_nothing():
    line = interference(PLAN, cells(np.random.default_rng(1), [(1.0, 1.0)]), {}, goal=GOAL, ended=True)
    assert (line.figure, line.p) == (None, None)
    assert "cannot be measured" in line.says


def test_an_effect_that_grows_with_the_share_is_told_and_never_blocks():
    line = interference(PLAN, cells(np.random.default_rng(2), [(1.0, 1.0), (1.0, 1.6)]), RAMP, goal=GOAL, ended=True)
    assert line.state == "ok"
    assert line.p < 0.001
    assert line.figure > 0
    assert "Effect of als" in line.says
    assert "chance does not explain the gap" in line.says


def test_a_steady_effect_is_explained_by_chance():
    line = interference(PLAN, cells(np.random.default_rng(3), [(1.3, 1.3), (1.3, 1.3)]), RAMP, goal=GOAL, ended=True)
    assert line.p > 0.01
    assert "chance explains the gap" in line.says


def test_nothing_about_effects_is_told_before_the_end():
    line = interference(PLAN, cells(np.random.default_rng(4), [(1.0, 1.0), (1.0, 1.6)]), RAMP, goal=GOAL, ended=False)
    assert (line.figure, line.p) == (None, None)
    assert "%" not in line.says


READS = {"status_quo": 50, "front": 30, "als": 15, "": 5}
MIX = "Articles opened during the test: 100, by readers of status quo 50%, of front 30%, of als 15%, by others 5.0%."


@pytest.mark.parametrize("shares", [{}, RAMP], ids=["steady", "ramped"])
def test_whose_readers_opened_what_all_arms_learn_from_is_told_at_the_end(shares):
    found = cells(np.random.default_rng(5), [(1.0, 1.0), (1.0, 1.0)] if shares else [(1.0, 1.0)])
    assert MIX in interference(PLAN, found, shares, goal=GOAL, ended=True, reads=READS).says
    assert "opened during" not in interference(PLAN, found, shares, goal=GOAL, ended=True, reads={}).says
    assert "opened during" not in interference(PLAN, found, shares, goal=GOAL, ended=False, reads=READS).says
