"""The timetable: which job runs when, and how its runs are claimed, recorded and shown.

:func:`run_due` decides from a clock and the run table what is due; APScheduler (``web.worker``) merely calls it, so the
same code runs on real and on simulated time. A job runs at most once per due time: (job, slot, attempt) is unique.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine, func
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from experiments.errors import NotFoundError, nearest
from experiments.settings import Settings
from experiments.tables import JobRunRow

__all__ = [
    "Job",
    "Outcome",
    "abandon",
    "claim",
    "finish_run",
    "job_named",
    "last_runs",
    "latest_slot",
    "release",
    "request_run",
    "requested",
    "timetable",
]

MINUTE, HOUR, DAY, WEEK = 60, 3_600, 86_400, 7 * 86_400
ON_REQUEST = 10_000 * DAY
SET_BACK = timedelta(minutes=1)  # that a clock may be set back, as it is every day, while a claim ahead of it still holds


@dataclass(frozen=True, slots=True)
class Job:
    """One line of the timetable.

    Parameters
    ----------
    name, says : a word for commands, a sentence for people.
    every_s, offset_s : due at every multiple of ``every_s`` since the epoch, plus ``offset_s``.
    longest_s : after which the child process is killed; work inside the worker cannot be, but says that it took longer.
    most_mb : of memory for the child process; a larger request fails.
    command : arguments of a fresh Python process (``{home}`` and ``{until}`` are filled in); empty for work inside the worker.
    """

    name: str
    says: str
    every_s: int
    offset_s: int
    longest_s: int
    command: tuple[str, ...] = ()
    most_mb: int = 8_192

    def latest_slot(self, now: datetime) -> datetime:
        """Return the last due time at or before ``now``."""
        seconds = int((now.timestamp() - self.offset_s) // self.every_s) * self.every_s + self.offset_s
        return datetime.fromtimestamp(seconds, UTC)

    def next_due(self, now: datetime) -> datetime:
        return self.latest_slot(now) + timedelta(seconds=self.every_s)

    def schedule(self) -> str:
        """Return the timetable entry in words.

        Examples
        --------
        >>> Job("x", "", HOUR, 10 * MINUTE, 60).schedule()
        'every hour at :10'
        >>> Job("x", "", DAY, 2 * HOUR, 60).schedule()
        'daily at 02:00 UTC'
        >>> Job("x", "", WEEK, 3 * DAY + 8 * HOUR, 60).schedule()
        'Sundays at 08:00 UTC'
        """
        if self.every_s >= ON_REQUEST:
            return "on request"
        if self.every_s in (DAY, WEEK):
            first = datetime.fromtimestamp(self.offset_s, UTC)
            return f"{'daily' if self.every_s == DAY else f'{first:%A}s'} at {first:%H:%M} UTC"
        if self.every_s == HOUR:
            return f"every hour at :{self.offset_s // MINUTE:02d}"
        return f"every {self.every_s // DAY} days" if self.every_s % DAY == 0 else f"every {self.every_s // MINUTE} min"


JOBS = (
    Job("signals", "Heat and co-reading, as of this minute", MINUTE, 0, 30),
    Job(
        "als", "Article vectors from the last days' reads", HOUR, 10 * MINUTE, 600,
        ("recsys.training", "als", "--home", "{home}", "--until", "{until}", "--mirror", "later"),
    ),
    Job(
        "ranked", "The two-stage ranker", DAY, 2 * HOUR + 30 * MINUTE, 1_800,
        ("recsys.training", "ranked", "--home", "{home}", "--until", "{until}", "--mirror", "later"),
    ),
    Job(
        "text", "What articles are about, from their words", HOUR, 5 * MINUTE, 600,
        ("recsys.text", "--home", "{home}", "--until", "{until}"),
    ),
    Job(
        "recall", "Were the articles readers opened next among the ranker's candidates?", HOUR, 50 * MINUTE, 300,
        ("recsys.candidate_recall", "--home", "{home}", "--until", "{until}"),
    ),
    Job(
        "ladder",
        "Arms on their way to readers: stop or next step",
        5 * MINUTE,
        0,
        120,
        ("web.ladder", "--home", "{home}", "--until", "{until}"),
    ),
    Job("report", "Reports of running experiments", HOUR, 20 * MINUTE, 600, ("web.reporting", "--home", "{home}", "--until", "{until}")),
    Job("registry", "Published models into MLflow", HOUR, 40 * MINUTE, 300, ("recsys.registry", "--home", "{home}")),
    Job(
        "drift",
        "Are readers and articles still what the models saw?",
        DAY,
        2 * HOUR,
        900,
        ("recsys.drift", "--home", "{home}", "--until", "{until}"),
    ),
    Job(
        "half-life", "Would heat that fades faster or slower have found the next click more often?", DAY, 3 * HOUR, 1_800,
        ("recsys.half_life", "--home", "{home}", "--until", "{until}"),
    ),
    Job(
        "assignment", "Readers assigned anew 1,000 times: does assigning alone make a difference?", 30 * DAY, 4 * HOUR, 900,
        ("web.assignment_job", "--home", "{home}", "--until", "{until}"),
    ),
    Job("explanation", "What the ranker looks at (SHAP)", DAY, 3 * HOUR + 30 * MINUTE, 1_800, ("recsys.explanation", "--home", "{home}")),
    Job(
        "sealing",
        "Days that are over go from the event store into files",
        DAY,
        30 * MINUTE,
        1_800,
        ("experiments.events.sealed_days", "--home", "{home}", "--until", "{until}"),
    ),
    Job("retention", "Raw events and dead letters past their time are deleted", DAY, 5 * HOUR + 30 * MINUTE, 3_600),
    Job(
        "backup",
        "A copy of everything, every database of it checked",
        DAY,
        6 * HOUR + 30 * MINUTE,
        1_800,
        ("web.backup_job", "--home", "{home}", "--until", "{until}"),
    ),
    Job(
        "drill",
        "The last copy is restored aside and its events are counted; the version before of every model is loaded",
        WEEK,
        3 * DAY + 8 * HOUR,  # the epoch was a Thursday
        3_600,
        ("web.drill_job", "--home", "{home}", "--until", "{until}"),
    ),
)  # fmt: skip
DEMO_RHYTHM = {"signals": HOUR, "als": 2 * DAY}  # simulated days last seconds; everything else runs on request there


def timetable(settings: Settings) -> tuple[Job, ...]:
    """Return the jobs of this installation, in the order a failure matters."""
    if settings.profile == "production":
        return JOBS
    return tuple(replace(job, every_s=DEMO_RHYTHM.get(job.name, ON_REQUEST), offset_s=0) for job in JOBS)


def job_named(jobs: Sequence[Job], name: str) -> Job:
    for job in jobs:
        if job.name == name:
            return job
    raise NotFoundError(f"no job is called '{name}'; {nearest(name, [job.name for job in jobs])}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: ``state`` is done, refused, failed or stopped; ``reason`` says why in words."""

    state: str
    reason: str = ""
    exit_code: int = 0
    peak_mb: float | None = None
    log: str = ""


