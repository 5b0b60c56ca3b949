"""Training: compared with the heuristic on later reads, published whole or not at all, mirrored into MLflow."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from experiments.errors import ArmError, ArtefactError, NotFoundError
from experiments.events import lake
from experiments.serving import recommender
from experiments.serving.artefacts import current, load_current, publish, rollback, versions, write_bundle
from experiments.serving.recommender import Catalogue, Context, Ranking, register
from experiments.serving.signals import HOUR
from experiments.settings import Settings
from recsys.arms.als import Als
from recsys.drift import divergence, moved, profile
from recsys.explanation import explain
from recsys.interactions import to_reads
from recsys.judging import judge
from recsys.registry import DEFAULTS, list_models, mirror, prepare
from recsys.reproduce import reproduce
from recsys.requests import Site
from recsys.source import Source, read_source
from recsys.training import main, train
from tests.recsys import small_site
from web.jobs import job_named, timetable

UNTIL_US = small_site.until_us()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of 250 readers and 1,500 sessions in 21 days."""
    return small_site.build(tmp_path_factory.mktemp("site") / "home", readers=250, sessions=1_500)


@pytest.fixture
def site(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "home")
    return tmp_path / "home"


def test_als_is_published_with_its_comparison_and_same_data_give_the_same_bits(site: Path) -> None:
    first, second = (train("als", site, until_us=UNTIL_US, seed=1) for _ in range(2))
    assert (first["state"], first["version"], second["version"]) == ("published", "1", "2")
    assert first["content_sha256"] == second["content_sha256"]
    loaded = load_current(site, "als")
    assert loaded is not None
    arrays, manifest = loaded
    assert manifest["until"] == UNTIL_US
    assert manifest["metrics"]["queries"] >= 50
    assert manifest["metrics"]["front_hit_rate_at_10"] > 0
    assert manifest["gate"]["passed"] or manifest["label"] == "learning"
    assert len(arrays["vectors"]) == len(manifest["ids"])
    assert train("als", site, until_us=UNTIL_US, seed=2)["content_sha256"] != first["content_sha256"]


class Crashes:
    """Its trainer is not there, which is found out only when it is trained."""

    name = "crashes"
    kind: ClassVar[str] = "model"
    audience: ClassVar[str] = "all"
    trainer = "recsys.nobody_wrote_this"
    load = None


def test_a_trainer_that_raises_is_a_failed_training_in_words(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    register(Crashes)
    try:
        status = main(["crashes", "--home", str(site), "--until", str(UNTIL_US)])
    finally:
        recommender._registry.classes.pop("crashes")
    told = json.loads(capsys.readouterr().out)
    assert (status, told["state"]) == (3, "failed")
    assert "'crashes' raised ModuleNotFoundError: No module named 'recsys.nobody_wrote_this'" in told["reason"]
    assert json.loads((site / "training" / "crashes.json").read_text())["reason"] == told["reason"]


def test_reads_after_until_are_not_learned_from(site: Path) -> None:
    early = UNTIL_US - round(5 * 24 * HOUR * 1e6)
    assert train("als", site, until_us=early)["data_sha256"] != train("als", site, until_us=UNTIL_US)["data_sha256"]
    source = read_source(site, until_us=early, agreed_only=True)
    assert source.reads.at.max() < early / 1e6


@pytest.fixture
def worst() -> Iterator[str]:
    """A model arm that shows the oldest articles to readers who like new ones, and is not waived."""

    class Worst(Als):
        name: ClassVar[str] = "oldest_first"
        waived: ClassVar[str] = ""

        def rank(self, context: Context) -> Ranking:
            return Ranking.best_first(context.pool, -context.signals.catalogue.published[context.pool], "als")

    register(Worst)
    yield Worst.name
    recommender._registry.classes.pop(Worst.name)


def test_an_arm_that_loses_to_the_heuristic_is_refused_and_nothing_is_published(site: Path, worst: str) -> None:
    result = train(worst, site, until_us=UNTIL_US)
    assert result["state"] == "refused"
    assert "places the next article among the first ten" in result["reason"]
    assert result["metrics"]["difference_high"] < 0
    assert current(site, worst) is None
    assert versions(site / "models" / worst) == []


def test_the_comparison_needs_enough_later_page_views(built: Path) -> None:
    source = read_source(built, until_us=UNTIL_US, agreed_only=True)
    few = source.reads.before(UNTIL_US / 1e6 - 15 * 24 * HOUR)  # nothing in the last two weeks
    judged = judge(_Never(), Source(few, source.site, "", 0), "als", until=UNTIL_US / 1e6)
    assert judged.reason == "only 0 page views to compare on, 50 are needed."
    assert judged.metrics == {}


class _Never:
    ablations: ClassVar[dict[str, tuple[str, ...]]] = {}

    def fit(self, until: float, without: Any = ()) -> Any:
        raise AssertionError("nothing is fitted when there is nothing to compare on")


def test_only_arms_with_a_trainer_are_trained(site: Path) -> None:
    with pytest.raises(ArmError, match="is not trained"):
        train("front", site, until_us=UNTIL_US)
    with pytest.raises(ArmError, match="did you mean 'als'"):
        train("alz", site, until_us=UNTIL_US)


def test_an_empty_site_is_refused_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["als", "--home", str(tmp_path), "--until", str(UNTIL_US)]) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["state"] == "refused"
    assert "read nothing" in told["reason"]


