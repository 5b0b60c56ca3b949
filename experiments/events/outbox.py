"""The durable way in: when ``append`` returns, the events survive a power cut.

One committer thread per process owns the only writing connection. While it commits, everybody else queues; the next
commit takes the whole queue (group commit), so the cost of one fdatasync is shared and no timer is needed.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.errors import OutboxError
from experiments.events.event import Event
from experiments.events.ids import PageViews
from experiments.events.outbox_file import OutboxFile, Synchronous
from experiments.events.outbox_queue import Batch, Line, OutboxFailed, OutboxFull, OutboxLate, OutboxLimits, in_words
from experiments.events.wire import encode_all

__all__ = ["Outbox", "OutboxFailed", "OutboxFull", "OutboxLate", "OutboxLimits", "request_rotation"]

ROTATION_MARK = "rotate"
FAILURES, WITHIN_S = 3, 60.0


class Outbox:
    """Makes events durable for this process and its children; safe to share between threads.

    Parameters
    ----------
    folder : ``home/outbox``; created if missing.
    clock : UTC microseconds; only names the files.
    limits : see :class:`OutboxLimits`.
    synchronous : leave it at ``FULL``; see :class:`experiments.events.outbox_file.OutboxFile`.
    give_up : called once after three failed commits within 60 s; from then on every append is refused. A web worker
        passes a function that ends the process with status 70.

    Examples
    --------
    >>> import tempfile
    >>> from experiments.events.ids import event_id
    >>> page_view = PageViews()(1_700_000_000_000_000)
    >>> seen = Event(event_id(page_view, "canary"), "canary", page_view, "", 1_700_000_000_000_000, 1_700_000_000_000_000)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     outbox = Outbox(Path(folder), clock=lambda: 1_700_000_000_000_000)
    ...     outbox.append([seen])
    ...     outbox.close()
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Callable[[], int],
        limits: OutboxLimits = OutboxLimits(),
        synchronous: Synchronous = "FULL",
        give_up: Callable[[], None] | None = None,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._limits = limits
        self._synchronous: Synchronous = synchronous
        self._give_up = give_up
        self._lines: dict[int, Line] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def append(self, events: Sequence[Event], *, timeout_s: float = 1.0) -> None:
        """Return once all ``events`` are durable, in one transaction.

        Parameters
        ----------
        events : any number; a batch above the queue limit is accepted while nobody waits (give it time).
        timeout_s : how long to wait for the commit, seconds of real time.

        Raises
        ------
        OutboxFull
            Queue, quota, disk reserve or disk; nothing was kept.
        OutboxLate
            Not durable in time; says whether the events were withdrawn.
        OutboxFailed
            An event cannot be written, the commit failed, or the outbox is closed; nothing was acknowledged.
        """
        if not events:
            return
        line, batch = self._queued(events)
        if not batch.done.wait(timeout_s):
            if line.withdraw(batch):
                raise OutboxLate(withdrawn=True)
            if not batch.done.is_set():
                raise OutboxLate(withdrawn=False)
        if batch.error is not None:
            raise batch.error

    def offer(self, events: Sequence[Event]) -> None:
        """Leave ``events`` for the next commit and return at once: they may become durable, and nobody is told.

        Raises
        ------
        OutboxFull
            The queue is full; nothing was kept.
        OutboxFailed
            An event cannot be written, or the outbox is closed.
        """
        if events:
            self._queued(events)

    def _queued(self, events: Sequence[Event]) -> tuple[Line, Batch]:
        try:
            bodies = encode_all(events)
        except (ValueError, TypeError, AttributeError) as error:
            raise OutboxFailed("invalid", f"an event cannot be written: {error}.", "Nothing of this call was kept.") from error
        batch = Batch(bodies, Counter((event.kind, event.arm) for event in events), sum(map(len, bodies)))
        line = self._line()
        with line.changed:
            self._start(line)
            line.admit(batch, self._limits)
        return line, batch

    def start(self) -> None:
        """Start the committer of this process and open its file, so that the first page does not pay for it."""
        line = self._line()
        with line.changed:
            self._start(line)

    @property
    def ready(self) -> bool:
        """False after a commit failed, until one succeeds."""
        line = self._lines.get(os.getpid())
        return line is None or (line.error is None and not line.closing)

    def close(self) -> None:
        """Commit what waits, seal the file and stop; further appends are refused."""
        line = self._line()
        with line.changed:
            line.closing = True
            line.changed.notify()
            committer = line.committer
        if committer is not None:
            committer.join()

    def _line(self) -> Line:
        pid = os.getpid()
        return self._lines.get(pid) or self._lines.setdefault(pid, Line())  # setdefault is atomic: no lock to inherit

    def _start(self, line: Line) -> None:
        if line.committer is None and not line.closing:
            line.committer = threading.Thread(target=self._serve, args=(line,), name="outbox-committer", daemon=True)
            line.committer.start()

    def _serve(self, line: Line) -> None:
        # Everything that must not cross a fork (connection, lock) lives in this thread's frame and nowhere else.
        files = _Files(self._folder, PageViews()(self._clock()), self._limits, self._synchronous)
        failed: deque[float] = deque(maxlen=FAILURES)
        line.error = files.probe()
        while (batches := line.take(self._limits.tick_s)) is not None:
            if batches:
                line.error = files.commit(batches)
                if line.error is not None and not isinstance(line.error, OutboxFull):
                    failed.append(time.monotonic())
                for batch in batches:
                    batch.error = line.error
                    batch.done.set()
            if len(failed) == FAILURES and failed[-1] - failed[0] <= WITHIN_S:
                self._stop(line)
                return
            line.error = files.probe() if line.error else files.tend()
        files.finish()

    def _stop(self, line: Line) -> None:
        with line.changed:
            line.closing = True
            left, line.waiting = line.waiting, []
        for batch in left:
            batch.error = line.error
            batch.done.set()
        if self._give_up is not None:
            self._give_up()


