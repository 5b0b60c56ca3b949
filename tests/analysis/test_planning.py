"""The planner: arrivals, readers, weeks, the first look; the same numbers as the report."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri
from typer.testing import CliRunner

from analysis.arrivals import Arrivals, days_left
from analysis.boundaries import FIRST_TIME
from analysis.comparison import compare_all
from analysis.looks import plan_of
from analysis.moments import Totals, add_up
from analysis.planning import Spread, forecast, goal_design, half_width, spreads
from analysis.power import Design, detectable_effect, readers_needed, with_looks
from analysis.totals import metrics_of, totals
from experiments.clock import FileClock, moment
from experiments.errors import ExperimentError
from experiments.events.lake import moments
from experiments.events.lake_history import past
from experiments.experiment import Arm, Experiment
from experiments.lifecycle import Step, draft, experiment_named, experiments, start
from experiments.migrate import migrate
from experiments.tables import control_engine
from tests.analysis.tables import ARMS, crowd, plan, totals_of
from tests.analysis.test_words import assert_plain
from tests.events.story import DAY, START, Story, send
from web.cli.commands import install
from web.cli.main import app
from web.cli.plan import Stated, ahead, print_ahead, remaining

TWO = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5))
PLAN = Experiment("related", "Does it pay?", "status_quo", TWO, window_days=1.0, planned_days=28.0, smallest_uplift=0.1)
STEADY = Arrivals(np.array([]), 0.0, 100.0)


def same_crowd(n: int = 900) -> Totals:
    """Both arms hold equal readers, so that what is pooled is what either arm has."""
    table = crowd(np.random.default_rng(8), n)
    return totals_of({("status_quo", 1): table, ("front", 1): table})


def told(found: dict[str, Spread] | None = None, arrivals: tuple[Arrivals, Arrivals] | None = (STEADY, STEADY), **changes: object):
    return forecast(replace(PLAN, **changes), {"views_per_session": Spread(2.0, 1.0)} if found is None else found, arrivals)


# When readers come


def test_arrivals_by_hand():
    """Four readers in two weeks, two of them in the last, then 2 / 7 a day; with half as many every week, 4 x 2 / 7 / ln 2 in all."""
    first = np.array([0.5, 1.0, 2.0, 3.0, 8.0, 13.0])
    steady, fading = (Arrivals.of(first, days=14.0, fading=fading) for fading in (False, True))
    assert (steady.rate, fading.rate, fading.fade) == (2 / 7, 2 / 7, math.log(2) / 7)
    assert [steady.by(day) for day in (0.4, 1.0, 13.0, 17.5)] == pytest.approx([0, 2, 6, 7])
    assert fading.by(21.0) == pytest.approx(6 + 2 / math.log(2) * 0.5)
    assert (steady.until(3), steady.until(8)) == pytest.approx((2.0, 21.0))
    assert fading.until(6 + 1 / math.log(2)) == pytest.approx(21.0)
    assert fading.until(9) == math.inf


def test_without_two_weeks_nothing_fades():
    first = np.array([0.5, 1.0, 2.0, 3.0, 8.0])
    assert Arrivals.of(first, days=13.9, fading=True).fade == 0
    assert Arrivals.of(np.array([3.0, 8.0, 9.0]), days=14.0, fading=True).fade == 0  # more and more is not drawn out either
    assert Arrivals.of(np.array([0.5, 1.5]), days=2.0, fading=True).rate == 1.0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.floats(0.5, 200), st.floats(0, 0.2), st.integers(1, 400))
def test_until_is_the_inverse_of_by(rate, fade, readers):
    arrivals = Arrivals(np.sort(np.random.default_rng(1).uniform(0, 20, 60)), 20.0, rate, fade)
    day = arrivals.until(readers)
    if math.isfinite(day):
        assert arrivals.by(day) == pytest.approx(readers, rel=1e-9)
        assert arrivals.by(day * (1 - 1e-9) - 1e-9) < readers
    else:
        assert arrivals.by(1e6) < readers


def test_days_left_count_the_window_of_the_last_reader():
    first = np.arange(0, 10, 0.1)
    now, never = Arrivals(first, 10.0, 10.0), Arrivals(first, 10.0, 0.0)
    assert days_left((now, never), readers=105, window_days=7) == (8, None)
    assert days_left((now, never), readers=20, window_days=7) == (0, 0)


# Readers and weeks


def test_the_detectable_change_is_that_of_the_reports_range():
    """At the readers of a report its range reaches z / (z + z_power) of what the planner says it can find, but for looks."""
    found, design = same_crowd(), goal_design(PLAN)
    contrast = compare_all(PLAN, found).effects[0].contrast
    cv2, n = spreads(PLAN, list(found.moments.values()))["views_per_session"].cv2, 1800
    half = half_width(design, readers=n, cv2=cv2) / design.deciding * float(ndtri(0.975))
    assert half == pytest.approx(float(ndtri(0.975)) * math.sqrt(sum(contrast.log_variance)), rel=1e-3)
    assert (math.log1p(contrast.relative.high) - math.log1p(contrast.relative.low)) / 2 == pytest.approx(half, rel=0.01)
    smallest = math.log1p(detectable_effect(design, readers=n, cv2=cv2)) / math.sqrt(design.inflation)
    assert half / smallest == pytest.approx(float(ndtri(0.975) / (ndtri(0.975) + ndtri(0.8))), rel=1e-12)


def test_readers_ask_for_every_comparison_and_every_guardrail():
    """Three comparisons, one guardrail, the smallest two arms: the formula of the charter."""
    found = forecast(plan(smallest_uplift=0.05), {"views_per_session": Spread(2.0, 1.5), "dwell_per_view": Spread(1.0, 0.5)}, None)
    goal, guardrail = found.needs
    design = with_looks(Design((0.3, 0.3), hypotheses=3, guardrails=1), 14)
    assert goal.readers == pytest.approx(readers_needed(design, effect=0.05, cv2=1.5), rel=1e-12)
    assert guardrail.change == -0.25
    assert guardrail.readers == pytest.approx(readers_needed(Design((0.3, 0.4), guardrails=1), effect=-0.25, cv2=0.5), rel=1e-12)
    assert found.readers == goal.readers
    assert (found.weeks, found.fits, found.reason) == ((None, None), None, "nothing is known of how many readers come a day")


def test_a_guardrail_may_need_most_readers():
    spread = {"views_per_session": Spread(2.0, 1.0), "bounce_rate": Spread(0.3, 4.0), "dwell_per_view": Spread(reason="nobody stayed")}
    found = told(spread, guardrails={"bounce_rate": 0.05, "dwell_per_view": 0.1})
    assert [need.change for need in found.needs] == [0.1, 0.05, -0.1]
    assert found.readers == found.needs[1].readers > found.needs[0].readers
    assert (found.needs[2].readers, found.needs[2].reason) == (None, "nobody stayed")
    assert told({"views_per_session": Spread(2.0, 1.0), "dwell_per_view": Spread(1.0, 1.0)}, guardrails={"dwell_per_view": 1.0}).needs[
        1
    ].reason == ("nothing can fall by that much")


def test_weeks_are_whole_and_at_least_two_and_wait_for_the_last_window():
    needed = told().readers
    for rate, weeks in ((needed, 2), (needed / 12.9, 2), (needed / 13.1, 3), (needed / 20.1, 4)):
        each = Arrivals(np.array([]), 0.0, rate)
        assert told(arrivals=(each, each)).weeks == (weeks, weeks)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.floats(20, 5000), st.floats(1.01, 3), st.floats(0.02, 0.3))
def test_more_readers_a_day_or_a_larger_change_never_take_longer(rate, more, change):
    def weeks(rate: float, change: float) -> float:
        each = Arrivals(np.array([]), 0.0, rate)
        return told(arrivals=(each, each), smallest_uplift=change).weeks[0] or math.inf

    assert weeks(rate * more, change) <= weeks(rate, change)
    assert weeks(rate, change * more) <= weeks(rate, change)


def test_what_does_not_fit_in_a_year_is_too_small_to_learn():
    found = told(arrivals=(Arrivals(np.array([]), 0.0, 5.0),) * 2)
    assert found.fits is False
    assert found.days[-1].day == 364
    assert found.days[-1].readers == pytest.approx(5 * 363)
    assert told().fits is True


def test_the_forecast_by_week_holds_what_it_promises():
    found = told(arrivals=(Arrivals(np.array([]), 0.0, 110.0),) * 2)
    end = next(day for day in found.days if day.day == 7 * found.weeks[0])
    before = next(day for day in found.days if day.day == end.day - 7)
    assert end.smallest <= 0.1 < before.smallest
    assert end.readers == pytest.approx(110 * (end.day - 1))
    assert math.log1p(end.half_width) == pytest.approx(half_width(goal_design(PLAN), readers=end.readers, cv2=1.0))
    assert told(arrivals=(Arrivals(np.array([]), 0.0, 4.0),) * 2).days[0].smallest is None  # 24 readers


def test_the_first_look_is_the_first_that_the_boundary_permits():
    found, looks = told(arrivals=(Arrivals(np.array([]), 0.0, 40.0),) * 2, planned_days=56.0), plan_of(replace(PLAN, planned_days=56.0), 1)
    assert found.first_look > 7
    for day, permitted in ((found.first_look, True), (found.first_look - 1, False)):
        assert (looks.look(day, 4 / (40.0 * (day - 1))).time >= FIRST_TIME) is permitted
    assert told(arrivals=(Arrivals(np.array([]), 0.0, 1e6),) * 2).first_look == 7
    assert told(arrivals=(Arrivals(np.array([]), 0.0, 1.0),) * 2).first_look is None


# How much readers differ


def test_what_readers_did_before_explains_what_a_regression_says():
    rng = np.random.default_rng(2)
    before = rng.poisson(4, 3000)
    after = rng.poisson(1 + before)
    keys = ("count_view_page_type_article", "count_session", "pre:count_view_page_type_article", "pre:count_session", "has_pre")
    ones = np.ones(3000, dtype=int)
    found = totals_of({("status_quo", 1): np.column_stack([after, ones, before, ones, ones])}, keys=keys)
    spread = spreads(PLAN, list(found.moments.values()))["views_per_session"]
    assert spread.value == pytest.approx(after.mean())
    assert spread.cv2 == pytest.approx(after.var(ddof=1) / after.mean() ** 2)
    assert spread.explained == pytest.approx(np.corrcoef(before, after)[0, 1] ** 2, abs=1e-3)


@pytest.mark.parametrize(
    ("table", "says"),
    [([[0, 1]] * 9, "is zero or undefined"), ([[2, 1]] * 9, "no reader differs"), ([[2, 1]], "no reader of the last 28 days")],
)
def test_readers_who_show_no_spread_leave_a_reason(table, says):
    keys = ("count_view_page_type_article", "count_session")
    found = spreads(PLAN, list(totals_of({("status_quo", 1): np.array(table)}, keys=keys).moments.values()))["views_per_session"]
    assert found.cv2 is None
    assert says in found.reason
    assert told({"views_per_session": found}).readers is None


def test_what_only_a_filled_slot_has_cannot_be_planned_from_the_past():
    clicks = replace(PLAN, goal="click_through")
    keys = tuple(measure.key for measure in (metrics_of(clicks)[0].numerator, metrics_of(clicks)[0].denominator))
    found = spreads(clicks, list(totals_of({("status_quo", 1): np.zeros((9, 2), int)}, keys=keys).moments.values()))
    assert found["click_through"].reason == "only a filled slot has it, so the past cannot tell"


# From events


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Three weeks; every reader was in a test of then and comes back after two days, some of them via the front page first."""
    story, rng = Story(source="simulated"), np.random.default_rng(5)
    for i in range(150):
        at = float(rng.uniform(0, 20 * 1440))
        if i % 3 == 0:
            story.page(f"r{i}", at - 1, page_type="front")
        story.exposed(f"r{i}", at, ("status_quo", "front")[i % 2])
        for visit in (0, 120, 2880):
            for k in range(int(rng.integers(0, 4))):
                story.page(f"r{i}", at + visit + 1 + k)
    migrate(tmp_path)
    send(tmp_path, story.events)
    return tmp_path


