"""``presslab worker``: the one process that loads events, keeps the timetable and trains, always in fresh processes."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger
from sqlalchemy import Engine

from experiments.clock import Clock, FileClock, clock_of, moment
from experiments.errors import BusyError, DataError, as_sentence
from experiments.events.asking import answer_requests
from experiments.events.erase import erase_readers
from experiments.events.loader import Loader
from experiments.files import read_json
from experiments.settings import Settings
from experiments.tables import JobRunRow, control_engine
from web.child import ended, kill, restrain, wait_for, written
from web.clock_watch import ClockWatch
from web.jobs import SET_BACK, Job, Outcome, abandon, arguments, claim, finish_run, job_named, latest_slot, release, requested, timetable
from web.operations import Operations
from web.signal_job import SignalJob
from web.worker_state import beat as write_beat

__all__ = ["Worker"]

log = logging.getLogger("presslab.worker")
HEARTBEAT_S = 2.0
OPERATIONS_S = 10.0  # between two looks at the arms that are on their ladder
ENDING_S = 10.0  # that a worker which is told to stop waits for its jobs
MOST_ERASED, ERASE_AGAIN_S = 1_000, 60.0  # readers at once; until an erasure that failed is tried again
PAUSE_S = 0.2  # between two looks at the outboxes: an event is in the store well within two seconds
QUIET_ENVIRONMENT = {
    "PYTHONDONTWRITEBYTECODE": "",
    "OMP_NUM_THREADS": "2",
    "OMP_WAIT_POLICY": "passive",  # threads that wait for each other leave the cores to the site instead of asking again and again
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}


class Worker:
    """Holds the lease of a home folder while it lives.

    Raises
    ------
    BusyError
        Another worker holds the lease; its process id is named.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self.home = settings, Path(settings.home)
        self.clock: Clock = clock_of(self.home, settings.profile)
        self._lease = _take_lease(self.home)
        self.engine: Engine = control_engine(self.home)
        self.jobs = timetable(settings)
        self.loader = Loader(self.home, clock=self.clock)
        self.signals = SignalJob(settings)
        self.operations = Operations(self.home, self.engine, self.clock, source=settings.source)
        self.inside: dict[str, Callable[[int], str]] = {"signals": self.signals.run, "retention": self._retention, "sealing": self._sealing}
        self.stopping = threading.Event()
        self._watch = ClockWatch(self.home, lambda: self.clock(), simulated=isinstance(self.clock, FileClock))
        self._slots: dict[str, datetime] = {}
        self._erase_from = 0.0  # monotonic seconds
        self._busy: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._heavy = threading.BoundedSemaphore(2)
        self._runs: set[int] = set()  # numbers of the runs that have not ended
        self._children: set[subprocess.Popen[bytes]] = set()
        self.loaded = {"stored": 0, "duplicate": 0}
        self.faults: dict[str, str] = {}

    def run(self) -> None:
        """Work until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stopping.set())
        self.work()
        self.close()

    def work(self) -> None:
        """Load events and keep the timetable until ``stopping`` is set."""
        abandon(self.engine, self.jobs, at=moment(self.clock()))
        loading = threading.Thread(target=self._load, daemon=True, name="loader")
        loading.start()
        scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(len(self.jobs) + 3)},  # jobs wait for each other; requests, looks and the heartbeat for none
            timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )  # fmt: skip
        tick_s = 0.1 if self.settings.profile == "demo" else 1.0
        for job in (job for job in self.jobs if job.schedule() != "on request"):
            scheduler.add_job(self.run_due, IntervalTrigger(seconds=tick_s), args=[job], id=job.name)
        scheduler.add_job(self._run_requested, IntervalTrigger(seconds=0.2), id="requests")
        scheduler.add_job(self.look, IntervalTrigger(seconds=OPERATIONS_S), id="operations")
        scheduler.add_job(self.beat, IntervalTrigger(seconds=HEARTBEAT_S), id="heartbeat")
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        self.beat()
        scheduler.start()
        self.stopping.wait()
        scheduler.shutdown(wait=False)
        self._end_runs()
        loading.join(timeout=10)

    def _end_runs(self) -> None:
        """End processes at once, work inside before its next transaction; the next worker closes a run that is stuck."""
        self.loader.close()
        until = time.monotonic() + ENDING_S
        while self._runs and time.monotonic() < until:
            for child in tuple(self._children):
                kill(child)
            time.sleep(0.02)

    def close(self) -> None:
        """Let another worker take over."""
        self.loader.close()
        self.operations.close()
        self.engine.dispose()
        os.close(self._lease)

    def run_due(self, job: Job) -> None:
        """Run a job if its latest due time has not been claimed yet; missed due times are caught up once."""
        now = moment(self.clock())
        slot = job.latest_slot(now)
        if job.schedule() == "on request" or self._claimed(job, now) >= slot:
            return
        row = claim(self.engine, job, slot, at=now)
        self._slots[job.name] = slot
        if row is not None:
            self._supervise(job, row)

    def _claimed(self, job: Job, now: datetime) -> datetime:
        """The newest slot of a job; asked of the store once, since only the lease holder claims.

        A clock that was wrong claimed what lies ahead: it holds nothing back, neither now nor when its time comes.
        """
        if job.name not in self._slots:
            self._slots[job.name] = latest_slot(self.engine, job) or moment(0)
        if self._slots[job.name] > now + SET_BACK:
            release(self.engine, job, after=now)
            self._slots[job.name] = latest_slot(self.engine, job) or moment(0)
        return self._slots[job.name]

    def _run_requested(self) -> None:
        for row in requested(self.engine, at=moment(self.clock())):
            job = job_named(self.jobs, row.job)
            threading.Thread(target=self._supervise, args=(job, row), daemon=True, name=f"job {job.name}").start()

    def _supervise(self, job: Job, row: JobRunRow) -> None:
        """Run a job, one at a time of its name, and record the end whatever happens."""
        assert row.number is not None
        self._runs.add(row.number)
        with self._busy[job.name]:
            start = time.monotonic()
            outcome = self._outcome(job)
            if self.stopping.is_set() and outcome.state == "failed":
                outcome = Outcome("stopped", "the worker was stopped while it ran", outcome.exit_code, outcome.peak_mb, outcome.reason)
            finish_run(self.engine, row.number, outcome, at=moment(self.clock()), seconds=time.monotonic() - start)
        self._runs.discard(row.number)

    def _outcome(self, job: Job) -> Outcome:
        began = time.monotonic()
        try:
            if job.name not in self.inside:
                return self._outside(job)
            said, seconds = self.inside[job.name](self.clock()), time.monotonic() - began
            return Outcome("done", said if seconds <= job.longest_s else f"{said}; it ran {seconds:.0f} s, longer than {job.longest_s} s")
        except Exception as error:  # the run table is where a failing job is seen; the worker goes on
            if not self.stopping.is_set():
                log.exception("job %s failed", job.name)
            return Outcome("failed", as_sentence(error), 1)

    def _outside(self, job: Job, until_us: int | None = None) -> Outcome:
        """Run a job in a fresh process, niced, with a limit of memory, killed after its longest time; up to the moment it begins, if none is given."""
        environment = {**os.environ, **QUIET_ENVIRONMENT, "PRESSLAB_HOME": str(self.home), "PRESSLAB_PROFILE": self.settings.profile}
        with nullcontext() if job.name == "ladder" else self._heavy:  # readers must not wait for it behind half an hour of training
            if self.stopping.is_set():
                return Outcome("failed", "not begun")
            with TemporaryFile("w+", errors="replace") as out, TemporaryFile("w+", errors="replace") as errors:
                child = subprocess.Popen(
                    arguments(job, home=self.home, until_us=until_us or self.clock()), stdout=out, stderr=errors, env=environment, start_new_session=True
                )  # fmt: skip
                self._children.add(child)
                restrain(child.pid, job.most_mb)
                in_time, peak_mb = wait_for(child, job.longest_s)
                self._children.discard(child)
                if not in_time:
                    return Outcome("failed", f"ran longer than {job.longest_s} s and was stopped", 124, peak_mb)
                return ended(child.returncode, written(out), written(errors), peak_mb)

    def _retention(self, until_us: int) -> str:
        from experiments.events.retention import expire

        self._watch.check()
        return expire(self.home, until_us=until_us, days=self.settings.retention_days, loader=self.loader)

    def _sealing(self, until_us: int) -> str:
        from experiments.events.sealing import seal

        self._watch.check()
        return seal(self.home, until_us=until_us, loader=self.loader, write=self._write_days)

    def _write_days(self, until_us: int) -> None:
        """In a process of its own: what Parquet takes of memory goes with it."""
        ended = self._outside(job_named(self.jobs, "sealing"), until_us)
        if ended.state != "done":
            raise DataError(f"events could not be sealed: {ended.reason}")

    def _erase(self) -> None:
        """Erase the readers who asked for it, all at once; a request stays until it is done.

        What fails is tried again after a minute: each time all outboxes are changed and every sealed file is read.
        """
        if time.monotonic() < self._erase_from:
            return
        try:
            asked = {path: read_json(path)["reader"] for path in sorted((self.home / "erase").glob("*.json"))[:MOST_ERASED]}
            if asked:
                erased = erase_readers(self.home, asked.values(), until_us=self.clock(), loader=self.loader).sure()
                log.info("readers were erased: %s, with %s events", len(asked), erased.rows)
                self.signals.log.forget(asked.values())
            for path, reader in asked.items():
                self.operations.forget(reader)
                path.unlink()
            self.faults.pop("erasure", None)
        except Exception as error:  # a damaged file, say; events go on
            self._erase_from = time.monotonic() + ERASE_AGAIN_S
            if not self.stopping.is_set():
                self._tell_of("erasure", error)

    def _load(self) -> None:
        """Load for ever; a failure is counted, shown and tried again."""
        pause_s = PAUSE_S
        while not self.stopping.is_set():
            try:
                loaded = self.loader.load()
                self._erase()
                answer_requests(self.home, self.loader)
                self.loaded["stored"] += loaded.stored
                self.loaded["duplicate"] += loaded.duplicate
                self.faults.pop("loader", None)
                pause_s = 0.0 if loaded.pending_files else PAUSE_S
            except Exception as error:  # the heartbeat carries the words to the jobs page
                if self.stopping.is_set():
                    return  # the store is closed; whoever comes next goes on
                self._tell_of("loader", error)
                pause_s = 1.0
            self.stopping.wait(pause_s)

    def look(self) -> None:
        """Stop arms whose readers meet failures; a look that fails is shown and tried again."""
        try:
            for arm in self.operations.look():
                log.warning("arm %s is %s: %s", arm.arm, arm.state, arm.why)
            self.faults.pop("operations", None)
        except Exception as error:  # the store may be away; the heartbeat carries the words to the health page
            self._tell_of("operations", error)

    def _tell_of(self, part: str, error: Exception) -> None:
        """Keep a fault for the heartbeat, and log it once: a database may be away for hours."""
        said = as_sentence(error)
        if self.faults.get(part) != said:
            log.exception("%s failed", part)
        self.faults[part] = said

    def beat(self) -> None:
        """Say that this worker lives; pages show the age of these words."""
        write_beat(self.home, pid=os.getpid(), clock=self.clock, loaded=self.loaded, faults=self.faults)


def _take_lease(home: Path) -> int:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(home / "worker.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = (read_json(home / "worker.json") or {}).get("pid", "unknown")
        os.close(descriptor)
        raise BusyError(f"another worker (process {holder}) holds the timetable of {home}.", "Stop it first, or leave it to it.") from None
    return descriptor
