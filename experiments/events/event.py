"""One event as it travels from a page to the store."""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

__all__ = ["KINDS", "SCHEMA", "SOURCES", "Event", "Kind", "Source"]

SCHEMA = 1
Kind = Literal["view", "exposure", "impression", "click", "dwell", "conversion", "arm_health", "edge_count", "canary"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Source = Literal["live", "simulated", "import", "canary"]
SOURCES: tuple[Source, ...] = get_args(Source)


class Event(msgspec.Struct, frozen=True, gc=False):
    """A fact about a page view. Times are UTC microseconds since the epoch.

    A struct and no dataclass: making one takes 0.3 us instead of 5, and a request may carry fifty.

    Parameters
    ----------
    id : 16 bytes, deterministic (:func:`experiments.events.ids.event_id`).
    kind : one of :data:`KINDS`.
    page_view : 32 hex characters (UUIDv7) of the page view it belongs to.
    reader : opaque reader id; empty for readers who object to measurement.
    issued_at : when the server issued the page; windows and sessions use this time.
    received_at : when the server received the event.
    client_at, sent_at : the client's clock, never trusted alone; None from the server itself.
    experiment, arm : of the slot, empty for events outside an experiment (kept as columns for the balance per arm).
    body : the fields of the kind (EVENTS: event kinds), JSON values, at most 4 KiB as canonical JSON.
    config : version of the published plan in force.
    """

    id: bytes
    kind: str
    page_view: str
    reader: str
    issued_at: int
    received_at: int
    body: dict[str, Any] = {}
    experiment: str = ""
    arm: str = ""
    client_at: int | None = None
    sent_at: int | None = None
    source: Source = "live"
    device: str = ""
    bot: bool = False
    config: str = ""
    schema: int = SCHEMA