NOW = START + 21 * DAY


def test_the_past_counts_readers_as_the_report_of_a_test_begun_then(home):
    asked = {"until_us": NOW, "source": "simulated"}
    as_if = past(home, PLAN, metrics_of(PLAN), since_us=START - DAY, **asked)
    real = past(home, PLAN, metrics_of(PLAN), **asked)
    reported = totals(home, PLAN, **asked)
    assert len(as_if.entered_us) == 150
    assert as_if.entered_us == real.entered_us
    columns = ["reader", *as_if.rows.keys]
    assert as_if.rows.table.select(columns).equals(real.rows.table.select(columns))
    assert set(as_if.rows.table["arm"].to_pylist()) == {"status_quo"}
    ours, theirs = (spreads(PLAN, list(cells.values())) for cells in (add_up(moments(real.rows)), reported.moments))
    assert ours["views_per_session"].cv2 == pytest.approx(theirs["views_per_session"].cv2, rel=1e-12)


def test_the_past_knows_no_reader_before_it_begins_and_only_the_agreed_where_the_plan_asks(home):
    late = past(home, PLAN, metrics_of(PLAN), until_us=NOW, source="simulated", since_us=START + 10 * DAY)
    assert min(late.entered_us) >= START + 10 * DAY
    assert 0 < len(late.entered_us) < 150
    agreed = replace(PLAN, arms=(TWO[0], replace(TWO[1], audience="agreed")))
    assert past(home, agreed, metrics_of(PLAN), until_us=NOW, source="simulated", since_us=START).entered_us == ()
    assert past(home, PLAN, metrics_of(PLAN), until_us=NOW, source="live", since_us=START).entered_us == ()


