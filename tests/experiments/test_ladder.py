"""A new arm climbs to its share step by step, approved by somebody else, and is taken back in one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from experiments.errors import ArmError, ExperimentError, NotFoundError
from experiments.experiment import Arm, Experiment
from experiments.ladder import Ladder, approve, climb, halt, ladder_of, propose
from experiments.lifecycle import Step, audit_faults, draft, experiment_named, publish_plan, start, stop
from experiments.migrate import migrate
from experiments.tables import control_engine

AT = datetime(2026, 1, 1, tzinfo=UTC)
ARMS = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.3), Arm("newest", "heuristic", 0.2))
PLAN = Experiment("related", "Does it pay?", "status_quo", ARMS)


def by(actor: str, hours: float = 0.0, reason: str = "a test") -> Step:
    return Step(actor, AT + timedelta(hours=hours), reason)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    migrate(tmp_path)
    found = control_engine(tmp_path)
    draft(found, PLAN, by("ada"))
    return found


@pytest.fixture
def proposed(engine: Engine) -> Ladder:
    return propose(engine, "related", "newest", shares=[0.01, 0.05, 0.25], version="", step=by("ada"))


def published(engine: Engine, home: Path) -> dict[str, Any]:
    publish_plan(home, engine, at=AT)
    body: dict[str, Any] = json.loads((home / "plan" / "current.json").read_text())["body"]
    return body


def shares(engine: Engine) -> dict[str, float]:
    return dict(experiment_named(engine, "related").phases[-1]["shares"])


def test_a_proposed_arm_is_in_shadow_and_no_reader_is_enrolled(engine: Engine, proposed: Ladder, tmp_path: Path) -> None:
    assert (proposed.state, proposed.share, proposed.shares) == ("shadow", 0.0, (0.01, 0.05, 0.2))  # 25 % is more than planned
    body = published(engine, tmp_path)
    assert body["shadow"] == [{"experiment": "related", "arm": "newest", "proposal": proposed.proposal}]
    assert body["experiments"] == []


def test_nobody_approves_a_proposal_of_their_own_unless_alone_and_then_the_record_says_so(engine: Engine, proposed: Ladder) -> None:
    with pytest.raises(ArmError, match="is your own"):
        approve(engine, proposed, by("ada"))
    assert ladder_of(engine, "newest").state == "shadow"
    assert approve(engine, proposed, by("ada"), alone=True).state == "live"
    assert audit_faults(engine) == []


def test_all_arms_climb_in_proportion_up_to_the_plan_and_not_further(engine: Engine, proposed: Ladder, tmp_path: Path) -> None:
    ladder = approve(engine, proposed, by("eve"))
    assert (ladder.state, ladder.share) == ("live", 0.01)
    assert shares(engine) == pytest.approx({"status_quo": 0.025, "front": 0.015, "newest": 0.01})
    assert published(engine, tmp_path)["shadow"] == []
    ladder = climb(engine, ladder, by("eve", 1))
    assert (ladder.state, ladder.share, ladder.since) == ("live", 0.05, AT + timedelta(hours=1))
    ladder = climb(engine, ladder, by("eve", 7))
    assert (ladder.state, shares(engine)) == ("full", pytest.approx(PLAN.shares))
    with pytest.raises(ExperimentError, match="is full"):
        climb(engine, ladder, by("eve", 8))


def test_an_arm_that_was_taken_back_stays_away_and_the_others_keep_their_readers(engine: Engine, proposed: Ladder) -> None:
    ladder = halt(engine, approve(engine, proposed, by("eve")), by("eve", 1, "it looks odd"))
    assert (ladder.state, ladder.share, ladder.why) == ("stopped", 0.0, "it looks odd")
    assert shares(engine) == pytest.approx({"status_quo": 0.025, "front": 0.015, "newest": 0.0})
    for illegal in (climb, halt, approve):
        with pytest.raises((ExperimentError, NotFoundError), match="is stopped"):
            illegal(engine, ladder, by("eve", 2))
    stop(engine, "related", by("eve", 3))
    assert ladder_of(engine, "newest").state == "ended"


def test_a_draft_that_is_planned_anew_has_to_be_shipped_anew(engine: Engine, proposed: Ladder, tmp_path: Path) -> None:
    draft(engine, replace(PLAN, planned_days=30.0), by("ada", 1))
    assert published(engine, tmp_path)["shadow"] == []
    with pytest.raises(NotFoundError, match="not shipped into any test as it is planned now"):
        ladder_of(engine, proposed.arm)


def test_what_cannot_climb_is_refused_by_name(engine: Engine, proposed: Ladder) -> None:
    for arm, steps, says in (
        ("status_quo", [0.01], "is the control"),
        ("newest", [0.05, 0.01], "5, 1 does not"),
        ("alz", [0.01], "no arm 'alz'"),
    ):
        with pytest.raises(ExperimentError, match=says):
            propose(engine, "related", arm, shares=steps, version="", step=by("ada"))
    with pytest.raises(ExperimentError, match="needs a reason"):
        approve(engine, proposed, by("eve", reason=" "))
    with pytest.raises(NotFoundError, match="'front' was not shipped"):
        ladder_of(engine, "front")
    start(engine, "related", by("owner"))
    assert ladder_of(engine, "newest").state == "full"  # started whole, past the ladder
    with pytest.raises(ExperimentError, match="it is running"):
        propose(engine, "related", "newest", shares=[0.01], version="", step=by("ada"))