class _Files:
    """The committer's files: one current, those that failed never touched again."""

    def __init__(self, folder: Path, incarnation: str, limits: OutboxLimits, synchronous: Synchronous) -> None:
        self._folder, self._incarnation, self._limits, self._synchronous = folder, incarnation, limits, synchronous
        self._number = 0
        self._current: OutboxFile | None = None
        self._opened = self._checked = self._tended = -1e9
        self._mark = 0

    def commit(self, batches: Sequence[Batch]) -> OutboxError | None:
        try:
            self._check_room()
            current = self._file()
            tally: Counter[tuple[str, str]] = Counter()
            for batch in batches:
                tally.update(batch.tally)
            if batches:
                current.write((body for batch in batches for body in batch.bodies), tally)
        except OutboxFull as error:
            return error
        except Exception as error:  # whatever it was, the file is in doubt and every waiter must be told
            return self._poison(error)
        return None

    def probe(self) -> OutboxError | None:
        """Return what still stands in the way of a commit, so that readiness comes back without one."""
        return self.commit(())

    def tend(self) -> OutboxError | None:
        """Start a new file when the log is long, the file old, or somebody asked; the new one exists before the old is sealed.

        The length is looked at after every commit, the rest once a tick.
        """
        old, now = self._current, time.monotonic()
        if old is None:
            return None
        try:
            long = old.wal_bytes() >= self._limits.rotate_bytes
            if now - self._tended < self._limits.tick_s and not long:
                return None
            self._tended = now
            old.check_names()
            mark = _mark(self._folder)
            if mark == self._mark and not long and now - self._opened < self._limits.rotate_s:
                return None
            if old.last_seq:
                self._current = None
                self._file()
                old.seal()
            self._opened, self._mark = now, mark
        except Exception as error:
            if self._current is not old:
                old.abandon()
            return self._poison(error)
        return None

    def finish(self) -> None:
        if self._current is not None:
            self._current.seal()
            self._current = None

    def _file(self) -> OutboxFile:
        if self._current is None:
            self._mark = _mark(self._folder)
            self._number += 1
            self._current = OutboxFile(self._folder, f"{self._incarnation}-{self._number}", synchronous=self._synchronous)
            self._opened = time.monotonic()
        return self._current

    def _poison(self, error: Exception) -> OutboxError:
        if self._current is not None:
            self._current.abandon()
            self._current = None
        no_room = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if no_room or (isinstance(error, sqlite3.OperationalError) and "full" in str(error)):
            return OutboxFull("disk")
        return OutboxFailed("commit", f"a commit failed: {in_words(error)}.", "Nothing was acknowledged; look at the disk.")

    def _check_room(self) -> None:
        if time.monotonic() - self._checked < self._limits.tick_s:
            return
        if shutil.disk_usage(self._folder).free < self._limits.reserve_bytes:
            raise OutboxFull("reserve")
        if sum(map(_size, self._folder.iterdir())) > self._limits.quota_bytes:
            raise OutboxFull("quota")
        self._checked = time.monotonic()


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:  # the loader has just removed it
        return 0


def _mark(folder: Path) -> int:
    try:
        return os.stat(folder / ROTATION_MARK).st_mtime_ns
    except FileNotFoundError:
        return 0


def request_rotation(folder: Path) -> None:
    """Ask every process to seal its file and start another (they look each tick); an erasure needs it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / ROTATION_MARK).touch()
