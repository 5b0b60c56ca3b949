"""A real site over the demo's newspaper, for tests that send requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from experiments.clock import FileClock
from experiments.events.loader import Loader
from experiments.events.store import read_store, store_path
from experiments.experiment import Arm, Experiment
from experiments.lifecycle import Step, draft, publish_plan, start
from experiments.migrate import migrate
from experiments.settings import Settings
from experiments.tables import control_engine
from tests.opened import SITES
from web.app import create_app
from web.demo.newspaper import build_newspaper
from web.site import NewsSite

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
PHONE = {"User-Agent": "Mozilla/5.0 (iPhone) Mobile Safari", "Origin": "http://localhost"}
ALL = (Arm("status_quo", "status_quo", 1 / 3), Arm("front", "heuristic", 1 / 3), Arm("newest", "heuristic", 1 / 3))


class Stand:
    """A home folder with a newspaper, an application on it, and a clock one can turn."""

    def __init__(self, home: Path, arms: tuple[Arm, ...] = ALL, **settings: Any) -> None:
        self.home = home
        migrate(home)
        build_newspaper(home, NOW)
        self.clock = FileClock(home / "clock")
        self.clock.set(round(NOW.timestamp() * 1e6))
        self.plan = Experiment("related", "Does it pay?", arms[0].name, arms, window_days=1.0)
        engine, step = control_engine(home), Step("test", NOW, "a test")
        draft(engine, self.plan, step)
        start(engine, "related", step)
        publish_plan(home, engine, at=NOW)
        self.app: Flask = create_app(
            Settings(**{"home": home, "profile": "demo", "page_budget_ms": 10_000, "deadline_ms": 1_000, **settings})
        )
        self.site: NewsSite = self.app.extensions["presslab"]
        SITES.append(self.site)
        self.article = next(a.id for a in self.site.catalogue.articles if a.published_at < NOW and not a.evergreen)

    def client(self) -> FlaskClient:
        return self.app.test_client()

    def advance(self, seconds: float) -> None:
        self.clock.set(self.clock() + round(seconds * 1e6))

    def events(self) -> list[dict[str, Any]]:
        """Everything in the store, after loading what is in the outbox."""
        import json

        with Loader(self.home, clock=self.clock) as loader:
            loader.load()
        store = read_store(store_path(self.home))
        try:
            rows = store.execute("SELECT kind, reader, arm, experiment, source, bot, body, config FROM event ORDER BY seq").fetchall()
        finally:
            store.close()
        names = ("kind", "reader", "arm", "experiment", "source", "bot", "body", "config")
        return [{**dict(zip(names, row, strict=True)), "body": json.loads(row[6])} for row in rows]

    def reader_in(self, arm: str, **headers: str) -> FlaskClient:
        """A client whose reader gets ``arm`` (clients are tried until one does)."""
        from experiments.assignment import assign, reader_key

        for _ in range(200):
            client = self.client()
            client.get("/en/", headers={**PHONE, **headers})
            cookie = client.get_cookie("pl_id")
            assert cookie is not None
            reader = (self.site.tokens.unsign("id", cookie.value) or "").partition(".")[0]
            given = assign(self.site.published.experiments[0].allocation, reader_key(reader))
            if given is not None and given.arm == arm:
                return client
        raise AssertionError(f"no reader got {arm}")


def until(holds: Callable[[], bool]) -> None:
    """Wait for a thread of a site."""
    for _ in range(1_000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come")
