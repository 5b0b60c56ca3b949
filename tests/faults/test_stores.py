"""Faults around the stores: order of arrival, a second loader, migrations at once, backups under load, readers that stay."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from analysis.totals import totals
from experiments.errors import BusyError
from experiments.events.backup import back_up
from experiments.events.event import Event
from experiments.events.loader import Loader
from experiments.events.outbox import Outbox, OutboxLimits
from experiments.events.reading import LONGEST_S
from experiments.events.restoring import restore
from experiments.events.sqlite_store import VERSION
from experiments.events.store import balance, open_store, read_store, store_path
from experiments.experiment import Arm, Experiment
from experiments.lifecycle import Step, draft, start
from experiments.migrate import LATEST, layout, migrate
from experiments.tables import control_engine
from tests.events.story import DAY, MINUTE, START, Story, send, view
from tests.events.test_erase import hits
from tests.faults import harness
from tests.faults.harness import until_it_dies, verdict
from tests.faults.site import wait_until
from tests.web.site_fixture import PHONE, Stand
from web.reporting import named_report
from web.worker import Worker

ARMS = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5))
PLAN = Experiment("related", "?", "status_quo", ARMS, planned_days=14, window_days=2)


# D10: order of arrival


def told(n: int) -> list[Event]:
    """About ``n`` events of an experiment of 20 days; one in twenty arrived two days late."""
    chance, story = random.Random(10), Story()
    for reader in range(n // 8):
        name, arm = f"reader-{reader}", ARMS[chance.random() < 0.5].name
        minute = chance.random() * 12 * 1440
        for _ in range(chance.randrange(1, 5)):
            late = 2 * 1440 if chance.random() < 0.05 else 0
            page = story.exposed(name, minute, arm, late_minutes=late)
            story.dwell(page, name, minute, chance.randrange(60_000))
            minute += chance.random() * 3 * 1440
    return story.events


def stored(home: Path, events: list[Event]) -> Path:
    """A home with the experiment and its events, loaded in three goes by three loaders."""
    migrate(home)
    engine, step = control_engine(home), Step("test", datetime.fromtimestamp(START / 1e6, UTC), "a test")
    draft(engine, PLAN, step)
    start(engine, PLAN.name, step)
    for part in range(3):
        send(home, events[part::3])
    return home


def check_order(folder: Path, n: int, result: Callable[[Path], str]) -> None:
    """What is computed does not depend on the order of arrival, on repetitions or on restarts; late events are counted."""
    events, chance = told(n), random.Random(1)
    in_order = stored(folder / "in order", events)
    again = [event for event in events for _ in range(chance.randrange(1, 6))]
    shuffled = stored(folder / "shuffled", chance.sample(again, len(again)))
    assert result(in_order) == result(shuffled)
    with closing(read_store(store_path(shuffled))) as store:
        (late,) = store.execute("SELECT sum(late) FROM event").fetchone()
    assert late == sum(event.received_at - event.issued_at > DAY for event in events) > 0
    assert sum(row.duplicate for row in balance(shuffled)) == len(again) - len(events)
    assert all(row.exact for row in balance(shuffled))


def test_d10_events_that_arrive_in_any_order_and_up_to_five_times_give_the_same_sums(tmp_path: Path) -> None:
    check_order(tmp_path, 1_500, lambda home: repr(totals(home, PLAN, until_us=START + 20 * DAY, source="live")))


@pytest.mark.slow
def test_d10_a_hundred_thousand_events_in_any_order_and_up_to_five_times_give_the_same_report(tmp_path: Path) -> None:
    check_order(tmp_path, 100_000, report)


def report(home: Path) -> str:
    return json.dumps(named_report(home, PLAN.name, source="live", until_us=START + 20 * DAY), sort_keys=True)


# D14: a second loader


@pytest.mark.usefixtures("either_engine_long")
def test_d14_a_loader_that_wakes_up_after_another_took_over_writes_nothing(tmp_path: Path) -> None:
    sent = until_it_dies(harness.start("writer", tmp_path, "FULL", 0, 60))
    stopped = harness.start("load", tmp_path, 1)
    os.waitpid(stopped.pid, os.WUNTRACED)
    with pytest.raises(BusyError, match="another loader"):
        Loader(tmp_path, clock=lambda: START)
    (tmp_path / "loader.lock").unlink()  # an operator "frees" the lock
    found = verdict(tmp_path, sent)
    assert (found.lost, found.stored, found.duplicates, found.exact) == (0, len(sent), 0, True)
    later = until_it_dies(harness.start("writer", tmp_path, "FULL", 1, 5))
    stopped.send_signal(signal.SIGCONT)
    stopped.communicate()
    assert stopped.returncode == 1  # it found work, and that another one had taken over
    with closing(read_store(store_path(tmp_path))) as store:
        assert store.execute("SELECT count(*) FROM event").fetchone()[0] == len(sent)
    assert verdict(tmp_path, later).stored == len(sent) + len(later)


# D22: several processes migrate at once


def check_migrations(home: Path) -> None:
    send(home, [view(n) for n in range(50)])
    with closing(open_store(store_path(home))) as store:  # as the layout before sealing had it
        store.executescript("DROP VIEW fresh; DROP TABLE sealed_count; DROP TABLE sealed; PRAGMA user_version=1;")
    processes = [multiprocessing.get_context("spawn").Process(target=migrate, args=(home,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert layout(home) == LATEST
    with closing(read_store(store_path(home))) as store:
        assert store.execute("PRAGMA user_version").fetchone()[0] == VERSION
        assert store.execute("SELECT count(*) FROM fresh").fetchone()[0] == 50


@pytest.mark.long
def test_d22_four_processes_migrate_an_old_home_at_once(home: Path) -> None:
    check_migrations(home)


@pytest.mark.slow
def test_d22_twenty_times_four_processes(tmp_path: Path) -> None:
    for number in range(20):
        check_migrations(tmp_path / str(number))


# D23: backups under load


def check_backups(home: Path, copies: Path, n: int) -> None:
    migrate(home)
    outbox = Outbox(home / "outbox", clock=lambda: START, limits=OutboxLimits(reserve_bytes=0, tick_s=0.01, rotate_bytes=200_000))
    acknowledged: list[bytes] = []
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            events = [view(len(acknowledged) + k) for k in range(20)]
            outbox.append(events, timeout_s=60)
            acknowledged.extend(event.id for event in events)

    def load() -> None:
        with Loader(home, clock=lambda: START) as loader:
            while not over.wait(0.01):
                loader.load(most=300)

    threads = [threading.Thread(target=write), threading.Thread(target=load)]
    for thread in threads:
        thread.start()
    before: list[list[bytes]] = []
    for number in range(n):
        over.wait(0.1)
        before.append(list(acknowledged))
        back_up(home, copies, at_us=START + number * MINUTE)
    over.set()
    for thread in threads:
        thread.join()
    outbox.close()
    for copy, known in zip(sorted(copies.iterdir()), before, strict=True):
        check_copy(copy, known)


def check_copy(copy: Path, known: list[bytes]) -> None:
    """Rows up to the high-water mark, everything that had been acknowledged, and a balance that is exact."""
    home = copy.parent.parent / f"restored {copy.name}"
    done = restore(copy, home, at_us=START)
    with closing(read_store(store_path(home))) as store:
        assert store.execute("SELECT count(*), coalesce(max(seq), 0) FROM event").fetchone() == (done.last_seq, done.last_seq)
    found = verdict(home, known)
    assert (found.lost, found.exact, found.alarms, found.integrity) == (0, True, 0, "ok")


def test_d23_backups_taken_under_load_come_back_whole(home: Path, tmp_path: Path) -> None:
    check_backups(home, tmp_path / "copies", 3)


@pytest.mark.slow
def test_d23_twenty_backups_under_load(home: Path, tmp_path: Path) -> None:
    check_backups(home, tmp_path / "copies", 20)


# D25: erased on request


def test_d25_a_reader_who_asks_is_gone_from_every_file_of_the_home(home: Path) -> None:
    stand = Stand(home)
    client = stand.reader_in("front")
    cookie = client.get_cookie("pl_id")
    assert cookie is not None
    reader = (stand.site.tokens.unsign("id", cookie.value) or "").partition(".")[0]
    client.get(f"/en/article/{stand.article}", headers=PHONE)
    worker = Worker(stand.site.settings)
    worker.loader.load()
    assert hits(home, reader)
    client.post("/en/privacy/erase", headers=PHONE)
    worker._erase()
    worker.close()
    stand.site.close()
    assert hits(home, reader) == []
    assert all(row.exact for row in balance(home))


# D24: a reader of the store that stays


class Site(threading.Thread):
    """Two hundred events a second and a loader; remembers the longest log of the store, and how long it is at the end."""

    def __init__(self, home: Path) -> None:
        super().__init__()
        self.home, self.over, self.longest_log, self.left = home, threading.Event(), 0, -1

    def run(self) -> None:
        outbox = Outbox(self.home / "outbox", clock=lambda: START, limits=OutboxLimits(reserve_bytes=0))
        log, number = self.home / "events.db-wal", 0
        with Loader(self.home, clock=lambda: START) as loader:
            while not self.over.wait(0.2):
                outbox.append([view(number + k) for k in range(40)], timeout_s=60)
                number += 40
                loader.load()
                self.longest_log = max(self.longest_log, log.stat().st_size)
            outbox.close()
            loader.drain()
            self.left = log.stat().st_size


def check_idle_reader(home: Path, longest_s: float) -> None:
    """A snapshot that is held without doing anything is let go of, so that the log can be emptied."""
    send(home, [view(n) for n in range(50)])
    site = Site(home)
    with closing(read_store(store_path(home), longest_s=longest_s)) as store:
        store.execute("BEGIN")
        assert store.execute("SELECT count(*) FROM event").fetchone() == (50,)
        site.start()
        site.over.wait(longest_s + 1)
        with pytest.raises(sqlite3.Error):
            store.execute("SELECT count(*) FROM event").fetchone()
        site.over.set()
        site.join()
    assert 0 < site.longest_log <= 64 << 20
    assert site.left == 0  # the loader could empty the log although the reader never closed


def test_d24_a_reader_that_idles_is_cut_off_and_the_log_can_be_emptied(tmp_path: Path) -> None:
    check_idle_reader(tmp_path, 0.2)


@pytest.mark.slow
def test_d24_a_reader_that_stays_is_cut_off_after_thirty_seconds(tmp_path: Path) -> None:
    check_idle_reader(tmp_path, LONGEST_S)


def test_d24_a_query_that_does_not_end_is_interrupted(tmp_path: Path) -> None:
    send(tmp_path, [view(1)])
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with closing(read_store(store_path(tmp_path), longest_s=0.1)) as store, pytest.raises(sqlite3.OperationalError, match="interrupted"):
        store.execute(endless)


def test_d24_a_reader_that_was_closed_in_time_leaves_no_clock_behind(tmp_path: Path) -> None:
    send(tmp_path, [view(1)])
    before = threading.active_count()
    for _ in range(20):
        read_store(store_path(tmp_path)).close()
    assert wait_until(lambda: threading.active_count() <= before, seconds=10)
