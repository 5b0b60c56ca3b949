"""What arrives at ``/e``, counted at the door: every event seen is accepted, rejected with its reason, or refused."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from experiments.clock import Clock
from experiments.errors import OutboxError
from experiments.events.event import Event
from experiments.events.ids import PageViews, event_id
from experiments.events.outbox import Outbox
from experiments.events.store import read_store, store_path

__all__ = ["Edge", "edge_counts"]

EVERY_S = 1.0
DAY_US = 86_400_000_000


class Edge:
    """Counts of this process since it started; once a second they ride along with the next commit, and when the process ends.

    The counts are cumulative: of several from one process the largest tells everything, so a lost or doubled one does
    no harm. Reasons are our own words, never the sender's; no arm is looked at.
    """

    def __init__(self, outbox: Outbox, page_views: PageViews, clock: Clock, *, every_s: float = EVERY_S) -> None:
        self.outbox, self.page_views, self.clock = outbox, page_views, clock
        self.incarnation = uuid4().hex
        self._lock = threading.Lock()
        self._accepted, self._rejected, self._refused, self._untold = 0, Counter[str](), Counter[str](), False
        self.every_s, self._told = every_s, time.monotonic()  # real time, so that a simulated day does not write thousands

    def count(self, *, accepted: int = 0, rejected: Iterable[str] = (), refused: str = "", events: int = 1) -> None:
        """Count one request.

        Parameters
        ----------
        accepted : events that are durable.
        rejected : reasons, one per event; sending it again would not help.
        refused : why nothing was kept this time (``429``, ``503`` ...); then ``events`` of them were refused.
        """
        with self._lock:
            self._accepted += accepted
            self._rejected.update(rejected)
            if refused:
                self._refused[refused] += events
            self._untold = True
        self.tell(now=False)

    def tell(self, *, now: bool = True) -> None:
        """Let what was counted ride along with the next commit, or, unless ``now``, do so when it is due."""
        with self._lock:
            if not self._untold or (not now and time.monotonic() - self._told < self.every_s):
                return
            self._untold, self._told, body = False, time.monotonic(), self._body()
        at = self.clock()
        page_view = self.page_views(at)
        with suppress(OutboxError):  # the next one says it all again
            self.outbox.offer([Event(event_id(page_view, "edge_count", self.incarnation), "edge_count", page_view, "", at, at, body)])

    def _body(self) -> dict[str, Any]:
        seen = self._accepted + self._rejected.total() + self._refused.total()
        counts = {"rejected": dict(self._rejected), "refused": dict(self._refused)}
        return {"incarnation": self.incarnation, "seen": seen, "accepted": self._accepted, **counts}


def edge_counts(home: Path, *, until_us: int) -> dict[str, Any]:
    """Return what the processes of the last 24 hours saw together: seen, accepted, rejected and refused by reason."""
    last: dict[str, dict[str, Any]] = {}
    if store_path(home).exists():
        with closing(read_store(store_path(home))) as store:
            query = "SELECT body FROM event WHERE kind = 'edge_count' AND issued_at >= ? AND body LIKE '%\"seen\"%'"
            for (text,) in store.execute(query, (until_us - DAY_US,)):
                body = json.loads(text)
                if body["seen"] >= last.get(body["incarnation"], body)["seen"]:
                    last[body["incarnation"]] = body
    total: dict[str, Any] = {name: sum(body[name] for body in last.values()) for name in ("seen", "accepted")}
    for name in ("rejected", "refused"):
        total[name] = dict(sum((Counter(body[name]) for body in last.values()), Counter[str]()).most_common())
    return total
