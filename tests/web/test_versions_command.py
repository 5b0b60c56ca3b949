"""Commands that hand over to a fresh process say what is missing before they do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
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


@pytest.mark.parametrize(
    ("version", "says"),
    [("7", "no version '7'. See `presslab model list`."), ("", "no version yet. Train it first: presslab model train als")],
)
def test_a_version_that_is_not_there_cannot_be_reproduced(tmp_path: Path, version: str, says: str) -> None:
    done = run.invoke(app, ["model", "reproduce", "als", "--version", version, "--home", str(tmp_path), "--json"])
    assert (done.exit_code, json.loads(done.stdout)["reason"]) == (NotFoundError.exit_status, f"P080 arm 'als' has {says}")
