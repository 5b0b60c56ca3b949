from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.events import lake_rules, lake_sql
from experiments.events.lake_sql import entered_sql, rules_folder
from experiments.events.lake_tables import compiled
from experiments.experiment import Arm, Experiment
from experiments.metric import Measure

PLAN = Experiment(
    "related", "Does it pay?", "status_quo", (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5)), window_days=1.0
)
ARTICLES = {"articles": Measure(count="view", where={"page_type": "article"})}
ASKED: dict[str, Any] = {"measures": ARTICLES, "session_of_exposure": False}


def written(plan: Experiment, **asked: Any) -> str:
    return compiled(lake_rules.entered(plan, asked.pop("measures"), **asked))


@pytest.mark.parametrize(
    ("plan", "asked"),
    [
        (PLAN, ASKED),
        (replace(PLAN, window_days=2.0), ASKED),
        (replace(PLAN, arms=(Arm("status_quo", "status_quo", 0.5), Arm("als", "model", 0.5))), ASKED),
        (PLAN, ASKED | {"session_of_exposure": True}),
        (PLAN, ASKED | {"before": ARTICLES}),
        (PLAN, ASKED | {"most_read": ["a1"]}),
        (replace(PLAN, segments=("device",)), ASKED | {"before": {}}),
        (PLAN, ASKED | {"measures": {"articles": Measure(count="view", where={"page_type": "front"})}}),
    ],
)
def test_what_is_kept_is_the_rule_of_these_arguments_and_of_no_others(tmp_path: Path, plan: Experiment, asked: dict[str, Any]) -> None:
    entered_sql(tmp_path, PLAN, **ASKED)
    assert entered_sql(tmp_path, plan, **asked) == written(plan, **asked)
    assert entered_sql(tmp_path, plan, **asked) == written(plan, **asked)


def test_a_rule_is_written_once_per_home_and_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entered_sql(tmp_path, PLAN, **ASKED)
    (kept,) = rules_folder(tmp_path).rglob("*.sql")
    kept.write_text("SELECT 1")
    assert entered_sql(tmp_path, PLAN, **ASKED) == "SELECT 1"
    monkeypatch.setattr(lake_sql.ibis, "__version__", "another")
    assert entered_sql(tmp_path, PLAN, **ASKED) == written(PLAN, **ASKED)
    assert not kept.exists()


def test_what_cannot_be_kept_is_written_again(tmp_path: Path) -> None:
    rules_folder(tmp_path).parent.mkdir()
    rules_folder(tmp_path).write_text("in the way")
    assert entered_sql(tmp_path, PLAN, **ASKED) == written(PLAN, **ASKED)
    assert not entered_sql(tmp_path / "absent", PLAN, **ASKED).isspace()
    assert not (tmp_path / "absent").exists()
