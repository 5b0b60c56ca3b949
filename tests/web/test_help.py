"""Every command explains itself; what its help says is all shown, square brackets too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from web.cli import commands
from web.cli.main import app

commands.install()
run = CliRunner()


def all_commands(command: Any, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield names, command
    for name, below in getattr(command, "commands", {}).items():
        yield from all_commands(below, *names, name)


COMMANDS = dict(all_commands(typer.main.get_command(app)))


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_help_of_a_command_shows_every_word_of_its_options(names: tuple[str, ...]) -> None:
    result = run.invoke(app, [*names, "--help"], env={"COLUMNS": "400", "TERM": "dumb"})
    assert result.exit_code == 0, result.exception
    shown = " ".join(result.output.replace("│", " ").split())
    for option in COMMANDS[names].params:
        said = " ".join((getattr(option, "help", None) or "").split()).replace("\\[", "[")
        assert said in shown
