"""Every ten seconds the worker counts what readers of an arm met, and stops it: from the events of all web processes, across restarts."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace as changed
from sqlalchemy import Engine

from analysis.failing import Met
from experiments.clock import to_us
from experiments.content import add_articles, content_version
from experiments.errors import ArmError, ExperimentError
from experiments.events.event import Event
from experiments.events.store import open_store, store_path
from experiments.experiment import Arm
from experiments.ladder import Ladder, climb, halt, ladder_of, resume
from experiments.lifecycle import Step, audit_faults, draft, experiment_named, start
from experiments.migrate import migrate
from experiments.serving.artefacts import current, publish, write_bundle
from experiments.settings import Settings
from experiments.tables import control_engine
from tests.conftest import article
from tests.events.story import START, Story, send
from tests.web.test_ladder import BEGAN, PLAN, live
from tests.web.test_ladder import engine as engine  # a fixture
from web.climbing import climbing
from web.confirmed import Serving
from web.met import kept_counts
from web.operations import Operations, met_by
from web.worker import Worker

MINUTE_US = 60_000_000
SOUND = {"outcome": "served", "cause": "", "own": 6, "articles": ["a1", "a2"]}
FAILED = {"outcome": "fallback", "cause": "failed", "own": 0}
LATE = {"outcome": "fallback", "cause": "late", "own": 0}
EMPTY = {"own": 0}


class Clock:
    """Minutes after the beginning."""

    def __init__(self) -> None:
        self.minute = 0.0

    def __call__(self) -> int:
        return START + round(self.minute * MINUTE_US)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def operations(tmp_path: Path, engine: Engine, clock: Clock) -> Iterator[Operations]:
    live(engine)
    made = Operations(tmp_path, engine, clock, source="live")
    yield made
    made.close()


def pages(*, readers: range, minute: float = 1.0, **shown: object) -> list[Event]:
    """One page each for these readers of the arm."""
    story, body = Story(), {**SOUND, **shown}
    for number in readers:
        at = minute + number / 1_000
        page = story.exposed(f"r{number}", at, "newest", body={"outcome": body["outcome"]})
        impression = {"slot": "article.related", **{key: body[key] for key in ("articles", "cause", "own")}}
        story.add("impression", page, f"r{number}", at, key="article.related", arm="newest", body=impression)
    return story.events


def met(home: Path, engine: Engine) -> Met:
    told = met_by(home, ladder_of(engine, "newest"))
    assert told is not None
    return Met(**told["met"])


@pytest.mark.parametrize(
    ("shown", "says"),
    [
        (FAILED, "readers of 'newest': 10 of 10 met an error of the arm; tolerated is 1 %"),
        (LATE, "readers of 'newest': 10 of 10 met a list that was not ready in time; tolerated is 1 %"),
        ({"outcome": "degraded"}, "readers of 'newest': 10 of 10 met a fallback or a degraded page; tolerated is 1 %"),
        (EMPTY, "readers of 'newest': 10 of 10 were shown nothing the arm chose itself; tolerated is 20 %"),
    ],
)
def test_one_look_stops_an_arm_and_says_why(
    tmp_path: Path, engine: Engine, operations: Operations, shown: dict[str, object], says: str
) -> None:
    send(tmp_path, pages(readers=range(10), **shown))
    (stopped,) = operations.look()
    assert (stopped.state, stopped.why) == ("stopped", says)
    plan = json.loads((tmp_path / "plan" / "current.json").read_text())["body"]
    assert plan["experiments"][0]["shares"]["newest"] == 0.0
    assert operations.look() == []
    assert not list((tmp_path / "ladder").glob("*.db"))


BESIDE = replace(PLAN, arms=(replace(PLAN.arms[0], share=0.4), *(Arm(name, "heuristic", 0.3) for name in ("newest", "most_read"))))


@pytest.mark.parametrize("shipped", [False, True])
def test_arms_that_nobody_shipped_are_looked_at_too_one_by_one_and_where_all_fail_alike(
    tmp_path: Path, engine: Engine, clock: Clock, shipped: bool
) -> None:
    draft(engine, BESIDE, Step("ada", BEGAN))
    if shipped:
        live(engine, (0.1,))
    else:
        start(engine, "related", Step("ada", BEGAN))
    looks = Operations(tmp_path, engine, clock, source="live")
    send(tmp_path, pages(readers=range(30), **({} if shipped else FAILED)))
    send(tmp_path, [changed(e, arm=e.arm and "most_read") for e in pages(readers=range(30, 60), minute=2, **FAILED)])
    stopped = {one.arm: (one.state, one.why) for one in looks.look()}
    alone = "readers of 'most_read': 30 of 30 met an error of the arm; of other arms that rank 0 of 30"
    assert stopped.pop("most_read")[1] in (alone, alike("most_read"))
    assert stopped == ({} if shipped else {"newest": ("stopped", alike("newest"))})
    told = {row["arm"]: (row["state"], row["share"]) for row in climbing(tmp_path, engine)}
    assert told["most_read"] == ("stopped", 0.0)
    if shipped:
        climbed = climb(engine, ladder_of(engine, "newest"), Step("ada", BEGAN, "it is sound"))
        assert climbed.state == "full"
        assert experiment_named(engine, "related").phases[-1]["shares"]["most_read"] == 0.0
    assert audit_faults(engine) == []
    assert looks.look() == []
    looks.close()


def alike(arm: str) -> str:
    return (
        f"readers of '{arm}': 30 of 30 met an error of the arm or a fallback after one; at most half may, also where other arms fail alike"
    )


def test_a_sound_arm_goes_on_and_its_counts_are_told(tmp_path: Path, engine: Engine, operations: Operations) -> None:
    assert operations.look() == []  # before anything is stored
    send(tmp_path, pages(readers=range(300)) + pages(readers=range(3), minute=2, **FAILED))
    assert operations.look() == []
    assert met(tmp_path, engine) == Met(300, failed=3, fallback=3)


def test_a_reader_counts_once_whichever_process_wrote_the_events_and_however_often_is_looked(
    tmp_path: Path, engine: Engine, operations: Operations, clock: Clock
) -> None:
    events = pages(readers=range(60)) + pages(readers=range(40), minute=2) + pages(readers=range(2), minute=3, **LATE)
    random.Random(3).shuffle(events)
    for part in range(4):  # four web processes, each with an outbox of its own
        send(tmp_path, events[part::4])
        operations.look()
    operations.close()  # the worker ends, and another one goes on
    again = Operations(tmp_path, engine, clock, source="live")
    send(tmp_path, pages(readers=range(1, 3), minute=4, **LATE))
    assert again.look() == []
    assert met(tmp_path, engine) == Met(60, late=3, fallback=3)
    again.close()


def test_bots_late_events_and_other_sources_do_not_count(tmp_path: Path, engine: Engine, operations: Operations) -> None:
    bad = pages(readers=range(10), **FAILED)
    send(tmp_path, [changed(e, bot=True) for e in bad[:15]] + [changed(e, source="simulated") for e in bad[15:]])
    send(tmp_path, [changed(e, received_at=e.issued_at + 90_000_000_000) for e in pages(readers=range(10), minute=3, **FAILED)])
    send(tmp_path, pages(readers=range(20, 25), minute=4))
    assert operations.look() == []
    assert met(tmp_path, engine) == Met(5)


def test_a_store_that_was_restored_from_a_copy_is_counted_anew(tmp_path: Path, engine: Engine, operations: Operations) -> None:
    send(tmp_path, pages(readers=range(30)))
    operations.look()
    store = open_store(store_path(tmp_path))
    store.execute("DELETE FROM event WHERE seq > 30")
    store.execute("UPDATE sqlite_sequence SET seq = 30")
    store.close()
    assert operations.look() == []
    assert met(tmp_path, engine).readers == 10  # three events a page


def test_events_in_postgresql_count_the_same(in_postgres: Path, clock: Clock) -> None:
    migrate(in_postgres)
    engine = control_engine(in_postgres)
    draft(engine, PLAN, Step("ada", BEGAN))
    live(engine)
    send(in_postgres, pages(readers=range(40)) + pages(readers=range(2), minute=2, **LATE) + pages(readers=range(3, 9), minute=3, **EMPTY))
    operations = Operations(in_postgres, engine, clock, source="live")
    assert operations.look() == []
    assert met(in_postgres, engine) == Met(40, late=2, fallback=2)
    operations.close()


def test_an_erased_reader_is_forgotten(tmp_path: Path, engine: Engine, operations: Operations) -> None:
    send(tmp_path, pages(readers=range(9)) + pages(readers=range(9, 10), **FAILED))
    operations.look()
    operations.forget("r9")
    send(tmp_path, pages(readers=range(30, 31), minute=5))
    operations.look()
    assert met(tmp_path, engine) == Met(10)


def test_one_withdrawn_article_stops_the_arm_at_once_but_not_what_was_shown_before(
    tmp_path: Path, engine: Engine, operations: Operations, clock: Clock
) -> None:
    add_articles(tmp_path, [replace(article(1), id="a2", withdrawn=True)])
    send(tmp_path, pages(readers=range(50)))  # in the first minute
    clock.minute = 2  # from now on it is known
    assert operations.look() == []
    send(tmp_path, pages(readers=range(51, 52), minute=3, articles=["a1"]))
    assert operations.look() == []
    send(tmp_path, pages(readers=range(52, 53), minute=4))
    (stopped,) = operations.look()
    assert stopped.why == "readers of 'newest': 1 of 52 were shown a withdrawn article; none may be"


def test_an_arm_does_not_answer_for_a_withdrawn_article_while_a_web_process_has_not_said_that_it_shows_it_no_more(
    tmp_path: Path, operations: Operations, clock: Clock
) -> None:
    quick, slow = Serving(tmp_path), Serving(tmp_path)
    slow.tell("", {}, withdrawn=0)
    add_articles(tmp_path, [replace(article(1), id="a2", withdrawn=True)])
    quick.tell("", {}, withdrawn=content_version(tmp_path))
    for clock.minute in (2, 4):  # a large site, whose articles take long to be read
        assert operations.look() == []
        send(tmp_path, pages(readers=range(10), minute=clock.minute + 1))
    slow.tell("", {}, withdrawn=content_version(tmp_path))
    clock.minute = 6
    assert operations.look() == []
    send(tmp_path, pages(readers=range(10, 11), minute=7))
    assert "1 of 11 were shown a withdrawn article" in operations.look()[0].why
    quick.close()
    slow.close()


def versions_of(home: Path, *, how_many: int) -> None:
    for number in range(how_many):
        publish(home, "newest", write_bundle(home / "models" / "newest", {"x": np.full(1, number)}, {}).version, at_us=number)


def tripped(home: Path, operations: Operations, clock: Clock) -> Ladder:
    """An arm of two versions that failed for its readers, as the look five minutes later leaves it."""
    versions_of(home, how_many=2)
    send(home, pages(readers=range(10), **FAILED))
    clock.minute = 5
    (found,) = operations.look()
    return found


def test_a_model_goes_back_to_the_version_before_and_stays_there_until_a_person_resumes(
    tmp_path: Path, engine: Engine, operations: Operations, clock: Clock
) -> None:
    held = tripped(tmp_path, operations, clock)
    assert (held.state, held.share, held.version) == ("held", 0.2, "1")
    pointer = current(tmp_path, "newest")
    assert pointer is not None
    assert (pointer.version, pointer.frozen) == ("1", held.why)
    newer = write_bundle(tmp_path / "models" / "newest", {"x": np.ones(1)}, {}).version
    with pytest.raises(ArmError, match="'newest' stays at version 1: readers of 'newest': 10 of 10 met an error"):
        publish(tmp_path, "newest", newer, at_us=9)
    with pytest.raises(ExperimentError, match="is held"):
        climb(engine, held, Step("ada", BEGAN, "go"))
    send(tmp_path, pages(readers=range(20, 30), minute=5.02, **FAILED))  # a process that has not looked yet
    assert operations.look() == []  # what the other version did no longer counts
    send(tmp_path, pages(readers=range(100, 140), minute=6))
    operations.look()
    assert met(tmp_path, engine) == Met(40)
    going = resume(engine, held, Step("ada", BEGAN, "it was the data"))
    assert (going.state, going.share) == ("full" if going.share == going.shares[-1] else "live", 0.2)
    assert audit_faults(engine) == []


def test_when_the_version_before_trips_too_or_is_damaged_nobody_gets_the_arm_any_more(
    tmp_path: Path, engine: Engine, operations: Operations, clock: Clock
) -> None:
    assert tripped(tmp_path, operations, clock).state == "held"
    send(tmp_path, pages(readers=range(20, 30), minute=6, **FAILED))
    (stopped,) = operations.look()
    assert (stopped.state, stopped.share) == ("stopped", 0.0)
    pointer = current(tmp_path, "newest")
    assert pointer is not None
    assert pointer.version == "1"


def test_a_damaged_version_before_is_not_gone_back_to(tmp_path: Path, engine: Engine, operations: Operations) -> None:
    versions_of(tmp_path, how_many=2)
    (tmp_path / "models" / "newest" / "1" / "arrays.npz").write_bytes(b"")
    send(tmp_path, pages(readers=range(10), **FAILED))
    assert operations.look()[0].state == "stopped"


def new_version(home: Path, *, minute: float) -> None:
    bundle = write_bundle(home / "models" / "newest", {"x": np.full(1, minute)}, {})
    publish(home, "newest", bundle.version, at_us=START + round(minute * MINUTE_US))


def test_a_new_version_answers_for_itself_however_good_the_versions_before_were(
    tmp_path: Path, operations: Operations, clock: Clock
) -> None:
    new_version(tmp_path, minute=-60)
    send(tmp_path, pages(readers=range(300)))
    assert operations.look() == []
    new_version(tmp_path, minute=10)
    send(tmp_path, pages(readers=range(8), minute=10, **FAILED))  # a process that has not taken it over yet
    assert operations.look() == []
    send(tmp_path, pages(readers=range(300, 302), minute=11, **FAILED))
    assert operations.look() == []
    operations.close()  # the worker ends, and another one goes on
    again, clock.minute = Operations(tmp_path, operations.engine, clock, source="live"), 13
    send(tmp_path, pages(readers=range(302, 303), minute=12, **FAILED))
    (held,) = again.look()
    assert (held.state, held.version) == ("held", "1")
    assert held.why == "readers of 'newest': since version 2 serves, 3 of 3 met an error of the arm; tolerated is 1 %"
    send(tmp_path, pages(readers=range(400, 403), minute=14, **FAILED))
    assert again.look()[0].why == "readers of 'newest': 3 of 3 met an error of the arm; tolerated is 1 %"  # of the version gone back to
    again.close()


def test_a_version_that_comes_during_a_look_is_not_gone_back_from_for_what_the_one_before_did(
    tmp_path: Path, operations: Operations, clock: Clock
) -> None:
    """Going back led to the failing version itself, and kept it."""
    new_version(tmp_path, minute=-60)
    send(tmp_path, pages(readers=range(300)))
    operations.look()
    new_version(tmp_path, minute=10)
    send(tmp_path, pages(readers=range(300, 303), minute=11, **FAILED))

    def trained() -> int:  # while the worker tells what it counted, a training ends
        (_, counts), found = *kept_counts(tmp_path), current(tmp_path, "newest")
        with closing(sqlite3.connect(counts)) as kept:
            counted = kept.execute("SELECT count(*) FROM met WHERE lately AND what = 'failed'").fetchone()
        if counted == (3,) and found is not None and found.version == "2":
            new_version(tmp_path, minute=12)
        return clock()

    operations.clock = trained
    assert operations.look() == []
    pointer = current(tmp_path, "newest")
    assert pointer is not None
    assert (pointer.version, pointer.frozen) == ("3", "")


def test_what_readers_meet_while_a_pointer_cannot_be_read_is_of_the_version_before(tmp_path: Path, operations: Operations) -> None:
    pointer = tmp_path / "models" / "newest" / "current.json"
    new_version(tmp_path, minute=-60)
    send(tmp_path, pages(readers=range(300)))
    operations.look()
    new_version(tmp_path, minute=10)
    operations.look()
    whole = pointer.read_bytes()
    pointer.write_text("{")
    send(tmp_path, pages(readers=range(2), minute=11, **FAILED))
    assert operations.look() == []
    pointer.write_bytes(whole)
    send(tmp_path, pages(readers=range(2, 3), minute=12, **FAILED))
    assert operations.look()[0].why.endswith("since version 2 serves, 3 of 3 met an error of the arm; tolerated is 1 %")


def test_readers_who_met_a_failure_of_an_earlier_version_do_not_hide_those_of_the_new_one(tmp_path: Path, operations: Operations) -> None:
    new_version(tmp_path, minute=-60)
    send(tmp_path, pages(readers=range(300)) + pages(readers=range(3), minute=2, **FAILED))
    assert operations.look() == []
    new_version(tmp_path, minute=10)
    send(tmp_path, pages(readers=range(3), minute=11, **FAILED))
    assert operations.look()[0].why.endswith("since version 2 serves, 3 of 3 met an error of the arm; tolerated is 1 %")


def test_every_further_version_needs_more_evidence_so_that_many_versions_stop_no_sound_arm(tmp_path: Path, operations: Operations) -> None:
    for minute in (-60, *range(10, 60, 10)):  # five new ones while readers count
        new_version(tmp_path, minute=minute)
        send(tmp_path, pages(readers=range(100), minute=minute + 1))
        assert operations.look() == []
    new_version(tmp_path, minute=60)
    send(tmp_path, pages(readers=range(3), minute=61, **FAILED))
    assert operations.look() == []
    send(tmp_path, pages(readers=range(3, 4), minute=62, **FAILED))
    assert "since version 7 serves, 4 of 4" in operations.look()[0].why


@pytest.mark.parametrize("model", [False, True])
def test_a_model_keeps_half_of_the_chance_of_a_false_stop_for_its_new_versions(tmp_path: Path, operations: Operations, model: bool) -> None:
    if model:
        new_version(tmp_path, minute=-60)
    send(tmp_path, pages(readers=range(2), **FAILED))
    assert len(operations.look()) == (0 if model else 1)
    send(tmp_path, pages(readers=range(2, 3), minute=2, **FAILED))
    assert len(operations.look()) == (1 if model else 0)


def test_a_pointer_that_cannot_be_read_keeps_nobody_from_looking(tmp_path: Path, operations: Operations) -> None:
    new_version(tmp_path, minute=-60)
    (tmp_path / "models" / "newest" / "current.json").write_text("{")
    send(tmp_path, pages(readers=range(10), **FAILED))
    assert operations.look()[0].state == "stopped"


def test_the_worker_tells_of_a_look_that_fails_and_looks_again(tmp_path: Path, engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    live(engine)
    send(tmp_path, pages(readers=range(10), **FAILED))
    worker = Worker(Settings(home=tmp_path))
    (tmp_path / "ladder").write_text("no folder can be made here")
    worker.look()
    worker.look()
    assert "FileExistsError" in worker.faults["operations"]
    assert [line.message for line in caplog.records] == ["operations failed"]  # where `presslab doctor` says to look, once
    (tmp_path / "ladder").unlink()
    worker.look()
    assert (worker.faults, ladder_of(engine, "newest").state) == ({}, "stopped")
    worker.close()


def test_whoever_looked_before_an_arm_was_stopped_does_not_bring_it_back(engine: Engine) -> None:
    before: Ladder = live(engine)
    halt(engine, before, Step("eve", BEGAN, "it looks odd"))
    with pytest.raises(ExperimentError, match="was changed meanwhile"):
        climb(engine, before, Step("timetable", BEGAN, "harm is excluded"))
    assert ladder_of(engine, "newest").state == "stopped"
    assert to_us(before.counted_from) == START
    assert PLAN.arm("newest").share == 0.5
