"""Faults of the timetable: several workers, clocks that jump, trainers that die."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from experiments.clock import FileClock, to_us
from experiments.errors import DataError
from experiments.events.store import read_store, store_path
from experiments.migrate import migrate
from experiments.settings import Settings
from experiments.tables import control_engine
from tests.events.story import START
from tests.events.test_loader import abandoned
from tests.faults.site import wait_until
from tests.web.site_fixture import PHONE, Stand
from web.clock_watch import ClockWatch
from web.demo.newspaper import build_newspaper
from web.jobs import HOUR, MINUTE, Job, claim, job_named, last_runs
from web.published import refresh
from web.worker import Worker
from web.worker_state import beat

NOW = datetime(2026, 11, 20, 12, 0, 30, tzinfo=UTC)


@pytest.fixture
def worker(home: Path) -> Iterator[Worker]:
    migrate(home)
    build_newspaper(home, NOW)
    made = Worker(Settings(home=home, profile="demo"))
    turn(made, NOW)
    yield made
    made.close()


def turn(worker: Worker, to: datetime) -> None:
    assert isinstance(worker.clock, FileClock)
    worker.clock.set(to_us(to))


def runs(worker: Worker, name: str = "signals") -> list[str]:
    return [row.state for row in last_runs(worker.engine, each=1_000).get(name, [])]


# D15: several workers


def claims(asked: tuple[Path, int, int]) -> list[int]:
    """Numbers of the due times this process got; it tries all of them, beginning at its own."""
    home, slots, first = asked
    engine, job = control_engine(home), Job("signals", "", MINUTE, 0, 30)
    numbers = [(first + n) % slots for n in range(slots)]
    return [n for n in numbers if claim(engine, job, NOW + timedelta(minutes=n), at=NOW)]


def check_claims(home: Path, slots: int) -> None:
    migrate(home)
    with multiprocessing.get_context("spawn").Pool(3) as workers:
        got = workers.map(claims, [(home, slots, slots * k // 3) for k in range(3)], chunksize=1)
    assert sorted(n for some in got for n in some) == list(range(slots))


@pytest.mark.long
def test_d15_three_workers_claim_every_due_time_once(home: Path) -> None:
    check_claims(home, 40)


@pytest.mark.slow
def test_d15_three_workers_claim_two_hundred_due_times_once(home: Path) -> None:
    check_claims(home, 200)


def test_d15_a_worker_that_takes_over_does_not_repeat_what_was_done(worker: Worker) -> None:
    worker.run_due(job_named(worker.jobs, "signals"))
    worker.close()
    other = Worker(worker.settings)
    other.run_due(job_named(other.jobs, "signals"))
    assert runs(other) == ["done"]
    worker._lease, worker.loader, worker.engine = other._lease, other.loader, other.engine


def test_a_run_whose_worker_was_killed_is_closed_in_words_and_tried_once_more(worker: Worker) -> None:
    job = job_named(worker.jobs, "signals")
    assert claim(worker.engine, job, job.latest_slot(NOW), at=NOW)
    for expected in (["done", "failed"], ["done", "failed"]):
        worker.stopping.set()
        worker.work()
        worker.stopping.clear()
        worker._run_requested()
        assert wait_for_runs(worker) == expected
    assert last_runs(worker.engine)["signals"][1].reason == "the worker ended while it ran"


def wait_for_runs(worker: Worker) -> list[str]:
    assert wait_until(lambda: not {"running", "requested"} & set(runs(worker)))
    return runs(worker)


# D16: clocks that jump


def test_d16_whatever_the_clock_does_a_job_runs_at_most_once_for_each_jump(worker: Worker) -> None:
    job = job_named(worker.jobs, "signals")
    for number, jump in enumerate((0, -2, 24, 200 * 365 * 24, 0), start=1):
        turn(worker, NOW + timedelta(hours=jump))
        for _ in range(20):
            worker.run_due(job)
        assert len(runs(worker)) == number
    turn(worker, NOW + timedelta(hours=25))
    worker.run_due(job)
    assert runs(worker) == ["done"] * 6  # back in our time the timetable goes on


def test_d16_signals_computed_after_the_clock_was_ahead_stay_on_disk(worker: Worker) -> None:
    worker.signals.keep = 3  # as outside of the demo
    job = job_named(worker.jobs, "signals")
    for hours in range(4):
        turn(worker, NOW + timedelta(days=200 * 365, hours=hours))
        worker.run_due(job)
    turn(worker, NOW)
    worker.run_due(job)
    published = refresh(worker.home, None)
    assert published.faults == {}
    assert published.signals.at == NOW.timestamp()


def test_d16_a_clock_that_jumped_ahead_deletes_and_seals_no_event(worker: Worker) -> None:
    began = worker.clock()
    ahead = timedelta(days=200 * 365)
    worker.clock = lambda: began
    worker._watch = ClockWatch(worker.home, lambda: worker.clock(), simulated=False)
    abandoned(worker.home, 1, 2, 3)._connection.close()
    worker.loader.load()
    worker.clock = lambda: began + round(ahead.total_seconds() * 1e6)
    for name in ("retention", "sealing"):
        worker.run_due(replace(job_named(worker.jobs, name), every_s=24 * HOUR))
        assert runs(worker, name) == ["failed"]
        assert "jumped by +1,752,000.0 h" in last_runs(worker.engine)[name][0].reason
    store = read_store(store_path(worker.home))
    assert store.execute("SELECT count(*) FROM event").fetchone() == (3,)
    store.close()


def test_d16_a_worker_that_starts_with_a_clock_far_ahead_deletes_nothing_for_a_day_in_which_it_says_so(home: Path) -> None:
    migrate(home)
    beat(home, pid=1, clock=lambda: START, loaded={}, faults={})
    now = START + 400 * 86_400_000_000
    for _ in range(2):  # also when it is started again
        watch = ClockWatch(home, lambda: now, simulated=False)
        beat(home, pid=1, clock=lambda: now, loaded={}, faults={})
        with pytest.raises(DataError, match="is 400 days ahead of the last worker's; no event is sealed or deleted before"):
            watch.check()
    now += 86_400_000_000
    ClockWatch(home, lambda: now, simulated=False).check()
    assert not (home / "clock.json").exists()


def test_d16_a_clock_that_was_far_ahead_and_is_set_right_is_believed(home: Path) -> None:
    migrate(home)
    beat(home, pid=1, clock=lambda: START, loaded={}, faults={})
    ClockWatch(home, lambda: START + 400 * 86_400_000_000, simulated=False)
    ClockWatch(home, lambda: START + 60_000_000, simulated=False).check()
    assert not (home / "clock.json").exists()


# D17: trainers


@pytest.mark.parametrize(
    ("trouble", "words"), [("dies", "ended with exit code -9"), ("hangs", "ran longer than 1 s and was stopped"), ("grows", "MemoryError")]
)
def test_d17_a_trainer_in_trouble_leaves_the_old_model_and_is_named_on_the_page(home: Path, trouble: str, words: str) -> None:
    stand = Stand(home)
    before = tuple((home / "models").rglob("*"))
    worker = Worker(stand.site.settings)
    job = replace(job_named(worker.jobs, "als"), every_s=HOUR, command=("tests.faults.job_that", trouble), longest_s=1, most_mb=300)
    if trouble != "hangs":
        job = replace(job, longest_s=60)
    worker.run_due(job)
    worker.close()
    client = stand.reader_in("front")
    assert 'class="slot"' in client.get(f"/en/article/{stand.article}", headers=PHONE).text
    for page in ("jobs", "health"):
        assert words in client.get(f"/console/en/{page}", headers=PHONE).text
    assert tuple((home / "models").rglob("*")) == before
    stand.site.close()
