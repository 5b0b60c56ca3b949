"""A web process leaves what it has loaded alone, and what requests leave behind does not pile up."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments.content import add_articles
from tests.opened import SITES
from tests.web.site_fixture import NOW, Stand, until
from web.app import create_app
from web.jobs import last_runs
from web.serve import keep_what_is_loaded, server_options
from web.signal_job import SignalJob
from web.site import NewsSite
from web.worker import Worker


@pytest.fixture
def settled(stand: Stand) -> Iterator[Stand]:
    before = gc.get_threshold()
    keep_what_is_loaded()
    yield stand
    gc.set_threshold(*before)
    gc.unfreeze()


def test_what_requests_leave_behind_does_not_pile_up(settled: Stand) -> None:
    client = settled.client()
    for _ in range(600):  # each leaves eight objects of the search for its route, and some of the client
        client.get("/-/live")
    assert len(gc.get_objects(generation=0)) < 2_500


def test_what_was_loaded_is_never_looked_through_again(settled: Stand) -> None:
    assert gc.get_freeze_count() > 100_000
    assert not any(held is settled.site.catalogue for held in gc.get_objects())


def test_a_process_that_starts_after_an_article_came_out_asks_for_signals_at_once(home: Path) -> None:
    """Otherwise its readers get the newest articles, whatever their arm, until the timetable's next minute."""
    stand = Stand(home)
    worker = Worker(stand.site.settings)
    worker.beat()
    SignalJob(stand.site.settings).run(stand.clock())
    started(stand)
    assert "signals" not in last_runs(worker.engine)
    add_articles(home, [replace(stand.site.catalogue.articles[0], id="0-just-out", published_at=NOW)])
    stand.advance(1)
    site = started(stand)
    assert site.published.signal_version == ""
    assert [row.state for row in last_runs(worker.engine)["signals"]] == ["requested"]
    worker._run_requested()
    until(lambda: site.published.signal_version != "")
    worker.close()


def test_a_process_starts_also_while_nobody_could_compute_signals(home: Path) -> None:
    stand = Stand(home)
    SignalJob(stand.site.settings).run(stand.clock())
    add_articles(home, [replace(stand.site.catalogue.articles[0], id="0-just-out", published_at=NOW)])
    assert started(stand).published.signal_version == ""


def started(stand: Stand) -> NewsSite:
    """A web process as gunicorn starts it."""
    app = create_app(stand.site.settings)
    site: NewsSite = app.extensions["presslab"]
    SITES.append(site)
    server_options(stand.site.settings)["post_worker_init"](SimpleNamespace(wsgi=app))
    return site
