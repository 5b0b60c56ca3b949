"""From events on disk to moments: the numbers of a handful of readers, checked by hand."""

from __future__ import annotations

import pytest

from analysis.comparison import compare_all
from analysis.moments import Distinct
from analysis.recompute import Recomputed, again, agreement
from analysis.totals import totals
from experiments.experiment import Arm, Experiment
from tests.analysis.tables import SESSIONS, VIEWS
from tests.events.story import DAY, START, Story, send

ARMS = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5))
PLAN = Experiment("related", "Does it pay?", "status_quo", ARMS, window_days=1.0, planned_days=14.0)
UNTIL = START + 3 * DAY


@pytest.fixture
def home(tmp_path):
    """Each reader opens 1 + i % 3 articles in a first session; odd ones come back for one more two hours later."""
    story = Story()
    for i in range(12):
        arm = ("status_quo", "front")[i % 2]
        phase = {"body": {"phase": int(i >= 8)}}
        story.exposed(f"r{i}", 10 * i, arm, **phase)
        for k in range(i % 3):
            story.page(f"r{i}", 10 * i + 1 + k)
        if i % 2:
            story.page(f"r{i}", 10 * i + 120)
    send(tmp_path, story.events)
    return tmp_path


def test_readers_become_moments_and_distinct_rows(home):
    found = totals(home, PLAN, until_us=UNTIL, source="live")
    assert found.readers() == {"front": 6, "status_quo": 6}
    assert found.phases == (0, 1)
    mean, _ = found.moments["status_quo", 0].pair(VIEWS, SESSIONS)
    assert mean.tolist() == [(1 + 3 + 2 + 1) / 4, 1.0]
    assert Distinct("front", 3, 2, 2, 0) in found.distinct["views_per_session"]
    assert sum(row.count for row in found.distinct["views_per_session"]) == 12
    assert (found.counts.crossed, dict(found.counts.exposed)) == (0, {"status_quo": 6, "front": 6})


def test_nobody_has_matured_yet(home):
    assert totals(home, PLAN, until_us=START + DAY // 2, source="live").moments == {}


def test_both_phases_survive_the_second_computation(home):
    found = totals(home, PLAN, until_us=UNTIL, source="live")
    compared = compare_all(PLAN, found)
    sides = [compared.values["views_per_session", arm] for arm in ("front", "status_quo")]
    ours = Recomputed("front", "status_quo", sides[0].estimate - sides[1].estimate, (sides[0].variance + sides[1].variance) ** 0.5)
    other = again(found.distinct["views_per_session"], [("front", "status_quo")], shares=compared.shares)
    assert agreement([ours], other).state == "ok"
