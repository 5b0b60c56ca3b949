"""What ``arm list`` says of arms as other people write them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments.serving import recommender
from experiments.serving.recommender import Context, Ranking
from tests.web.site_fixture import Stand
from web.cli import commands
from web.cli.main import app

assert commands


class Wordless:
    name, kind, audience = "wordless", "heuristic", "all"

    def rank(self, context: Context) -> Ranking:
        return Ranking.empty()


def test_an_arm_without_a_docstring_is_listed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Stand(home).site.close()
    monkeypatch.setitem(recommender._registry.classes, "wordless", Wordless)
    told = CliRunner().invoke(app, ["arm", "list", "--home", str(home), "--json"])
    assert {row["name"]: row["says"] for row in json.loads(told.stdout)["arms"]}["wordless"] == ""
