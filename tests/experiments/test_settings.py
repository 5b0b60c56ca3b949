"""Settings come from a file and from variables; a typo never passes in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.errors import ConfigError
from experiments.settings import load_settings


def test_without_anything_the_defaults_hold(home: Path) -> None:
    settings = load_settings(home, {})
    assert (settings.host, settings.port, settings.profile) == ("127.0.0.1", 8750, "production")


def test_a_variable_wins_over_the_file(home: Path) -> None:
    home.mkdir()
    (home / "presslab.toml").write_text("port = 9000\nworkers = 3\n")
    settings = load_settings(home, {"PRESSLAB_PORT": "9001"})
    assert (settings.port, settings.workers) == (9001, 3)


def test_every_unknown_key_is_named_with_its_place_and_the_nearest(home: Path) -> None:
    home.mkdir()
    (home / "presslab.toml").write_text("prot = 9000\n")
    with pytest.raises(ConfigError) as refused:
        load_settings(home, {"PRESSLAB_WORKRES": "2"})
    assert len(refused.value.faults) == 2
    assert "did you mean 'port'" in str(refused.value)
    assert "did you mean 'workers'" in str(refused.value)


def test_a_value_out_of_range_is_refused_with_the_value(home: Path) -> None:
    with pytest.raises(ConfigError, match="port = '70000'"):
        load_settings(home, {"PRESSLAB_PORT": "70000"})


def test_a_file_that_is_not_toml_is_refused(home: Path) -> None:
    home.mkdir()
    (home / "presslab.toml").write_text("port =")
    with pytest.raises(ConfigError, match="not readable as TOML"):
        load_settings(home, {})


def test_retention_beyond_25_months_is_refused(home: Path) -> None:
    with pytest.raises(ConfigError, match="retention_days"):
        load_settings(home, {"PRESSLAB_RETENTION_DAYS": "800"})
