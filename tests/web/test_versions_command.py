"""Commands that hand over to a fresh process say what is missing before they do."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from experiments.errors import NotFoundError
from web.cli import commands
from web.cli.main import app
from web.cli.versions import _ui

commands.install()
run = CliRunner()


def test_without_a_registry_there_are_no_pages_to_open(tmp_path: Path) -> None:
    done = run.invoke(app, ["mlflow-ui", "--home", str(tmp_path)])
    assert isinstance(done.exception, NotFoundError)
    assert "nothing was brought into MLflow yet" in str(done.exception)


def test_the_pages_of_mlflow_are_for_this_machine_only() -> None:
    words = _ui(Path("/home/mlflow.db"), 5_001)
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert words[words.index("--workers") + 1] == "1"
    assert words[words.index("--backend-store-uri") + 1] == "sqlite:////home/mlflow.db"


def test_a_version_that_is_not_there_cannot_be_reproduced(tmp_path: Path) -> None:
    done = run.invoke(app, ["model", "reproduce", "als", "--version", "7", "--home", str(tmp_path), "--json"])
    assert done.exit_code == 3
    assert "no version '7'" in json.loads(done.stdout)["reason"]
