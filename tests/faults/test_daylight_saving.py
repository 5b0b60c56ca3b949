"""D16, where the clock changes: the night Zurich changes to summer time and back, and a machine whose clock is set back by an hour."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from experiments.clock import FileClock, to_us
from experiments.events import lake
from experiments.events.store import balance, read_store, store_path
from experiments.metric import Measure, Metric
from experiments.migrate import migrate
from experiments.settings import Settings
from tests.web.site_fixture import PHONE, Stand
from web.demo.newspaper import build_newspaper
from web.jobs import HOUR, job_named, last_runs
from web.worker import Worker

TOKEN = re.compile(r'data-token="([^"]+)"')
ARTICLES, SESSIONS = Measure(count="view", where={"page_type": "article"}), Measure(count="session")
CHANGES = {"to summer time": datetime(2027, 3, 28, 1, tzinfo=UTC), "back": datetime(2027, 10, 31, 1, tzinfo=UTC)}


@pytest.fixture(params=CHANGES.values(), ids=CHANGES)
def change(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[datetime]:
    """The instant in which the clocks on the walls of this process are changed."""
    monkeypatch.setenv("TZ", "Europe/Zurich")
    time.tzset()
    at = request.param.timestamp()
    if time.localtime(at - 1).tm_gmtoff == time.localtime(at).tm_gmtoff:
        pytest.skip("needs the time zone Europe/Zurich (tzdata is not installed)")
    yield request.param
    monkeypatch.undo()
    time.tzset()


def read(stand: Stand, client: FlaskClient, at: datetime) -> str:
    """Open an article at a time; returns its token."""
    stand.clock.set(to_us(at))
    found = TOKEN.search(client.get(f"/en/article/{stand.article}", headers=PHONE).text)
    assert found
    return found[1]


def articles_and_sessions(stand: Stand, until: datetime) -> list[tuple[int, int]]:
    """Of every reader who was exposed."""
    stand.events()
    metrics = [Metric(m.key, "", m, Measure(count="reader")) for m in (ARTICLES, SESSIONS)]
    found = lake.reader_rows(stand.home, stand.plan, metrics, until_us=to_us(until), source="live", session_of_exposure=True)
    return [(row[ARTICLES.key], row[SESSIONS.key]) for row in found.table.to_pylist()]


def test_d16_a_session_goes_on_through_the_change_and_no_event_is_lost(home: Path, change: datetime) -> None:
    stand = Stand(home)
    stand.clock.set(to_us(change - timedelta(minutes=50)))
    client = stand.reader_in("front")
    for minutes in (-50, -25, -1, 1, 25, 60):  # only the last pause is longer than half an hour
        read(stand, client, change + timedelta(minutes=minutes))
    stand.site.close()
    assert articles_and_sessions(stand, change + timedelta(days=3)) == [(6, 2)]
    assert all(row.exact for row in balance(home))


def test_d16_an_hourly_job_runs_once_an_hour_through_the_change(home: Path, change: datetime) -> None:
    migrate(home)
    build_newspaper(home, change)
    worker = Worker(Settings(home=home, profile="demo"))
    assert isinstance(worker.clock, FileClock)
    job = replace(job_named(worker.jobs, "signals"), every_s=HOUR)
    for minutes in range(-180, 180, 10):
        worker.clock.set(to_us(change + timedelta(minutes=minutes)))
        worker.run_due(job)
    slots = [row.slot for row in last_runs(worker.engine)["signals"]]
    worker.close()
    assert slots == [change + timedelta(hours=hours) for hours in (2, 1, 0, -1, -2, -3)]


def test_d16_a_clock_that_is_set_back_by_an_hour_loses_nothing_and_sessions_follow_its_times(home: Path) -> None:
    stand = Stand(home)
    noon = datetime.fromtimestamp(stand.clock() / 1e6, UTC)
    client = stand.reader_in("front")
    token = [read(stand, client, noon + timedelta(minutes=minutes)) for minutes in (0, 10)][-1]
    for minutes in (-45, -35, 30):  # 11:15 and 11:25 are an hour late; 12:30 is right again
        read(stand, client, noon + timedelta(minutes=minutes))
        body = json.dumps({"token": token, "active_ms": 60_000 + minutes, "depth": 50})  # of a page that is "not yet" open
        assert client.post("/e", data=body, headers={**PHONE, "Content-Type": "application/json"}).status_code == 202
    stand.site.close()
    assert articles_and_sessions(stand, noon + timedelta(days=3)) == [(5, 2)]
    assert all(row.exact for row in balance(home))
    with closing(read_store(store_path(home))) as store:
        assert store.execute("SELECT count(DISTINCT page_view) FROM event WHERE kind = 'exposure'").fetchone() == (5,)
