"""Where every arm stands: ages beside their limits, refusals and gates from what was stored, the card of what serves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.errors import ArmError
from experiments.files import replace_json
from experiments.serving.artefacts import publish, write_bundle
from experiments.serving.publish import publish_signals
from experiments.serving.recommender import Catalogue
from experiments.serving.signals import Signals
from experiments.settings import Settings
from recsys.training import main
from tests.conftest import NOW, article
from tests.web.site_fixture import PHONE, Stand
from web.standing import card_of, standing
from web.stored import Stored

AT_US = round(NOW.timestamp() * 1e6)
HOUR_US = 3_600_000_000


def stored(home: Path, profile: str = "production") -> Stored:
    return Stored(Settings(home=home, profile=profile), lambda: AT_US)  # type: ignore[arg-type]


def publish_arm(home: Path, arm: str, *, hours_ago: float) -> None:
    manifest = {
        "until": AT_US - round(hours_ago * HOUR_US),
        "parameters": {"window_h": 72.0},
        "metrics": {"hit_rate_at_10": 0.3, "without_als_hit_rate_at_10": 0.2},
    }
    publish(home, arm, write_bundle(home / "models" / arm, {"x": np.zeros(1)}, manifest).version, at_us=AT_US)


def ages(home: Path, profile: str = "production") -> dict[str, tuple[float | None, float | None, bool]]:
    return {row["name"]: (row["age_s"], row["limit_s"], row["stale"]) for row in standing(stored(home, profile))["refreshed"]}


def test_signals_vectors_and_ranker_are_too_old_after_15_minutes_3_hours_and_3_days(home: Path) -> None:
    publish_signals(home, Signals.empty(Catalogue([article(1)]), NOW.timestamp() - 899))
    publish_arm(home, "als", hours_ago=3)
    publish_arm(home, "ranked", hours_ago=73)
    assert ages(home) == {"signals": (899.0, 900, False), "als": (10_800.0, 10_800, False), "ranked": (262_800.0, 259_200, True)}
    publish_signals(home, Signals.empty(Catalogue([article(1)]), NOW.timestamp() - 901))
    assert ages(home)["signals"][2]


def test_version_10_is_newer_than_version_9(home: Path) -> None:
    for hours_ago in range(12, 1, -1):
        publish_arm(home, "als", hours_ago=hours_ago)
    found = stored(home).models()
    assert [(one["version"], one["live"]) for one in found] == [("11", True), ("10", False), ("9", False)]


def test_a_timetable_slower_than_the_limit_sets_its_own_and_what_runs_on_request_has_none(home: Path) -> None:
    publish_arm(home, "als", hours_ago=90)
    publish_arm(home, "ranked", hours_ago=900)
    assert ages(home, "demo") == {"signals": (None, 7_200, False), "als": (324_000.0, 345_600, False), "ranked": (3_240_000.0, None, False)}


def test_a_refused_training_leaves_its_reason_where_pages_find_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ranked", "--home", str(home), "--until", str(AT_US)]) == 3
    told = json.loads(capsys.readouterr().out)
    arm = next(row for row in standing(stored(home))["arms"] if row["arm"] == "ranked")
    assert arm["training"]["state"] == "refused"
    assert arm["training"]["reason"] == told["reason"]
    assert arm["version"] == ""


def test_the_card_speaks_of_the_version_in_force_and_of_the_last_gates(home: Path) -> None:
    publish_arm(home, "als", hours_ago=1)
    for run, slices in ((1, "old"), (2, "with earlier reads 40%")):
        replace_json(home / "gates" / "als" / f"{run:04d}.json", {"run": run, "gates": [], "card": {"slices": slices}})
    told = card_of(stored(home), "als")
    assert told["version"] == "1"
    assert told["card"]["data window"] == "the last 72 h before training"
    assert told["card"]["slices"] == "with earlier reads 40%"
    assert told["gates"]["run"] == 2
    with pytest.raises(ArmError, match="did you mean 'als'"):
        card_of(stored(home), "alz")


def test_an_arm_whose_pointer_is_damaged_says_so(home: Path) -> None:
    publish_arm(home, "als", hours_ago=1)
    (home / "models" / "als" / "current.json").write_text("{")
    arm = next(row for row in standing(stored(home))["arms"] if row["arm"] == "als")
    assert "is not a pointer" in arm["reason"]


def test_ablations_and_the_heuristic_stand_beside_the_ranker(home: Path) -> None:
    publish_arm(home, "ranked", hours_ago=1)
    arm = next(row for row in standing(stored(home))["arms"] if row["arm"] == "ranked")
    assert [(row["arm"], row["hit_rate"]) for row in arm["compared"]] == [("ranked", 0.3), ("without_als", 0.2)]
    replace_json(home / "training" / "ranked.json", {"state": "refused", "metrics": {"hit_rate_at_10": 0.1}})
    arm = next(row for row in standing(stored(home))["arms"] if row["arm"] == "ranked")
    assert [row["hit_rate"] for row in arm["compared"]] == [0.1]  # what was refused is what must be seen


def test_the_command_prints_the_card_and_asks_for_what_is_missing(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "web", "arm", "card", "front", "--home", str(home)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3  # no gates yet, so no slices
    assert "newsroom" in done.stdout
    assert "slices" in done.stdout
    assert "presslab arm check front" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "page"),
    [
        ("drift/current.json", "drift"),
        ("training/als.json", "health"),
        ("gates/front/0001.json", "models"),
        ("mlflow/state.json", "health"),
    ],
)
def test_a_page_says_which_stored_result_is_damaged_and_readers_do_not_notice(home: Path, file: str, page: str) -> None:
    stand = Stand(home)
    (home / file).parent.mkdir(parents=True, exist_ok=True)
    (home / file).write_text('{"at": "2026')
    told = stand.client().get(f"/console/en/{page}", headers=PHONE).text
    assert f"{file} is damaged" in told
    assert stand.client().get(f"/en/article/{stand.article}", headers=PHONE).status_code == 200
