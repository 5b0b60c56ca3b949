"""What a view is worth, said of somebody's own file: the money of a report, and every bad price in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from analysis.own.data import analyse
from analysis.own.plan import wanted
from analysis.own.price import Price, price_of
from analysis.report import build_report
from experiments.errors import DataError
from experiments.experiment import Arm
from tests.analysis.own.test_data import command, csv, readers
from tests.analysis.tables import START, Line, crowd, plan, totals_of
from web.cli.commands import install
from web.cli.main import app

DEPTH = [wanted("depth=views/visits")]
AT = {"reader": "uid", "arm": "arm", "control": "control"}


def invoke(path: Path, *words: str) -> Any:
    install()
    return CliRunner().invoke(app, [*command(path), *words])


def test_the_euros_are_those_of_a_plan_with_the_same_value(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    tables = {"status_quo": crowd(rng, 800), "als": crowd(rng, 700, views=1.15), "other": crowd(rng, 700, views=1.02)}
    arms = (
        Arm("status_quo", "status_quo", 0.4, per_day=1.0),
        Arm("als", "model", 0.3, build=900.0, per_day=5.0),
        Arm("other", "model", 0.3),
    )
    planned = plan(arms, value_per_view=0.004, guardrails={}, secondary=())
    totals, lines = totals_of({(arm, 1): table for arm, table in tables.items()}), [Line(arm=arm) for arm in tables]
    until = START.replace(day=16)
    report = build_report(planned, totals, lines, start=START, until=until, state="stopped", snapshot="1")
    rows = [(arm, *map(int, row)) for arm, table in tables.items() for row in table]
    columns = {
        "uid": list(range(len(rows))),
        "arm": [r[0] for r in rows],
        "views": [r[1] for r in rows],
        "visits": [r[2] for r in rows],
    }
    price = Price(0.004, totals.counts.views_per_day, {"als": 900.0}, {"status_quo": 1.0, "als": 5.0}, test_days=15)
    shares = {arm.name: arm.share for arm in arms}
    own = analyse(csv(tmp_path / "t.csv", columns), DEPTH, reader="uid", arm="arm", control="status_quo", shares=shares, price=price)
    assert report.roi is not None
    assert own.roi is not None
    for ours, theirs in zip(own.roi.scenarios, report.roi.scenarios, strict=True):
        assert ours.arm == theirs.arm
        assert [ours.expected, ours.low, ours.high, ours.p_positive, ours.regret] == pytest.approx(
            [theirs.expected, theirs.low, theirs.high, theirs.p_positive, theirs.regret], rel=1e-9, abs=1e-9
        )
    assert [(s.days, s.evsi, s.cost) for s in own.roi.studies] == [
        (s.days, pytest.approx(s.evsi, rel=1e-9), pytest.approx(s.cost, rel=1e-9)) for s in report.roi.studies
    ]
    assert own.roi.evpi == pytest.approx(report.roi.evpi, rel=1e-9, abs=1e-9)


def test_an_arm_that_earns_its_cost_is_shipped_and_one_that_does_not_is_not(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", readers(4000, uplift=0.2))
    cheap, dear = (analyse(path, DEPTH, **AT, price=Price(0.004, 10_000, {"new": cost})).verdict for cost in (100.0, 100_000.0))
    assert (cheap.key, cheap.arm) == ("ship", "new")
    assert (dear.key, dear.sentence) == ("keep", "Keep control: new does not earn what it costs.")


def test_the_order_of_names_moves_no_euro(tmp_path: Path) -> None:
    columns = readers(3000, uplift=0.1)
    columns["arm"] = ["rule" if arm == "new" and i % 3 else arm for i, arm in enumerate(columns["arm"])]
    renamed = {**columns, "arm": [{"rule": "a", "new": "b"}.get(arm, arm) for arm in columns["arm"]]}
    found = [
        analyse(csv(tmp_path / name, c), DEPTH, **AT, price=Price(0.004, 10_000)).roi
        for name, c in (("t.csv", columns), ("u.csv", renamed))
    ]
    assert found[0] is not None
    assert found[1] is not None
    one, other = found[0].expected(), found[1].expected()
    assert [other["b"], other["a"]] == pytest.approx([one["new"], one["rule"]], rel=0.005)  # draws are dealt out by order


def test_the_command_tells_the_money_in_its_json_and_in_its_text(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", readers(4000, uplift=0.2))
    words = [
        "--value-per-view",
        "0.004",
        "--views-per-day",
        "50000",
        "--build",
        "new=1800",
        "--per-day",
        "new=2",
        "--horizon-days",
        "100",
        "--test-days",
        "14",
    ]
    roi = json.loads(invoke(path, *words, "--json").stdout)["roi"]
    assert roi["value_per_view"] == {"low": 0.002, "middle": 0.004, "high": 0.008}
    assert (roi["currency"], roi["views_per_day"], roi["horizon_days"]) == ("EUR", 50_000, 100)
    new = next(s for s in roi["scenarios"] if s["arm"] == "new")
    assert (new["build"], new["per_day"], new["cost"]) == (1800, 2, 2000)
    assert [study["days"] for study in roi["studies"]][:1] == [14]
    text = " ".join(invoke(path, *words).stdout.split())
    assert "What it is worth over 100 days" in text
    assert "One view is worth €0.004 (nine times out of ten €0.002 to €0.008); 50,000 article views a day." in text


def test_without_a_value_there_is_no_money_and_a_reason(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", readers())
    plain = json.loads(invoke(path, "--json").stdout)
    assert (plain["roi"], plain["roi_reason"]) == (None, "nobody has stated what such a change is worth")
    assert "No amount of money: nobody has stated what such a change is worth." in invoke(path).stdout


def test_a_goal_that_cannot_be_compared_has_no_price_and_a_reason(tmp_path: Path) -> None:
    columns = {**readers(60), "views": [0] * 60}
    found = analyse(csv(tmp_path / "t.csv", columns), DEPTH, **AT, price=Price(0.004, 10_000))
    assert (found.roi, found.roi_reason) == (None, "no arm has a result to put a price on")
    assert found.verdict.key == "keep"


def test_a_control_without_any_view_is_why_no_arm_has_a_price(tmp_path: Path) -> None:
    columns = readers(3000)
    columns["views"] = [0 if arm == "control" else views for arm, views in zip(columns["arm"], columns["views"], strict=True)]
    path = csv(tmp_path / "t.csv", columns)
    zero = "a relative change cannot be estimated: the control's value is not above zero"
    found = analyse(path, DEPTH, **AT, price=Price(0.004, 10_000))
    assert (found.roi, found.roi_reason) == (None, zero)
    assert found.verdict.sentence == f"Keep control: new improves the goal, but {zero}."
    assert analyse(path, DEPTH, **AT).roi_reason == "nobody has stated what such a change is worth"


@pytest.mark.parametrize("value", ["nan", "inf", "-0.004", "0", "0.0", "zero", "0,004", "1_000", "1e999", "€4", " "])
def test_what_is_no_value_of_a_view_is_refused(tmp_path: Path, value: str) -> None:
    found = invoke(csv(tmp_path / "t.csv", readers()), "--value-per-view", value, "--views-per-day", "10")
    assert isinstance(found.exception, DataError)
    assert f"--value-per-view: '{value}' is not a number above 0" in str(found.exception)


def test_all_faults_of_a_price_are_told_at_once() -> None:
    with pytest.raises(DataError) as caught:
        price_of("nan", "", build=["new=-1", "new"], per_day=["a=1", "a=2"], horizon_days="1.5", test_days="0")
    assert len(caught.value.faults) == 7


def test_a_price_made_in_a_notebook_is_held_to_the_same() -> None:
    with pytest.raises(DataError) as caught:
        Price(float("nan"), -1, {"new": -5.0}, {"new": float("inf")}, horizon_days=0, test_days=-1)
    assert len(caught.value.faults) == 6


def test_a_cost_without_a_value_and_a_cost_of_no_arm_are_refused(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", readers())
    assert "without --value-per-view there is no money to count" in str(invoke(path, "--build", "new=5").exception)
    says = str(invoke(path, "--value-per-view", "1", "--views-per-day", "1", "--build", "nwe=5").exception)
    assert "a cost is stated for 'nwe', which is no arm; did you mean 'new'?" in says


def test_a_goal_that_is_better_when_lower_has_no_price_per_view(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="better when it is lower"):
        analyse(csv(tmp_path / "t.csv", readers()), [wanted("depth=views/visits:down")], **AT, price=Price(1, 1))
