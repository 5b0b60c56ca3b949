"""Every trust check once firing and once silent, from events on disk to the stored report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from experiments.clock import moment
from experiments.events import lake
from experiments.events.erase import erase_reader, erase_readers
from experiments.events.loader import Loader
from experiments.events.sealing import seal
from experiments.experiment import Arm, Experiment
from experiments.files import read_json, replace_json
from experiments.lifecycle import Step, draft, ramp, start, stop
from experiments.migrate import migrate
from experiments.settings import Settings
from experiments.tables import control_engine
from tests.analysis.assigned import readers_of
from tests.analysis.test_words import assert_plain
from tests.events.story import DAY, START, Story, send
from tests.web.markup import parse
from tests.web.preview import PreviewSite
from web.assignment_job import assign_anew
from web.health import health_of
from web.jobs import job_named, timetable
from web.owner.trusted import QUESTIONS, trust_lines
from web.owner.words import spoken
from web.published import refresh
from web.reporting import ASSIGNMENT, report_path, write_reports
from web.stored import Stored

ARMS = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5, build=1.0))
PLAN = Experiment("related", "Does it pay?", "status_quo", ARMS, window_days=2.0, planned_days=14.0, value_per_view=0.01)
NAMES = ("status_quo", "front")
HOUR = 60
Tell = Callable[[Story, str, str, int, Any], None]


def tell_plainly(story: Story, reader: str, arm: str, at: int, rng: Any) -> None:
    """A page with the slot, its beacon, and a second session a day and a half later."""
    page = story.exposed(reader, at, arm)
    story.dwell(page, reader, at, 9_000)
    for k in range(1 + int(rng.integers(0, 3))):
        story.page(reader, at + 2 * HOUR + k)
        story.page(reader, at + 36 * HOUR + k)


def world(home: Path, tell: Tell = tell_plainly, *, each: int = 150, plan: Experiment = PLAN) -> Path:
    """An experiment of two arms with ``each`` readers, exposed in the first five days."""
    migrate(home)
    engine, rng, story = control_engine(home), np.random.default_rng(5), Story()
    draft(engine, plan, Step("test", moment(START), "draft"))
    start(engine, plan.name, Step("test", moment(START), "start"))
    for arm in NAMES:
        for _, reader in zip(range(each), readers_of(plan, arm), strict=False):
            tell(story, reader, arm, int(rng.integers(0, 5 * 24 * HOUR)), rng)
    send(home, story.events)
    return home


def report(home: Path, *, day: float = 14.0) -> dict[str, Any]:
    write_reports(home, until_us=START + round(day * DAY), source="live")
    found: dict[str, Any] | None = read_json(report_path(home, "related"))
    assert found is not None
    return found


def check(found: dict[str, Any], name: str) -> dict[str, Any]:
    line: dict[str, Any] = next(c for c in found["checks"] if c["name"] == name)
    return line


NEW = (
    "as_assigned",
    "no_beacon",
    "degraded",
    "late",
    "bots",
    "erased",
    "assignment",
    "look_ahead",
    "novelty",
    "interference",
    "carry_over",
)
SIGNS = ("no_beacon", "degraded", "late", "bots")


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report at the end of a test in which nothing went wrong."""
    home = world(tmp_path_factory.mktemp("calm"), each=520)
    assert assign_anew(home, until_us=START + 8 * DAY, source="live", runs=200).readers == 1_040
    return report(home)


def signs_in(marked: str) -> Tell:
    """Of every five readers of this arm one carries each of the four signs."""
    seen = count()

    def tell(story: Story, reader: str, arm: str, at: int, rng: Any) -> None:
        sign = (*SIGNS, "")[next(seen) % 5] if arm == marked else ""
        if sign == "no_beacon":
            story.exposed(reader, at, arm)
        elif sign == "degraded":
            story.dwell(story.exposed(reader, at, arm, body={"outcome": "degraded"}), reader, at, 9_000)
        else:
            if sign:
                story.exposed(reader, at + 1, arm, **({"bot": True} if sign == "bots" else {"late_minutes": 25 * HOUR}))
            tell_plainly(story, reader, arm, at, rng)

    return tell


