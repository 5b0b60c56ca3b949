"""Looks from events on disk to the stored report: taken once a day, kept in the record, never taken back."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from experiments.clock import moment
from experiments.errors import ExperimentError
from experiments.experiment import Arm, Experiment
from experiments.lifecycle import Step, audit_faults, draft, looks_of, record_looks, start, stop
from experiments.migrate import migrate
from experiments.tables import control_engine
from tests.analysis.assigned import readers_of
from tests.events.story import START, Story, send
from tests.web.stored_report import stored
from web.reporting import report_path

ARMS = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5))
PLAN = Experiment("related", "Does it pay?", "status_quo", ARMS, window_days=1.0, planned_days=28.0, smallest_uplift=0.1)
BEGAN = moment(START)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """120 readers an arm in the first six days; those in ``front`` open twice as many articles."""
    migrate(tmp_path)
    engine, rng, story = control_engine(tmp_path), np.random.default_rng(1), Story()
    draft(engine, PLAN, Step("test", BEGAN, "draft"))
    start(engine, "related", Step("test", BEGAN, "start"))
    readers = {arm: readers_of(PLAN, arm) for arm in ("status_quo", "front")}
    for i in range(240):
        arm, at = ("status_quo", "front")[i % 2], int(rng.integers(0, 6 * 24 * 60))
        reader = next(readers[arm])
        story.exposed(reader, at, arm)
        for k in range(int(rng.integers(0, 3)) + 3 * (i % 2)):
            story.page(reader, at + 1 + k)
    send(tmp_path, story.events)
    return tmp_path


def test_a_look_is_taken_at_the_end_of_the_last_whole_day_and_only_once(home: Path) -> None:
    assert stored(home, 6.9)["looks"] == []
    first = stored(home, 7.3)
    assert [look["day"] for look in first["looks"]] == [7]
    assert first["verdict"]["key"] == "wait"
    assert first["verdict"]["reasons"][0].startswith("Looked at on day 7:")
    assert first["looks"][0]["difference_low"] > 0
    assert stored(home, 7.9)["looks"] == first["looks"]
    assert audit_faults(control_engine(home)) == []


def test_a_lost_report_file_does_not_lose_a_look_nor_take_it_again(home: Path) -> None:
    first = stored(home, 7.3)["looks"]
    report_path(home, "related").unlink()
    assert stored(home, 7.6)["looks"] == first
    assert looks_of(control_engine(home), "related") == first


def test_nothing_is_looked_at_after_the_end_and_no_look_is_recorded_for_a_stopped_test(home: Path) -> None:
    looks = stored(home, 7.3)["looks"]
    engine = control_engine(home)
    stop(engine, "related", Step("test", BEGAN + timedelta(days=10), "enough"))
    ended = stored(home, 20.0)
    assert ended["looks"] == looks
    assert ended["effects"][0]["family"]["level"] > 0.95
    with pytest.raises(ExperimentError, match="is stopped"):
        record_looks(engine, "related", [], Step("test", BEGAN, "late"))


@pytest.mark.parametrize("stopped_day", [None, 10])
def test_a_test_is_decided_by_what_was_known_when_it_ended(home: Path, stopped_day: int | None) -> None:
    """Whoever asks again every day would otherwise find something by chance, at full error each time."""
    if stopped_day:
        stop(control_engine(home), "related", Step("test", BEGAN + timedelta(days=stopped_day), "enough"))
    first = stored(home, 28.1)
    assert first["verdict"]["key"] != "wait"
    rng, story, readers = np.random.default_rng(2), Story(), {arm: readers_of(PLAN, arm) for arm in ("status_quo", "front")}
    for i in range(60):  # whoever comes later opens more in the status quo
        arm = ("status_quo", "front")[i % 2]
        reader = [next(readers[arm]) for _ in range(121)][-1]
        at = ((stopped_day or 28) + 1) * 24 * 60 + int(rng.integers(0, 600))
        story.exposed(reader, at, arm)
        for k in range(9 * (1 - i % 2)):
            story.page(reader, at + 1 + k)
    send(home, story.events)
    again = stored(home, 35.0)
    for key in ("verdict", "effects", "arms"):
        assert again[key] == first[key], key
