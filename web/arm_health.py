"""How every arm answers readers: asked, late, failing, replaced, and how long its slates took; a row per arm and ten seconds."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from experiments.clock import Clock
from experiments.errors import OutboxError
from experiments.events.event import Event
from experiments.events.ids import PageViews, event_id
from experiments.events.outbox import Outbox
from experiments.events.store import read_store, store_path
from experiments.serving.pick import Picked

__all__ = ["ArmHealth", "arm_health"]

EVERY_S = 10.0
DAY_US = 86_400_000_000
STEPS = 4  # buckets of the times: four to a doubling, so that a quantile is at most 19 % too large


@dataclass(slots=True)
class _Window:
    calls: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    rungs: Counter[int] = field(default_factory=Counter)
    times: Counter[int] = field(default_factory=Counter)


class ArmHealth:
    """Counts of this process since the last row; its watching thread hands them over, so that no reader waits.

    Parameters
    ----------
    opened : arm -> how often its breaker opened since the process started.
    every_s : real seconds between two rows of an arm, also where time is simulated.
    """

    def __init__(
        self, outbox: Outbox, page_views: PageViews, clock: Clock, *, opened: Callable[[str], int] = lambda _: 0, every_s: float = EVERY_S
    ) -> None:
        self.outbox, self.page_views, self.clock, self.opened = outbox, page_views, clock, opened
        self.incarnation, self.every_s = uuid4().hex, every_s
        self._lock = threading.Lock()
        self._windows: dict[tuple[str, str], _Window] = {}
        self._since_us, self._told = clock(), time.monotonic()

    def count(self, experiment: str, arm: str, picked: Picked) -> None:
        """Count one slate under the arm that was due, whoever filled it; a blank slot is no slate."""
        if picked.outcome == "empty":
            return
        with self._lock:
            window = self._windows.setdefault((experiment, arm), _Window())
            window.calls += 1
            window.rungs.update(item.rung for item in picked.slate.items if not item.pinned)
            window.times[math.ceil(STEPS * math.log2(max(picked.latency_us, 1)))] += 1
            if picked.cause:
                window.causes[picked.cause] += 1

    def tell(self, *, now: bool = True) -> None:
        """Make what was counted durable, or, unless ``now``, do so when it is due; what cannot be kept is lost."""
        with self._lock:
            if not now and time.monotonic() - self._told < self.every_s:
                return
            windows, since_us = self._windows, self._since_us
            self._windows, self._since_us, self._told = {}, self.clock(), time.monotonic()
        events = [self._event(experiment, arm, since_us, window) for (experiment, arm), window in windows.items()]
        if events:
            with suppress(OutboxError):  # the health of arms is not worth a reader's page
                self.outbox.append(events)

    def _event(self, experiment: str, arm: str, since_us: int, window: _Window) -> Event:
        now, page_view = self.clock(), self.page_views(self.clock())
        body = {
            "incarnation": self.incarnation, "since_us": since_us, "calls": window.calls, "causes": dict(window.causes), "opened": self.opened(arm),
            "rungs": {str(rung): n for rung, n in sorted(window.rungs.items())}, "times": {str(step): n for step, n in sorted(window.times.items())},
        }  # fmt: skip
        return Event(event_id(page_view, "arm_health", f"{experiment}:{arm}"), "arm_health", page_view, "", now, now, body, experiment, arm)


def arm_health(home: Path, *, until_us: int) -> dict[str, dict[str, Any]]:
    """Return per arm what the last 24 hours before ``until_us`` say: ``{calls, own, causes, p50_ms, p99_ms}``.

    ``own`` is the share of slates the arm answered itself, ``causes`` how often it was replaced and why; times include the slate builder.
    """
    calls, causes, times = Counter[str](), dict[str, Counter[str]](), dict[str, Counter[int]]()
    if store_path(home).exists():
        with closing(read_store(store_path(home))) as store:
            query = (
                "SELECT arm, body FROM event WHERE kind = 'arm_health' AND issued_at >= ? AND issued_at <= ? AND body LIKE '%\"times\"%'"
            )
            for arm, text in store.execute(query, (until_us - DAY_US, until_us)):
                body = json.loads(text)
                calls[arm] += body["calls"]
                causes.setdefault(arm, Counter()).update(body["causes"])
                times.setdefault(arm, Counter()).update({int(step): n for step, n in body["times"].items()})
    return {
        arm: {
            "calls": n, "own": 1 - causes[arm].total() / n, "causes": dict(causes[arm].most_common()),
            "p50_ms": _quantile_ms(times[arm], 0.5), "p99_ms": _quantile_ms(times[arm], 0.99),
        }
        for arm, n in sorted(calls.items())
    }  # fmt: skip


def _quantile_ms(times: Counter[int], share: float) -> float:
    """Upper end of the bucket in which the quantile lies.

    Examples
    --------
    >>> _quantile_ms(Counter({40: 98, 52: 2}), 0.99), _quantile_ms(Counter({40: 99, 52: 1}), 0.99)
    (8.192, 1.024)
    """
    left = math.ceil(share * times.total())
    for step, n in sorted(times.items()):
        left -= n
        if left <= 0:
            return round(float(2 ** (step / STEPS)) / 1_000, 3)
    return math.nan
