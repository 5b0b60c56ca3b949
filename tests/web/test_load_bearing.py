"""MLflow, SHAP and APScheduler carry weight: break one, and a page says so while readers are served."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from apscheduler.schedulers.background import BackgroundScheduler
from flask import Flask

from experiments.errors import ArtefactError
from experiments.migrate import migrate
from experiments.serving.artefacts import rollback
from experiments.settings import Settings
from recsys.explanation import explain
from recsys.training import train
from recsys.trees import Trees
from tests.recsys.small_site import build, until_us
from tests.web.site_fixture import PHONE, Stand, until
from web.app import create_app
from web.jobs import last_runs
from web.published import refresh
from web.worker import Worker


@pytest.mark.long
def test_without_its_registry_a_page_names_mlflow_and_readers_are_served(home: Path) -> None:
    stand = Stand(home)
    (home / "mlflow").mkdir()
    (home / "mlflow" / "mlflow.db").write_bytes(b"this is no database")
    ended = subprocess.run([sys.executable, "-m", "recsys.registry", "--home", str(home)], capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    client = stand.reader_in("front")
    health = client.get("/console/en/health", headers=PHONE).text
    assert "MLflow does not answer" in health
    assert 'class="slot"' in client.get(f"/en/article/{stand.article}", headers=PHONE).text
    stand.site.close()


@pytest.mark.long
def test_an_explanation_off_by_a_hundredth_is_not_shown_and_the_page_says_why(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(home)
    build(home, readers=300, sessions=1_500)
    assert train("ranked", home, until_us=until_us())["state"] == "published"
    explain(home)
    app = create_app(Settings(home=home))
    client = app.test_client()
    assert "als_rank" in client.get("/console/en/explain", headers=PHONE).text
    assert_a_changed_byte_is_refused(home, app)
    true_decision = Trees.decision
    monkeypatch.setattr(Trees, "decision", lambda self, x: true_decision(self, x) + 0.01)
    with pytest.raises(ArtefactError, match="miss the served score"):
        explain(home)
    page = client.get("/console/en/explain", headers=PHONE).text
    assert "miss the served score" in page
    assert "als_rank" not in page
    assert client.get("/en/", headers=PHONE).status_code == 200
    app.extensions["presslab"].close()


def assert_a_changed_byte_is_refused(home: Path, app: Flask) -> None:
    """A bundle with one byte changed is not taken over, is named on the health page, and the model before it goes on."""
    serving = app.extensions["presslab"].published.arms["ranked"]
    assert train("ranked", home, until_us=until_us(), seed=1)["state"] == "published"
    file = home / "models" / "ranked" / "2" / "arrays.npz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    site = app.extensions["presslab"]
    site.published = refresh(home, site.published)
    assert site.published.arms["ranked"] is serving
    assert "was changed after it was written" in app.test_client().get("/console/en/health", headers=PHONE).text
    rollback(home, "ranked", at_us=until_us())
    site.published = refresh(home, site.published)
    assert not site.published.faults


def test_when_the_scheduler_dies_the_jobs_page_says_so_and_readers_are_served(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(home)
    worker = Worker(Settings(home=home, profile="demo"))
    start = BackgroundScheduler.start
    monkeypatch.setattr(BackgroundScheduler, "start", lambda self: start(self, paused=True))  # alive, but it never fires
    worker.stopping.set()
    worker.work()
    assert "signals" not in last_runs(worker.engine)
    monkeypatch.setattr("web.stored.WORKER_SILENT_S", -1)
    client = stand.reader_in("front")
    jobs = client.get("/console/en/jobs", headers=PHONE).text
    assert "has not reported for" in jobs
    assert "presslab worker" in jobs
    assert "has not reported" in client.get("/console/en/health", headers=PHONE).text
    assert 'class="slot"' in client.get(f"/en/article/{stand.article}", headers=PHONE).text
    worker.close()
    stand.site.close()


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda path: path.write_bytes(b"this is no database" * 100), "file is not a database"),
        (lambda path: path.write_bytes(b""), "holds no articles any more"),
        (lambda path: path.unlink(), "holds no articles any more"),
    ],
    ids=["overwritten", "emptied", "gone"],
)
def test_a_content_store_that_cannot_be_read_is_named_and_the_last_good_articles_are_served(
    home: Path, damage: Callable[[Path], object], named: str
) -> None:
    stand = Stand(home)
    stand.site.watch(0.01)
    damage(home / "content.db")
    until(lambda: named in stand.site.published.faults.get("content", ""))
    client = stand.reader_in("front")
    assert named in client.get("/console/en/health", headers=PHONE).text
    assert 'class="slot"' in client.get(f"/en/article/{stand.article}", headers=PHONE).text
    stand.site.close()


def test_a_broken_content_store_does_not_hold_up_a_change_of_the_plan(home: Path) -> None:
    stand = Stand(home)
    (home / "content.db").write_bytes(b"this is no database" * 100)
    now = refresh(home, replace(stand.site.published, plan="an older one"))
    assert "file is not a database" in now.faults["content"]
    assert now.plan == stand.site.published.plan
    stand.site.close()
