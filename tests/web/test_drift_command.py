"""``presslab drift show``: figures beside what chance alone does, as a table and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from experiments.errors import NotFoundError
from experiments.files import replace_json
from tests.web.results import DRIFT
from web.cli.science import app

run = CliRunner()


def shown(home: Path, *words: str) -> tuple[int, str]:
    done = run.invoke(app, ["drift", "show", "--home", str(home), *words], env={"COLUMNS": "120"})
    return done.exit_code, done.stdout


def test_what_moved_stands_first_and_the_exit_status_says_so(tmp_path: Path) -> None:
    replace_json(tmp_path / "drift" / "current.json", DRIFT)
    status, text = shown(tmp_path)
    assert status == 3
    assert text.index("heat of the article") < text.index("age of the article")
    assert "0.081" in text
    assert "20.1%" in text


def test_inputs_that_did_not_move_are_no_alarm(tmp_path: Path) -> None:
    calm = {**DRIFT, "inputs": [row for row in DRIFT["inputs"] if row["state"] == "ok"], "models": []}  # type: ignore[attr-defined]
    replace_json(tmp_path / "drift" / "current.json", calm)
    assert shown(tmp_path)[0] == 0


def test_a_script_gets_the_stored_profile(tmp_path: Path) -> None:
    replace_json(tmp_path / "drift" / "current.json", DRIFT)
    assert json.loads(shown(tmp_path, "--json")[1]) == DRIFT


def test_without_a_profile_the_next_command_is_named(tmp_path: Path) -> None:
    refused = run.invoke(app, ["drift", "show", "--home", str(tmp_path)]).exception
    assert isinstance(refused, NotFoundError)
    assert "presslab jobs run drift" in refused.hint
