"""A small demo under fire: its web processes, their master and its worker are killed while simulated readers read."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from experiments.clock import FileClock
from experiments.content import load_catalogue
from experiments.events.ids import PageClaims, Tokens, event_id
from experiments.events.store import balance
from experiments.lifecycle import Step, draft, publish_plan, start
from experiments.migrate import migrate
from experiments.settings import Settings
from experiments.tables import control_engine
from fixtures.behaviour import Memory
from fixtures.library import DAY, Library
from fixtures.readers import population
from fixtures.worlds import world_called
from tests.faults import harness
from tests.faults.site import children, free_port, wait_until
from web.demo.browse import TOKEN, Browser, Wire, WireError, browser_of
from web.demo.history import Stretch
from web.demo.life import Life, live
from web.demo.newspaper import build_newspaper
from web.demo.plan import first_experiment
from web.demo.processes import Processes
from web.keys import tokens_of
from web.records import linked

# The demo's connections live as long as their threads and are closed by nobody.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

READERS, DAYS, SEED = 150, 3, 1
BETWEEN = 25  # acknowledged events between two kills
VICTIMS = (
    *("web process", "worker", "web process", "worker", "site", "web process"),
    *("worker", "web process", "worker", "web process", "master"),
)
AWAY_S = 40.0  # longest absence of the site that readers put up with


class Listening(Wire):
    """A wire that remembers which events the site said are on disk, and is patient while the site is away."""

    def __init__(self, settings: Settings, tokens: Tokens) -> None:
        super().__init__(settings.host, settings.port, simulated=tokens.sign("simulated", "1"))
        self.tokens = tokens
        self.acknowledged: list[bytes] = []

    def send(self, browser: Browser, method: str, path: str, body: bytes | None = None, **more: Any) -> tuple[int, str]:
        reader = (self.tokens.unsign("id", browser.cookies.get("pl_id", "")) or "").partition(".")[0]
        status, text = self._patiently(browser, method, path, body, **more)
        if path == "/e" and status == 202 and body is not None:
            told = json.loads(body)
            self.acknowledged.append(event_id(claimed(told["token"]).page_view, "dwell", f"{told['active_ms']}:{told['depth']}"))
        elif path != "/e" and status == 200 and (token := TOKEN.search(text)):
            page = claimed(token[1])
            self.acknowledged += [*promised(page, path), *self._click(path, reader, page)]
        return status, text

    def _patiently(self, browser: Browser, method: str, path: str, body: bytes | None, **more: Any) -> tuple[int, str]:
        until = time.monotonic() + AWAY_S
        while True:
            try:
                return super().send(browser, method, path, body, **more)
            except WireError:
                if time.monotonic() > until:
                    raise

    def _click(self, path: str, reader: str, page: PageClaims) -> list[bytes]:
        address = urlsplit(path)
        article = address.path.rpartition("/")[2]
        covered = linked(article, reader, page.experiment)
        links = [self.tokens.read_link(token, covered, now_us=page.issued_at) for token in parse_qs(address.query).get("via", ())]
        return [event_id(link.page_view, "click", f"{link.slot}:{article}") for link in links]


def claimed(token: str) -> PageClaims:
    payload = token.split(".")[1]
    return PageClaims(*json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))


def promised(page: PageClaims, path: str) -> list[bytes]:
    """Ids of the events behind a page with a token: a view; under an article an impression; of a reader in a test an exposure."""
    events = [("view", ""), *([("impression", "article.related")] if path.startswith("/en/article/") else [])]
    events += [("exposure", page.experiment)] if page.experiment else []
    return [event_id(page.page_view, kind, key) for kind, key in events]


@dataclass
class Demo:
    """A home folder with a running experiment, its processes, and the readers who will live on it."""

    home: Path
    processes: Processes
    life: Life
    stretch: Stretch
    wire: Listening


@pytest.fixture
def demo(home: Path) -> Iterator[Demo]:
    now = datetime.now(UTC).replace(microsecond=0)
    first = now.timestamp() - DAYS * DAY
    migrate(home)
    build_newspaper(home, now)
    clock = FileClock(home / "clock")
    clock.set(round(first * 1e6))
    engine, experiment, step = control_engine(home), first_experiment(DAYS), Step("test", datetime.fromtimestamp(first, UTC), "a test")
    draft(engine, experiment, step)
    start(engine, experiment.name, step)
    publish_plan(home, engine, at=step.at)
    settings = Settings(home=home, profile="demo", port=free_port(), workers=2, threads=8)
    tokens, world, library = tokens_of(home), world_called("model_wins"), Library.of(load_catalogue(home).articles)
    readers = population(world, library, n=READERS, seed=SEED)
    identities = {r.key: blake2b(r.key.encode(), digest_size=16).hexdigest() for r in readers}
    browsers = {r.key: browser_of(r, tokens, reader_id=identities[r.key], issued_s=round(first)) for r in readers}
    wire = Listening(settings, tokens)
    life = Life(readers, world, library, browsers, {r.key: Memory() for r in readers}, wire, clock)
    processes = Processes(settings)
    yield Demo(home, processes, life, Stretch(first, DAYS, SEED), wire)
    processes.stop()


class Fate(threading.Thread):
    """Kills one process after the other while events are acknowledged, and starts again whatever is gone."""

    def __init__(self, demo: Demo) -> None:
        super().__init__(daemon=True)
        self.processes, self.wire = demo.processes, demo.wire
        self.killed: Counter[str] = Counter()
        self.orphans: list[int] = []  # children of a killed master go on until they notice
        self.chance = random.Random(SEED)
        self.over = threading.Event()

    def run(self) -> None:
        for victim in VICTIMS:
            enough = len(self.wire.acknowledged) + BETWEEN
            while len(self.wire.acknowledged) < enough or not self.kill(victim):
                if self.over.wait(0.02):
                    return
                self.revive()
        while not self.over.wait(0.02):
            self.revive()

    def kill(self, victim: str) -> bool:
        """Kill a web process, the worker, the master alone (its children notice and end), or the master with its children."""
        process = self.processes.running["worker" if victim == "worker" else "serve"]
        web = children(process.pid)
        if process.poll() is not None or not (web or victim == "worker"):
            return False
        if victim == "web process":
            os.kill(self.chance.choice(web), signal.SIGKILL)
        elif victim == "site":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        self.orphans += [] if victim == "web process" else web
        self.killed[victim] += 1
        return True

    def revive(self) -> None:
        for name, process in list(self.processes.running.items()):
            if process.poll() is not None:  # while the children of a killed master hold the port, a new one ends again
                self.processes.start(name)


@pytest.mark.long
def test_a_demo_whose_processes_are_killed_again_and_again_loses_and_doubles_nothing(demo: Demo) -> None:
    for name in ("worker", "serve"):
        demo.processes.start(name)
    fate = Fate(demo)
    fate.start()
    try:
        live(demo.life, demo.stretch, tick=lambda: None)
    finally:
        fate.over.set()
        fate.join()
    demo.processes.stop()
    assert wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in fate.orphans))
    found = harness.verdict(demo.home, demo.wire.acknowledged)
    rows = balance(demo.home)
    assert (found.lost, found.exact, found.integrity) == (0, True, "ok")
    assert len(set(demo.wire.acknowledged)) == len(demo.wire.acknowledged)
    assert sum(row.duplicate for row in rows) <= demo.wire.retries  # what was sent again because its answer was cut off
    assert not [row for row in rows if row.conflict or row.dead or row.pending]
    assert fate.killed == Counter(VICTIMS)


@pytest.mark.long
def test_a_site_that_acknowledges_before_it_commits_is_caught(demo: Demo) -> None:
    site = harness.start("hasty", demo.home, demo.wire.port)
    reader = next(browser for browser in demo.life.browsers.values() if browser.reader.agrees)
    try:
        for _ in range(5):
            demo.wire.send(reader, "GET", "/en/")
    finally:
        site.kill()
        site.communicate()
    assert harness.verdict(demo.home, demo.wire.acknowledged).lost == len(demo.wire.acknowledged) == 5
