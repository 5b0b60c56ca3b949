"""A worker that is told to stop while jobs run: each ends at once, in words, and the next worker runs it again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from experiments.clock import FileClock, to_us
from experiments.errors import PresslabError
from experiments.events.sealed import locked
from experiments.events.store import balance
from experiments.migrate import migrate
from experiments.settings import Settings
from tests.events.story import send, view
from tests.faults.site import wait_until
from tests.faults.test_timetable import NOW
from web.jobs import ON_REQUEST, Job, job_named, last_runs, request_run
from web.worker import Worker

HANGS = Job("hangs", "Never ends", ON_REQUEST, 0, 60, ("tests.web.job_that", "hangs"))


def worker_on(home: Path) -> Worker:
    migrate(home)
    made = Worker(Settings(home=home, profile="demo"))
    assert isinstance(made.clock, FileClock)
    made.clock.set(to_us(NOW))
    made.jobs = (*made.jobs, HANGS)
    return made


@contextmanager
def working(worker: Worker, job: str) -> Iterator[None]:
    """The worker at work, with a run of a job begun; it is told to stop at the end of the block and ends there."""

    def live() -> None:
        worker.work()
        worker.close()

    thread = threading.Thread(target=live)
    request_run(worker.engine, job_named(worker.jobs, job), at=NOW)
    thread.start()
    assert wait_until(lambda: states(worker, job)[:1] == ["running"])
    yield
    worker.stopping.set()
    thread.join(30)
    assert not thread.is_alive()


def states(worker: Worker, job: str) -> list[str]:
    return [row.state for row in last_runs(worker.engine).get(job, [])]


def let_go(worker: Worker) -> bool:
    """Whether the worker may no longer write the store."""
    try:
        with worker.loader.transaction():
            return False
    except PresslabError:
        return True


@pytest.mark.parametrize("job", ["sealing", "retention"])
def test_a_job_that_writes_the_store_ends_before_its_next_transaction(home: Path, job: str, caplog: pytest.LogCaptureFixture) -> None:
    send(home, [view(n) for n in range(50)])
    worker = worker_on(home)
    with ExitStack() as backup:
        backup.enter_context(locked(home))  # both jobs wait for it
        with working(worker, job):
            worker.stopping.set()
            assert wait_until(lambda: let_go(worker))
            backup.close()
    check_stopped(worker, job)
    assert caplog.records == []
    assert all(row.exact for row in balance(home))


def test_a_process_that_a_worker_started_ends_with_it(home: Path) -> None:
    worker = worker_on(home)
    with working(worker, "hangs"):
        pass
    check_stopped(worker, "hangs")


def check_stopped(worker: Worker, job: str) -> None:
    """The run is closed in words, and asked for once more: the next worker runs it."""
    again, ended = last_runs(worker.engine)[job]
    assert (ended.state, ended.reason) == ("stopped", "the worker was stopped while it ran")
    assert (again.state, again.attempt, again.slot) == ("requested", 2, ended.slot)
