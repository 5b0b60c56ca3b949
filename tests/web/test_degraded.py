"""Pages sent without recommendations because their events were late: counted as degraded, under the arm that was due."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from experiments.events import lake
from experiments.events.outbox_file import outbox_files
from experiments.events.store import balance
from tests.web.site_fixture import PHONE, Stand


@pytest.fixture
def stand(home: Path) -> Iterator[Stand]:
    made = Stand(home, page_budget_ms=500)
    yield made
    made.site.close()


@contextmanager
def slow_disk(stand: Stand) -> Iterator[None]:
    """Hold up every commit; the one under way and those queued behind it go on afterwards."""
    files = outbox_files(stand.home / "outbox")
    blocker = sqlite3.connect(files[-1], isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        blocker.execute("ROLLBACK")
        blocker.close()


def read(stand: Stand, client: FlaskClient) -> str:
    answer = client.get(f"/en/article/{stand.article}", headers=PHONE)
    assert answer.status_code == 200
    return answer.text


def exposures(stand: Stand) -> list[dict[str, Any]]:
    return [event for event in stand.events() if event["kind"] == "exposure"]


def counted(stand: Stand) -> lake.Counts:
    stand.events()
    return lake.counts(stand.home, stand.plan, until_us=stand.clock() + 1, source="live")


def test_a_late_page_that_may_still_become_durable_leaves_a_degraded_exposure_of_its_arm(stand: Stand) -> None:
    client = stand.reader_in("front")
    with slow_disk(stand):
        assert 'class="slot"' not in read(stand, client)
    stand.site.close()  # commits what waits
    served, degraded = sorted(exposures(stand), key=lambda e: str(e["body"]["outcome"]), reverse=True)
    assert (served["body"]["outcome"], degraded["body"]["outcome"]) == ("served", "degraded")
    assert degraded == served | {"body": served["body"] | {"outcome": "degraded"}}
    assert all(row.exact for row in balance(stand.home))


def test_a_page_stored_as_served_and_as_degraded_is_one_exposure_that_was_degraded(stand: Stand) -> None:
    client = stand.reader_in("front")
    with slow_disk(stand):
        read(stand, client)
    stand.site.close()  # commits what waits
    found = counted(stand)
    assert (found.exposures["front"], found.degraded["front"], found.fallbacks["front"]) == (1, 1, 0)
    assert (found.exposed["front"], found.crossed) == (1, 0)


def test_a_late_page_whose_events_were_withdrawn_leaves_its_degraded_exposure_alone(stand: Stand) -> None:
    client = stand.reader_in("front")
    with slow_disk(stand):
        assert "their commit still runs" in stand.site.fault()  # its event keeps the disk busy, the page's wait behind it
        assert 'class="slot"' not in read(stand, client)
    stand.site.close()  # commits what waits
    assert [(e["arm"], e["body"]["outcome"]) for e in exposures(stand)] == [("front", "degraded")]
    assert not [e for e in stand.events() if e["kind"] in ("view", "impression") and e["body"].get("article")]
    found = counted(stand)
    assert (found.exposures["front"], found.degraded["front"], found.exposed["front"]) == (1, 1, 1)


def test_a_degraded_page_changes_neither_arm_nor_entry_of_its_reader(stand: Stand) -> None:
    client = stand.reader_in("front")
    read(stand, client)
    entered = stand.clock()
    stand.advance(60)
    with slow_disk(stand):
        read(stand, client)
    stand.site.close()  # commits what waits
    assert len(exposures(stand)) == 3
    stand.advance(2 * 86_400)
    rows = lake.reader_rows(stand.home, stand.plan, [], until_us=stand.clock(), source="live").table.to_pylist()
    assert [(row["arm"], row["exposed_at"]) for row in rows] == [("front", entered)]


def test_a_late_front_page_has_no_slot_and_leaves_no_exposure(stand: Stand) -> None:
    client = stand.reader_in("front")
    with slow_disk(stand):
        assert client.get("/en/", headers=PHONE).status_code == 200
    stand.site.close()
    assert exposures(stand) == []


def test_a_page_that_a_full_outbox_refused_leaves_nothing(stand: Stand) -> None:
    ballast = stand.home / "outbox" / "ballast"
    ballast.touch()
    os.truncate(ballast, 3 << 30)  # a hole, above the quota
    client = stand.reader_in("front")
    assert 'class="slot"' not in read(stand, client)
    ballast.unlink()
    stand.site.close()
    assert exposures(stand) == []


def test_a_degraded_row_that_cannot_be_queued_costs_no_page(stand: Stand) -> None:
    client = stand.reader_in("front")
    stand.site.close()
    assert 'class="slot"' not in read(stand, client)
    assert exposures(stand) == []
