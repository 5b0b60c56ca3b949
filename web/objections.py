"""Readers who object leave one number an hour, and nothing else."""

from __future__ import annotations

import threading
from contextlib import suppress
from uuid import uuid4

from experiments.clock import Clock
from experiments.errors import OutboxError
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
        self._write(ended, pages)

    def tell(self) -> None:
        """Write what the hour that runs has counted so far, if it can be kept: the process ends."""
        with self._lock:
            hour, pages, self._pages = self._hour, self._pages, 0
        with suppress(OutboxError):
            self._write(hour, pages)

    def _write(self, hour: int, pages: int) -> None:
        if pages:
            now = self.clock()
            at = min((hour + 1) * HOUR_US, now)
            page_view = self.page_views(at)
            body = {"objected": pages, "hour": hour, "incarnation": self.incarnation}
            key = f"{self.incarnation}:{hour}"
            self.outbox.append([Event(event_id(page_view, "edge_count", key), "edge_count", page_view, "", at, now, body)])
