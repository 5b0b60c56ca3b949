"""The timetable: each due time once, failures in words, a dead scheduler seen."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from experiments.clock import FileClock, moment
from experiments.errors import BusyError, PresslabError
from experiments.events.outbox import Outbox
from experiments.events.sealed import sealed_folder
from experiments.events.sealing import seal
from experiments.events.store import balance, read_store, store_path
from experiments.files import replace_json
from experiments.migrate import migrate
from experiments.settings import Settings
from experiments.tables import control_engine
from tests.events.story import SMALL, START, view
from web.demo.newspaper import build_newspaper
from web.jobs import DAY, HOUR, MINUTE, Job, Outcome, claim, finish_run, job_named, last_runs, request_run, timetable
from web.stored import Stored
from web.worker import Worker
from web.worker_state import beat as write_beat

NOW = datetime(2026, 11, 20, 12, 0, 30, tzinfo=UTC)
FAILS = Job("fails", "Always fails", HOUR, 0, 5, ("tests.web.job_that", "fails"))
HANGS = Job("hangs", "Never ends", HOUR, 0, 1, ("tests.web.job_that", "hangs"))
REFUSES = Job("refuses", "Says no", HOUR, 0, 5, ("tests.web.job_that", "refuses"))


@pytest.fixture
def worker(home: Path) -> Iterator[Worker]:
    migrate(home)
    build_newspaper(home, NOW)
    made = Worker(Settings(home=home, profile="demo"))
    clock = made.clock
    assert isinstance(clock, FileClock)
    clock.set(round(NOW.timestamp() * 1e6))
    yield made
    made.close()


def states(worker: Worker, name: str) -> list[str]:
    return [row.state for row in last_runs(worker.engine).get(name, [])]


def test_a_due_time_is_claimed_once_by_however_many_try(home: Path) -> None:
    migrate(home)
    job = Job("signals", "", MINUTE, 0, 30)
    claims = []
    threads = [
        threading.Thread(target=lambda: claims.append(claim(control_engine(home), job, job.latest_slot(NOW), at=NOW))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(row is not None for row in claims) == 1


@pytest.mark.parametrize(
    ("every_s", "offset_s", "slot"),
    [
        (MINUTE, 0, "2026-11-20T12:00:00"),
        (HOUR, 10 * MINUTE, "2026-11-20T11:10:00"),
        (DAY, 2 * HOUR, "2026-11-20T02:00:00"),
        (DAY, 13 * HOUR, "2026-11-19T13:00:00"),
    ],
)
def test_the_latest_due_time_is_found(every_s: int, offset_s: int, slot: str) -> None:
    assert Job("x", "", every_s, offset_s, 1).latest_slot(NOW).isoformat() == f"{slot}+00:00"


def test_the_signals_job_runs_when_due_and_not_again_for_the_same_time(worker: Worker) -> None:
    job = job_named(worker.jobs, "signals")
    worker.run_due(job)
    worker.run_due(job)
    assert states(worker, "signals") == ["done"]
    assert (worker.home / "signals" / "current.json").exists()


def test_missed_due_times_are_caught_up_once(worker: Worker) -> None:
    job = job_named(worker.jobs, "signals")
    worker.run_due(job)
    assert isinstance(worker.clock, FileClock)
    worker.clock.set(worker.clock() + 50 * HOUR * 1_000_000)
    worker.run_due(job)
    worker.run_due(job)
    assert states(worker, "signals") == ["done", "done"]


def test_a_clock_that_is_set_back_a_little_runs_nothing_twice(worker: Worker) -> None:
    job = job_named(worker.jobs, "signals")
    worker.run_due(job)
    assert isinstance(worker.clock, FileClock)
    worker.clock.set(worker.clock() - 40 * 1_000_000)  # to before the hour
    worker.run_due(job)
    assert states(worker, "signals") == ["done"]


def runs_while(worker: Worker, job: Job, times: Iterable[datetime]) -> int:
    """How often a job ran while the clock said these times."""
    assert isinstance(worker.clock, FileClock)
    before = len(last_runs(worker.engine, each=1_000).get(job.name, []))
    for at in times:
        worker.clock.set(round(at.timestamp() * 1e6))
        worker.run_due(job)
    return len(last_runs(worker.engine, each=1_000).get(job.name, [])) - before


@pytest.mark.parametrize("ahead_h", [1, 20])
def test_a_job_goes_on_at_once_when_a_clock_that_was_ahead_is_set_right(worker: Worker, ahead_h: int) -> None:
    """Every minute of the hours that a clock was ahead nothing ran, and pages said that all was well."""
    worker.inside["minutely"] = lambda _: ""
    job, minutes = Job("minutely", "", MINUTE, 0, 30), [timedelta(minutes=n) for n in range(4)]
    assert runs_while(worker, job, (NOW + n for n in minutes)) == 4
    assert runs_while(worker, job, (NOW + timedelta(hours=ahead_h) + n for n in minutes)) == 4
    assert runs_while(worker, job, (NOW + timedelta(minutes=4) + n for n in minutes)) == 4
    assert runs_while(worker, job, (NOW + timedelta(hours=ahead_h) + n for n in minutes)) == 4  # when their time really comes


def test_a_worker_that_starts_after_the_clock_was_set_right_goes_on(worker: Worker) -> None:
    worker.inside["minutely"] = lambda _: ""
    job = Job("minutely", "", MINUTE, 0, 30)
    assert runs_while(worker, job, [NOW, NOW + timedelta(hours=20)]) == 2
    worker._slots.clear()  # as of a worker that has just begun
    assert runs_while(worker, job, [NOW + timedelta(minutes=1), NOW + timedelta(minutes=1, seconds=10), NOW + timedelta(minutes=2)]) == 2


def test_a_job_whose_last_run_lies_ahead_of_the_clock_is_overdue(home: Path) -> None:
    migrate(home)
    engine, job, ahead = control_engine(home), job_named(timetable(Settings(home=home)), "signals"), NOW + timedelta(hours=20)
    assert claim(engine, job, job.latest_slot(ahead), at=ahead)
    row = next(r for r in Stored(Settings(home=home), lambda: round(NOW.timestamp() * 1e6)).jobs() if r["name"] == "signals")
    assert (row["overdue"], row["next_due"]) == (True, "2026-11-20T12:00:00+00:00")
    assert "has never reported" in row["reason"]
    write_beat(home, pid=1, clock=lambda: 0, loaded={}, faults={})
    row = next(r for r in Stored(Settings(home=home), lambda: round(NOW.timestamp() * 1e6)).jobs() if r["name"] == "signals")
    assert row["reason"] == "Its last run began at 2026-11-21T08:00:30+00:00, by a clock that was ahead."


def test_work_inside_the_worker_that_takes_too_long_says_so(worker: Worker) -> None:
    def slow(_: int) -> str:
        time.sleep(0.02)
        return "did it"

    worker.inside["slow"] = slow
    worker.run_due(Job("slow", "", HOUR, 0, 0))
    assert last_runs(worker.engine)["slow"][0].reason == "did it; it ran 0 s, longer than 0 s"


LARGE_THEN_SMALL = """
import subprocess, sys
from web.child import wait_for
for held in (300, 1):
    print(wait_for(subprocess.Popen([sys.executable, "-c", f"x = b'x' * ({held} << 20)"]), 60)[1])
