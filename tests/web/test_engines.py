"""One site, its events in SQLite and in PostgreSQL: the same numbers, and pages that go on without the database."""

from __future__ import annotations

import json
import shutil
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from experiments.errors import ConfigError, StoreDownError
from experiments.events.loader import Loader
from experiments.events.outbox import Outbox
from experiments.events.sealing import seal
from experiments.events.store import balance
from experiments.lifecycle import Step, draft, start
from experiments.migrate import migrate
from experiments.settings import load_settings
from experiments.tables import control_engine
from tests import postgres
from tests.events.story import DAY, SMALL, START, view
from tests.faults.site import wait_until
from tests.faults.test_stores import PLAN, told
from tests.web.site_fixture import PHONE, Stand
from web.cli.doctor import examine
from web.cli.main import worker
from web.health import health_of
from web.published import refresh
from web.reporting import named_report
from web.stored import Stored
from web.worker import Worker

UNTIL = START + 20 * DAY


def site_of(home: Path) -> Path:
    """A home with the experiment under way."""
    migrate(home)
    engine, step = control_engine(home), Step("test", datetime.fromtimestamp(START / 1e6, UTC), "a test")
    draft(engine, PLAN, step)
    start(engine, PLAN.name, step)
    return home


def loaded(home: Path, outbox: Path, *, sealed: bool) -> str:
    """Load a copy of the outbox, and return the report as it is written."""
    shutil.copytree(outbox, home / "outbox", dirs_exist_ok=True)
    with Loader(home, clock=lambda: UNTIL) as loader:
        loader.drain()
        if sealed:
            seal(home, until_us=START + 9 * DAY, loader=loader)
    return json.dumps(named_report(home, PLAN.name, source="live", until_us=UNTIL), sort_keys=True)


@pytest.mark.long
@pytest.mark.parametrize("sealed", [False, pytest.param(True, marks=pytest.mark.long)])
def test_the_same_outboxes_loaded_into_both_engines_give_the_same_report_to_the_byte(
    in_postgres: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sealed: bool
) -> None:
    events, written = told(800), tmp_path / "written"
    outbox = Outbox(written, clock=lambda: START, limits=SMALL)
    for part in range(3):
        outbox.append(events[part::3], timeout_s=60)
    outbox.append(events[:50], timeout_s=60)
    outbox.close()
    with_database = loaded(site_of(in_postgres), written, sealed=sealed)
    monkeypatch.delenv("PRESSLAB_DATABASE_URL")
    assert with_database == loaded(site_of(tmp_path / "sqlite"), written, sealed=sealed)


def test_a_worker_does_not_begin_in_a_home_that_was_not_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRESSLAB_DATABASE_URL", "postgresql://presslab@nowhere.invalid/presslab")
    with pytest.raises(ConfigError, match="presslab migrate"):
        worker(home=tmp_path)
    assert not (tmp_path / "events.db").exists()


def test_a_running_worker_says_that_the_database_is_away_and_catches_up(in_postgres: Path, postgres_server: postgres.Server) -> None:
    migrate(in_postgres)
    outbox = Outbox(in_postgres / "outbox", clock=lambda: START, limits=SMALL)
    outbox.append([view(1)])
    running = Worker(load_settings(in_postgres))
    thread = threading.Thread(target=running._load)
    thread.start()
    try:
        assert wait_until(lambda: running.loaded["stored"] == 1, seconds=30)
        postgres_server.kill()
        outbox.append([view(2)])
        assert wait_until(lambda: "does not answer" in running.faults.get("loader", ""), seconds=30)
        postgres_server.start()
        assert wait_until(lambda: running.loaded["stored"] == 2 and not running.faults, seconds=30)
    finally:
        running.stopping.set()
        thread.join()
        running.close()
        outbox.close()
        if postgres_server.process.poll() is not None:
            postgres_server.start()


@pytest.mark.long
def test_health_page_and_doctor_name_the_engine_and_say_when_it_does_not_answer(
    in_postgres: Path, postgres_server: postgres.Server, capsys: pytest.CaptureFixture[str]
) -> None:
    stand = Stand(in_postgres)
    client = stand.reader_in("front")
    settings = load_settings(in_postgres)
    assert store_check(settings.home)["says"].startswith("PostgreSQL, database 'postgres' on /")
    assert " D010 event store (PostgreSQL, database 'postgres'" in doctor(in_postgres, capsys)
    postgres_server.kill()
    try:
        assert client.get(f"/en/article/{stand.article}", headers=PHONE).status_code == 200
        assert client.get("/-/ready", headers=PHONE).status_code == 200
        assert "does not answer" in client.get("/console/en/health", headers=PHONE).text
        assert store_check(settings.home)["state"] == "block"
        assert "✗ D010 the event store (PostgreSQL, database 'postgres'" in doctor(in_postgres, capsys)
        with pytest.raises(StoreDownError):
            Loader(in_postgres, clock=lambda: START)
    finally:
        postgres_server.start()
    with Loader(in_postgres, clock=lambda: START) as loader:
        assert loader.drain().stored > 0
    stand.site.close()
    assert all(row.exact for row in balance(in_postgres))


def store_check(home: Path) -> dict[str, str]:
    found = health_of(Stored(load_settings(home), lambda: START), refresh(home, None), "")
    return next(check for check in found["checks"] if check["name"] == "event store")


def doctor(home: Path, capsys: pytest.CaptureFixture[str]) -> str:
    examine(load_settings(home), as_json=False)
    return " ".join(capsys.readouterr().out.split())
