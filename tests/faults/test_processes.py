"""The real site and the real worker, killed again and again while readers read."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from experiments.errors import BusyError
from experiments.events.loader import Loader
from experiments.events.store import balance, read_store, store_path
from experiments.migrate import migrate
from experiments.settings import Settings
from tests.faults.site import AGENT, ARTICLES, TOKEN, children, free_port, with_experiment
from web.demo.processes import Processes
from web.serve import check_address
from web.worker import Worker

KILLS, READ_BETWEEN, LONGEST_S = 5, 12, 60.0


@pytest.fixture
def running(home: Path) -> Iterator[Processes]:
    with_experiment(home)
    processes = Processes(Settings(home=home, profile="demo", port=free_port(), workers=2, threads=4))
    for name in ("worker", "serve"):
        processes.start(name)
    processes.wait_ready()
    yield processes
    processes.stop()


class Reader(threading.Thread):
    """Reads one article after the other and remembers what was acknowledged: (page view, dwell or not)."""

    def __init__(self, port: int, articles: list[str], until: float) -> None:
        super().__init__(daemon=True)
        self.port, self.articles, self.until = port, articles, until
        self.acknowledged: set[tuple[str, str]] = set()
        self.failed = self.cookie = ""
        self.errors = 0

    def run(self) -> None:
        number = 0
        while time.monotonic() < self.until:
            number += 1
            try:
                self.read(self.articles[number % len(self.articles)])
            except (HTTPException, OSError):
                time.sleep(0.02)

    def read(self, article: str) -> None:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request("GET", f"/en/article/{article}", headers={**AGENT, **({"Cookie": self.cookie} if self.cookie else {})})
            answer = connection.getresponse()
            text = answer.read().decode()
            self.errors += answer.status >= 500
            if cookie := answer.getheader("Set-Cookie"):
                self.cookie = cookie.partition(";")[0]
            found = TOKEN.search(text)
            if answer.status != 200 or found is None:
                return
            page_view = json.loads(base64.urlsafe_b64decode(found[1].split(".")[1] + "=="))[0]
            self.acknowledged.add((page_view, "view"))
            body = json.dumps({"token": found[1], "active_ms": 1_000, "depth": 10})
            headers = {**AGENT, "Cookie": self.cookie, "Content-Type": "application/json", "Sec-Fetch-Site": "same-origin"}
            connection.request("POST", "/e", body, headers)
            if connection.getresponse().status == 202:
                self.acknowledged.add((page_view, "dwell"))


def stored(home: Path) -> list[tuple[str, str]]:
    with closing(read_store(store_path(home))) as store:
        return [(page_view, kind) for page_view, kind in store.execute("SELECT page_view, kind FROM event WHERE kind IN ('view', 'dwell')")]


@pytest.mark.long
def test_d01_killing_web_and_worker_processes_loses_and_doubles_nothing(running: Processes) -> None:
    check_kills(running, KILLS)


@pytest.mark.slow
def test_d01_killing_them_sixty_times(running: Processes) -> None:
    check_kills(running, 60)


def check_kills(running: Processes, kills: int) -> None:
    """Kill as often as the site comes back to work: a process needs more than the 0.3 s between two blind kills to start."""
    home, port = Path(running.settings.home), running.settings.port
    readers = [Reader(port, ARTICLES, time.monotonic() + kills * LONGEST_S / KILLS) for _ in range(3)]
    for reader in readers:
        reader.start()
    for kill in range(1, kills + 1):
        while sum(len(reader.acknowledged) for reader in readers) < kill * READ_BETWEEN and readers[0].is_alive():
            time.sleep(0.05)
        os.kill(children(running.running["serve"].pid)[0], signal.SIGKILL)
        if kill % 2:
            running.running["worker"].kill()
            running.running["worker"].wait()
            running.start("worker")
    for reader in readers:
        reader.until = 0.0
        reader.join(timeout=15)
    running.stop()
    acknowledged = set().union(*(reader.acknowledged for reader in readers))
    with Loader(home, clock=lambda: 0) as loader:
        loader.drain()
    rows = stored(home)
    assert len(acknowledged) >= kills * READ_BETWEEN
    assert acknowledged - set(rows) == set()  # nothing lost
    assert len(rows) == len(set(rows))  # nothing twice
    assert all(row.exact for row in balance(home))
    assert sum(reader.errors for reader in readers) == 0


def test_a_second_site_on_the_same_port_is_refused_in_words(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(BusyError, match=rf"port {port} on 127.0.0.1 is in use\. Choose another: --port N"):
            check_address(Settings(home=home, profile="demo", port=port))
        with pytest.raises(BusyError, match=rf"port {port} on 127.0.0.1 is in use\. Choose another: console_port"):
            check_address(Settings(home=home, port=free_port(), console_port=port))


def test_a_second_worker_of_the_same_home_ends_in_words(home: Path) -> None:
    migrate(home)
    first = Worker(Settings(home=home, profile="demo"))
    second = Processes(first.settings)
    second.start("worker")
    assert second.running["worker"].wait(timeout=60) == 75
    assert "holds the timetable" in (second.logs / "worker.log").read_text()
    first.close()
