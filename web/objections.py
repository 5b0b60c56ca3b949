"""Readers who object leave one number an hour, and nothing else."""

from __future__ import annotations

import threading
from uuid import uuid4

from experiments.clock import Clock
from experiments.events.event import Event
from experiments.events.ids import PageViews, event_id
from experiments.events.outbox import Outbox

__all__ = ["Objections"]

HOUR_US = 3_600_000_000


class Objections:
    """Counts pages shown to readers who object; an hour's count is written when the next hour's first page comes."""

    def __init__(self, outbox: Outbox, page_views: PageViews, clock: Clock) -> None:
        self.outbox, self.page_views, self.clock = outbox, page_views, clock
        self.incarnation = uuid4().hex
        self._lock = threading.Lock()
        self._hour, self._pages = 0, 0

    def count(self) -> None:
        """Count one page; at most once an hour this writes."""
        hour = self.clock() // HOUR_US
        with self._lock:
            if hour == self._hour:
                self._pages += 1
                return
            ended, pages = self._hour, self._pages
            self._hour, self._pages = hour, 1
        if pages:
            at = (ended + 1) * HOUR_US
            page_view = self.page_views(at)
            body = {"objected": pages, "hour": ended, "incarnation": self.incarnation}
            key = f"{self.incarnation}:{ended}"
            self.outbox.append([Event(event_id(page_view, "edge_count", key), "edge_count", page_view, "", at, self.clock(), body)])
