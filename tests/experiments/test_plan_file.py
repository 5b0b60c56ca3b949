"""A plan written by hand: what is wrong with it is said all at once, with the line, before anything is stored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.errors import ExperimentError
from experiments.plan_file import read_plan
from web.site import SLOT

SOUND = """name = "next"
question = "Does it pay?"
control = "status_quo"
{more}
[[arms]]
name = "status_quo"
kind = "status_quo"
share = 0.5

[[arms]]
name = "front"
kind = "heuristic"
share = 0.5
{last}
"""


def written(folder: Path, *, more: str = "", last: str = "") -> Path:
    file = folder / "plan.toml"
    file.write_text(SOUND.format(more=more, last=last), "utf-8")
    return file


def refused(file: Path) -> str:
    with pytest.raises(ExperimentError) as caught:
        read_plan(file)
    return str(caught.value)


def test_a_sound_plan_is_read_and_comes_back_from_its_own_json(tmp_path):
    plan = read_plan(written(tmp_path, more='value_per_view = 1\nsecondary = ["click_through"]', last="[guardrails]\nbounce_rate = 0.05"))
    again = tmp_path / "plan.json"
    again.write_text(json.dumps(plan.to_dict()), "utf-8")
    assert read_plan(again) == plan
    again.write_text(json.dumps(read_plan(written(tmp_path)).to_dict()), "utf-8")  # null where no value is stated
    assert read_plan(again).value_per_view is None


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("value_per_view = nan", "value_per_view"),
        ("value_per_view = -3.0", "value_per_view"),
        ("value_per_view = '3'", "value_per_view"),
        ("value_spread = inf", "value_spread"),
        ("smallest_uplift = -0.2", "smallest_uplift"),
        ("smallest_uplift = '1%'", "smallest_uplift"),
        ("planned_days = inf", "planned_days"),
        ("planned_days = 1e12", "planned_days"),
        (f"value_per_view = 1{400 * '0'}", "value_per_view"),
        ("window_days = true", "window_days"),
        ("horizon_days = 0", "horizon_days"),
        ("goal = 5", "goal"),
        ("goal = 'views_per_sessions'", "did you mean 'views_per_session'"),
        ("secondary = 'click_through'", "secondary must be a list"),
        ("guardrails = 5", "guardrails must be a table"),
        ("guardrails = {bounce_rate = nan}", "guardrails.bounce_rate"),
        ("guardrails = {bounce_rate = 5}", "guardrails.bounce_rate = 5 allows a harm of 500%; 0.05 is 5 %"),
        ("guardrails = {nix = 0.1}", "no metric is called 'nix'"),
        ("caps = {views_per_session = 10}", "have no ceiling"),
        ("slot = 'nowhere'", "article.related"),
        ("layer = ''", "layer"),
        ("plannd_days = 28.0", "did you mean 'planned_days'"),
    ],
)
def test_a_value_that_would_make_a_wrong_number_is_refused_with_its_line(tmp_path, line, key):
    says = refused(written(tmp_path, more=line))
    assert "plan.toml: line 4: " in says
    assert key in says


def test_blanks_that_do_not_break_and_signs_of_other_scripts_are_text(tmp_path):
    plan = read_plan(written(tmp_path, more="owner = 'R\u00e9daction\u202f\u2014\u00a0une'\ncurrency = 'kr\u00a0NOK'"))
    assert (plan.owner, plan.currency) == ("R\u00e9daction\u202f\u2014\u00a0une", "kr\u00a0NOK")


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("-rf", "Does it pay?"),
        ("a" * 61, "Does it pay?"),
        ("next", ""),
        ("next", " "),
        ("next", "x" * 301),
        ("next", "a\\nb"),
        ("../x", "a"),
    ],
)
def test_name_and_question_fit_a_command_a_file_and_a_line(tmp_path, name, question):
    file = written(tmp_path)
    file.write_text(file.read_text("utf-8").replace('"next"', f'"{name}"').replace('"Does it pay?"', f'"{question}"'), "utf-8")
    assert "must be" in refused(file)


def test_a_limit_in_milliseconds_may_be_above_one(tmp_path):
    assert read_plan(written(tmp_path, more="guardrails = {slot_latency_p95 = 20.0}")).guardrails == {"slot_latency_p95": 20.0}


def test_all_faults_are_told_at_once_in_the_order_of_their_lines(tmp_path):
    says = refused(
        written(
            tmp_path,
            more="level = 2\nplanned_days = 3.0",
            last="per_day = 'x'\n[[arms]]\nname = 5\nshare = 0.1\n[guardrails]\nbounce_rate = 0.0",
        )
    )
    found = [line.split(":")[0] for line in says.splitlines()[1:]]
    assert found == ["  - line 4", "  - line 15", "  - line 16", "  - line 17", "  - line 20"]
    assert "arm 3: kind is missing" in says


def test_what_is_sound_is_also_held_against_the_rest_of_the_plan(tmp_path):
    says = refused(written(tmp_path, more="horizon_days = 0\nplanned_days = 3.0\nwindow_days = 5.0"))
    assert "line 4: horizon_days" in says
    assert "window_days must be positive and not exceed planned_days" in says
    assert "below minimum_days 14" in says


def test_a_file_that_is_no_plan_says_where_and_what_to_do(tmp_path):
    for text in ("{", "[1]", "[" * 100_000):
        (tmp_path / "plan.json").write_text(text)
        assert "plan.json" in refused(tmp_path / "plan.json")
    assert "Give a TOML file" in refused(tmp_path / "none.toml")


def test_the_place_that_pages_have_is_one_a_plan_may_name(tmp_path):
    assert read_plan(written(tmp_path, more=f'slot = "{SLOT}"')).slot == SLOT
