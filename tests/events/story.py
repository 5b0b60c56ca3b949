"""Events written by hand: who opened what when, in minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.events.event import Event
from experiments.events.ids import event_id
from experiments.events.loader import Loaded, Loader
from experiments.events.outbox import Outbox, OutboxLimits

START = 1_767_225_600_000_000  # 2026-01-01 00:00 UTC
MINUTE = 60_000_000
DAY = 1440 * MINUTE
SMALL = OutboxLimits(reserve_bytes=0, tick_s=0.01)


@dataclass
class Story:
    """Collects events; times are minutes after START (fractions allowed)."""

    source: Any = "live"
    events: list[Event] = field(default_factory=list)
    pages: int = 0

    def page(self, reader: str, minute: float, page_type: str = "article", **more: Any) -> str:
        """One page view; returns its id. ``more``: bot, late and further fields of the body."""
        self.pages += 1
        page_view = f"{(START + int(minute * MINUTE)) // 1000:012x}7{self.pages:019x}"
        body = {"page_type": page_type, "article": "a1" if page_type == "article" else "", "section": "city", "referrer": "internal"}
        self.add("view", page_view, reader, minute, body=body | more.pop("body", {}), **more)
        return page_view

    def exposed(self, reader: str, minute: float, arm: str, **more: Any) -> str:
        """An article page with an exposure in experiment ``related``."""
        page_view = self.page(reader, minute, body=more.pop("page", {}), bot=more.get("bot", False))
        self.expose(page_view, reader, minute, arm, **more)
        return page_view

    def expose(self, page_view: str, reader: str, minute: float, arm: str, **more: Any) -> None:
        body = {"slot": "article.related", "phase": 0, "bucket": 7, "audience": "all", "reason": "assigned", "outcome": "served"}
        self.add("exposure", page_view, reader, minute, key="related", arm=arm, body=body | more.pop("body", {}), **more)

    def add(self, kind: str, page_view: str, reader: str, minute: float, **more: Any) -> None:
        at = START + int(minute * MINUTE)
        late = int(more.pop("late_minutes", 0) * MINUTE)
        slotted = kind in ("exposure", "impression", "click")
        more.setdefault("experiment", "related" if slotted else "")
        identity = event_id(page_view, kind, more.pop("key", ""))
        self.events.append(Event(identity, kind, page_view, reader, at, at + late, more.pop("body", {}), source=self.source, **more))

    def dwell(self, page_view: str, reader: str, minute: float, active_ms: int, depth_percent: int = 50) -> None:
        body = {"active_ms": active_ms, "depth_percent": depth_percent}
        self.add("dwell", page_view, reader, minute, key=f"{active_ms}:{depth_percent}", body=body)


def view(number: int, reader: str = "r", **more: Any) -> Event:
    """A page view on its own; equal numbers give equal events."""
    page_view = f"{START // 1000 + number:012x}7{number:019x}"
    values = {"body": {"page_type": "article", "article": f"a{number % 7}"}} | more
    return Event(event_id(page_view, "view"), "view", page_view, reader, START + number * 1000, START + number * 1000, **values)


def send(home: Path, events: Sequence[Event], *, at: int = START) -> Loaded:
    """Append the events and load them ``at`` a time, as one process and one worker would."""
    outbox = Outbox(home / "outbox", clock=lambda: at, limits=SMALL)
    if events:
        outbox.append(events, timeout_s=30)
    outbox.close()
    with Loader(home, clock=lambda: at) as loader:
        return loader.drain()
