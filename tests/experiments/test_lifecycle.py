"""Draft, running, stopped, decided: each step allowed once, recorded for ever."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, select

from experiments.errors import ExperimentError, NotFoundError
from experiments.experiment import Arm, Experiment
from experiments.ladder import decided_arms
from experiments.lifecycle import (
    Step,
    audit_faults,
    decide,
    draft,
    experiment_named,
    experiments,
    publish_if_behind,
    publish_plan,
    ramp,
    start,
    stop,
)
from experiments.migrate import LATEST, layout, migrate
from experiments.tables import AuditRow, control_engine

AT = datetime(2026, 11, 1, tzinfo=UTC)
STEP = Step("ines", AT, "because")
PLAN = Experiment("related", "?", "status_quo", (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5)))


@pytest.fixture
def engine(home: Path) -> Engine:
    migrate(home)
    return control_engine(home)


def test_a_fresh_home_is_laid_out_once_and_again_is_harmless(home: Path) -> None:
    assert layout(home) is None
    assert migrate(home) == migrate(home) == LATEST == layout(home)


def test_an_experiment_goes_through_its_states(engine: Engine) -> None:
    assert draft(engine, PLAN, STEP).state == "draft"
    assert start(engine, "related", STEP).started_at == AT
    assert stop(engine, "related", STEP).state == "stopped"
    assert decide(engine, "related", "front", STEP).decided_arm == "front"
    assert [record.state for record in experiments(engine)] == ["decided"]


def test_a_step_out_of_order_is_refused(engine: Engine) -> None:
    draft(engine, PLAN, STEP)
    with pytest.raises(ExperimentError, match="is draft; this step needs it to be running"):
        stop(engine, "related", STEP)


def test_a_running_plan_is_frozen(engine: Engine) -> None:
    draft(engine, PLAN, STEP)
    start(engine, "related", STEP)
    with pytest.raises(ExperimentError, match="its plan is frozen"):
        draft(engine, PLAN, STEP)


def test_one_slot_and_one_layer_run_one_experiment_each(engine: Engine) -> None:
    """Pages have one test a slot: readers of the other would be shown nothing of it, and nobody would say so."""
    draft(engine, PLAN, STEP)
    start(engine, "related", STEP)
    for beside in (replace(PLAN, name="aaa", layer="second"), replace(PLAN, name="aaa", slot="front.top")):
        draft(engine, beside, STEP)
        with pytest.raises(ExperimentError, match=r"'aaa' cannot start: 'related' already runs in") as refused:
            start(engine, "aaa", STEP)
        assert refused.value.hint == "Stop it first."
    draft(engine, replace(PLAN, name="aaa", slot="front.top", layer="second"), STEP)
    assert start(engine, "aaa", STEP).state == "running"


def test_a_decision_needs_a_reason_and_a_known_arm(engine: Engine) -> None:
    draft(engine, PLAN, STEP)
    start(engine, "related", STEP)
    stop(engine, "related", STEP)
    with pytest.raises(ExperimentError, match="needs a reason"):
        decide(engine, "related", "front", Step("ines", AT, " "))
    with pytest.raises(ExperimentError, match="has no arm 'alz'"):
        decide(engine, "related", "alz", STEP)


def test_an_arm_that_was_taken_from_its_readers_is_not_decided_for(engine: Engine) -> None:
    draft(engine, PLAN, STEP)
    start(engine, "related", STEP)
    ramp(engine, "related", {"status_quo": 0.5, "front": 0.0}, STEP, action="trip", arm="front", share=0.0)
    stop(engine, "related", STEP)
    with pytest.raises(ExperimentError, match="'front' was taken from its readers while the test ran"):
        decide(engine, "related", "front", STEP)
    assert decide(engine, "related", "status_quo", STEP).decided_arm == "status_quo"


def test_an_unknown_experiment_is_answered_with_the_nearest_name(engine: Engine) -> None:
    draft(engine, PLAN, STEP)
    with pytest.raises(NotFoundError, match="did you mean 'related'"):
        experiment_named(engine, "relatd")


def test_a_ramp_adds_a_phase(engine: Engine) -> None:
    draft(engine, PLAN, STEP)
    start(engine, "related", STEP)
    record = ramp(engine, "related", {"status_quo": 0.5, "front": 0.1}, STEP)
    assert [phase["number"] for phase in record.phases] == [0, 1]


def test_an_altered_audit_row_is_found(engine: Engine) -> None:
    draft(engine, PLAN, STEP)
    start(engine, "related", STEP)
    assert audit_faults(engine) == []
    with Session(engine) as session:
        row = session.exec(select(AuditRow)).first()
        assert row is not None
        row.reason = "another reason"
        session.add(row)
        session.commit()
    assert "audit row 1" in audit_faults(engine)[0]


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("DELETE FROM audit", "audit row 4 was written and is not there as it was: the record ends at row 0"),
        ("DELETE FROM audit WHERE number > 3", "audit row 4 was written and is not there as it was: the record ends at row 3"),
        ("DELETE FROM audit WHERE number = 2", "audit row 3 (stop related) was altered or a row before it is missing"),
        ("DELETE FROM experiment", "experiment 'related' is in the record and not there any more"),
        ("UPDATE experiment SET state = 'running'", "'related' is not as row 4 of the record left it: state"),
        ("UPDATE experiment SET decided_arm = 'status_quo'", "'related' is not as row 4 of the record left it: decided_arm"),
        ("UPDATE experiment SET phases = '[]'", "'related' is not as row 4 of the record left it: phases"),
        ("UPDATE experiment SET plan = replace(plan, '0.5', '0.1')", "'related' is not as row 4 of the record left it: plan_sha256"),
    ],
)
def test_what_is_missing_from_the_record_or_departs_from_it_is_found(engine: Engine, statement: str, says: str) -> None:
    draft(engine, PLAN, STEP)
    start(engine, "related", STEP)
    stop(engine, "related", STEP)
    decide(engine, "related", "front", STEP)
    assert audit_faults(engine) == []
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
    assert any(says in fault for fault in audit_faults(engine))


def test_a_decision_that_the_record_has_no_entry_of_is_none(home: Path, engine: Engine) -> None:
    draft(engine, PLAN, STEP)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE experiment SET state = 'decided', decided_arm = 'front', decided_at = '2026-11-28 00:00:00'")
    assert decided_arms(engine) == []
    publish_plan(home, engine, at=AT)
    assert json.loads((home / "plan" / "current.json").read_text())["body"]["defaults"] == {}


def test_a_record_from_before_its_end_was_told_is_whole(home: Path, engine: Engine) -> None:
    draft(engine, PLAN, STEP)
    (home / "record" / "current.json").unlink()
    assert audit_faults(engine) == []


def test_the_published_plan_holds_running_experiments_and_what_was_decided(home: Path, engine: Engine) -> None:
    draft(engine, PLAN, STEP)
    start(engine, "related", STEP)
    publish_plan(home, engine, at=AT)
    body = json.loads((home / "plan" / "current.json").read_text())["body"]
    assert [entry["plan"]["name"] for entry in body["experiments"]] == ["related"]
    stop(engine, "related", STEP)
    decide(engine, "related", "front", STEP)
    publish_plan(home, engine, at=AT)
    body = json.loads((home / "plan" / "current.json").read_text())["body"]
    assert (body["experiments"], body["defaults"]) == ([], {"article.related": "front"})


class Overtaken(dict[str, dict[str, float]]):
    """Shares that are asked for while a plan is written: somebody else takes a step just then."""

    def __init__(self, step: Callable[[], None]) -> None:
        super().__init__(other={})
        self.other = Thread(target=step)

    def get(self, name: str, default: Any = None) -> Any:
        self.other.start()
        self.other.join(timeout=0.3)  # long enough for a step that need not wait
        return default


def test_a_decision_that_pages_were_not_told_is_published_by_the_next_look(engine: Engine, home: Path) -> None:
    draft(engine, PLAN, STEP)
    start(engine, "related", STEP)
    stop(engine, "related", STEP)
    publish_plan(home, engine, at=AT)
    decide(engine, "related", "front", STEP)  # and killed here
    publish_if_behind(home, engine, at=AT)
    told = (home / "plan" / "current.json").read_bytes()
    assert json.loads(told)["body"]["defaults"] == {"article.related": "front"}
    publish_if_behind(home, engine, at=AT.replace(hour=1))
    assert (home / "plan" / "current.json").read_bytes() == told  # once


def test_a_stopped_test_stays_stopped_for_readers_when_two_people_publish_at_once(engine: Engine, home: Path) -> None:
    draft(engine, PLAN, STEP)
    start(engine, "related", STEP)

    def stopped() -> None:
        stop(engine, "related", STEP)
        publish_plan(home, engine, at=AT)

    shares = Overtaken(stopped)
    publish_plan(home, engine, at=AT, shares=shares)
    shares.other.join()
    assert json.loads((home / "plan" / "current.json").read_text())["body"]["experiments"] == []


def test_a_plan_whose_arms_nobody_wrote_or_that_are_of_another_kind_does_not_start(engine: Engine) -> None:
    arms = (Arm("status_quo", "status_quo", 0.4), Arm("frnt", "heuristic", 0.3), Arm("als", "model", 0.3))
    draft(engine, Experiment("typo", "Does it pay?", "status_quo", arms), STEP)
    with pytest.raises(ExperimentError) as refused:
        start(engine, "typo", STEP)
    assert "no arm is called 'frnt'; did you mean 'front'?" in str(refused.value)
    assert 'arm \'als\' has kind = "model" and audience = "all" in the plan; the arm itself says "model" and "agreed".' in str(
        refused.value
    )
    assert experiment_named(engine, "typo").state == "draft"
