"""The demo in small: HTTP, outbox, loader, models, jobs, report; twice with other truths."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from experiments.events.store import read_store, store_path
from experiments.lifecycle import audit_faults
from experiments.serving.publish import signal_versions
from experiments.tables import control_engine
from web.demo.archive import archived

pytestmark = pytest.mark.long


def demo(home: Path, *arguments: str) -> dict[str, Any]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "web", "demo", "--exit", "--json", "--home", str(home), "--port", str(port), *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PRESSLAB_")}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=240)
    assert ended.returncode == 0, ended.stderr[-2_000:]
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    home = tmp_path_factory.mktemp("demo") / "home"
    return home, demo(home, "--readers", "200", "--days", "3", "--world", "model_wins", "--seed", "1", "--now", "2026-11-26T12:00")


def test_nothing_is_lost_and_nothing_is_left(told: tuple[Path, dict[str, Any]]) -> None:
    events = told[1]["events"]
    assert events["balance"] == "exact"
    assert (events["duplicate"], events["rejected"], events["pending"]) == (0, 0, 0)
    assert events["received"] == events["stored"] > 1_000


def test_every_job_ran_and_both_models_are_published(told: tuple[Path, dict[str, Any]]) -> None:
    assert {job["name"]: job["state"] for job in told[1]["jobs"]} == dict.fromkeys(
        ("als", "assignment", "drift", "explanation", "ranked", "recall", "registry", "report", "retention", "signals", "text"), "done"
    )
    assert [model["arm"] for model in told[1]["models"]] == ["als", "ranked"]


def test_every_impression_names_the_model_and_the_signals_it_came_from(told: tuple[Path, dict[str, Any]]) -> None:
    home = told[0]
    with closing(read_store(store_path(home))) as store:
        rows = [(arm, json.loads(body)) for arm, body in store.execute("SELECT arm, body FROM event WHERE kind = 'impression'")]
    named = {
        arm: {body["artefact"] for one, body in rows if one == arm and body["outcome"] == "served"} for arm in ("front", "als", "ranked")
    }
    assert named["front"] == {""}
    for arm in ("als", "ranked"):
        assert named[arm]
        assert named[arm] <= {folder.name.partition("-")[2] for folder in archived(home, arm).iterdir()}
    snapshots = {int(version) for version in signal_versions(home)}
    assert {body["signals_at"] for _, body in rows if body["outcome"] == "served"} <= snapshots


def test_truth_and_estimate_stand_side_by_side_for_every_arm(told: tuple[Path, dict[str, Any]]) -> None:
    truth, estimated = told[1]["truth"], told[1]["estimated"]
    assert set(truth) == {"views_per_session", "bounce_rate", "dwell_per_view"}
    for metric, arms in truth.items():
        assert set(arms) == set(estimated[metric]) == {"front", "als"}


def test_the_report_has_the_shape_scripts_rely_on(told: tuple[Path, dict[str, Any]]) -> None:
    report = json.loads(Path(told[1]["report"]).read_text())
    assert {"experiment", "control", "level", "snapshot", "arms", "checks", "effects", "roi", "verdict"} <= set(report)
    assert report["verdict"]["key"] in ("ship", "keep", "wait", "equal", "do_not_use")
    assert {effect["status"] for effect in report["effects"]} <= {
        "ok", "guarded", "insufficient", "no_variation", "undefined_denominator", "not_estimable", "undefined_for_arm"
    }  # fmt: skip
    again = next(check for check in report["checks"] if check["name"] == "recomputed")
    assert again["state"] in ("ok", "warn")  # a warning: too few readers to compute it a second time


def test_the_second_experiment_shows_counts_and_waits(told: tuple[Path, dict[str, Any]]) -> None:
    report = json.loads((told[0] / "reports" / "related-ranked.json").read_text())
    assert report["verdict"]["key"] == "wait"
    assert all(value is None for effect in report["effects"] for part in ("absolute", "relative") for value in effect[part].values())
    assert {effect["reason"] for effect in report["effects"]} == {"before the planned end"}
    assert all(arm["readers"] >= 0 for arm in report["arms"])


def test_the_record_of_changes_is_unaltered(told: tuple[Path, dict[str, Any]]) -> None:
    assert audit_faults(control_engine(told[0])) == []


def test_a_folder_that_is_no_demo_is_left_alone(home: Path) -> None:
    home.mkdir()
    (home / "mine.txt").write_text("keep")
    command = [sys.executable, "-m", "web", "demo", "--exit", "--home", str(home)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "is not a demo; it is left alone" in ended.stderr
    assert (home / "mine.txt").read_text() == "keep"
