"""``presslab model explain``: reasons are held against scores only where there are reasons."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from experiments.migrate import migrate
from tests.recsys import small_site
from web.cli import commands
from web.cli.main import app


def test_an_arm_that_names_no_reasons_is_not_said_to_miss_its_scores(tmp_path: Path) -> None:
    """Its scores were called the gap: 'differ by 3.2e+00', exit 4."""
    migrate(tmp_path)
    small_site.build(tmp_path, readers=20, sessions=200)
    commands.install()
    command = ["model", "explain", "front", "--reader", "r1", "--home", str(tmp_path)]
    shown = CliRunner().invoke(app, command)
    assert (shown.exit_code, "'front' names no read as a reason" in shown.stdout) == (0, True)
    told = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert len(told["items"]) > 0
    assert told["largest_gap"] is None