@pytest.fixture(scope="module")
def lopsided(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Signs gather in one arm, and another test ended in the same place a day before."""
    home = tmp_path_factory.mktemp("lopsided")
    migrate(home)
    draft(control_engine(home), replace(PLAN, name="earlier"), Step("test", moment(START), "draft"))
    start(control_engine(home), "earlier", Step("test", moment(START) - timedelta(days=15), "start"))
    stop(control_engine(home), "earlier", Step("test", moment(START) - timedelta(days=1), "stop"))
    return report(world(home, signs_in("front")))


@pytest.mark.parametrize("name", NEW)
def test_no_check_fires_when_nothing_went_wrong(calm: dict[str, Any], name: str) -> None:
    assert check(calm, name)["state"] == "ok"


def test_every_check_of_a_report_has_its_place_under_a_question(calm: dict[str, Any]) -> None:
    assert {line.title for line in trust_lines(calm["checks"])} <= set(QUESTIONS)


def test_when_nothing_went_wrong_the_verdict_stands(calm: dict[str, Any]) -> None:
    assert calm["verdict"]["key"] in ("keep", "equal")
    assert [c["name"] for c in calm["checks"] if c["state"] == "block"] == []


@pytest.mark.parametrize("sign", SIGNS)
def test_a_sign_that_gathers_in_one_arm_blocks(lopsided: dict[str, Any], sign: str) -> None:
    line = check(lopsided, sign)
    assert (line["state"], line["threshold"]) == ("block", 0.001)
    assert line["p"] < 0.001
    assert "less than once in 1,000 tests" in line["says"]
    assert ": 20% with front, 0.0% with status quo." in line["says"]


def test_a_blocked_check_blocks_the_verdict_and_leaves_the_effects_readable(lopsided: dict[str, Any]) -> None:
    assert lopsided["verdict"]["key"] == "do_not_use"
    assert lopsided["effects"][0]["absolute"]["estimate"] is not None


def test_nobody_can_know_how_many_objected_per_arm_and_the_report_says_so(calm: dict[str, Any]) -> None:
    assert "nobody can know how many object" in check(calm, "bots")["says"]


def test_readers_who_saw_another_arm_than_the_plan_gives_them_block_at_any_time(tmp_path: Path) -> None:
    other = {"status_quo": "front", "front": "status_quo"}

    def crossed(story: Story, reader: str, arm: str, at: int, rng: Any) -> None:
        tell_plainly(story, reader, other[arm] if reader.endswith("07") else arm, at, rng)

    found = report(world(tmp_path, crossed), day=6.0)
    line = check(found, "as_assigned")
    assert (line["state"], line["figure"], found["verdict"]["key"]) == ("block", 3.0, "do_not_use")


def test_readers_of_one_arm_who_have_themselves_erased_block_and_count_in_the_split(tmp_path: Path) -> None:
    home = world(tmp_path, each=300)
    assert report(home)["verdict"]["key"] != "do_not_use"
    erase_readers(home, [reader for _, reader in zip(range(40), readers_of(PLAN, "front"), strict=False)], until_us=START + 14 * DAY)
    found = report(home)
    line = check(found, "erased")
    assert (line["state"], found["verdict"]["key"]) == ("block", "do_not_use")
    assert ": 13% with front, 0.0% with status quo." in line["says"]
    assert "drives readers away" in line["says"]
    assert (check(found, "split")["state"], check(found, "split")["figure"]) == ("ok", 0.0)


def test_evidence_once_seen_is_kept_although_the_split_recovers(tmp_path: Path) -> None:
    home = world(tmp_path)
    before = report(home, day=6.0)
    assert check(before, "split")["state"] == "ok"
    assert "planned end" in check(before, "novelty")["says"]
    assert set(before["evidence"]) >= {"split", "split_matured", "no_beacon", "late"}
    replace_json(report_path(home, "related"), before | {"evidence": before["evidence"] | {"split": 9.0}})
    after = report(home, day=6.5)
    assert check(after, "split")["state"] == "block"
    assert after["evidence"]["split"] == 9.0


def fading(story: Story, reader: str, arm: str, at: int, rng: Any) -> None:
    """Front doubles what is read in the first session, and nothing after that."""
    story.dwell(story.exposed(reader, at, arm), reader, at, 9_000)
    for k in range(1 + int(rng.integers(0, 3)) + 3 * (arm == "front")):
        story.page(reader, at + 2 * HOUR + k)
    for k in range(1 + int(rng.integers(0, 3))):
        story.page(reader, at + 36 * HOUR + k)


def test_an_effect_that_fades_is_told_and_money_uses_what_is_left(tmp_path: Path) -> None:
    home = world(tmp_path, fading)
    found = report(home)
    line = check(found, "novelty")
    assert line["state"] == "warn"
    assert line["figure"] == pytest.approx(-1.5, abs=0.3)
    assert found["effects"][0]["relative"]["low"] > 0.3
    best = {s["arm"]: s["expected"] for s in found["roi"]["scenarios"]}
    whole = found["roi"]["views_per_day"] * 365 * 0.01 * found["effects"][0]["relative"]["estimate"]
    assert abs(best["front"]) < 0.2 * whole
    assert "second half" in line["says"]


def test_the_effect_at_each_share_is_told_after_a_ramp(tmp_path: Path) -> None:
    migrate(tmp_path)
    engine, story, used = control_engine(tmp_path), Story(), set[str]()
    draft(engine, PLAN, Step("test", moment(START), "draft"))
    start(engine, "related", Step("test", moment(START), "start"))
    ramp(engine, "related", {"status_quo": 0.5, "front": 0.1}, Step("test", moment(START) + timedelta(days=2), "less"))
    for phase, (share, each) in enumerate(((0.5, 200), (0.1, 40))):
        for arm, n in zip(NAMES, (200, each), strict=True):
            fresh = (r for r in readers_of(PLAN, arm, {"status_quo": 0.5, "front": share}) if r not in used)
            for i, reader in zip(range(n), fresh, strict=False):
                used.add(reader)
                story.dwell(story.exposed(reader, 2880 * phase + i, arm, body={"phase": phase}), reader, 2880 * phase + i, 9_000)
                for k in range(1 + i % 3 + 4 * (arm == "front") * (1 - phase)):
                    story.page(reader, 2880 * phase + i + 2 * HOUR + k)
    send(tmp_path, story.events)
    found = report(tmp_path)
    line = check(found, "interference")
    assert "at 50% of readers" in line["says"]
    assert "at 10% of readers; chance does not explain the gap" in line["says"]
    assert (line["state"], line["p"] < 0.001) == ("ok", True)
    assert check(found, "as_assigned")["state"] == "ok"


def test_a_test_hard_on_the_heels_of_another_is_warned_about(lopsided: dict[str, Any]) -> None:
    line = check(lopsided, "carry_over")
    assert (line["state"], line["figure"]) == ("warn", 1.0)


def test_readers_who_were_never_assigned_anew_are_missed(lopsided: dict[str, Any]) -> None:
    assert check(lopsided, "assignment")["says"].startswith("Readers were never assigned anew.")


def test_assigning_anew_is_told_with_its_age(calm: dict[str, Any]) -> None:
    says = check(calm, "assignment")["says"]
    assert says == "1,040 readers assigned anew 200 times: this found differences as often as chance does. Last done 6 days ago."


@pytest.mark.parametrize("story", ["calm", "lopsided"])
def test_the_page_tells_every_check_in_plain_words(
    request: pytest.FixtureRequest, client: FlaskClient, preview: PreviewSite, story: str
) -> None:
    stored = request.getfixturevalue(story)
    preview.stored["reports"] = {"real": stored}
    told = parse(client.get("/console/en/experiment/real").text).one("ul", "checks").text
    assert_plain(*(line["says"] for line in stored["checks"]))
    assert [line["name"] for line in stored["checks"] if spoken(line["says"]) not in told] == []


def test_what_assigning_anew_found_stands_on_the_health_page(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    migrate(tmp_path)
    send(tmp_path, [])

    def told() -> list[dict[str, Any]]:
        found = health_of(Stored(settings, lambda: START), refresh(tmp_path, None), "")
        return [line for line in found["checks"] if line["name"] == "readers assigned anew"]

    assert told() == []
    stored = assign_anew(tmp_path, until_us=START, source="live").to_dict()
    assert [line["state"] for line in told()] == ["ok"]
    replace_json(tmp_path / ASSIGNMENT, stored | {"p": 0.0001})
    assert [line["state"] for line in told()] == ["block"]


def test_the_monthly_run_is_on_the_timetable() -> None:
    job = job_named(timetable(Settings()), "assignment")
    assert (job.schedule(), job.command[0]) == ("every 30 days", "web.assignment_job")


@pytest.mark.long  # an erasure waits ten seconds for whoever reads
def test_a_report_begins_anew_when_a_reader_is_erased_while_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Loader(world(tmp_path), clock=lambda: START) as loader:
        seal(tmp_path, until_us=START + 12 * DAY, loader=loader)
    evaluate, gone = lake.evaluate, next(iter(readers_of(PLAN, "front")))

    def meanwhile(*asked: Any) -> Any:
        monkeypatch.setattr(lake, "evaluate", evaluate)
        erase_reader(tmp_path, gone, until_us=START + 13 * DAY)
        return evaluate(*asked)

    monkeypatch.setattr(lake, "evaluate", meanwhile)
    assert [arm["readers"] for arm in report(tmp_path)["arms"]] == [150, 149]
