"""A home folder with a running experiment, the real site on it, and visitors who try again once."""

from __future__ import annotations

import base64
import json
import re
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from sqlalchemy import Engine

from experiments.events.ids import event_id
from experiments.experiment import Arm, Experiment
from experiments.lifecycle import Step, draft, publish_plan, start
from experiments.migrate import migrate
from experiments.tables import control_engine
from tests.faults import harness
from web.demo.newspaper import build_newspaper

AGENT = {"User-Agent": "Mozilla/5.0 (X11) Firefox/150"}
TOKEN = re.compile(r'data-token="([^"]+)"')
ARTICLES = [path.stem for path in (harness.ROOT / "fixtures/newspaper/articles").rglob("*.md")][:40]
LONGEST_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in found.read_text().split()] if found.exists() else []


def wait_until(holds: Callable[[], bool], *, seconds: float = LONGEST_S) -> bool:
    """Whether ``holds`` becomes true in time."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def with_experiment(home: Path) -> Engine:
    """Build the newspaper and start the experiment ``related``."""
    migrate(home)
    build_newspaper(home, datetime.now(UTC))
    engine = control_engine(home)
    begin(home, engine, "related")
    return engine


def begin(home: Path, engine: Engine, name: str) -> None:
    """Start an experiment in which nine of ten readers get the heuristic ``front``."""
    step = Step("test", datetime.now(UTC), "a test")
    arms = (Arm("status_quo", "status_quo", 0.1), Arm("front", "heuristic", 0.9))
    draft(engine, Experiment(name, "?", "status_quo", arms), step)
    start(engine, name, step)
    publish_plan(home, engine, at=step.at)


@contextmanager
def serving(home: Path, **options: object) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run the site with these options of gunicorn; yields its master and its port once it answers."""
    port = free_port()
    master = harness.start("serving", home, port, json.dumps(options))
    try:
        assert wait_until(lambda: answers(port))
        yield master, port
    finally:
        web = children(master.pid)
        if master.poll() is None:
            master.send_signal(signal.SIGTERM)
            try:
                master.wait(timeout=15)
            except subprocess.TimeoutExpired:
                master.kill()
        assert wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in web))
        master.communicate()


def answers(port: int) -> bool:
    try:
        with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request("GET", "/-/live")
            return connection.getresponse().status == 200
    except (HTTPException, OSError):
        return False


class Visitor(threading.Thread):
    """Reads one article after the other, each request tried at most twice, and remembers what was acknowledged."""

    def __init__(self, port: int, *, cookie: str = "", pause_s: float = 0.0) -> None:
        super().__init__(daemon=True)
        self.port, self.cookie, self.pause_s = port, cookie, pause_s
        self.statuses = Counter[int]()  # 0: no answer
        self.acknowledged: list[bytes] = []
        self.pages = self.failed = self.errors = 0
        self.last_slot_s = 0.0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(self.pause_s):
            self.read(ARTICLES[self.pages % len(ARTICLES)])

    def read(self, article: str) -> str:
        """Open an article and tell for how long; returns the page."""
        status, text = self._twice("GET", f"/en/article/{article}")
        self.pages += 1
        found = TOKEN.search(text)
        if 'class="slot"' in text:
            self.last_slot_s = time.time()
        if status == 200 and found:
            page_view = json.loads(base64.urlsafe_b64decode(found[1].split(".")[1] + "=="))[0]
            self.acknowledged += [event_id(page_view, kind, key) for kind, key in (("view", ""), ("impression", "article.related"))]
            body = {"token": found[1], "active_ms": 1_000, "depth": 10}
            if self._twice("POST", "/e", json.dumps(body))[0] == 202:
                self.acknowledged.append(event_id(page_view, "dwell", "1000:10"))
        return text

    def _twice(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        for _ in range(2):
            try:
                status, text = self._once(method, path, body)
            except (HTTPException, OSError):
                self.statuses[0] += 1
                time.sleep(0.1)
            else:
                self.statuses[status] += 1
                self.errors += status >= 500
                return status, text
        self.failed += not self.over.is_set()
        return 0, ""

    def _once(self, method: str, path: str, body: str | None) -> tuple[int, str]:
        headers = {**AGENT, "Content-Type": "application/json", "Sec-Fetch-Site": "same-origin"}
        headers |= {"Cookie": self.cookie} if self.cookie else {}
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            if cookie := answer.getheader("Set-Cookie"):
                self.cookie = cookie.partition(";")[0]
            return answer.status, answer.read().decode()


def enrolled(port: int) -> Visitor:
    """A visitor who gets recommendations."""
    for _ in range(100):
        visitor = Visitor(port)
        if 'class="slot"' in visitor.read(ARTICLES[0]):
            return visitor
    raise AssertionError("nobody gets recommendations")