def test_a_running_test_is_planned_again_without_a_look_at_its_arms(tmp_path):
    def left(swapped: bool) -> dict[str, object]:
        home, story = tmp_path / str(swapped), Story()
        migrate(home)
        engine, step = control_engine(home), Step("test", moment(START), "go")
        draft(engine, PLAN, step)
        start(engine, "related", step)
        for i in range(200):
            arm = i % 2 != swapped
            story.exposed(f"r{i}", 60 * i, ("status_quo", "front")[arm])
            for k in range(1 + i % 5 + 3 * (i % 2)):
                story.page(f"r{i}", 60 * i + 90 + k)
        send(home, story.events)
        return remaining(home, experiment_named(engine, "related"), now=START + 10 * DAY, source="live")

    found = left(False)
    assert found == left(True)
    assert (found["day"], found["readers"]) == (10.0, 200)
    assert found["needed"] == pytest.approx(readers_needed(goal_design(PLAN), effect=0.1, cv2=found["cv2"]))
    assert found["days_left"][0] > 0


# The command


def written(folder: Path, *, name: str = "plan.toml", **changes: object) -> Path:
    values = {**replace(PLAN, name="next").to_dict(), **changes}
    file = folder / name.replace(".toml", ".json")
    file.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
    return file


def said(capsys: pytest.CaptureFixture[str], found: dict[str, object]) -> str:
    print_ahead(found)
    return capsys.readouterr().out