def run(*arguments: str, **environment: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    return done.returncode, json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.long
def test_the_ranker_is_trained_explained_and_mirrored(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ranked", "--home", str(site), "--until", str(UNTIL_US), "--mirror", "later"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["state"] == "published"
    assert "without_als_hit_rate_at_10" in told["metrics"]
    train("als", site, until_us=UNTIL_US)
    train("als", site, until_us=UNTIL_US, seed=5)
    summary = explain(site)
    assert summary["additivity_error"] < 1e-9
    assert sum(summary["example"]["parts"].values()) + summary["base"] == pytest.approx(summary["example"]["score"])
    rollback(site, "als", at_us=UNTIL_US)
    status, state = run("recsys.registry", "--home", str(site))
    assert (status, state["reason"]) == (0, "")
    assert state["aliases"] == {"als": {"live": "1"}, "ranked": {"live": "1"}}
    assert len(state["logged"]) == 3
    assert not list((site / "mlflow").rglob("*.pkl"))


def test_while_versions_are_frozen_nothing_is_trained_and_the_reason_is_told(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        publish(site, "als", write_bundle(site / "models" / "als", {"x": np.full(1, number)}, {}).version, at_us=number)
    rollback(site, "als", at_us=UNTIL_US, frozen="its readers met errors")
    assert main(["als", "--home", str(site), "--until", str(UNTIL_US)]) == 3
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["reason"][:59]) == ("refused", "'als' stays at version 1: its readers met errors. When that")
    assert versions(site / "models" / "als") == ["1", "2"]


@pytest.mark.long
def test_a_broken_mlflow_does_not_keep_a_model_from_readers(site: Path) -> None:
    (site / "mlflow").mkdir()
    (site / "mlflow" / "mlflow.db").write_bytes(b"this is no database")
    status, told = run("recsys.training", "als", "--home", str(site), "--until", str(UNTIL_US))
    assert (status, told["state"]) == (0, "published")
    assert told["mlflow"]["reason"]
    assert current(site, "als") is not None
    assert json.loads((site / "mlflow" / "state.json").read_text())["reason"] == told["mlflow"]["reason"]


@pytest.mark.long
def test_mlflow_holds_each_version_once_and_whole(site: Path) -> None:
    """Two trainings that ended together brought in each version twice; what was lost in MLflow was called held; one lost file stopped all."""
    for arm in ("als", "ranked"):
        publish(site, arm, write_bundle(site / "models" / arm, {"x": np.ones(1)}, {"arm": arm}).version, at_us=1)
    prepare(site)
    command = [sys.executable, "-m", "recsys.registry", "--home", str(site)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    assert [one.communicate()[0] != b"" and one.returncode for one in both] == [0, 0]
    assert [(row["arm"], row["registry_version"], row["aliases"]) for row in list_models(site)] == [
        ("als", "1", ["live"]),
        ("ranked", "1", ["live"]),
    ]
    shutil.rmtree(site / "mlflow" / "artefacts" / "als")
    assert mirror(site, at_us=2)["logged"] == [{"arm": "als", "version": "1", "registry_version": "2"}]
    assert mirror(site, at_us=3)["logged"] == []
    assert list_models(site)[0]["aliases"] == ["live"]
    for arm in ("als", "ranked"):
        publish(site, arm, write_bundle(site / "models" / arm, {"x": np.ones(2)}, {"arm": arm}).version, at_us=4)
    (site / "models" / "als" / "1" / "manifest.json").unlink()
    (site / "models" / "als" / "2" / "arrays.npz").write_bytes(b"cut")
    told = mirror(site, at_us=5)
    assert told["logged"] == [{"arm": "ranked", "version": "2", "registry_version": "2"}]
    assert told["unreadable"]
    assert "als/1/manifest.json cannot be read" in told["reason"]
    assert "als/2/arrays.npz was changed" in told["reason"]


def test_a_registry_that_cannot_even_keep_its_state_is_told_and_stops_nobody(site: Path) -> None:
    (site / "mlflow").write_bytes(b"a file where a folder should be")
    assert "FileExistsError" in mirror(site, at_us=1)["reason"]


@pytest.mark.long
def test_a_registry_that_takes_a_connection_and_never_answers_is_told_before_its_job_ends(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(site, "als", write_bundle(site / "models" / "als", {"x": np.ones(1)}, {"arm": "als"}).version, at_us=1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        for name, shorter in (("MLFLOW_HTTP_REQUEST_TIMEOUT", "1"), ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")):
            monkeypatch.setenv(name, shorter)
        assert "127.0.0.1" in mirror(site, at_us=1)["reason"]
    tries = int(DEFAULTS["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]) + 1
    assert tries * int(DEFAULTS["MLFLOW_HTTP_REQUEST_TIMEOUT"]) * 2 < job_named(timetable(Settings(home=site)), "registry").longest_s


@pytest.mark.long
def test_an_explanation_that_cannot_be_made_is_told_in_the_stored_file(site: Path) -> None:
    train("ranked", site, until_us=UNTIL_US)
    pointer = current(site, "ranked")
    assert pointer is not None
    file = site / "models" / "ranked" / pointer.version / "arrays.npz"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ArtefactError, match="changed"):
        explain(site)


def test_a_quiet_site_has_not_drifted_and_a_planted_shift_is_found_in_its_input(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "home")
    state = profile(tmp_path / "home", until_us=UNTIL_US)
    assert [row["state"] for row in state["inputs"]] == ["ok"] * 5
    assert all(sum(row["current"]) == pytest.approx(1) for row in state["inputs"])
    rng = np.random.default_rng(0)
    usual, shifted = rng.multinomial(2_000, [0.25] * 4, 28).astype(float), rng.multinomial(2_000, [0.31, 0.23, 0.23, 0.23], 3).astype(float)
    found = moved(
        {
            "shifted": (usual, shifted),
            "same": (rng.multinomial(2_000, [0.5, 0.5], 28).astype(float), rng.multinomial(2_000, [0.5, 0.5], 3).astype(float)),
        }
    )
    assert (found["shifted"]["moved"], found["same"]["moved"]) == (True, False)
    assert found["shifted"]["divergence"] > found["shifted"]["limit"]


def test_normal_days_are_rarely_called_drift() -> None:
    rng = np.random.default_rng(1)
    false = 0
    for _ in range(200):
        days = {str(i): rng.multinomial(2_000, [0.1] * 10, 31).astype(float) for i in range(5)}
        false += any(row["moved"] for row in moved({name: (table[:28], table[28:]) for name, table in days.items()}).values())
    assert false <= 2  # a rate of 0.0002 per input gives 0.2 of 200


def test_fewer_than_fourteen_normal_days_give_distances_without_a_judgement() -> None:
    days = np.random.default_rng(2).multinomial(500, [0.5, 0.5], 16).astype(float)
    found = moved({"x": (days[:13], days[13:])})["x"]
    assert found["limit"] is None
    assert not found["moved"]
    assert found["divergence"] >= 0
    assert divergence(days[0], days[0]) == 0


def test_signals_come_from_everybody_and_training_from_those_who_agreed(built: Path) -> None:
    source = read_source(built, until_us=UNTIL_US, agreed_only=True)
    assert isinstance(source.site, Site)
    assert len(source.site.reads) >= len(source.reads)
    assert len(to_reads(small_site.read_table(source.site.catalogue, readers=3, sessions=5), source.site.catalogue)) > 0


@pytest.mark.slow
def test_a_published_version_comes_out_again_bit_for_bit_and_what_changed_is_named(site: Path) -> None:
    train("als", site, until_us=UNTIL_US, seed=1)
    assert reproduce("als", site) | {"published_sha256": "", "sha256": ""} == {
        "arm": "als", "version": "1", "same": True, "published_sha256": "", "sha256": "", "changed": [],
    }  # fmt: skip
    more = small_site.read_table(Catalogue(small_site.articles()), readers=20, sessions=30, seed=9)
    lake.add_import(site, more, name="more", sha256="1" * 64)
    found = reproduce("als", site, "1")
    assert not found["same"]
    assert found["changed"] == ["the reads up to that time (erased, past their retention, or loaded late)"]
    with pytest.raises(NotFoundError, match="no version '7'"):
        reproduce("als", site, "7")
    with pytest.raises(NotFoundError, match="no version"):
        reproduce("als", site, "../als/1")
