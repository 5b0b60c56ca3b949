"""Arms in shadow: asked on real requests, off the response path, never shown."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass

from experiments.clock import Clock
from experiments.events.event import Event
from experiments.events.ids import PageViews, event_id
from experiments.events.outbox import Outbox
from experiments.serving.recommender import Context, Recommender
from experiments.serving.slate import SlateRules, build_slate

__all__ = ["Shadow"]

ENOUGH = 1_000  # requests per arm; what follows tells nothing new about errors and speed
REPORT_EVERY = 100


@dataclass(slots=True)
class _Tally:
    calls: int = 0
    errors: int = 0
    dropped: int = 0
    slowest_us: int = 0
    total_us: int = 0
    last_error: str = ""


class Shadow:
    """One thread and a short queue per process; a full queue drops and counts."""

    def __init__(self, outbox: Outbox, page_views: PageViews, clock: Clock, *, processes: int = 1) -> None:
        self.outbox, self.page_views, self.clock = outbox, page_views, clock
        self.enough = -(-ENOUGH // processes)
        self.tallies: dict[tuple[str, str], _Tally] = {}
        self._queue: queue.Queue[tuple[str, Recommender, Context, SlateRules]] = queue.Queue(maxsize=4)
        self._thread: threading.Thread | None = None

    def offer(self, experiment: str, name: str, arm: Recommender | None, context: Context, rules: SlateRules) -> None:
        """Ask an arm later, if there is room; None is an arm that is not trained yet."""
        if arm is None:
            return
        tally = self.tallies.setdefault((experiment, name), _Tally())
        if tally.calls >= self.enough:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True, name="shadow")
            self._thread.start()
        try:
            self._queue.put_nowait((experiment, arm, context, rules))
        except queue.Full:
            tally.dropped += 1

    def _work(self) -> None:
        while True:
            experiment, arm, context, rules = self._queue.get()
            tally = self.tallies[(experiment, arm.name)]
            start = time.perf_counter()
            try:
                build_slate(arm.rank(context), context, rules=rules)
            except Exception as error:  # an arm is foreign code; the count and the words go into the event
                tally.errors, tally.last_error = tally.errors + 1, f"{type(error).__name__}: {error}"[:200]
            took_us = round((time.perf_counter() - start) * 1e6)
            tally.calls, tally.total_us, tally.slowest_us = tally.calls + 1, tally.total_us + took_us, max(tally.slowest_us, took_us)
            if tally.calls % REPORT_EVERY == 0:
                self._report(experiment, arm.name, tally)

    def _report(self, experiment: str, name: str, tally: _Tally) -> None:
        now = self.clock()
        body = {
            "shadow": True,
            "calls": tally.calls,
            "errors": tally.errors,
            "dropped": tally.dropped,
            "mean_us": tally.total_us // tally.calls,
            "slowest_us": tally.slowest_us,
            "last_error": tally.last_error,
        }
        page_view = self.page_views(now)
        self.outbox.append([Event(event_id(page_view, "arm_health", name), "arm_health", page_view, "", now, now, body, experiment, name)])