def test_the_forecast_comes_before_the_draft_is_stored(home, tmp_path):
    install()
    (home / "presslab.toml").write_text('profile = "demo"\n')
    FileClock(home / "clock").set(NOW)
    asked = ["experiment", "plan", str(written(tmp_path)), "--home", str(home)]
    shown = CliRunner().invoke(app, asked, env={"COLUMNS": "80"})
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.index("the test needs") < shown.stdout.index("smallest change")
    assert "draft 'next' is stored" in shown.stderr
    assert max(len(line) for line in shown.stdout.splitlines() if not line.endswith(".")) <= 80
    found = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    assert set(found) >= {"experiment", "goal", "history", "needs", "readers", "weeks", "first_look", "days", "fits"}
    assert (found["history"]["readers"], found["history"]["days"]) == (150, 21)
    assert [r.experiment.name for r in experiments(control_engine(home))] == ["next"]
    again = CliRunner().invoke(app, ["experiment", "plan", "next", "--again", "--home", str(home)])
    assert isinstance(again.exception, ExperimentError)
    assert "only a running one" in str(again.exception)


def test_without_a_past_it_asks_for_two_numbers_and_takes_them(tmp_path, capsys):
    migrate(tmp_path)
    asked = {"now": NOW, "source": "live"}
    nothing = said(capsys, ahead(tmp_path, PLAN, Stated(), **asked))
    assert "Give --cv and --readers-per-day" in nothing
    half = said(capsys, ahead(tmp_path, PLAN, Stated(cv=1.0), **asked))
    assert "How long that takes is not known" in half
    both = ahead(tmp_path, PLAN, Stated(1.0, 100.0), **asked)
    assert both["readers"] == pytest.approx(readers_needed(goal_design(PLAN), effect=0.1, cv2=1.0))
    assert f"{both['weeks'][0]} weeks" in said(capsys, both)
    small = said(capsys, ahead(tmp_path, PLAN, Stated(9.0, 10.0), **asked))
    assert small.strip().startswith("Too small to learn:")


