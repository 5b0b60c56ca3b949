"""What the trust checks read of the events: a handful of readers, counted by hand."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from experiments.events.erase import erase_readers
from experiments.events.lake import reader_rows
from experiments.events.lake_checks import activity, halves, hidden, looked_ahead, seen
from experiments.events.loader import Loader
from experiments.events.sealing import seal
from experiments.experiment import Arm, Experiment
from experiments.metric import metric
from tests.events.story import DAY, START, Story, send

ARMS = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5))
PLAN = Experiment("related", "Does it pay?", "status_quo", ARMS, window_days=2.0, planned_days=14.0)
GOAL = metric("views_per_session")
UNTIL = START + 20 * DAY
NOON = 15 * 1440


@pytest.fixture
def home(tmp_path):
    """Reader r1: two pages before, three on the day, one a day and a half later. r2: new, silent, degraded, once late."""
    story = Story()
    story.page("r1", NOON - 3_000)
    story.page("r1", NOON - 2_990)
    told = story.exposed("r1", NOON, "front")
    story.dwell(told, "r1", NOON, 4_000)
    story.page("r1", NOON + 5)
    story.page("r1", NOON + 100)
    story.page("r1", NOON + 2_200)
    story.exposed("r2", NOON, "status_quo", body={"outcome": "degraded"})
    story.exposed("r2", NOON + 60, "status_quo", late_minutes=1_500)
    story.exposed("r3", NOON + 5_500, "front")
    story.exposed("robot", NOON, "front", bot=True)
    story.exposed("forced", NOON, "front", body={"reason": "forced"})
    send(tmp_path, story.events)
    return tmp_path


def test_signs_are_counted_per_arm(home):
    found = seen(home, PLAN, until_us=UNTIL, source="live")
    assert sorted(zip(*found.shown, strict=True)) == [("r1", "front", 0), ("r2", "status_quo", 0), ("r3", "front", 0)]
    assert found.signs["no_beacon"].readers == {0: {"front": 2, "status_quo": 1}}
    assert found.signs["no_beacon"].marked == {0: {"front": 1, "status_quo": 1}}
    assert found.signs["degraded"].marked == {0: {"front": 0, "status_quo": 1}}
    assert found.signs["late"].marked == {0: {"status_quo": 1}}
    assert found.signs["late"].readers == {0: {"front": 2, "status_quo": 1}}
    assert (found.signs["bots"].marked, found.signs["bots"].readers) == ({0: {"front": 1}}, {0: {"front": 3, "status_quo": 1}})


@pytest.mark.parametrize("sealed", [False, True])
def test_who_is_erased_is_still_counted_in_the_arm_of_the_first_exposure_once(home, sealed):
    if sealed:
        with Loader(home, clock=lambda: UNTIL) as loader:
            seal(home, until_us=UNTIL, loader=loader)
    for gone in (["r1", "robot", "forced", "r9"], ["r2"], ["r1", "r2"]):
        erase_readers(home, gone, until_us=UNTIL)
    found = seen(home, PLAN, until_us=UNTIL, source="live").signs["erased"]
    assert found.marked == {0: {"front": 1, "status_quo": 1}}
    assert found.readers == {0: {"front": 2, "status_quo": 1}}
    assert seen(home, PLAN, until_us=UNTIL, source="simulated").signs["erased"].marked == {}


def test_a_page_younger_than_a_day_may_still_tell(home):
    young = seen(home, PLAN, until_us=START + (NOON + 1_439) * 60_000_000, source="live")
    assert young.signs["no_beacon"].readers == {0: {"front": 0, "status_quo": 0}}
    assert sum(young.signs["no_beacon"].marked[0].values()) == 0


def test_nobody_was_shown_anything_yet(tmp_path):
    found = seen(tmp_path, PLAN, until_us=UNTIL, source="live")
    assert (list(found.shown[0]), found.signs["bots"].readers) == ([], {})


def test_a_window_splits_into_halves_that_add_up(home):
    rows = reader_rows(home, PLAN, [GOAL], until_us=UNTIL, source="live")
    parts = halves(home, PLAN, rows, GOAL)
    (front,) = [row for row in parts.rows if row.arm == "front"]
    sums = dict(zip(front.keys, front.sums, strict=True))
    assert [sums[name] for name in parts.early] == [3, 2]
    assert [sums[name] for name in parts.late] == [1, 1]


def test_covariates_come_out_the_same_when_the_future_is_hidden(home):
    rows = reader_rows(home, PLAN, [GOAL], until_us=UNTIL, source="live")
    assert sum(rows.table["has_pre"].to_pylist()) == 1
    assert looked_ahead(home, PLAN, rows, GOAL) == (0, 2)


def test_a_covariate_that_knows_the_future_is_found(home):
    rows = reader_rows(home, PLAN, [GOAL], until_us=UNTIL, source="live")
    name = f"pre:{GOAL.numerator.key}"
    later = pa.chunked_array([rows.table[GOAL.numerator.key].combine_chunks()])
    peeked = replace(rows, table=rows.table.set_column(rows.table.column_names.index(name), name, later))
    assert looked_ahead(home, PLAN, peeked, GOAL) == (2, 2)


def test_activity_is_counted_per_reader(home):
    found = activity(home, since_us=0, until_us=UNTIL, source="live")
    assert found.readers == sorted(found.readers)
    assert dict(zip(found.readers, zip(found.views.tolist(), found.sessions.tolist(), strict=True), strict=True))["r1"] == (6, 4)


def test_hiding_leaves_what_is_older_than_the_cut_and_the_first_exposure():
    view = {"reader": ["r1", "r1", "r1", "r2"], "page_view": ["a", "b", "c", "d"], "issued_at": [1, 2, 3, 1]}
    dwell = {"reader": ["r1", "r1"], "page_view": ["a", "b"], "active_ms": [10, 20]}
    shown = {"reader": ["r1", "r1"], "page_view": ["b", "c"], "issued_at": [2, 3]}
    left = hidden({"view": pa.table(view), "dwell": pa.table(dwell), "exposure": pa.table(shown)}, {"r1": 2})
    assert {kind: table["page_view"].to_pylist() for kind, table in left.items()} == {"view": ["a"], "dwell": ["a"], "exposure": ["b"]}
