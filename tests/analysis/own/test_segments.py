"""Groups of readers in somebody's own file: shown beside the effects, never decided on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from analysis.own.data import analyse
from analysis.own.plan import wanted
from experiments.errors import DataError
from tests.analysis.own.test_data import command, csv, parquet, readers
from web.cli.commands import install
from web.cli.main import app

DEPTH = wanted("depth=views/visits")


def devices(n: int = 800) -> dict[str, list[Any]]:
    """Readers on phones open half as many articles again in the new arm, the others as many as before."""
    columns = readers(n)
    columns["device"] = ["phone" if i % 3 else "desktop" for i in range(n)]
    columns["views"] = [
        round(v * 1.5) if a == "new" and d == "phone" else v
        for v, a, d in zip(columns["views"], columns["arm"], columns["device"], strict=True)
    ]
    return columns


def look(path: Path, *segments: str, metric: str = "depth=views/visits", **asked: Any) -> Any:
    return analyse(path, [wanted(metric)], reader="uid", arm="arm", control="control", segments=segments, **asked)


def test_a_group_is_what_the_file_of_its_readers_alone_says(tmp_path: Path) -> None:
    columns = devices()
    (segment,) = look(csv(tmp_path / "all.csv", columns), "device").segments
    assert [group.name for group in segment.groups] == ["desktop", "phone"]
    for group in segment.groups:
        chosen = [i for i, device in enumerate(columns["device"]) if device == group.name]
        alone = look(csv(tmp_path / f"{group.name}.csv", {name: [values[i] for i in chosen] for name, values in columns.items()}))
        assert group.contrast == alone.effects[0].contrast
    assert segment.interaction.p < 0.01
    assert segment.groups[1].q < 0.01 < segment.groups[0].q


def test_groups_decide_nothing_and_order_of_rows_and_kind_of_file_change_nothing(tmp_path: Path) -> None:
    columns = devices()
    plain, grouped = look(csv(tmp_path / "a.csv", columns)), look(csv(tmp_path / "a.csv", columns), "device")
    assert (grouped.verdict, grouped.effects) == (plain.verdict, plain.effects)
    order = np.random.default_rng(1).permutation(800).tolist()
    shuffled = {name: [values[i] for i in order] for name, values in columns.items()}
    assert look(parquet(tmp_path / "b.parquet", shuffled), "device").segments == grouped.segments


def test_readers_of_no_known_group_and_groups_seen_in_one_arm_only_are_told(tmp_path: Path) -> None:
    columns = devices(200)
    columns["device"] = ["" if i < 80 else "tablet" if arm == "new" and i > 180 else "phone" for i, arm in enumerate(columns["arm"])]
    (segment,) = look(csv(tmp_path / "t.csv", columns), "device").segments
    groups = {group.name: group.contrast for group in segment.groups}
    assert list(groups) == ["not known", "phone", "tablet"]
    assert (groups["tablet"].status, groups["tablet"].absolute, groups["tablet"].n[1]) == ("insufficient", None, 0)
    assert groups["not known"].absolute is not None
    assert segment.interaction.groups == 2


def test_of_many_groups_the_largest_seven_are_kept_and_nobody_is_lost(tmp_path: Path) -> None:
    columns = readers(1_200)
    columns["city"] = [f"o'{min(i % 40, 20)}" for i in range(1_200)]
    (segment,) = look(csv(tmp_path / "t.csv", columns), "city").segments
    assert len(segment.groups) == 8
    assert {"all others", "o'20"} < {group.name for group in segment.groups}
    assert sum(sum(group.contrast.n) for group in segment.groups) == 1_200


def test_rows_of_one_reader_must_agree_on_the_group(tmp_path: Path) -> None:
    columns = readers(100)
    columns["device"] = ["phone"] * 100
    twice = {name: [*values, values[0]] for name, values in columns.items()} | {"device": ["phone"] * 100 + ["desktop"]}
    with pytest.raises(
        DataError,
        match=r"'device' differs between rows of the same reader in 1 reader \(line 2, 102\), a group must be known before exposure",
    ):
        look(csv(tmp_path / "t.csv", twice), "device")
    again = {name: [*values, values[0]] for name, values in columns.items()}
    assert sum(sum(group.contrast.n) for group in look(csv(tmp_path / "u.csv", again), "device").segments[0].groups) == 100


def test_that_nobody_said_when_a_group_was_known_is_said_and_a_late_one_is_refused(tmp_path: Path) -> None:
    from analysis.own.plan import dates_of

    columns = devices(200) | {"seen": ["2026-03-02"] * 200, "asked": ["2026-03-01"] * 200}
    path = csv(tmp_path / "t.csv", columns)
    (check,) = (c for c in look(path, "device").checks if c.name == "look_ahead")
    assert (check.state, "Nobody said when device was known" in check.says) == ("warn", True)
    dates = dates_of([DEPTH], exposed_at="seen", covariate_at=["device=asked"], segments=["device"])
    (check,) = (c for c in look(path, "device", dates=dates).checks if c.name == "look_ahead")
    assert check.state == "ok"
    late = csv(tmp_path / "late.csv", columns | {"asked": ["2026-03-01"] * 199 + ["2026-03-02"]})
    with pytest.raises(DataError, match="'device' was known at or after the reader's first exposure"):
        look(late, "device", dates=dates)
    with pytest.raises(DataError, match=r"when was 'device' known\? Add --covariate-at device=COL"):
        dates_of([DEPTH], exposed_at="seen", segments=["device"])


def test_segments_that_cannot_be_are_refused_with_their_names(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", devices(100))
    with pytest.raises(DataError, match="there is no column 'devise'; did you mean 'device'"):
        look(path, "devise")
    with pytest.raises(DataError, match="'arm' says who a reader is or which arm it got"):
        look(path, "arm")
    with pytest.raises(DataError, match="7 segments were named"):
        look(path, *"abcdefg")


def test_unequal_arms_are_guarded_in_groups_too(tmp_path: Path) -> None:
    rng, n = np.random.default_rng(1), 900
    columns = {
        "uid": list(range(n)), "arm": ["new" if i % 15 == 0 else "control" for i in range(n)],
        "views": rng.poisson(rng.gamma(0.3, 10, n)).tolist(), "device": ["phone" if i % 2 else "desktop" for i in range(n)],
    }  # fmt: skip
    (segment,) = look(csv(tmp_path / "t.csv", columns), "device", metric="views=views").segments
    assert {group.contrast.status for group in segment.groups} <= {"guarded", "insufficient"}


def test_the_command_shows_groups_and_their_json(tmp_path: Path) -> None:
    install()
    path = csv(tmp_path / "t.csv", devices())
    asked = command(path)
    shown = CliRunner().invoke(app, [*asked, "--segment", "device"])
    assert "For whom, by device" in shown.output
    found = json.loads(CliRunner().invoke(app, [*asked, "--segment", "device", "--json"]).output)
    assert [group["group"] for group in found["segments"][0]["groups"]] == ["desktop", "phone"]
    assert json.loads(CliRunner().invoke(app, [*asked, "--json"]).output)["segments"] == []
