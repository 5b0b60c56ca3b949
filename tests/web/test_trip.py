"""A trip that was interrupted, or that comes too late, leaves readers, pointer and record in step."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from sqlite3 import OperationalError

import pytest
from msgspec.structs import replace as changed
from sqlalchemy import Engine

from experiments.clock import moment
from experiments.errors import ExperimentError
from experiments.events.event import Event
from experiments.ladder import approve, halt, ladder_of, ladders, propose
from experiments.lifecycle import Step, draft, publish_plan
from experiments.serving.artefacts import current, rollback
from tests.events.story import START, send
from tests.web.test_ladder import BEGAN, PLAN, live
from tests.web.test_ladder import engine as engine  # a fixture
from tests.web.test_operations import FAILED, MINUTE_US, Clock, pages, versions_of
from tests.web.test_operations import clock as clock
from tests.web.test_operations import operations as operations
from web.operations import Operations
from web.trip import trip

LATER = Step("eve", moment(START + 3 * MINUTE_US), "it looks odd")


def in_force(home: Path) -> tuple[str, str]:
    pointer = current(home, "newest")
    assert pointer is not None
    return pointer.version, pointer.frozen


def served(home: Path) -> dict[str, dict[str, float]]:
    body = json.loads((home / "plan" / "current.json").read_text())["body"]
    return {entry["plan"]["name"]: entry["shares"] for entry in body["experiments"]}


def test_pages_follow_the_record_when_whoever_stopped_the_arm_was_killed_before_they_were_told(
    tmp_path: Path, engine: Engine, operations: Operations
) -> None:
    publish_plan(tmp_path, engine, at=BEGAN)
    halt(engine, ladder_of(engine, "newest"), LATER)
    assert served(tmp_path)["related"]["newest"] == 0.2
    operations.look()
    assert served(tmp_path)["related"]["newest"] == 0.0


def test_a_damaged_plan_is_published_again_and_what_is_in_step_is_left_alone(
    tmp_path: Path, engine: Engine, operations: Operations
) -> None:
    shares = {"related": {"status_quo": 0.1, "newest": 0.1}}  # a split that departs from the plan is for the report to find
    publish_plan(tmp_path, engine, at=BEGAN, shares=shares)
    operations.look()
    assert served(tmp_path) == shares
    (tmp_path / "plan" / "current.json").write_text("{")
    operations.look()
    assert served(tmp_path)["related"]["newest"] == 0.2


def test_a_model_that_was_already_taken_back_is_held_not_lost_to_its_readers(
    tmp_path: Path, engine: Engine, operations: Operations, clock: Clock
) -> None:
    versions_of(tmp_path, how_many=2)
    send(tmp_path, pages(readers=range(10), **FAILED))
    rollback(tmp_path, "newest", at_us=START + 3 * MINUTE_US, frozen="by a person, or by a look that was killed before it wrote the record")
    clock.minute = 5
    (held,) = operations.look()
    assert (held.state, held.share, held.version) == ("held", 0.2, "1")
    send(tmp_path, pages(readers=range(20, 30), minute=6, **FAILED))
    assert operations.look()[0].state == "stopped"


def test_a_look_that_took_too_long_moves_no_version(tmp_path: Path, engine: Engine) -> None:
    before = live(engine)
    versions_of(tmp_path, how_many=2)
    halt(engine, before, LATER)
    with pytest.raises(ExperimentError, match="was changed meanwhile"):
        trip(tmp_path, engine, before, Step("timetable", BEGAN, "its readers met errors"))
    assert in_force(tmp_path) == ("2", "")


def second(engine: Engine) -> None:
    """Another test, in a place of its own, in which the same arm is on its ladder."""
    draft(engine, replace(PLAN, name="second", slot="front.top", layer="other"), Step("ada", BEGAN))
    approve(engine, propose(engine, "second", "newest", shares=[0.2], version="", step=Step("ada", BEGAN)), Step("eve", BEGAN, "go"))


def test_a_version_that_fails_in_two_tests_goes_back_once_and_is_held_in_both(
    tmp_path: Path, engine: Engine, operations: Operations, clock: Clock
) -> None:
    second(engine)
    versions_of(tmp_path, how_many=3)
    events = pages(readers=range(10), **FAILED)
    send(tmp_path, [*events, *(changed(one, experiment="second") for one in pages(readers=range(10), minute=2, **FAILED))])
    clock.minute = 5
    assert [(one.state, one.version) for one in operations.look()] == [("held", "2"), ("held", "2")]


def test_whoever_moves_an_arm_is_told_of_that_test_although_the_arm_waits_for_another(engine: Engine) -> None:
    before = live(engine)
    draft(engine, replace(PLAN, name="second", slot="front.top", layer="other"), Step("ada", BEGAN))
    assert propose(engine, "second", "newest", shares=[0.2], version="", step=Step("ada", BEGAN)).experiment == "second"
    gone = halt(engine, before, LATER)
    assert (gone.experiment, gone.state) == ("related", "stopped")


def test_a_test_that_cannot_be_looked_at_does_not_keep_the_others_from_being_looked_at(
    tmp_path: Path, engine: Engine, operations: Operations
) -> None:
    second(engine)
    first, then = ladders(engine)
    (tmp_path / "ladder" / f"{first.proposal}.db").mkdir(parents=True)
    send(tmp_path, [changed(event, experiment=then.experiment) for event in pages(readers=range(10), **FAILED)])
    with pytest.raises(OperationalError, match="unable to open database file"):
        operations.look()
    assert served(tmp_path)[then.experiment]["newest"] == 0.0


ERROR = "RuntimeError: the table 'heat' has no column 'x'"


def failing_pages(readers: range, reason: str) -> list[Event]:
    events = pages(readers=readers, minute=1 + readers.start / 1_000, **FAILED)
    return [changed(one, body={**one.body, "reason": reason}) if one.kind == "impression" else one for one in events]


def test_a_stop_says_with_which_error_the_arm_failed_most_often(tmp_path: Path, operations: Operations) -> None:
    """Nobody could read it anywhere, and the page said: mend the cause."""
    send(tmp_path, [*failing_pages(range(8), ERROR), *failing_pages(range(10, 12), "KeyError: 'r11'")])
    (stopped,) = operations.look()
    assert stopped.why.endswith(f". Most often failed: {ERROR} (8 readers)")


def test_words_that_few_readers_met_stay_out_of_the_record(tmp_path: Path, operations: Operations) -> None:
    """They may hold what a reader can ask to be erased, and the record is for ever."""
    send(tmp_path, [one for n in range(10) for one in failing_pages(range(n, n + 1), f"KeyError: 'r{n}'")])
    (stopped,) = operations.look()
    assert "KeyError" not in stopped.why
