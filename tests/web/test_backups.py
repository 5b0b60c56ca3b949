"""The daily copy and the weekly drill: on the timetable, and their age in words on the health page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from experiments.clock import moment
from experiments.errors import ArtefactError
from experiments.events.backup import back_up
from experiments.files import read_json, replace_json
from experiments.migrate import migrate
from experiments.serving.artefacts import publish, write_bundle
from experiments.settings import Settings
from tests.events.story import DAY, START, send, view
from web.backups import backup_checks
from web.cli.commands import install
from web.cli.main import app
from web.demo.newspaper import build_newspaper
from web.drill_job import ways_back
from web.jobs import HOUR, claim, job_named, last_runs, timetable
from web.worker import Worker

HOUR_US = HOUR * 1_000_000


@pytest.fixture
def worker(home: Path) -> Iterator[Worker]:
    migrate(home)
    send(home, [view(n) for n in range(10)])
    made = Worker(Settings(home=home))
    yield made
    made.close()


def ran(worker: Worker, name: str) -> str:
    """Run a job in its own process, as the timetable does; how it ended, in words."""
    job, now = job_named(worker.jobs, name), moment(worker.clock())
    row = claim(worker.engine, job, now, at=now)
    assert row is not None
    worker._supervise(job, row)
    run = last_runs(worker.engine)[name][0]
    assert (run.state, run.exit_code) == ("done", 0), run.log
    return run.reason


def told(settings: Settings, at_us: int) -> list[tuple[str, str]]:
    return [(line["name"], line["state"]) for line in backup_checks(settings, lambda: at_us)]


def test_the_copy_is_taken_every_morning_and_tested_every_sunday() -> None:
    jobs = timetable(Settings())
    assert job_named(jobs, "backup").schedule() == "daily at 06:30 UTC"
    assert job_named(jobs, "drill").schedule() == "Sundays at 08:00 UTC"


def test_a_copy_is_taken_then_restored_aside_and_both_are_told(worker: Worker) -> None:
    settings = worker.settings
    assert ran(worker, "drill") == f"there is no copy in {settings.backups} yet; no model has an earlier version"
    before = [line["says"] for line in backup_checks(settings, worker.clock)]
    assert ["No backup was taken yet" in before[0], "No restore was tested yet" in before[1]] == [True, True]
    assert "events up to number 10" in ran(worker, "backup")
    assert "10 events, all accounted for" in ran(worker, "drill")
    copy, tested = backup_checks(settings, worker.clock)
    assert (copy["state"], tested["state"]) == ("ok", "ok")
    assert f"1 copy is kept in {settings.backups}." in copy["says"]
    assert "every event was accounted for" in tested["says"]


def test_the_drill_loads_what_a_trip_would_put_in_force_and_names_what_could_not_serve(home: Path) -> None:
    build_newspaper(home, moment(START))
    meta = {"ids": ["a", "b"], "parameters": {"alpha": 1.0, "regularization": 0.1, "recent_reads": 3.0}}
    for number in (1, 2):
        vectors = np.array([[1, number], [2, 3]], np.float32)
        publish(home, "als", write_bundle(home / "models" / "als", {"vectors": vectors}, meta).version, at_us=number)
    (told,) = ways_back(home)
    assert told.startswith("als to version 1 (")
    (home / "models" / "als" / "1" / "arrays.npz").write_bytes(b"")
    with pytest.raises(ArtefactError, match="'als' could not go back to version 1"):
        list(ways_back(home))


def test_a_copy_of_yesterday_is_well_and_one_older_than_two_days_is_not(home: Path) -> None:
    settings = Settings(home=home)
    (settings.backups / "copy").mkdir(parents=True)
    replace_json(home / "backup.json", {"at_us": START, "path": str(settings.backups / "copy"), "last_seq": 1})
    replace_json(home / "drill.json", {"at_us": START, "backup_us": START, "path": "", "last_seq": 1})
    assert told(settings, START + 47 * HOUR_US) == [("last backup", "ok"), ("last tested restore", "ok")]
    assert told(settings, START + 49 * HOUR_US) == [("last backup", "warn"), ("last tested restore", "ok")]
    assert told(settings, START + 15 * DAY) == [("last backup", "warn"), ("last tested restore", "warn")]
    copy, tested = backup_checks(settings, lambda: START + 49 * HOUR_US)
    assert copy["says"].startswith(
        "There is no backup of the last 2 days; one is due daily at 06:30 UTC. Taken 2 days ago (1 Jan 2026, 00:00 UTC)"
    )
    assert tested["says"].startswith("The copy of 1 Jan 2026, 00:00 UTC was restored aside 2 days ago")


def test_a_copy_that_is_gone_is_said(home: Path) -> None:
    replace_json(home / "backup.json", {"at_us": START, "path": str(home / "nowhere" / "copy"), "last_seq": 1})
    line = next(backup_checks(Settings(home=home), lambda: START))
    assert (line["state"], "is gone from" in line["says"]) == ("warn", True)


def test_what_was_never_tested_is_amber_once_a_copy_is_two_weeks_old(home: Path) -> None:
    settings = Settings(home=home)
    copy = settings.backups / "20260101T000000.000000Z"
    copy.mkdir(parents=True)
    replace_json(copy / "manifest.json", {})
    replace_json(home / "backup.json", {"at_us": START, "path": str(copy), "last_seq": 1})
    assert told(settings, START + 13 * DAY)[1] == ("last tested restore", "ok")
    assert told(settings, START + 15 * DAY)[1] == ("last tested restore", "warn")


def test_where_jobs_run_on_request_nothing_is_too_old(home: Path) -> None:
    assert told(Settings(home=home), START) == [("last backup", "warn"), ("last tested restore", "ok")]
    assert told(Settings(home=home, profile="demo"), START) == [("last backup", "ok"), ("last tested restore", "ok")]
    assert read_json(home / "backup.json") is None


@pytest.mark.parametrize("named", [False, True])
def test_whoever_restores_is_told_who_may_be_back_unless_a_home_knows_who_was_erased(tmp_path: Path, named: bool) -> None:
    migrate(tmp_path / "old")
    send(tmp_path / "old", [view(1)])
    copy = back_up(tmp_path / "old", tmp_path / "copies", at_us=START).path
    knows = ["--erased-in", str(tmp_path / "old")] if named else []
    install()
    said = CliRunner().invoke(app, ["restore", str(copy), *knows, "--home", str(tmp_path / "new")])
    assert said.exit_code == 0, said.exception
    assert ("Then restore anew with --erased-in FOLDER" in said.output) is not named
