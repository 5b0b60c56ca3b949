"""What is believed after a test: on the page, in the terminal, and handed on to later tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from analysis.bayes import Prior
from experiments.clock import moment
from experiments.files import replace_json
from experiments.lifecycle import Step, decide, draft, experiment_named, ramp, start, stop
from experiments.migrate import migrate
from experiments.tables import control_engine
from tests.analysis.tables import ARMS, plan
from tests.analysis.test_report import report, world
from tests.events.story import START
from tests.web.preview import PreviewSite
from tests.web.test_real_reports import show
from web.cli.report_table import print_report
from web.reporting import learnt, report_path

HANGS = "This hangs on how rare large effects are: were they more common, the advice would be to ship front."


def stored(**changes: Any) -> dict[str, Any]:
    found = report(world(front=1.4, als=1.5)).to_dict()
    return found | {"belief": found["belief"] | changes}


def test_the_page_shows_who_is_best_under_numbers_and_what_was_assumed(client: FlaskClient, preview: PreviewSite) -> None:
    page = show(client, preview, stored(p_best={"status_quo": 0.01, "front": 0.29, "als": 0.7}))
    text = page.one("main").text.split("Numbers and method")[1]
    assert "Which arm is best" in text
    assert "29%" in text
    assert "what recommending changes 5.0% (our assumption), what learning adds 3.0% (our assumption)" in text


def test_the_page_says_how_many_finished_tests_the_assumption_comes_from(client: FlaskClient, preview: PreviewSite) -> None:
    page = show(client, preview, stored() | {"prior": {"interest": 0.021, "learning": 0.03, "tests": [24, 0]}})
    assert "what recommending changes 2.1% (as 24 finished tests found)" in page.one("main").text


@pytest.mark.parametrize(("foretold", "rare"), [(0.004, "once in 250 tests"), (1e-30, "less than once in a thousand million tests")])
def test_the_page_says_when_effects_were_larger_than_was_assumed(
    client: FlaskClient, preview: PreviewSite, foretold: float, rare: str
) -> None:
    page = show(client, preview, stored(shape="fat_tailed", foretold=foretold))
    assert f"would come {rare}. So large ones were taken to be more common" in page.one("main").text
    page = show(client, preview, stored(shape="normal", foretold=0.4))
    assert "would come" not in page.one("main").text


@pytest.mark.parametrize(("says", "seen"), [(HANGS, True), ("", False)])
def test_that_the_advice_hangs_on_the_tails_is_said_where_it_does(
    client: FlaskClient, preview: PreviewSite, capsys: pytest.CaptureFixture[str], says: str, seen: bool
) -> None:
    page = show(client, preview, stored(says=says))
    assert ("This hangs on" in page.one("main").text) is seen
    print_report(stored(says=says))
    assert ("This hangs on" in capsys.readouterr().out) is seen


def test_the_terminal_shows_the_chance_of_being_worth_most(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(stored())
    assert "worth most" in capsys.readouterr().out


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty decided tests."""
    home = tmp_path_factory.mktemp("home")
    migrate(home)
    arms = (*ARMS[:2], replace(ARMS[2], audience="agreed"))
    for i in range(20):
        name, step = f"test_{i}", Step("owner", moment(START) + timedelta(days=i), "because")
        draft(control_engine(home), replace(plan(arms), name=name), step)
        start(control_engine(home), name, step)
        stop(control_engine(home), name, step)
        decide(control_engine(home), name, "status_quo", step)
    return home


def reports(home: Path, n: int = 20, **changes: Any) -> None:
    """Their reports: the heuristic moved the goal by ten percent up or down; those from the n-th on are without a belief."""
    for i in range(20):
        effect = {"interest": {"log_ratio": 0.1 * (-1) ** i, "variance": 1e-6}}
        belief = {"belief": {"measured": effect} if i < n else None}
        replace_json(report_path(home, f"test_{i}"), {"goal": plan().goal, "verdict": {"key": "keep"}} | belief | changes)


def test_twenty_decided_tests_teach_the_next_one_how_large_effects_are(home: Path) -> None:
    reports(home)
    prior = learnt(home, plan())
    assert prior.interest == pytest.approx(0.1, abs=0.01)
    assert (prior.learning, prior.tests) == (Prior().learning, (20, 0))


@pytest.mark.parametrize("changes", [{"n": 19}, {"verdict": {"key": "do_not_use"}}, {"goal": "bounce_rate"}])
def test_few_tests_untrustworthy_ones_and_those_on_another_goal_teach_nothing(home: Path, changes: dict[str, Any]) -> None:
    reports(home, **changes)
    assert learnt(home, plan()) == Prior()


def test_a_test_whose_readers_lost_an_arm_teaches_nothing(home: Path) -> None:
    """Their days without it thinned what it does: later tests would have believed in smaller effects."""
    reports(home, n=19)  # one more would be enough
    name, step = "cut", Step("owner", moment(START), "because")
    like = experiment_named(control_engine(home), "test_0").experiment
    draft(control_engine(home), replace(like, name=name), step)
    start(control_engine(home), name, step)
    measured = {"interest": {"log_ratio": 0.1, "variance": 1e-6}}
    replace_json(report_path(home, name), {"goal": plan().goal, "verdict": {"key": "keep"}, "belief": {"measured": measured}})
    ramp(control_engine(home), name, {**like.shares, like.arms[1].name: 0.0}, step)
    stop(control_engine(home), name, step)
    decide(control_engine(home), name, "status_quo", step)
    assert learnt(home, plan()) == Prior()


def test_a_test_does_not_teach_itself(home: Path) -> None:
    reports(home)
    assert learnt(home, replace(plan(), name="test_3")) == Prior()
