"""What was decided is watched too: requests, the store, the look, and what readers, pages and commands get then."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner, Result

from experiments.clock import moment
from experiments.events.event import Event
from experiments.experiment import Arm, Experiment
from experiments.ladder import approve, decided_arms, propose
from experiments.lifecycle import Step, audit_faults, decide, draft, experiment_named, publish_plan, start, stop, trail
from experiments.serving import recommender
from experiments.serving.artefacts import current, publish, write_bundle
from experiments.serving.recommender import Audience, Catalogue, Context, Kind, Ranking, register
from experiments.tables import control_engine
from tests.events.story import START, Story, send
from tests.web.site_fixture import PHONE, Stand
from tests.web.test_ladder import BEGAN, live
from tests.web.test_ladder import engine as engine  # a fixture
from web.cli import commands
from web.cli.main import app
from web.follow_up import followed
from web.jobs import job_named, timetable
from web.operations import WEEK_US, Operations
from web.published import refresh
from web.trip import trip

commands.install()
PLANNED = (Arm("status_quo", "status_quo", 0.5), Arm("tidal", "model", 0.25), Arm("front", "heuristic", 0.25))


class Tidal:
    """The newest first; a version whose array says so fails on half of its pages."""

    name = "tidal"
    kind: Kind = "model"
    audience: Audience = "all"

    def __init__(self, version: str, broken: bool) -> None:
        self.version, self.broken, self.asked = version, broken, 0

    @classmethod
    def load(cls, arrays: Mapping[str, npt.NDArray[Any]], manifest: Mapping[str, Any], catalogue: Catalogue) -> Tidal:
        return cls(manifest["version"], bool(arrays["broken"][0]))

    def rank(self, context: Context) -> Ranking:
        self.asked += 1
        if self.broken and self.asked % 2:
            raise ValueError("the arrays are of another catalogue")
        return Ranking.best_first(context.pool, context.signals.catalogue.published[context.pool], "newest")


class Site:
    """A site whose first test was decided for an arm; ten minutes pass between two steps."""

    def __init__(self, home: Path) -> None:
        self.stand, self.home, self.engine = Stand(home, PLANNED), home, control_engine(home)
        self.looks = Operations(home, self.engine, self.stand.clock, source="live")

    def publish(self, *, broken: bool = False) -> None:
        folder = self.home / "models" / "tidal"
        publish(self.home, "tidal", write_bundle(folder, {"broken": np.full(1, broken)}, {}).version, at_us=self.stand.clock())
        self.pass_time()

    def decide(self, arm: str, name: str = "related") -> None:
        if name != "related":
            draft(self.engine, Experiment(name, "Does it pay?", "status_quo", PLANNED), self.step("next"))
            start(self.engine, name, self.step("go"))
        stop(self.engine, name, self.step("it is over"))
        decide(self.engine, name, arm, self.step("readers like it"))
        publish_plan(self.home, self.engine, at=moment(self.stand.clock()))
        self.pass_time()

    def step(self, reason: str) -> Step:
        return Step("Ines", moment(self.stand.clock()), reason)

    def pass_time(self) -> None:
        self.stand.advance(600)
        self.stand.site.published = refresh(self.home, self.stand.site.published)

    def read(self, readers: int = 16) -> list[str]:
        """One page each for new readers; returns which arm, if any, ranked what they were shown."""
        for _ in range(readers):
            page = self.stand.client().get(f"/en/article/{self.stand.article}", headers=PHONE)
            assert page.status_code == 200
        shown = [event["body"] for event in self.stand.events() if event["kind"] == "impression"][-readers:]
        self.pass_time()
        return [body["artefact"] or body["outcome"] for body in shown]

    def stands(self) -> list[tuple[str, str, float]]:
        return [(one.arm, one.state, one.share) for one in decided_arms(self.engine)]

    def says(self, name: str) -> str:
        return next((check["says"] for check in self.stand.site.health()["checks"] if check["name"] == name), "")

    def page(self, path: str) -> str:
        return self.stand.client().get(f"/console/en/{path}", headers=PHONE).text

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--home", str(self.home)], env={"PRESSLAB_PROFILE": "demo", "COLUMNS": "150"})


@pytest.fixture
def site(home: Path) -> Iterator[Site]:
    register(Tidal)
    made = Site(home)
    yield made
    made.looks.close()
    made.stand.site.close()
    recommender._registry.classes.pop("tidal")


def test_a_new_version_of_a_decided_model_that_fails_for_half_of_its_pages_is_taken_back_and_held(site: Site) -> None:
    site.publish()
    site.decide("tidal")
    assert set(site.read()) == {"1"}
    assert site.looks.look() == []
    site.publish(broken=True)
    assert set(site.read()) >= {"2", "fallback"}
    (held,) = site.looks.look()
    assert (held.state, held.share, held.version) == ("held", 1.0, "1")
    assert "tolerated is 1 %" in held.why
    pointer = current(site.home, "tidal")
    assert pointer is not None
    assert (pointer.version, pointer.frozen) == ("1", held.why)
    site.pass_time()
    assert set(site.read()) == {"1"}
    assert site.looks.look() == []
    assert audit_faults(site.engine) == []


def test_pages_and_commands_say_that_a_decided_model_is_held_and_a_person_lets_it_go_on(site: Site) -> None:
    site.publish()
    site.decide("tidal")
    site.publish(broken=True)
    site.read()
    site.looks.look()
    assert "presslab arm resume tidal" in site.says("decided arm tidal")
    for path in ("models", "health", "", "record"):
        assert "met an error of the arm; tolerated is 1 %" in site.page(path), path
    assert '"state": "held"' in site.run("arm", "list", "--json").stdout
    assert site.run("arm", "resume", "tidal", "--reason", "mended").exit_code == 0
    assert site.stands() == [("tidal", "decided", 1.0)]
    assert "decided 100%" in site.run("arm", "list").stdout
    assert site.says("decided arm tidal") == ""
    site.publish(broken=True)
    site.read()
    assert [one.state for one in site.looks.look()] == ["held"]


def test_a_decided_model_without_an_earlier_version_is_taken_from_all_readers_who_get_what_was_decided_before(site: Site) -> None:
    site.publish(broken=True)
    site.decide("front")
    site.decide("tidal", "second")
    site.read()
    assert [one.state for one in site.looks.look()] == ["stopped"]
    assert site.stands() == [("tidal", "stopped", 0.0), ("front", "decided", 1.0)]
    site.pass_time()
    assert set(site.read()) == {"served"}  # a rule has no version
    assert site.looks.look() == []  # what tidal did is not held against front
    assert "took tidal back from all readers" in site.page("record")
    assert "was taken from all readers" in site.says("decided arm tidal")


def test_a_person_gives_a_decided_arm_that_was_taken_back_to_its_readers_again(site: Site) -> None:
    site.publish(broken=True)
    site.decide("tidal")
    site.read()
    assert [one.state for one in site.looks.look()] == ["stopped"]
    assert "presslab arm resume tidal" in site.says("decided arm tidal")
    site.publish()
    done = site.run("arm", "resume", "tidal", "--reason", "trained again without the old catalogue")
    assert "'tidal' goes on at 100 % of the audience of 'related', with version 2" in " ".join(done.stdout.split())
    site.pass_time()
    assert set(site.read()) == {"2"}
    assert site.looks.look() == []


def test_a_rule_that_was_decided_is_taken_back_too_and_an_older_decision_does_not_bring_it_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.decide("front")
    site.decide("front", "second")
    monkeypatch.setattr(type(site.stand.site.published.arms["front"]), "rank", lambda *_: 1 / 0)
    assert set(site.read()) == {"fallback"}
    assert [one.state for one in site.looks.look()] == ["stopped"]
    site.pass_time()
    assert json.loads((site.home / "plan" / "current.json").read_text())["body"]["defaults"] == {}
    assert set(site.read()) == {"empty"}


def test_a_person_takes_a_decided_rule_from_all_readers_and_gives_it_back(site: Site) -> None:
    site.decide("front")
    done = " ".join(site.run("arm", "rollback", "front", "--reason", "editors do not like it").stdout.split())
    assert "'front' had all readers outside of tests, as decided in 'related'; no reader gets it any more" in done
    assert site.stands() == [("front", "stopped", 0.0)]
    site.pass_time()
    assert set(site.read()) == {"empty"}
    assert "A person rolled front back: editors do not like it." in page_says(site)
    assert site.run("arm", "resume", "front", "--reason", "they like it again").exit_code == 0
    site.pass_time()
    assert set(site.read()) == {"served"}


def page_says(site: Site) -> str:
    """What the page of the first test says was done to what it decided."""
    now, job = moment(site.stand.clock()), job_named(timetable(site.stand.site.settings), "report")
    told = followed({}, experiment_named(site.engine, "related"), trail(site.engine, "related"), now=now, job=job)
    return str(told["decision"]["guardrail"])


@pytest.mark.parametrize("how", ["person", "guardrail"])
def test_an_arm_that_is_stopped_in_a_test_does_not_stay_with_everybody_else_because_it_was_decided_before(site: Site, how: str) -> None:
    site.decide("front")
    draft(site.engine, Experiment("again", "Does it still pay?", "status_quo", PLANNED), site.step("next"))
    proposed = propose(site.engine, "again", "front", shares=[0.2], version="", step=site.step("checked"))
    ladder = approve(site.engine, proposed, replace(site.step("go"), actor="eve"))
    listed = {row["name"]: row["ladder"] for row in json.loads(site.run("arm", "list", "--json").stdout)["arms"]}
    assert (listed["front"]["state"], listed["front"]["share"]) == ("decided", 1.0)  # most of its readers get it so
    if how == "person":
        done = " ".join(site.run("arm", "rollback", "front", "--reason", "it harms").stdout.split())
        assert "as decided in 'related' and 20 % of the audience of 'again'; no reader gets it any more" in done
    else:
        trip(site.home, site.engine, ladder, replace(site.step("12 of 150 met an error"), actor="timetable"))
    site.pass_time()
    assert site.stand.site.published.defaults == {}
    assert "served" not in site.read(30)  # tidal has no version
    assert audit_faults(site.engine) == []


@pytest.mark.slow
def test_a_decided_model_that_fails_at_the_version_before_too_is_taken_from_all_readers(site: Site) -> None:
    for _ in range(2):
        site.publish(broken=True)
    site.decide("tidal")
    site.read()
    assert [one.state for one in site.looks.look()] == ["held"]
    site.pass_time()
    site.read()
    assert [one.state for one in site.looks.look()] == ["stopped"]
    site.pass_time()
    assert set(site.read()) == {"empty"}


def test_readers_of_a_running_test_do_not_answer_for_the_decided_arm_nor_those_of_the_status_quo(site: Site) -> None:
    site.publish(broken=True)
    site.decide("front")
    plan = Experiment("second", "Does it pay?", "status_quo", PLANNED)
    draft(site.engine, plan, site.step("next"))
    start(site.engine, "second", site.step("go"))
    publish_plan(site.home, site.engine, at=moment(site.stand.clock()))
    site.pass_time()
    assert {"2", "1", "fallback"} & set(site.read(40))
    assert {(one.experiment, one.arm) for one in site.looks.look()} <= {("second", "tidal")}
    assert site.stands() == [("front", "decided", 1.0)]


def test_pages_follow_when_whoever_took_a_decided_arm_back_was_killed_before_they_were_told(site: Site) -> None:
    site.publish(broken=True)
    site.decide("tidal")
    plan = (site.home / "plan" / "current.json").read_bytes()
    site.read()
    site.looks.look()
    (site.home / "plan" / "current.json").write_bytes(plan)
    site.looks.look()
    assert json.loads((site.home / "plan" / "current.json").read_text())["body"]["defaults"] == {}


def outside(readers: range, *, minute: float, cause: str = "failed") -> list[Event]:
    """One page each, outside of tests, on which the arm failed, was late, or rested."""
    story = Story()
    for number in readers:
        page = story.page(f"r{number}", minute)
        body = {"slot": "article.related", "articles": ["a1"], "outcome": "fallback", "cause": cause, "own": 0}
        story.add("impression", page, f"r{number}", minute, key="article.related", experiment="", body=body)
    return story.events


@pytest.mark.parametrize(("weeks", "enough"), [(0, 3), (20, 4)])
def test_every_week_has_less_of_the_chance_of_a_false_stop_so_that_all_weeks_have_one_in_a_hundred(
    tmp_path: Path, engine: Engine, weeks: int, enough: int
) -> None:
    live(engine)
    stop(engine, "related", Step("Ines", BEGAN, "it is over"))
    decide(engine, "related", "newest", Step("Ines", BEGAN, "readers like it"))
    minute = weeks * WEEK_US / 60e6 + 1
    looks = Operations(tmp_path, engine, lambda: START + round((minute + 1) * 60e6), source="live")
    send(tmp_path, outside(range(enough - 1), minute=minute))
    assert looks.look() == []
    send(tmp_path, outside(range(enough - 1, enough), minute=minute + 0.5))
    assert [one.state for one in looks.look()] == ["stopped"]
    looks.close()


def test_a_machine_that_is_too_busy_takes_no_decided_arm_back(tmp_path: Path, engine: Engine) -> None:
    live(engine)
    stop(engine, "related", Step("Ines", BEGAN, "it is over"))
    decide(engine, "related", "newest", Step("Ines", BEGAN, "readers like it"))
    looks = Operations(tmp_path, engine, lambda: START + round(4 * 60e6), source="live")
    send(tmp_path, outside(range(20), minute=1, cause="late") + outside(range(20, 60), minute=1.2, cause="resting"))
    send(tmp_path, outside(range(60, 62), minute=1.4))
    assert looks.look() == []
    send(tmp_path, outside(range(62, 90), minute=2))
    (taken,) = looks.look()
    assert "30 of 90 met an error of the arm" in taken.why
    looks.close()


def test_every_week_is_counted_anew(site: Site) -> None:
    site.publish()
    site.decide("tidal")
    site.read(5)
    site.looks.look()
    site.stand.advance(WEEK_US / 1e6)
    site.pass_time()
    site.looks.look()
    (told,) = (json.loads(path.read_text()) for path in (site.home / "ladder").glob("*.json"))
    assert told["met"]["readers"] == 0
    site.read(4)
    site.looks.look()
    (told,) = (json.loads(path.read_text()) for path in (site.home / "ladder").glob("*.json"))
    assert (told["arm"], told["met"]["readers"]) == ("tidal", 4)
    assert moment(told["since_us"]) - decided_arms(site.engine)[0].counted_from == timedelta(days=7, seconds=5)
