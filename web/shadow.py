"""Arms in shadow: asked on real requests, off the response path, never shown."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from experiments.clock import Clock
from experiments.errors import OutboxError
from experiments.events.event import Event
from experiments.events.ids import PageViews, event_id
from experiments.events.outbox import Outbox
from experiments.events.store import read_store, store_path
from experiments.serving.answers import sound
from experiments.serving.pick import NoAnswerError, Picker
from experiments.serving.recommender import Context, Recommender
from experiments.serving.slate import SlateRules, build_slate

__all__ = ["ENOUGH", "LEAST_MINUTES", "Asked", "Shadow", "shadow_result"]

log = logging.getLogger("presslab.shadow")
ENOUGH = 1_000  # requests per arm; what follows tells nothing new about errors and speed
LEAST_MINUTES = 2
LEAST_US = LEAST_MINUTES * 60_000_000
REPORT_EVERY = 100
PATIENCE_MS = 1_000.0  # an answer that takes longer is an error; how slow the others are is told


class Asked(NamedTuple):
    """Whom to ask and for which experiment; ``proposal`` is the number of the entry that asked for it, 0 of a plan."""

    experiment: str
    arm: str
    proposal: int = 0


@dataclass(slots=True)
class _Tally:
    since_us: int
    calls: int = 0
    errors: int = 0
    dropped: int = 0
    slowest_us: int = 0
    total_us: int = 0
    last_error: str = ""
    done: bool = False


class Shadow:
    """One thread and a short queue per process; a full queue drops and counts."""

    def __init__(self, outbox: Outbox, page_views: PageViews, clock: Clock) -> None:
        self.outbox, self.page_views, self.clock = outbox, page_views, clock
        self.enough = ENOUGH  # also of one process alone: the system may hand it nearly all readers
        self.incarnation = uuid4().hex
        self.tallies: dict[Asked, _Tally] = {}
        self.picker = Picker(deadline_ms=PATIENCE_MS)  # of its own: what hangs here takes nothing from readers, nor from another shadow
        self._queue: queue.Queue[tuple[Asked, Recommender, Context, SlateRules]] = queue.Queue(maxsize=4)
        self._thread: threading.Thread | None = None

    def offer(self, asked: Asked, arm: Recommender | None, context: Context, rules: SlateRules) -> None:
        """Ask an arm later, if there is room; None is an arm that is not trained yet."""
        if arm is None:
            return
        tally = self.tallies.setdefault(asked, _Tally(self.clock()))
        early = self.clock() < tally.since_us + LEAST_US
        if tally.done or (early and tally.calls >= self.enough):  # a busy site pauses, and asks once more when the time is over
            return
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, daemon=True, name="shadow")
            self._thread.start()
        try:
            self._queue.put_nowait((asked, arm, context, rules))
        except queue.Full:
            tally.dropped += 1

    def idle(self) -> None:
        """Wait until every request in the queue has been asked and told."""
        self._queue.join()

    def _work(self) -> None:
        while True:
            asked, arm, context, rules = self._queue.get()
            try:
                self._ask(asked, arm, context, rules)
            finally:
                self._queue.task_done()

    def _ask(self, asked: Asked, arm: Recommender, context: Context, rules: SlateRules) -> None:
        tally = self.tallies[asked]
        start = time.perf_counter()
        try:
            build_slate(self.picker.ask(arm, lambda: sound(arm.rank(context)), deadline_s=PATIENCE_MS / 1_000), context, rules=rules)
        except NoAnswerError as error:  # the count and the words go into the event
            tally.errors, tally.last_error = tally.errors + 1, str(error)[:200]
        took_us = round((time.perf_counter() - start) * 1e6)
        tally.calls, tally.total_us, tally.slowest_us = tally.calls + 1, tally.total_us + took_us, max(tally.slowest_us, took_us)
        tally.done = tally.calls >= self.enough and self.clock() >= tally.since_us + LEAST_US
        if tally.done or tally.calls % REPORT_EVERY == 0 or tally.calls == self.enough:
            self._report(asked, tally)

    def _report(self, asked: Asked, tally: _Tally) -> None:
        now = self.clock()
        body = {
            "shadow": True,
            "proposal": asked.proposal,
            "incarnation": self.incarnation,
            "since_us": tally.since_us,
            "calls": tally.calls,
            "errors": tally.errors,
            "dropped": tally.dropped,
            "mean_us": tally.total_us // tally.calls,
            "slowest_us": tally.slowest_us,
            "last_error": tally.last_error,
        }
        page_view, name = self.page_views(now), asked.arm
        event = Event(event_id(page_view, "arm_health", name), "arm_health", page_view, "", now, now, body, asked.experiment, name)
        try:
            self.outbox.append([event])
        except OutboxError as error:  # the next row says it all again
            log.error("the shadow of %s was not reported: %s", name, error)


def shadow_result(home: Path, asked: Asked) -> dict[str, Any]:
    """Return what an arm did in shadow: ``{calls, errors, dropped, minutes, slowest_ms, last_error}``, over all processes.

    Every process tells its running totals; its last row counts. ``minutes`` lie between the first request and the last row.
    """
    latest: dict[str, dict[str, Any]] = {}
    since, until = 0, 0
    if store_path(home).exists():
        with closing(read_store(store_path(home))) as store:
            query = "SELECT issued_at, body FROM event WHERE kind = 'arm_health' AND experiment = ? AND arm = ? ORDER BY issued_at, seq"
            for at, text in store.execute(query, (asked.experiment, asked.arm)):
                body = json.loads(text)
                if body.get("shadow") and body.get("proposal") == asked.proposal:
                    latest[body["incarnation"]] = body
                    since, until = min(since or body["since_us"], body["since_us"]), max(until, at)
    rows = list(latest.values())
    found: dict[str, Any] = {key: sum(row[key] for row in rows) for key in ("calls", "errors", "dropped")}
    return {
        **found, "minutes": round((until - since) / 60e6, 1), "slowest_ms": max((row["slowest_us"] / 1_000 for row in rows), default=0.0),
        "last_error": next((row["last_error"] for row in rows if row["last_error"]), ""),
    }  # fmt: skip
