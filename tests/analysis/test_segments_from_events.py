"""Groups of readers, from events through outbox and loader to the report; the truth is known."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from analysis.report import Report, build_report
from analysis.totals import totals
from experiments.clock import moment
from experiments.errors import ExperimentError
from experiments.events.store import balance
from experiments.experiment import Arm, Experiment
from tests.events.story import DAY, START, Story, send

ARMS = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5))
PLAN = Experiment(
    "related", "For whom?", "status_quo", ARMS, window_days=1.0, planned_days=14.0, segments=("device", "audience", "returning", "section")
)
HISTORY = -3 * 1440  # minutes: readers who had been here before


def report_of(home: Path, plan: Experiment = PLAN, *, days: float = 16.0) -> Report:
    """The report as the job builds it, at ``days`` after the start."""
    until = START + round(days * DAY)
    found = totals(home, plan, until_us=until, source="live", start_us=START)
    start, state = moment(START), "stopped" if days >= plan.planned_days else "running"
    return build_report(plan, found, balance(home), start=start, until=start + timedelta(days=days), state=state, snapshot="seq")


def segments_of(report: Report) -> dict[str, dict[str, Any]]:
    return {found["segment"]: found for found in report.to_dict()["segments"]}


def story_of(readers: int = 320) -> Story:
    """Phones gain three articles with front, desktops none; the other groups say nothing about who gains."""
    story = Story()
    for i in range(readers):
        arm, reader, minute = ("status_quo", "front")[i % 2], f"r{i:03d}", 10 * i
        phone, returning = i // 2 % 2 == 0, i // 4 % 2 == 0
        if returning:
            story.page(reader, HISTORY + i)
        section = ("city", "sport", "rare")[2 if i < 12 else i // 8 % 2]
        page = {"section": section, "agreed": i // 16 % 2}
        opened = story.page(reader, minute, body=page, device="phone" if phone else "desktop")
        story.expose(opened, reader, minute, arm)
        gained = 3 if phone and arm == "front" else 0
        for k in range(1 + i // 32 % 3 + gained):  # afterwards everybody is on a desktop in another section, and agrees
            story.page(reader, minute + 1 + k, body={"section": "later", "agreed": 1}, device="desktop")
    return story


@pytest.fixture(scope="module")
def ended(home: Path) -> dict[str, dict[str, Any]]:
    return segments_of(report_of(home))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("home")
    send(folder, story_of().events)
    return folder


def test_readers_stand_in_the_group_they_were_in_at_their_first_exposure(ended: dict[str, Any]) -> None:
    readers = {name: {g["group"]: sum(g["n"].values()) for g in segment["groups"]} for name, segment in ended.items()}
    assert readers == {
        "device": {"desktop": 160, "phone": 160},
        "audience": {"agreed": 160, "not agreed": 160},
        "returning": {"new": 160, "returning": 160},
        "section": {"city": 152, "rare": 12, "sport": 156},
    }


def test_the_change_is_found_where_it_is(ended: dict[str, Any]) -> None:
    found = ended
    device = {group["group"]: group for group in found["device"]["groups"]}
    assert device["phone"]["absolute"]["estimate"] == pytest.approx(3.0, abs=1e-9)
    assert device["desktop"]["absolute"]["estimate"] == pytest.approx(0.0, abs=1e-9)
    assert found["device"]["interaction"]["q"] < 1e-9
    assert "differs between these groups by more than chance" in found["device"]["says"]
    for other in ("audience", "returning"):
        assert found[other]["interaction"]["q"] > 0.2
        assert found[other]["says"].startswith("Chance explains")
    assert device["phone"]["q"] < 0.001
    assert device["desktop"]["q"] == pytest.approx(1.0)


def test_a_small_group_says_that_it_is_small(ended: dict[str, Any]) -> None:
    rare = next(group for group in ended["section"]["groups"] if group["group"] == "rare")
    assert (rare["status"], rare["absolute"]["estimate"], rare["q"]) == ("insufficient", None, None)
    assert "at least 30 are needed" in rare["reason"]


def test_before_the_planned_end_groups_show_readers_and_nothing_else(home: Path) -> None:
    for segment in segments_of(report_of(home, days=5.0)).values():
        assert (segment["interaction"]["p"], segment["interaction"]["status"]) == (None, "insufficient")
        for group in segment["groups"]:
            assert (group["status"], group["reason"], group["q"]) == ("insufficient", "before the planned end", None)
            assert [*group["absolute"].values(), *group["relative"].values(), *group["values"].values()] == [None] * 10


def test_a_plan_without_segments_has_none(home: Path) -> None:
    plan = Experiment("related", "For whom?", "status_quo", ARMS, window_days=1.0, planned_days=14.0)
    assert report_of(home, plan).to_dict()["segments"] == []


@pytest.mark.parametrize(("named", "says"), [(("devise",), "did you mean 'device'"), (("device", "device"), "named twice")])
def test_a_segment_nobody_knows_is_refused_in_words(named: tuple[str, ...], says: str) -> None:
    with pytest.raises(ExperimentError, match=says):
        Experiment("related", "For whom?", "status_quo", ARMS, segments=named)
