"""What the plan command says: which measure asks for the readers, what the planned days bring, what the past was."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.arrivals import Arrivals
from analysis.planning import Spread, forecast, spreads
from analysis.totals import totals
from experiments.clock import moment
from experiments.errors import ExperimentError
from experiments.experiment import Experiment
from experiments.lifecycle import Step, draft, experiment_named, start
from experiments.migrate import migrate
from experiments.tables import control_engine
from tests.analysis.test_metrics_from_events import paid
from tests.analysis.test_planning import PLAN, said
from tests.analysis.test_words import assert_plain
from tests.events.story import DAY, START, Story, send
from web.cli.plan import Stated, ahead, print_left, remaining

SPREADS = {"views_per_session": Spread(2.0, 0.5), "bounce_rate": Spread(0.3, 2.0)}


def steady(rate: float) -> tuple[Arrivals, Arrivals]:
    return (Arrivals(np.array([]), 0.0, rate),) * 2


def told(experiment: Experiment, rate: float, **more: Any) -> dict[str, Any]:
    found = forecast(experiment, SPREADS, steady(rate)).to_dict()
    return {"experiment": "next", "goal": experiment.goal, "history": {"readers": 0, "days": 0}, **found, **more}


# The length of the plan


def test_a_plan_that_is_long_enough_to_the_day_is_not_called_too_short(capsys: pytest.CaptureFixture[str]) -> None:
    """The last reader needed comes after 28.5 days and is followed for one: thirty days do, though whole weeks are five."""
    for planned, short in ((29.4, True), (30.0, False)):
        experiment = replace(PLAN, planned_days=planned)
        found = told(experiment, told(experiment, 100.0)["readers"] / 28.5)
        assert found["weeks"] == (5, 5)
        assert found["ends"] == pytest.approx((29.5, 29.5))
        assert ("too short" in said(capsys, found)) is short


def test_a_plan_of_one_week_is_too_short_when_the_readers_come_in_the_second(capsys: pytest.CaptureFixture[str]) -> None:
    week = replace(PLAN, planned_days=7.0, minimum_days=7.0)
    found = told(week, told(week, 100.0)["readers"] / 10)
    assert found["planned"]["readers"] == pytest.approx(found["readers"] * 0.6)
    says = said(capsys, found).replace("\n", " ")
    assert f"too short: by then {found['readers'] * 0.6:,.0f} readers have finished. They find changes of 13% and more." in says


# Which measure asks for the readers

MARGIN = replace(PLAN, smallest_uplift=0.05, guardrails={"bounce_rate": 0.02})
BLAME = "the margin of 2.0% for sessions that end after one page needs "


def running(**more: Any) -> dict[str, Any]:
    found = told(MARGIN, 100.0)
    left = {"experiment": "next", "day": 20.0, "planned_days": 28.0, "readers": 9000, "needed": found["readers"], "needs": found["needs"]}
    return {**left, "smallest": 0.04, "asked": 0.05, "days_left": [12, 30], "reason": "", **more}


def test_what_is_too_small_to_learn_names_the_margin_that_needs_the_readers(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(MARGIN, 100.0)
    goal, margin = (need["readers"] for need in found["needs"])
    says = said(capsys, found)
    assert f"Too small to learn: {BLAME}{margin:,.0f} readers, and a year brings 36,300." in says
    assert f"The goal alone needs {goal:,.0f}. Allow a larger margin" in says.replace("\n", " ")
    assert "Ask for a larger change" not in says
    assert_plain(*(line for line in says.splitlines() if line.endswith(".")))


def test_a_plan_too_short_for_a_margin_says_so_and_not_that_the_goal_finds_too_little(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(MARGIN, 1000.0)
    says = said(capsys, found)
    assert f"too short: by then 27,000 readers have finished. T{BLAME[1:]}{found['readers']:,.0f}." in says.replace("\n", " ")
    assert "Allow a larger margin" in says
    assert "They find" not in says
    assert_plain(*(line for line in says.splitlines() if line.endswith(".")))


def test_a_running_test_that_waits_for_a_margin_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    found = running()
    print_left(found)
    says = capsys.readouterr().out
    assert says.startswith(f"Too early: {BLAME}{found['needed']:,.0f} readers, and 9,000 have come. About 12 to 30 more days.")
    assert "allow a larger margin" in says
    goal = [need | {"readers": 9_500.0} for need in found["needs"]]
    print_left({**found, "needs": [goal[0], goal[1] | {"readers": 60.0}]})
    assert capsys.readouterr().out == "Too early: we can see changes above 4.0%; you asked for 5.0%. About 12 to 30 more days.\n"


def test_readers_without_a_date_name_the_margin_too(capsys: pytest.CaptureFixture[str]) -> None:
    found = forecast(MARGIN, SPREADS, None).to_dict()
    says = said(capsys, {"experiment": "next", "goal": MARGIN.goal, "history": {"readers": 0, "days": 0}, **found})
    assert "Most of them are for the guardrail bounce rate" in says


# What is stated, and what the past was


def test_stated_readers_a_day_leave_the_days_that_the_past_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    story = Story()
    for i in range(100):
        for k in range(1 + i % 3):
            story.page(f"r{i:02d}", 290 * i + k)  # twenty days
    migrate(tmp_path)
    send(tmp_path, story.events)
    found = ahead(tmp_path, PLAN, Stated(readers_per_day=500.0), now=START + 20 * DAY, source="live")
    assert found["history"] == {"readers": 100, "days": 20}
    assert "This rests on 100 readers of the last 20 days." in said(capsys, found)


@pytest.mark.parametrize(
    "stated", [(2000.0, 10.0), (1e200, 10.0), (1.0, math.inf), (math.nan, 10.0), (1.0, 0.0), (0.0, 10.0), (-1.0, 10.0)]
)
def test_numbers_that_no_site_has_are_refused_with_their_bounds(stated: tuple[float, float]) -> None:
    with pytest.raises(ExperimentError, match=r"--cv .* 0.001 and 100|--readers-per-day .* 0.001 and 1,000,000,000"):
        Stated(*stated)


@pytest.mark.parametrize("stated", [(100.0, 0.001), (100.0, 10.0), (100.0, 1e9), (0.001, 0.001), (0.001, 1e9)])
def test_the_bounds_themselves_can_be_planned_with(stated: tuple[float, float], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    migrate(tmp_path)
    assert said(capsys, ahead(tmp_path, PLAN, Stated(*stated), now=START, source="live"))


def test_a_change_too_large_for_a_number_is_told_as_too_few_readers(capsys: pytest.CaptureFixture[str]) -> None:
    """One reader in a million pays: nothing can be said of sixty."""
    found = forecast(PLAN, {"views_per_session": Spread(2.0, 1e6)}, steady(10.0)).to_dict()
    assert found["days"][0] == {"day": 7, "readers": 60.0, "smallest": None, "half_width": None}


def test_a_test_in_its_first_two_weeks_needs_at_least_the_days_its_first_flood_promises(capsys: pytest.CaptureFixture[str]) -> None:
    """Whether new readers become fewer is known after two weeks only."""
    few = told(PLAN, 100.0)["needs"]
    for day, says in ((13.0, "At least 12 more days."), (14.0, "About 12 more days.")):
        print_left(running(day=day, needs=few, days_left=[12, 12]))
        assert capsys.readouterr().out.strip().endswith(says)


# What a report does with the same metric

END = START + 28 * DAY


def stored(home: Path, story: Story) -> Path:
    migrate(home)
    send(home, story.events)
    return home


def reported(home: Path, experiment: Experiment) -> Spread:
    """How much readers differ on the goal by a report at the end of the 28 days."""
    cells = totals(home, experiment, until_us=END, source="live", start_us=START).moments
    return spreads(experiment, list(cells.values()))[experiment.goal]


def planned(home: Path, experiment: Experiment) -> Any:
    return ahead(home, experiment, Stated(), now=END, source="live")["needs"][0]["spread"]


@pytest.mark.parametrize("caps", [{}, {"revenue_per_reader": 1300}, {"revenue_per_reader": 1}])
def test_the_planner_cuts_totals_at_the_ceiling_of_the_report(caps: dict[str, int], tmp_path: Path) -> None:
    """Of 1,100 readers 1,000 pay, one of them a thousand times as much: the ceiling is found where the plan has none."""
    story = Story()
    for i in range(1100):
        story.exposed(f"r{i:04d}", 2.0 * i, ("status_quo", "front")[i % 2])
        if i % 11:
            paid(story, f"r{i:04d}", 2.0 * i + 1, 1_000_000 if i == 500 else 1000 + i)
    money, home = replace(PLAN, goal="revenue_per_reader", caps=caps), stored(tmp_path, story)
    assert planned(home, money)["cv2"] == pytest.approx(reported(home, money).cv2, rel=1e-12)
    assert planned(home, money)["value"] < 2100


def variety(*, before: bool) -> Story:
    """Everybody opens what was most read before the test, and one or two articles beyond it."""
    story = Story()
    if before:
        story.page("early", -60, body={"article": "top"})
    for i in range(80):
        story.exposed(f"r{i:02d}", 90.0 * i, ("status_quo", "front")[i // 2 % 2], page={"article": "top"})
        for k in range(1 + i % 2):
            story.page(f"r{i:02d}", 90.0 * i + 1 + k, body={"article": f"other{i % 7}"})
    return story


BEYOND = replace(PLAN, goal="beyond_most_read")


def test_what_is_beyond_the_most_read_is_planned_from_what_was_most_read_before(tmp_path: Path) -> None:
    """Of five articles that two readers open three are beyond; their influences are -1/5 and +1/5 of 2.5, over 3/5."""
    found = planned(stored(tmp_path, variety(before=True)), BEYOND)
    assert found["value"] == pytest.approx(0.6)
    assert found["cv2"] == pytest.approx((0.2 / 2.5 / 0.6) ** 2 * 80 / 79)
    assert found["cv2"] == pytest.approx(reported(tmp_path, BEYOND).cv2, rel=1e-12)


def test_without_anything_read_before_the_planner_says_why_variety_cannot_be_planned(tmp_path: Path) -> None:
    found = ahead(stored(tmp_path, variety(before=False)), BEYOND, Stated(), now=END, source="live")
    assert found["reason"].startswith("no article was read in the seven days before")
    assert ahead(tmp_path, BEYOND, Stated(cv=1.0), now=END, source="live")["readers"] > 0


@pytest.mark.parametrize("before", [True, False])
def test_a_running_test_of_variety_knows_what_was_most_read_before_its_start(before: bool, tmp_path: Path) -> None:
    engine, step = control_engine(stored(tmp_path, variety(before=before))), Step("test", moment(START), "go")
    draft(engine, BEYOND, step)
    start(engine, BEYOND.name, step)
    left = remaining(tmp_path, experiment_named(engine, BEYOND.name), now=START + 10 * DAY, source="live")
    assert left["cv2"] == (pytest.approx(reported(tmp_path, BEYOND).cv2) if before else None)
    assert left["reason"].startswith("" if before else "no article was read in the seven days before")
