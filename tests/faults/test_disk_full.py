"""A site whose disk is full: readers keep getting pages, nobody is told that an event is kept, and room heals it without a restart."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import threading
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from experiments.events.ids import PageClaims, event_id
from experiments.events.outbox_file import OutboxFile
from tests.faults.harness import verdict
from tests.web.site_fixture import PHONE, Stand

TOKEN = re.compile(r'data-token="([^"]+)"')
ROOMY, SMALL = "700m", "32m"  # above and below the reserve of 512 MiB that the outbox leaves free
TOO_MUCH = 3 << 30  # above the quota of 2 GiB


def wait_for(true: Callable[[], bool], *, ticks: int = 2_000) -> bool:
    pause = threading.Event()
    return any(true() or pause.wait(0.005) for _ in range(ticks))


class Reading:
    """A reader of one arm, and the ids of the events they were told are kept."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.client: FlaskClient = stand.reader_in("front")
        self.token = ""
        self.acknowledged: list[bytes] = []
        self.ms = 0

    def open(self) -> TestResponse:
        answer = self.client.get(f"/en/article/{self.stand.article}", headers=PHONE)
        found = TOKEN.search(answer.text)
        if found:
            self.token = found[1]
            keys = (("view", ""), ("impression", "article.related"), ("exposure", "related"))
            self.acknowledged += [event_id(self._page_view(), kind, key) for kind, key in keys]
        return answer

    def tell(self) -> TestResponse:
        """Send visible time, a little more each time."""
        self.ms += 1_000
        answer = self.client.post("/e", json={"token": self.token, "active_ms": self.ms, "depth": 10}, headers=PHONE)
        if answer.status_code == 202:
            self.acknowledged.append(event_id(self._page_view(), "dwell", f"{self.ms}:10"))
        return answer

    def _page_view(self) -> str:
        payload = self.token.split(".")[1]
        return PageClaims(*json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))).page_view


def check_full(reading: Reading, *reasons: str) -> None:
    """Pages go on without recommendations and without a token; everything else says why it cannot be kept."""
    page = reading.open()
    assert (page.status_code, 'class="slot"' in page.text, TOKEN.search(page.text)) == (200, False, None)
    beacon = reading.tell()
    assert (beacon.status_code, beacon.headers["Retry-After"]) == (503, "1")
    ready = reading.client.get("/-/ready")
    assert ready.status_code == 503
    words = [f"the outbox is full ({reason})." for reason in reasons]
    assert beacon.json is not None
    assert beacon.json["error"] in words
    assert any(word in ready.text for word in words)
    health = reading.client.get("/console/en/health", headers=PHONE)
    assert health.status_code == 200
    assert any(word in health.text for word in words)
    assert reading.client.get("/-/live").status_code == 200


def check_healed(reading: Reading) -> None:
    """The same process serves and keeps everything again, and nothing it ever acknowledged is missing."""
    assert wait_for(lambda: reading.client.get("/-/ready").status_code == 200)
    page = reading.open()
    assert 'class="slot"' in page.text
    assert TOKEN.search(page.text)
    assert reading.tell().status_code == 202
    reading.stand.site.close()
    found = verdict(reading.stand.home, reading.acknowledged)
    assert (found.lost, found.exact, found.integrity) == (0, True, "ok")


def test_a_full_quota_costs_recommendations_and_no_page(home: Path) -> None:
    reading = Reading(Stand(home))
    reading.open()
    ballast = home / "outbox" / "ballast"
    ballast.touch()
    os.truncate(ballast, TOO_MUCH)  # a hole: it takes no room on the disk
    assert wait_for(lambda: reading.tell().status_code == 503)
    check_full(reading, "quota")
    ballast.unlink()
    check_healed(reading)


class Disk:
    """A file system in memory whose size can be changed while it is in use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resize(self, size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True)

    def fill(self) -> None:
        """Leave no free block."""
        told = os.statvfs(self.folder)
        self.resize(str((told.f_blocks - told.f_bfree) * told.f_frsize))
        assert os.statvfs(self.folder).f_bfree == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOMY}", "tmpfs", str(folder)], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system in memory")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # open files of the site keep it busy


def test_d06_on_a_disk_without_reserve_pages_go_on_and_nothing_else(disk: Disk) -> None:
    reading = Reading(Stand(disk.folder / "home"))
    reading.open()
    disk.resize(SMALL)
    assert wait_for(lambda: reading.tell().status_code == 503)
    check_full(reading, "reserve")
    disk.resize(ROOMY)
    check_healed(reading)


def test_d06_a_disk_without_a_free_block_keeps_nothing_and_loses_nothing(disk: Disk) -> None:
    reading = Reading(Stand(disk.folder / "home"))
    said: set[str] = set()
    for _ in range(20):  # the outbox looks for room twice a second: only in between the disk itself gets to say no
        reading.open()
        disk.fill()
        said |= {told.json["error"] for told in (reading.tell(), reading.tell()) if told.json and told.status_code == 503}
        check_full(reading, "disk", "reserve")
        disk.resize(ROOMY)
        assert wait_for(lambda: reading.tell().status_code == 202)
        if "the outbox is full (disk)." in said:
            break
    assert "the outbox is full (disk)." in said
    check_healed(reading)


def test_a_file_that_cannot_be_begun_leaves_neither_a_descriptor_nor_a_name(disk: Disk) -> None:
    folder = disk.folder / "outbox"
    folder.mkdir()
    (disk.folder / "ballast").write_bytes(bytes(8_192))  # a size of 0 would mean: without limit
    disk.fill()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(50):
        with pytest.raises((OSError, sqlite3.Error)):
            OutboxFile(folder, f"file-{number}")
    assert len(os.listdir("/proc/self/fd")) == before
    assert list(folder.iterdir()) == []
