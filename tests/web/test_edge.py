"""What arrives at /e is counted at the door, by reason and blind to the arm, and operators see it."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from experiments.events.store import balance
from tests.web.site_fixture import PHONE, Stand
from web.edge import edge_counts

TOKEN = re.compile(r'data-token="([^"]+)"')
JSON = {**PHONE, "Content-Type": "application/json"}


@pytest.fixture
def stand(home: Path) -> Stand:
    return Stand(home, events_per_second=1_000)


def told(stand: Stand) -> dict[str, object]:
    stand.site.edge.every_s = 0.0
    stand.client().post("/e", json={"token": "x"}, headers=PHONE)  # counts ride along with the next one
    stand.client().get("/en/", headers=PHONE)
    stand.events()
    return edge_counts(stand.home, until_us=stand.clock())


def test_every_event_seen_is_accepted_rejected_or_refused(stand: Stand) -> None:
    client = stand.reader_in("front")
    token = TOKEN.findall(client.get(f"/en/article/{stand.article}", headers=PHONE).text)[0]
    good, bad = {"token": token, "active_ms": 5}, {"token": token, "<evil>": 1}
    assert client.post("/e", json={"events": [good, {**good, "active_ms": 9}, bad, {"token": "x"}]}, headers=PHONE).status_code == 202
    assert client.post("/e", json={**good, "active_ms": -1}, headers=PHONE).status_code == 422
    assert client.post("/e", data="no json", headers=JSON).status_code == 400
    found = told(stand)
    assert found == {
        "seen": 7,
        "accepted": 2,
        "rejected": {"token is bad": 2, "unknown field": 1, "bad number": 1, "400": 1},
        "refused": {},
    }
    assert all(row.exact for row in balance(stand.home))
    page = client.get("/console/en/health", headers=PHONE).text
    assert "browsers sent 7 events; 2 were kept." in page
    assert "token is bad 2" in page
    assert "evil" not in page


def test_what_the_outbox_cannot_keep_is_counted_as_refused(stand: Stand) -> None:
    client = stand.reader_in("front")
    token = TOKEN.findall(client.get(f"/en/article/{stand.article}", headers=PHONE).text)[0]
    stand.site.outbox.close()
    events = [{"token": token, "active_ms": n} for n in range(3)]
    assert client.post("/e", json={"events": events}, headers=PHONE).status_code == 503
    assert stand.site.edge._body()["refused"] == {"503": 3}


def test_counts_told_twice_or_late_change_nothing(stand: Stand) -> None:
    for _ in range(3):
        found = told(stand)
    assert found["seen"] == found["rejected"]["token is bad"] == 3


def test_what_was_counted_last_is_told_when_the_process_ends(stand: Stand) -> None:
    """The limit of one row a second must not hide the last second of a process that is replaced."""
    for _ in range(3):
        stand.client().post("/e", json={"token": "x"}, headers=PHONE)
    stand.site.close()
    stand.events()
    assert edge_counts(stand.home, until_us=stand.clock())["rejected"] == {"token is bad": 3}


def test_what_was_counted_last_is_told_also_when_nobody_comes_any_more(stand: Stand) -> None:
    stand.site.edge.every_s = 0.05
    stand.site.watch(every_s=0.05)
    for _ in range(3):
        stand.client().post("/e", json={"token": "x"}, headers=PHONE)
    until = time.monotonic() + 20
    while edge_counts(stand.home, until_us=stand.clock())["seen"] < 3 and time.monotonic() < until:
        stand.events()
    assert edge_counts(stand.home, until_us=stand.clock())["rejected"] == {"token is bad": 3}
    stand.site.close()
