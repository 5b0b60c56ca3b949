"""How one event is written into an outbox, and what the loader accepts from there.

An entry is two lines of JSON: the envelope, then the body as it will be stored. The outbox is a trust boundary, so
everything is checked again when it is read; what cannot be accepted becomes a dead letter with a reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeGuard

from experiments.events.event import KINDS, SCHEMA, SOURCES, Event

__all__ = [
    "COLUMNS",
    "MOST_BODY_BYTES",
    "MOST_ENTRY_BYTES",
    "RefusedError",
    "StoredRow",
    "decode",
    "encode",
    "kind_and_arm",
    "payload",
    "reader_of",
]

# Columns of the store in the order of a decoded row.
COLUMNS = (
    *("id", "kind", "page_view", "reader", "experiment", "arm", "issued_at", "received_at", "client_at", "sent_at"),
    *("source", "device", "bot", "config", "schema", "late", "body"),
)
MOST_BODY_BYTES = 4096
MOST_ENTRY_BYTES = 65_536
MOST_NAME = 200
LATE_US = 24 * 3_600_000_000
LARGEST = 2**62
HEX32 = re.compile(r"[0-9a-f]{32}")
WITHOUT_PAGE = frozenset({"conversion", "arm_health", "job_health", "edge_count", "canary"})

StoredRow = tuple[Any, ...]


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number")


_decoded = json.JSONDecoder(parse_constant=_no_constant).raw_decode
_encoded_plainly = json.JSONEncoder(ensure_ascii=False).encode
_encoded = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode


class RefusedError(Exception):
    """An entry becomes a dead letter; the message is the reason that is kept and counted."""


def encode(event: Event) -> bytes:
    """Return an event as it is written into an outbox.

    Raises
    ------
    ValueError, TypeError
        The event cannot be written at all: not JSON, a kind or arm that is no short printable text, over 64 KiB.
    """
    if not (_name(event.kind) and _name(event.arm)):
        raise ValueError("kind and arm must be printable texts of at most 200 characters")
    head = (event.kind, event.arm, event.id.hex(), event.page_view, event.reader, event.experiment, event.issued_at, event.received_at)
    tail = (event.client_at, event.sent_at, event.source, event.device, event.bot, event.config, event.schema)
    entry = f"{_encoded([*head, *tail])}\n{_encoded(event.body)}".encode("ascii")
    if len(entry) > MOST_ENTRY_BYTES:
        raise ValueError(f"the event takes {len(entry)} bytes, at most {MOST_ENTRY_BYTES} are accepted")
    return entry


def decode(entry: bytes) -> StoredRow:
    """Return an entry as a row of the store (order of :data:`COLUMNS`); raises :class:`RefusedError` with the reason."""
    try:
        lines = entry.decode("ascii")
        head, end = _decoded(lines, 0)
        kind, arm, identity, page_view, reader, experiment, issued, received, client, sent, source, device, bot, config, schema = head
        body, last = _decoded(lines, end + 1)
        names = "".join((arm, reader, experiment, device, config))
        if "\\ud" in lines:
            _encoded_plainly(body).encode()  # half of a surrogate pair is no text: no engine can read it again
    except (ValueError, TypeError, RecursionError) as error:
        raise RefusedError("not readable") from error
    if lines[end] != "\n" or last != len(lines):
        raise RefusedError("not readable")
    text = lines[end + 1 :]
    if type(schema) is not int or schema != SCHEMA:
        raise RefusedError(f"schema {schema!r:.20} is unknown")
    if kind not in KINDS or source not in SOURCES or type(bot) is not bool:
        raise RefusedError("unknown kind or source")
    if not (isinstance(identity, str) and HEX32.fullmatch(identity)) or not _page(kind, page_view):
        raise RefusedError("bad id")
    if not names.isprintable() or len(names) > MOST_NAME * 2:
        raise RefusedError("bad name")
    if not (_whole(issued) and _whole(received) and _whole_or_none(client) and _whole_or_none(sent)):
        raise RefusedError("bad time")
    _check_body(kind, body, len(text))
    late = received - issued > LATE_US
    front = (bytes.fromhex(identity), kind, page_view, reader, experiment, arm, issued, received, client, sent)
    return (*front, source, device, int(bot), config, schema, int(late), text)


def payload(row: StoredRow) -> StoredRow:
    """The part of a row that must be equal when an event is sent again: everything but when it arrived."""
    return (*row[1:7], *row[10:15], row[16])


def kind_and_arm(entry: bytes) -> tuple[str, str]:
    """Return kind and arm of an entry as its writer counted it; ``("?", "")`` when even that is lost."""
    kind, arm = [*_head(entry)[:2], None, None][:2]
    return (kind, arm) if _name(kind) and _name(arm) else ("?", "")


def reader_of(entry: bytes) -> str:
    """Return the reader of an entry that cannot be decoded; empty when even that is lost."""
    reader = [*_head(entry)[4:5], ""][0]
    return reader if isinstance(reader, str) else ""


def _head(entry: bytes) -> list[Any]:
    """The envelope of an entry; empty when it is none."""
    try:
        head = json.loads(entry.partition(b"\n")[0])
    except (ValueError, RecursionError):
        return []
    return head if isinstance(head, list) else []


def _name(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and len(value) <= MOST_NAME and value.isprintable()


def _page(kind: str, value: object) -> bool:
    return isinstance(value, str) and (bool(HEX32.fullmatch(value)) or (value == "" and kind in WITHOUT_PAGE))


def _whole(value: object) -> bool:
    return type(value) is int and 0 <= value < LARGEST


def _whole_or_none(value: object) -> bool:
    return value is None or _whole(value)


def _one_of(*words: str) -> Callable[[object], bool]:
    return lambda value: value in words


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _percent(value: object) -> bool:
    return type(value) is int and 0 <= value <= 100


def _money(value: object) -> bool:
    return type(value) is int and abs(value) < LARGEST


RULES: Mapping[str, Mapping[str, Callable[[object], bool]]] = {
    "view": {"page_type": _one_of("front", "section", "article", "search", "other")},
    "exposure": {
        "phase": _whole,
        "bucket": _whole,
        "reason": _one_of("assigned", "forced"),
        "outcome": _one_of("served", "fallback", "degraded", "empty"),
    },
    "impression": {"slot": _name, "articles": _texts},
    "click": {"slot": _name, "article": _name},
    "dwell": {"active_ms": _whole, "depth_percent": _percent},
    "conversion": {"value": _money},
}


def _check_body(kind: str, body: object, length: int) -> None:
    if not isinstance(body, dict):
        raise RefusedError("body is no object")
    if length > MOST_BODY_BYTES:
        raise RefusedError(f"body over {MOST_BODY_BYTES} bytes")
    if "dead" in body:  # the web process could not trust it (token), but keeps it for the count
        reason = str(body["dead"])[:MOST_NAME]
        raise RefusedError(reason if reason.isprintable() else "no readable reason")
    for name, good in RULES.get(kind, {}).items():
        if not good(body.get(name)):
            raise RefusedError(f"{kind}: bad {name}")
