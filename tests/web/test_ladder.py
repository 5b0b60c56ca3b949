"""From the command to the readers: gates, shadow, approval, steps, stops, and back."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner, Result

from experiments import ladder
from experiments.clock import moment
from experiments.errors import PresslabError
from experiments.experiment import Arm, Experiment
from experiments.files import replace_json
from experiments.ladder import Ladder, approve, climb, ladder_of, propose
from experiments.lifecycle import Step, audit_faults, draft, experiment_named, notes_of, publish_plan, stop
from experiments.migrate import migrate
from experiments.serving.artefacts import publish, stays, write_bundle
from experiments.settings import Settings
from experiments.tables import control_engine
from tests.analysis.assigned import readers_of
from tests.events.story import START, Story, send
from tests.web.site_fixture import NOW, PHONE, Stand
from web.cli import commands, proposed
from web.cli.main import app
from web.ladder import look_at_all
from web.published import refresh
from web.shadow import ENOUGH, Asked, shadow_result
from web.trip import trip

ARMS = (Arm("status_quo", "status_quo", 0.5), Arm("newest", "heuristic", 0.5))
PLAN = Experiment("related", "Does it pay?", "status_quo", ARMS)
BEGAN = moment(START)
commands.install()


@pytest.fixture
def stand(home: Path) -> Stand:
    """A site that runs one experiment, with a draft of the next."""
    made = Stand(home)
    draft(control_engine(home), Experiment("next", "Does it pay?", "status_quo", ARMS), Step("ada", NOW))
    return made


def run(stand: Stand, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["arm", *arguments, "--home", str(stand.home)], env={"PRESSLAB_PROFILE": "demo", "COLUMNS": "150"})


def refused(done: Result, status: int) -> str:
    assert isinstance(done.exception, PresslabError), done.output
    assert done.exception.exit_status == status
    return str(done.exception)


def passed(home: Path, *, all_of_them: bool = True) -> None:
    gate = {"number": 3, "name": "offline", "passed": all_of_them, "figure": "", "reason": "it places fewer"}
    seen = {"against": "front", "until": NOW.isoformat(), "split": NOW.isoformat(), "earlier_looks": 0}
    replace_json(home / "gates" / "newest" / "0001.json", {"run": 1, "passed": all_of_them, "gates": [gate | {"limit": ""}], **seen})


def test_an_unchecked_arm_and_one_that_failed_a_gate_are_not_shipped(stand: Stand) -> None:
    assert "has not been checked here" in refused(run(stand, "ship", "newest", "--experiment", "next"), 3)
    passed(stand.home, all_of_them=False)
    assert "gate 3, offline: it places fewer" in refused(run(stand, "ship", "newest", "--experiment", "next"), 3)
    passed(stand.home)
    assert "per cent, separated by commas" in refused(run(stand, "ship", "newest", "--experiment", "next", "--ladder", "one"), 2)
    assert "it is running" in refused(run(stand, "ship", "newest", "--experiment", "related"), 2)
    missing = refused(run(stand, "ship", "newest", "--experiment", "nexd"), 5)
    assert "did you mean 'next'?" in missing
    assert "presslab experiment plan FILE" in missing


def test_a_shipped_arm_is_asked_in_shadow_while_readers_see_the_running_test(stand: Stand) -> None:
    passed(stand.home)
    told = json.loads(run(stand, "ship", "newest", "--experiment", "next", "--ladder", "1,full", "--json").stdout)
    assert (told["state"], told["shares"]) == ("shadow", [0.01, 0.5])
    early = refused(run(stand, "step", "newest", "--approve", str(told["proposal"]), "--alone", "--reason", "go"), 3)
    assert "was asked 0 times in shadow" in early
    stand.site.published, stand.site.shadow.enough = refresh(stand.home, stand.site.published), 3
    asked = Asked("next", "newest", told["proposal"])
    page = stand.client().get("/console/en/models", headers=PHONE).text
    assert f"shown to nobody; proposal {told['proposal']} waits for approval" in page
    owner = stand.client().get("/console/en/", headers=PHONE).text
    assert "Newest is asked in shadow since" in owner
    assert "was asked 0 times in shadow" in owner
    assert "presslab experiment start next" not in owner
    listed = {row["name"]: row["ladder"] for row in json.loads(run(stand, "list", "--json").stdout)["arms"]}
    assert listed["newest"]["state"] == "shadow"
    assert listed["front"] is None
    assert stand.site.published.shadow == (asked,)
    client = stand.client()
    for _ in range(3):
        stand.advance(90)
        client.get(f"/en/article/{stand.article}", headers=PHONE)
        stand.site.shadow.idle()
    assert {e["experiment"] for e in stand.events() if e["kind"] == "exposure"} == {"related"}
    found = shadow_result(stand.home, asked)
    assert (found["calls"], found["errors"], found["minutes"]) == (3, 0, 3.0)
    assert shadow_result(stand.home, Asked("next", "newest", told["proposal"] + 1))["calls"] == 0
    assert f"{ENOUGH:,} over 2 min are needed" in refused(
        run(stand, "step", "newest", "--approve", str(told["proposal"]), "--reason", "go"), 3
    )


def test_a_proposed_arm_does_not_come_to_all_its_readers_by_mistake(stand: Stand) -> None:
    engine = control_engine(stand.home)
    stop(engine, "related", Step("ada", NOW))
    propose(engine, "next", "newest", shares=[0.01], version="", step=Step("ada", NOW))
    begin = ["experiment", "start", "next", "--home", str(stand.home)]
    done = CliRunner().invoke(app, begin, env={"PRESSLAB_PROFILE": "demo"})
    assert "is to come to its readers step by step" in refused(done, 2)
    assert CliRunner().invoke(app, [*begin, "--whole"], env={"PRESSLAB_PROFILE": "demo"}).exit_code == 0
    assert ladder_of(engine, "newest").state == "full"


def test_a_process_that_gets_all_readers_can_pass_the_shadow_alone(home: Path) -> None:
    assert Stand(home, workers=8).site.shadow.enough == ENOUGH


def test_a_busy_site_pauses_the_shadow_until_its_two_minutes_are_over(stand: Stand) -> None:
    proposal = propose(control_engine(stand.home), "next", "newest", shares=[0.01], version="", step=Step("ada", NOW)).proposal
    publish_plan(stand.home, control_engine(stand.home), at=NOW)
    stand.site.published, stand.site.shadow.enough = refresh(stand.home, stand.site.published), 2
    client = stand.client()
    told = []
    for seconds in (1, 1, 1, 1, 120, 1):
        stand.advance(seconds)
        client.get(f"/en/article/{stand.article}", headers=PHONE)
        stand.site.shadow.idle()
        stand.events()
        found = shadow_result(stand.home, Asked("next", "newest", proposal))
        told.append((found["calls"], found["minutes"] >= 2))
    assert told == [(0, False), (2, False), (2, False), (2, False), (3, True), (3, True)]


def test_an_arm_that_no_reader_gets_and_that_has_no_version_cannot_be_rolled_back(stand: Stand) -> None:
    assert "has no earlier version" in refused(run(stand, "rollback", "most_read", "--reason", "why"), 5)


def test_an_arm_of_a_test_that_was_simply_started_is_taken_from_its_readers_in_one_step(stand: Stand) -> None:
    told = json.loads(run(stand, "rollback", "newest", "--reason", "it harms", "--json").stdout)
    assert (told["experiment"], told["state"], told["share"]) == ("related", "stopped", 0.0)
    stand.site.published = refresh(stand.home, stand.site.published)
    (live,) = stand.site.published.experiments
    assert [arm for first, end, arm in live.allocation.ranges if first < end] == ["status_quo", "front"]
    assert "Newest was taken from all readers" in stand.client().get("/console/en/", headers=PHONE).text


def test_a_held_arm_of_a_test_that_was_simply_started_goes_on_when_a_person_resumes(stand: Stand) -> None:
    engine = control_engine(stand.home)
    for number in (1, 2):
        publish(stand.home, "newest", write_bundle(stand.home / "models" / "newest", {"x": np.full(1, number)}, {}).version, at_us=number)
    (found,) = (one for one in ladder.running_arms(engine) if one.arm == "newest")
    assert trip(stand.home, engine, found, Step("timetable", NOW, "its readers met errors")).state == "held"
    assert "Newest is held since" in stand.client().get("/console/en/", headers=PHONE).text
    told = json.loads(run(stand, "resume", "newest", "--reason", "it was the data", "--json").stdout)
    assert (told["ladder"]["state"], told["version"], stays(stand.home, "newest")) == ("full", "1", "")
    assert {one.arm: one.state for one in ladder.running_arms(engine)} == {"front": "full", "newest": "full"}


def test_a_person_who_takes_an_arm_back_wins_against_a_step_at_the_same_time(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = control_engine(stand.home)
    stop(engine, "related", Step("ada", NOW))
    proposed = propose(engine, "next", "newest", shares=[0.01, 0.05], version="", step=Step("ada", NOW))
    found, read = approve(engine, proposed, Step("eve", NOW, "go")), ladder.running_arms

    def climbed_since(engine: Engine) -> list[Ladder]:  # the timetable takes its step just after the arm was read
        stands = read(engine)
        monkeypatch.setattr(ladder, "running_arms", read)
        climb(engine, found, Step("timetable", NOW, "harm is excluded"))
        return stands

    monkeypatch.setattr(ladder, "running_arms", climbed_since)
    told = json.loads(run(stand, "rollback", "newest", "--reason", "it harms", "--json").stdout)
    assert (told["state"], told["from"]) == ("stopped", 0.05)
    assert experiment_named(engine, "next").phases[-1]["shares"]["newest"] == 0.0


def checked_and_shipped(stand: Stand) -> list[str]:
    """The command that approves an arm which passed its gates and its shadow."""
    passed(stand.home)
    told = json.loads(run(stand, "ship", "newest", "--experiment", "next", "--json").stdout)
    stop(control_engine(stand.home), "related", Step("ada", NOW))
    return ["step", "newest", "--approve", str(told["proposal"]), "--reason", "go"]


def test_an_arm_that_fails_a_gate_by_now_is_not_approved(stand: Stand) -> None:
    approval = checked_and_shipped(stand)
    passed(stand.home, all_of_them=False)
    assert "gate 3, offline: it places fewer" in refused(run(stand, *approval), 3)


def test_another_file_than_the_one_that_was_proposed_is_not_approved(stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    approval = checked_and_shipped(stand)
    rewritten = tmp_path / "newest.py"
    rewritten.write_text("# another rule")
    monkeypatch.setattr(proposed, "getsourcefile", lambda _: str(rewritten))
    assert "the file of 'newest' was changed after proposal" in refused(run(stand, *approval), 3)


def test_who_approves_is_the_account_of_the_machine_whatever_the_environment_says(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")
    checked_and_shipped(stand)
    assert ladder_of(control_engine(stand.home), "newest").author == pwd.getpwuid(os.getuid()).pw_name


def test_a_version_that_was_gone_back_to_stays_until_somebody_resumes_and_the_record_has_both(stand: Stand) -> None:
    for number in (1, 2):
        publish(stand.home, "als", write_bundle(stand.home / "models" / "als", {"x": np.full(1, number)}, {}).version, at_us=number)
    told = json.loads(run(stand, "rollback", "als", "--reason", "odd lists", "--json").stdout)
    assert (told["from"], told["to"], told["workers"]["of"]) == ("2", "1", 0)
    assert "odd lists" in stays(stand.home, "als")
    page = stand.client().get("/console/en/models", headers=PHONE).text
    assert "stays at version 1" in page
    assert json.loads(run(stand, "resume", "als", "--reason", "mended", "--json").stdout) == {"arm": "als", "ladder": None, "version": "1"}
    assert stays(stand.home, "als") == ""
    record = stand.site.record()["rows"]
    assert [row["did"] for row in record[:2]] == ["let als go on", "rolled als back"]
    assert "nothing holds 'als'" in refused(run(stand, "resume", "als", "--reason", "again"), 5)
    notes = notes_of(control_engine(stand.home), "model als", ("rollback", "resume"))
    assert [(note.action, note.reason) for note in notes] == [("rollback", "odd lists"), ("resume", "mended")]
    assert audit_faults(control_engine(stand.home)) == []


def test_a_held_arm_goes_on_at_its_share_when_a_person_resumes(stand: Stand) -> None:
    engine = control_engine(stand.home)
    stop(engine, "related", Step("ada", NOW))
    found = approve(engine, propose(engine, "next", "newest", shares=[0.2], version="", step=Step("ada", NOW)), Step("eve", NOW, "go"))
    for number in (1, 2):
        publish(stand.home, "newest", write_bundle(stand.home / "models" / "newest", {"x": np.full(1, number)}, {}).version, at_us=number)
    assert trip(stand.home, engine, found, Step("timetable", NOW, "its readers met errors")).state == "held"
    page = stand.client().get("/console/en/models", headers=PHONE).text
    assert "its readers met errors" in page
    assert "presslab arm resume newest" in page
    assert "Newest is held since" in stand.client().get("/console/en/", headers=PHONE).text
    assert "is held" in refused(run(stand, "step", "newest", "--reason", "go on"), 3)
    told = json.loads(run(stand, "resume", "newest", "--reason", "it was the data", "--json").stdout)
    assert (told["ladder"]["state"], told["ladder"]["share"], told["version"]) == ("live", 0.2, "1")
    gone = json.loads(run(stand, "rollback", "newest", "--reason", "enough", "--json").stdout)
    assert (gone["state"], gone["from"], gone["share"]) == ("stopped", 0.2, 0.0)
    assert "is stopped: enough" in refused(run(stand, "step", "newest", "--reason", "go on"), 3)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    migrate(tmp_path)
    found = control_engine(tmp_path)
    draft(found, PLAN, Step("ada", BEGAN))
    return found


def live(engine: Engine, ladder: Sequence[float] = (0.2,)) -> Ladder:
    proposal = propose(engine, "related", "newest", shares=ladder, version="", step=Step("ada", BEGAN))
    return approve(engine, proposal, Step("eve", BEGAN, "go"))


def lived(home: Path, engine: Engine, *, pages: tuple[int, int], readers: int = 150) -> None:
    """Readers of the first half hour, who open so many pages in (control, arm)."""
    story, shares = Story(), experiment_named(engine, "related").phases[-1]["shares"]
    for arm, most in zip(("status_quo", "newest"), pages, strict=True):
        names = readers_of(PLAN, arm, shares)
        for i in range(readers):
            reader, minute = next(names), 30 * i / readers
            story.exposed(reader, minute, arm)
            for k in range(most - 1 + i % 3):
                story.page(reader, minute + 1 + k)
    send(home, story.events)


def after(home: Path, hours: float) -> str:
    told = look_at_all(Settings(home=home), START + round(hours * 3_600e6))
    return str(told["says"])


def test_an_arm_without_harm_takes_the_next_step_once_its_time_is_over(tmp_path: Path, engine: Engine) -> None:
    live(engine, (0.2,))
    lived(tmp_path, engine, pages=(3, 3), readers=400)
    assert "24 h at least" in after(tmp_path, 3)
    assert "full at 50.0%: no harm found" in after(tmp_path, 24.5)
    row = ladder_of(engine, "newest")
    assert (row.state, row.since) == ("full", BEGAN + timedelta(hours=24.5))
    assert "full at 50.0%: no harm found" in after(tmp_path, 25)


def test_an_arm_that_costs_views_is_stopped_and_published_as_such(tmp_path: Path, engine: Engine) -> None:
    live(engine)
    publish_plan(tmp_path, engine, at=BEGAN)
    lived(tmp_path, engine, pages=(4, 2))
    assert "stopped at 0.0%: views per session -" in after(tmp_path, 3)
    body = json.loads((tmp_path / "plan" / "current.json").read_text())["body"]
    assert body["experiments"][0]["shares"] == {"status_quo": pytest.approx(0.2), "newest": 0.0}
    assert ladder_of(engine, "newest").why.startswith("views per session -")
    assert "no arm is on its ladder" in after(tmp_path, 30)


def test_a_week_without_a_clear_answer_asks_a_person(tmp_path: Path, engine: Engine) -> None:
    live(engine)
    lived(tmp_path, engine, pages=(3, 3), readers=20)
    assert "decide whether to go on or to roll back" in after(tmp_path, 8 * 24)
    assert ladder_of(engine, "newest").share == pytest.approx(0.2)
