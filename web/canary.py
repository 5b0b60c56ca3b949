"""An event of our own that must get as far as everybody's: onto the disk at once, and soon into the store."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from experiments.clock import Clock
from experiments.errors import OutboxError
from experiments.events.event import Event
from experiments.events.ids import event_id
from experiments.events.outbox import Outbox
from experiments.events.store import read_store, store_path

__all__ = ["Canary"]

LONGEST_S = 120.0  # of real time, until it must be in the store
FORGOTTEN_S = 3_600.0  # after which a newer one is looked for: days that are over leave the store


class Canary:
    """Writes such events for one process, and remembers one that nobody has found in the store yet."""

    def __init__(self, outbox: Outbox, page_views: Callable[[int], str], clock: Clock, *, longest_s: float = LONGEST_S) -> None:
        self.outbox, self.page_views, self.clock, self.longest_s = outbox, page_views, clock, longest_s
        self._waiting: tuple[bytes, float] | None = None

    def fault(self) -> str:
        """Write one; return in words why it did not become durable, or an empty string."""
        page_view = self.page_views(now := self.clock())
        event = Event(event_id(page_view, "canary"), "canary", page_view, "", now, now, source="canary")
        try:
            self.outbox.append([event])
        except OutboxError as error:
            return str(error)
        if self._waiting is None or time.monotonic() - self._waiting[1] > FORGOTTEN_S:
            self._waiting = event.id, time.monotonic()
        return ""

    def missing(self, home: Path) -> str:
        """Return in words that the one which was written long enough ago is not in the store, or an empty string."""
        if self._waiting is None or (age_s := time.monotonic() - self._waiting[1]) < self.longest_s:
            return ""
        if store_path(home).exists():
            with closing(read_store(store_path(home))) as store:
                if store.execute("SELECT 1 FROM event WHERE id = ?", (self._waiting[0],)).fetchone():
                    self._waiting = None
                    return ""
        return f"An event this process wrote {age_s:.0f} s ago is not in the store: is there a worker, and does it use this home folder?"