"""


def test_the_most_memory_of_a_run_is_its_own_not_that_of_the_largest_before() -> None:
    """In a process of its own: the least that Linux tells is what the process that begins the job held."""
    large, small = map(float, subprocess.run([sys.executable, "-c", LARGE_THEN_SMALL], capture_output=True, check=True).stdout.split())
    assert small < 250 < 300 < large


def test_the_ladder_does_not_wait_for_long_jobs(worker: Worker) -> None:
    with worker._heavy, worker._heavy:
        waiting = threading.Thread(target=worker.run_due, args=[replace(REFUSES, name="ladder")])
        waiting.start()
        waiting.join(timeout=20)
        assert states(worker, "ladder") == ["refused"]
    waiting.join()


@pytest.mark.parametrize(
    ("job", "state", "words"),
    [
        (FAILS, "failed", "ValueError: the data is gone"),
        (HANGS, "failed", "ran longer than 1 s"),
        (REFUSES, "refused", "not better than the rule"),
    ],
)
def test_how_a_job_ended_is_recorded_in_words(worker: Worker, job: Job, state: str, words: str) -> None:
    worker.run_due(job)
    row = last_runs(worker.engine)[job.name][0]
    assert row.state == state
    assert words in row.reason


def test_a_job_that_waited_for_others_works_up_to_the_moment_it_begins(worker: Worker) -> None:
    begins = worker.clock() + 600_000_000
    assert isinstance(worker.clock, FileClock)
    worker._heavy.acquire()
    worker._heavy.acquire()
    waiting = threading.Thread(
        target=worker.run_due, args=[Job("tells", "Says until when", HOUR, 0, 5, ("tests.web.job_that", "tells", "{until}"))]
    )
    waiting.start()
    until(lambda: states(worker, "tells") == ["running"])
    worker.clock.set(begins)
    worker._heavy.release(2)
    waiting.join(timeout=20)
    assert last_runs(worker.engine)["tells"][0].reason == f"until {begins}"


def test_threads_of_a_job_leave_the_cores_to_the_site_while_they_wait_for_each_other(worker: Worker) -> None:
    """On a busy machine, two asking threads took 4.4 CPU seconds where two sleeping ones took 0.5."""
    worker.run_due(Job("waits", "Says how its threads wait", HOUR, 0, 5, ("tests.web.job_that", "waits")))
    assert last_runs(worker.engine)["waits"][0].reason == "threads that wait are passive"


def test_a_second_worker_is_refused_and_told_who_holds_the_timetable(worker: Worker) -> None:
    worker.beat()
    with pytest.raises(BusyError, match="holds the timetable"):
        Worker(worker.settings)


def test_a_worker_that_never_reported_or_fell_silent_is_said_on_the_jobs_page(home: Path) -> None:
    migrate(home)
    stored = Stored(Settings(home=home), lambda: round(NOW.timestamp() * 1e6))
    assert "has never reported" in stored.jobs()[0]["reason"]
    long_ago = round((time.time() - 300) * 1e6)
    (home / "worker.json").write_text(json.dumps({"pid": 7, "at_us": long_ago, "clock_us": 0, "loaded": {}, "faults": {}}))
    row = stored.jobs()[0]
    assert (row["state"], row["overdue"]) == ("failed", True)
    assert "has not reported for 5 min" in row["reason"]


def test_run_now_is_refused_when_nobody_would_run_it(home: Path) -> None:
    migrate(home)
    with pytest.raises(PresslabError, match="nobody would run it"):
        Stored(Settings(home=home), lambda: 0).run_job("signals")


def test_a_job_that_is_late_is_overdue(home: Path) -> None:
    migrate(home)
    settings = Settings(home=home)
    engine, job = control_engine(home), job_named(timetable(settings), "als")
    row = claim(engine, job, job.latest_slot(NOW - timedelta(hours=5)), at=NOW - timedelta(hours=5))
    assert row is not None
    assert row.number is not None
    finish_run(engine, row.number, Outcome("done"), at=NOW, seconds=1)
    shown = {r["name"]: r for r in Stored(settings, lambda: round(NOW.timestamp() * 1e6)).jobs()}
    assert shown["als"]["overdue"]
    assert not {r["name"]: r for r in Stored(settings, lambda: round((NOW - timedelta(hours=5)).timestamp() * 1e6)).jobs()}["als"][
        "overdue"
    ]


def until(done: Callable[[], bool], longest_s: float = 20.0) -> None:
    end = time.monotonic() + longest_s
    while not done():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_the_sealing_job_puts_old_days_into_files_and_says_which(worker: Worker) -> None:
    outbox = Outbox(worker.home / "outbox", clock=worker.clock, limits=SMALL)
    outbox.append([view(1), view(2)], timeout_s=30)
    outbox.close()
    job = job_named(worker.jobs, "sealing")
    row = claim(worker.engine, job, NOW, at=NOW)
    assert row is not None
    worker._supervise(job, row)
    (run,) = last_runs(worker.engine)["sealing"]
    assert (run.state, run.reason) == ("done", "2026-01-01 (live): 2 events; 1 file checked, 2 events in all")
    assert [(kind.stored, kind.exact) for kind in balance(worker.home)] == [(2, True)]


def test_the_scheduler_runs_due_jobs_loads_events_and_does_what_was_asked(worker: Worker) -> None:
    worker.jobs = tuple(replace(job, every_s=HOUR) if job.name == "signals" else job for job in worker.jobs)
    thread = threading.Thread(target=worker.work, daemon=True)
    thread.start()
    until(lambda: states(worker, "signals") == ["done"])
    request_run(worker.engine, job_named(worker.jobs, "signals"), at=moment(worker.clock() + 1))
    until(lambda: states(worker, "signals") == ["done", "done"])
    worker.stopping.set()
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_jobs_that_wait_for_each_other_leave_room_for_looks_and_requests(worker: Worker) -> None:
    over, names = threading.Event(), [f"waits{n}" for n in range(16)]  # as many as are due after a day without a worker
    worker.jobs = tuple(Job(name, "Waits", HOUR, 0, 60) for name in names)
    worker.inside = dict.fromkeys(names, lambda _: str(over.wait()))
    thread = threading.Thread(target=worker.work, daemon=True)
    thread.start()
    try:
        until(lambda: all(states(worker, name) == ["running"] for name in names))
    finally:
        over.set()
        worker.stopping.set()
        thread.join(timeout=10)


def test_an_erasure_is_not_done_before_old_pages_are_overwritten(worker: Worker) -> None:
    with closing(read_store(store_path(worker.home))) as reading:
        reading.snapshot()
        assert reading.execute("SELECT count(*) FROM event").fetchone()
        replace_json(worker.home / "erase" / "one.json", {"reader": "r", "asked_us": 0})
        worker._erase()
        assert "old pages" in worker.faults["erasure"]
        assert (worker.home / "erase" / "one.json").exists()
    worker._erase_from = 0.0
    worker._erase()
    assert (worker.faults, list((worker.home / "erase").iterdir())) == ({}, [])


def test_an_erasure_that_cannot_be_done_is_told_and_events_go_on(worker: Worker) -> None:
    """It is not tried again at once: each try changes all outboxes and reads every sealed file."""
    seal_some(worker)
    (sealed,) = sealed_folder(worker.home).glob("*.parquet")
    whole = sealed.read_bytes()
    sealed.write_bytes(whole[:-1])
    replace_json(worker.home / "erase" / "one.json", {"reader": "r", "asked_us": 0})
    worker._erase()
    assert sealed.name in worker.faults["erasure"]
    asked_again = (worker.home / "outbox" / "rotate").stat().st_mtime_ns
    worker._erase()
    assert (worker.home / "outbox" / "rotate").stat().st_mtime_ns == asked_again
    sealed.write_bytes(whole)
    worker._erase_from = 0.0
    worker._erase()
    assert (worker.faults, list((worker.home / "erase").iterdir())) == ({}, [])
    assert all(row.exact for row in balance(worker.home))


def test_an_erased_reader_is_counted_no_more_by_the_worker_that_runs(worker: Worker) -> None:
    article = next(iter(worker.signals.catalogue().ids))
    outbox = Outbox(worker.home / "outbox", clock=worker.clock)
    outbox.append([view(n, f"r{n % 3}", body={"page_type": "article", "article": article}) for n in range(6)])
    outbox.close()
    worker.loader.drain()
    now = round(START + 1e6)
    assert worker.signals.run(now).startswith("6 reads")
    replace_json(worker.home / "erase" / "one.json", {"reader": "r1", "asked_us": 0})
    worker._erase()
    assert worker.faults == {}
    assert worker.signals.run(now + 1).startswith("4 reads")


def seal_some(worker: Worker) -> None:
    outbox = Outbox(worker.home / "outbox", clock=worker.clock, limits=SMALL)
    outbox.append([view(n, reader) for n, reader in enumerate(("r", "s"))])
    outbox.close()
    assert "2 events" in seal(worker.home, until_us=worker.clock(), loader=worker.loader)
