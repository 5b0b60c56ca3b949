"""Draft, running, stopped, decided: each step allowed once, recorded for ever."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, select

from experiments.errors import ExperimentError, NotFoundError
from experiments.experiment import Arm, Experiment
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


def test_one_layer_runs_one_experiment(engine: Engine) -> None:
    for name in ("related", "other"):
        draft(engine, Experiment(name, "?", "status_quo", PLAN.arms), STEP)
    start(engine, "related", STEP)
    with pytest.raises(ExperimentError, match="'related' already runs in layer 'related'"):
        start(engine, "other", STEP)


def test_a_decision_needs_a_reason_and_a_known_arm(engine: Engine) -> None:
    draft(engine, PLAN, STEP)
    start(engine, "related", STEP)
    stop(engine, "related", STEP)
    with pytest.raises(ExperimentError, match="needs a reason"):
        decide(engine, "related", "front", Step("ines", AT, " "))
    with pytest.raises(ExperimentError, match="has no arm 'alz'"):
        decide(engine, "related", "alz", STEP)


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
