"""One command writes an arm that runs, keeps the contract and reads like the others."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.errors import ConfigError
from experiments.serving import recommender
from recsys.contract import broken_promises
from recsys.new_arm import write_arm
from recsys.practice import on_trial

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path / "arms")
    yield tmp_path / "arms"
    for name in ("spring_tide", "neap_tide"):
        recommender._registry.classes.pop(name, None)
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("name", "kind"), [("spring_tide", "heuristic"), ("neap_tide", "model")])
def test_the_written_file_keeps_the_contract_at_once(folder: Path, name: str, kind: str) -> None:
    path = write_arm(name, kind, folder)  # type: ignore[arg-type]
    importlib.invalidate_caches()  # the folder was looked into a moment ago
    importlib.import_module(name)
    made = recommender._registry.classes[name]
    assert broken_promises(on_trial(made)) == []
    checked = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--config", ROOT / "pyproject.toml", path], capture_output=True, text=True, check=False
    )
    formatted = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--check", "--config", ROOT / "pyproject.toml", path], capture_output=True, check=False
    )
    assert (checked.returncode, formatted.returncode) == (0, 0), checked.stdout


def test_a_rule_takes_thirty_lines_at_most(folder: Path) -> None:
    assert len(write_arm("spring_tide", "heuristic", folder).read_text().splitlines()) <= 30


def test_outside_the_checkout_it_is_a_package_with_an_entry_point(folder: Path) -> None:
    write_arm("spring_tide", "heuristic", folder)
    package = tomllib.loads((folder / "pyproject.toml").read_text())
    assert package["project"]["entry-points"]["presslab.arms"] == {"spring_tide": "spring_tide"}


def test_a_second_arm_in_the_same_folder_is_declared_beside_the_first(folder: Path) -> None:
    """It was written and called installable, and no command knew it."""
    for name in ("spring_tide", "neap_tide"):
        write_arm(name, "heuristic", folder)
    package = tomllib.loads((folder / "pyproject.toml").read_text())
    assert package["project"]["entry-points"]["presslab.arms"] == {"spring_tide": "spring_tide", "neap_tide": "neap_tide"}
    assert set(package["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]) == {"spring_tide.py", "neap_tide.py"}


def test_a_package_that_declares_no_arms_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'own'\n")
    with pytest.raises(ConfigError, match="has no table"):
        write_arm("spring_tide", "heuristic", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["pyproject.toml"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("random", "has a module called 'random'"),
        ("numpy", "has a module"),
        ("als", "already an arm called 'als'"),
        ("Tide", "cannot be called"),
        ("a-b", "cannot be called"),
        ("class", "cannot"),
    ],
)
def test_names_that_are_taken_or_impossible_are_refused(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        write_arm(name, "heuristic", tmp_path)
    assert caught.value.exit_status == 2
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_never_overwritten(folder: Path) -> None:
    write_arm("spring_tide", "heuristic", folder)
    with pytest.raises(ConfigError, match="is there already"):
        write_arm("spring_tide", "model", folder)