def latest_slot(engine: Engine, job: Job) -> datetime | None:
    """Return the newest slot of a job that is claimed."""
    with Session(engine) as session:
        return session.exec(select(func.max(JobRunRow.slot)).where(JobRunRow.job == job.name, col(JobRunRow.attempt) > 0)).one()


def release(engine: Engine, job: Job, *, after: datetime) -> None:
    """Let the slots after a moment be claimed once more: a clock that was ahead took them. The runs stay, with attempts below 0."""
    with Session(engine) as session:
        ahead = select(JobRunRow).where(JobRunRow.job == job.name, col(JobRunRow.slot) > after, col(JobRunRow.attempt) > 0)
        for row in session.exec(ahead):
            assert row.number is not None
            row.attempt = -row.number
        session.commit()


def claim(engine: Engine, job: Job, slot: datetime, *, at: datetime) -> JobRunRow | None:
    """Take a slot for this process, or return None when it was taken before."""
    row = JobRunRow(job=job.name, slot=slot, state="running", started_at=at)
    with Session(engine, expire_on_commit=False) as session:
        session.add(row)
        try:
            session.commit()
        except IntegrityError:
            return None
    return row


def finish_run(engine: Engine, number: int, outcome: Outcome, *, at: datetime, seconds: float) -> None:
    """Record how a run ended; one that was stopped is asked for once more. ``seconds`` is real time also where ``at`` is simulated."""
    with Session(engine) as session:
        row = session.get_one(JobRunRow, number)
        if row.state != "running":
            return  # it outlived its worker, and the next one has closed it
        row.state, row.reason, row.exit_code = outcome.state, outcome.reason, outcome.exit_code
        row.ended_at, row.seconds, row.peak_mb, row.log = at, round(seconds, 3), outcome.peak_mb, outcome.log[-20_000:]
        session.add(row)
        if outcome.state == "stopped":
            session.add(_again(row, at))
        session.commit()


def request_run(engine: Engine, job: Job, *, at: datetime) -> None:
    """Ask the worker to run a job now, whatever the timetable says."""
    with Session(engine) as session:
        session.add(JobRunRow(job=job.name, slot=at, state="requested", started_at=at))
        try:
            session.commit()
        except IntegrityError:
            return  # asked twice in the same instant


def requested(engine: Engine, *, at: datetime) -> list[JobRunRow]:
    """Take over every run that was asked for; each comes back once."""
    with Session(engine, expire_on_commit=False) as session:
        rows = list(session.exec(select(JobRunRow).where(JobRunRow.state == "requested").order_by(col(JobRunRow.number))))
        for row in rows:
            row.state, row.started_at = "running", at
            session.add(row)
        session.commit()
    return rows


def abandon(engine: Engine, jobs: Sequence[Job], *, at: datetime) -> None:
    """Close the runs of a worker that ended while they ran; each is asked for once more. Only the holder of the lease may call it."""
    known = {job.name for job in jobs}
    with Session(engine) as session:
        for row in session.exec(select(JobRunRow).where(JobRunRow.state == "running")).all():
            row.state, row.ended_at, row.reason = "failed", at, "the worker ended while it ran"
            session.add(row)
            if row.attempt == 1 and row.job in known:
                session.add(_again(row, at))
        session.commit()


def _again(row: JobRunRow, at: datetime) -> JobRunRow:
    """Another attempt of a run that did not come to its end."""
    return JobRunRow(job=row.job, slot=row.slot, attempt=row.attempt + 1, state="requested", started_at=at)


def last_runs(engine: Engine, *, each: int = 12) -> dict[str, list[JobRunRow]]:
    """Return the newest runs per job, the newest first."""
    found: dict[str, list[JobRunRow]] = {}
    with Session(engine, expire_on_commit=False) as session:
        for name in session.exec(select(JobRunRow.job).distinct()).all():
            query = select(JobRunRow).where(JobRunRow.job == name).order_by(col(JobRunRow.number).desc()).limit(each)
            found[name] = list(session.exec(query))
    return found


def arguments(job: Job, *, home: Path, until_us: int) -> list[str]:
    """Return the command line of a job's child process."""
    return [sys.executable, "-m", *(part.format(home=home, until=until_us) for part in job.command)]
