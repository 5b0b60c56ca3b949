"""Versions that served: the newest first, and none that the next one could not follow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.serving.artefacts import publish, rollback, write_bundle
from recsys.served import libraries, served


def publish_one(home: Path, until_us: Any, **changes: Any) -> None:
    manifest = {"until": until_us, "seed": 0, "libraries": libraries(), **changes}
    publish(home, "als", write_bundle(home / "models" / "als", {"vectors": np.full(2, until_us or 0)}, manifest).version, at_us=0)


def versions(home: Path) -> list[tuple[str, float]]:
    return [(one.version, one.until) for one in served(home, "als", seed=0)]


def test_versions_come_newest_first_and_one_gone_back_to_is_the_newest(tmp_path: Path) -> None:
    assert versions(tmp_path) == []
    for hour in (1, 2, 3):
        publish_one(tmp_path, hour * 1_000_000)
    assert versions(tmp_path) == [("3", 3.0), ("2", 2.0), ("1", 1.0)]
    assert next(served(tmp_path, "als", seed=0)).arrays["vectors"].tolist() == [3_000_000] * 2
    rollback(tmp_path, "als", at_us=9)
    assert versions(tmp_path) == [("2", 2.0), ("1", 1.0)]


@pytest.mark.parametrize("changes", [{"seed": 1}, {"libraries": {"implicit": "0"}}, {"until": None}])
def test_another_seed_other_libraries_and_an_unknown_age_are_left_out(tmp_path: Path, changes: dict[str, Any]) -> None:
    publish_one(tmp_path, 1_000_000)
    publish_one(tmp_path, 2_000_000, **changes)
    assert versions(tmp_path) == [("1", 1.0)]


@pytest.mark.parametrize("name", ["arrays.npz", "manifest.json"])
def test_a_damaged_version_is_left_out_and_a_damaged_pointer_leaves_none(tmp_path: Path, name: str) -> None:
    for hour in (1, 2):
        publish_one(tmp_path, hour * 1_000_000)
    file = tmp_path / "models" / "als" / "2" / name
    file.write_bytes(file.read_bytes()[:-1])
    assert versions(tmp_path) == [("1", 1.0)]
    (tmp_path / "models" / "als" / "current.json").write_text("{")
    assert versions(tmp_path) == []
