"""Waiting for the worker: events loaded, jobs done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlmodel import Session, col, select

from experiments.clock import Clock, moment
from experiments.errors import PresslabError
from experiments.events.store import balance
from experiments.settings import load_settings
from experiments.tables import JobRunRow, control_engine
from web.jobs import job_named, request_run, timetable

__all__ = ["run_jobs", "wait_loaded"]

LONGEST_S = 240.0


def wait_loaded(home: Path, *, check: Callable[[], None]) -> None:
    """Return once no event is pending."""
    until = time.monotonic() + LONGEST_S
    while sum(row.pending for row in balance(home)) > 0:
        check()
        if time.monotonic() > until:
            raise PresslabError(f"events are still pending after {LONGEST_S:.0f} s.", "See the jobs page and logs/worker.log.")
        time.sleep(0.05)


def run_jobs(home: Path, names: Sequence[str], *, clock: Clock, check: Callable[[], None], wait: bool = True) -> None:
    """Ask the worker for these jobs and, unless told otherwise, return once nothing runs any more."""
    engine, jobs = control_engine(home), timetable(load_settings(home))
    for name in names:
        request_run(engine, job_named(jobs, name), at=moment(clock()))
    until = time.monotonic() + LONGEST_S
    while wait:
        with Session(engine) as session:
            query = select(JobRunRow.job).where(col(JobRunRow.state).in_(("requested", "running")), JobRunRow.job != "signals")
            busy = session.exec(query).all()
        if not busy:
            return
        check()
        if time.monotonic() > until:
            raise PresslabError(f"{', '.join(sorted(set(busy)))} did not end within {LONGEST_S:.0f} s.", "See the jobs page.")
        time.sleep(0.1)
