"""Settings that lie where nobody reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from web.cli.commands import install
from web.cli.main import app


def said(*command: str) -> str:
    install()
    return " ".join(CliRunner().invoke(app, list(command)).output.split())


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in a working directory that has a presslab.toml of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "presslab.toml").write_text("port = 9000\n")
    (tmp_path / "instance").mkdir(mode=0o700)
    return tmp_path / "instance"


@pytest.mark.parametrize("command", ["serve", "doctor"])
def test_settings_in_the_working_directory_are_said_not_to_be_read(beside: Path, command: str) -> None:
    told = said(command, "--home", str(beside)).replace(" ", "")
    assert f"{beside.parent / 'presslab.toml'} is not read: settings belong into the home folder".replace(" ", "") in told


@pytest.mark.parametrize("command", ["serve", "doctor"])
def test_nothing_is_said_when_the_home_has_settings_of_its_own(beside: Path, command: str) -> None:
    (beside / "presslab.toml").write_text("port = 9001\n")
    assert "is not read" not in said(command, "--home", str(beside))


def test_doctor_names_the_file_of_settings(beside: Path) -> None:
    (beside.parent / "presslab.toml").rename(beside / "presslab.toml")
    assert f"✓D015settingsarereadfrom{beside / 'presslab.toml'}" in said("doctor", "--home", str(beside)).replace(" ", "")
