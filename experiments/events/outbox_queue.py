"""The queue in front of the committer: bounded, with batches that are kept whole or not at all."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from experiments.errors import OutboxError

__all__ = ["Batch", "Line", "OutboxFailed", "OutboxFull", "OutboxLate", "OutboxLimits", "in_words"]


class OutboxFull(OutboxError):
    """Nothing was kept; ``reason`` is ``queue``, ``quota``, ``reserve`` or ``disk``. Try again later."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the outbox is full ({reason}).", "Start the loader or free disk space; clients retry.")


class OutboxFailed(OutboxError):
    """Nothing was acknowledged; ``reason`` is ``invalid`` (an event cannot be written), ``commit`` or ``closed``."""

    def __init__(self, reason: str, what: str, hint: str) -> None:
        self.reason = reason
        super().__init__(what, hint)


class OutboxLate(OutboxError):
    """The commit took too long. ``withdrawn``: nothing was kept; otherwise the events may still become durable."""

    def __init__(self, *, withdrawn: bool) -> None:
        self.withdrawn = withdrawn
        self.reason = "late"
        super().__init__("the events were not durable in time" + (" and were withdrawn." if withdrawn else "; their commit still runs."))


@dataclass(frozen=True, slots=True)
class OutboxLimits:
    """When the outbox refuses, and when it starts a new file.

    Parameters
    ----------
    quota_bytes : of all outbox files together.
    reserve_bytes : of the disk, left free.
    queue_events, queue_bytes : waiting for a commit; a single batch of any size is accepted by an empty queue.
    rotate_bytes : of write-ahead log; rotate_s : age of the file, seconds of real time.
    tick_s : how often an idle committer looks after its file.
    """

    quota_bytes: int = 2 << 30
    reserve_bytes: int = 512 << 20
    queue_events: int = 10_000
    queue_bytes: int = 4 << 20
    rotate_bytes: int = 16 << 20
    rotate_s: float = 600.0
    tick_s: float = 0.5


@dataclass(slots=True, eq=False)
class Batch:
    """The events of one call: all of them in one transaction, or none."""

    bodies: list[bytes]
    tally: Counter[tuple[str, str]]
    size: int
    done: threading.Event = field(default_factory=threading.Event)
    error: OutboxError | None = None


@dataclass(slots=True, eq=False)
class Line:
    """The queue of one process. A forked child gets its own: locks and connections do not survive a fork."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    waiting: list[Batch] = field(default_factory=list)
    events: int = 0
    size: int = 0
    committer: threading.Thread | None = None
    closing: bool = False
    error: OutboxError | None = None

    def admit(self, batch: Batch, limits: OutboxLimits) -> None:
        if self.closing:
            raise OutboxFailed("closed", "the outbox is closed.", "Open another one.")
        events, size = self.events + len(batch.bodies), self.size + batch.size
        if self.waiting and (events > limits.queue_events or size > limits.queue_bytes):
            raise OutboxFull("queue")
        self.waiting.append(batch)
        self.events, self.size = events, size
        self.changed.notify()

    def take(self, tick_s: float) -> list[Batch] | None:
        """Everything that waits; empty after a quiet tick; None when closed and drained."""
        with self.changed:
            if not self.waiting and not self.closing:
                self.changed.wait(tick_s)
        time.sleep(0)  # threads that are about to append do so first: one commit for several pages
        with self.changed:
            batches, self.waiting, self.events, self.size = self.waiting, [], 0, 0
            return None if self.closing and not batches else batches

    def withdraw(self, batch: Batch) -> bool:
        with self.changed:
            if batch not in self.waiting:
                return False
            self.waiting.remove(batch)
            self.events, self.size = self.events - len(batch.bodies), self.size - batch.size
            return True


def in_words(error: Exception) -> str:
    """Return what an error says, without the folder it happened in: whoever sent the events reads it.

    Examples
    --------
    >>> in_words(FileNotFoundError(2, "No such file or directory", "/home/site/outbox/1.db-wal")), in_words(ValueError("x"))
    ('No such file or directory: 1.db-wal', 'x')
    """
    if isinstance(error, OSError) and error.filename:
        return f"{error.strerror}: {Path(error.filename).name}"
    return str(error)