def test_the_forecast_speaks_in_plain_words(capsys):
    wide = replace(plan(ARMS), planned_days=14.0, guardrails={"dwell_per_view": 0.01})
    fading = Arrivals(np.arange(0, 14, 0.01), 14.0, 40.0, 0.05)
    for experiment in (PLAN, wide):
        for cv2, arrivals in (
            (None, None),
            (1.0, None),
            (1.0, (STEADY, STEADY)),
            (1.0, (replace(fading, fade=0), fading)),
            (90.0, (STEADY, fading)),
        ):
            spread = Spread(2.0, cv2, 0.3) if cv2 else Spread(reason="no reader of the last 28 days has been seen for a whole window")
            found = forecast(experiment, dict.fromkeys(("views_per_session", "dwell_per_view"), spread), arrivals).to_dict()
            text = said(capsys, {"experiment": "next", "goal": experiment.goal, "history": {"readers": 1400, "days": 14}, **found})
            assert_plain(*(line for line in text.splitlines() if line.endswith(".")))


def test_a_plan_never_asks_for_fewer_readers_than_a_report_needs():
    """A change of a hundred percent needs few readers; below 30 in an arm the report judges nothing."""
    need = told({"views_per_session": Spread(2.0, 0.5)}, smallest_uplift=1.0).needs[0]
    assert need.readers == 60
    small = told(
        {"views_per_session": Spread(2.0, 0.5)}, smallest_uplift=1.0, arms=(replace(TWO[0], share=0.9), replace(TWO[1], share=0.1))
    )
    assert small.needs[0].readers == 300


def test_a_limit_in_milliseconds_is_not_told_as_a_percentage(capsys):
    slow = plan(guardrails={"slot_latency_p95": 20.0, "dwell_per_view": 0.05})
    found = forecast(slow, {"views_per_session": Spread(2.0, 0.5), "dwell_per_view": Spread(1.0, 0.5)}, (STEADY, STEADY)).to_dict()
    shown = said(capsys, {"experiment": "next", "goal": slow.goal, "history": {"readers": 1400, "days": 14}, **found})
    assert "+20 ms" in shown
    assert "-5.0%" in shown
    assert "2000" not in shown


def test_a_draft_says_which_of_its_arms_are_not_there_yet(home, tmp_path):
    install()
    arms = [{"name": "status_quo", "kind": "status_quo", "share": 0.5}, {"name": "tide", "kind": "heuristic", "share": 0.5}]
    done = CliRunner().invoke(app, ["experiment", "plan", str(written(tmp_path, arms=arms)), "--home", str(home)], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "draft 'next' is stored. Before it can start:\n  - no arm is called 'tide';" in done.stderr
    assert "presslab experiment start" not in done.stderr


def test_a_plan_says_which_arm_it_cannot_ship(tmp_path, capsys):
    migrate(tmp_path)
    asked = {"now": NOW, "source": "live"}
    small = replace(PLAN, arms=(replace(TWO[0], share=0.95), replace(TWO[1], share=0.05)))
    says = "With less than 10% of readers front cannot be shipped by this test, only watched for harm."
    assert says in said(capsys, ahead(tmp_path, small, Stated(1.0, 1000.0), **asked))
    assert "cannot be shipped" not in said(capsys, ahead(tmp_path, PLAN, Stated(1.0, 1000.0), **asked))
