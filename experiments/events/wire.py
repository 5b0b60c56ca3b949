"""How one event is written into an outbox, and what the loader accepts from there.

An entry is two lines of JSON: the envelope, then the body as it will be stored. The outbox is a trust boundary, so
everything is checked again when it is read; what cannot be accepted becomes a dead letter with a reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Any, Literal, TypeGuard

import msgspec

from experiments.events.event import Event, Kind, Source

__all__ = [
    "COLUMNS",
    "Columns",
    "MOST_BODY_BYTES",
    "MOST_ENTRY_BYTES",
    "RefusedError",
    "StoredRow",
    "decode",
    "decode_all",
    "encode",
    "encode_all",
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
WITHOUT_PAGE = frozenset({"conversion", "arm_health", "edge_count", "canary"})

StoredRow = tuple[Any, ...]
Columns = Sequence[Sequence[Any]]  # rows of the store, column by column
Whole = Annotated[int, msgspec.Meta(ge=0, lt=LARGEST)]
Name = Annotated[str, msgspec.Meta(max_length=MOST_NAME)]
Envelope = tuple[
    Kind,
    str,  # arm
    Annotated[str, msgspec.Meta(min_length=32, max_length=32)],  # id
    Annotated[str, msgspec.Meta(max_length=32)],  # page view
    str,  # reader
    str,  # experiment
    Whole,  # issued at
    Whole,  # received at
    Whole | None,  # client at
    Whole | None,  # sent at
    Source,
    str,  # device
    bool,  # bot
    str,  # config
    Literal[1],  # schema
]
# Why an entry is refused whose envelope is wrong at that place.
REASONS = (
    *("unknown kind or source", "bad name", "bad id", "bad id", "bad name", "bad name", "bad time", "bad time", "bad time", "bad time"),
    *("unknown kind or source", "bad name", "unknown kind or source", "bad name", "unknown schema"),
)
PLACE, FIELD = re.compile(r"`\$\[(\d+)\]`"), re.compile(r"`\$\.(\w+)|field `(\w+)")


class _Body(msgspec.Struct, gc=False):
    """What every body may carry; fields the rules do not name are kept as they are."""

    dead: Any = msgspec.UNSET  # the reason of a web process that could not trust the event, but keeps it for the count

    def names(self) -> str:
        return ""


class _View(_Body, kw_only=True):
    page_type: Literal["front", "section", "article", "search", "other"]


class _Exposure(_Body, kw_only=True):
    phase: Whole
    bucket: Whole
    reason: Literal["assigned", "forced"]
    outcome: Literal["served", "fallback", "degraded", "empty"]


class _Impression(_Body, kw_only=True):
    slot: Name
    articles: list[str]

    def names(self) -> str:
        return self.slot


class _Click(_Body, kw_only=True):
    slot: Name
    article: Name

    def names(self) -> str:
        return self.slot + self.article


class _Dwell(_Body, kw_only=True):
    active_ms: Whole
    depth_percent: Annotated[int, msgspec.Meta(ge=0, le=100)]


class _Conversion(_Body, kw_only=True):
    value: Annotated[int, msgspec.Meta(gt=-LARGEST, lt=LARGEST)]
    name: Name = ""
    order: Name = ""

    def names(self) -> str:
        return self.name + self.order


_envelope = msgspec.json.Decoder(Envelope).decode
_any_body = msgspec.json.Decoder(_Body).decode
_bodies = {
    "view": msgspec.json.Decoder(_View).decode,
    "exposure": msgspec.json.Decoder(_Exposure).decode,
    "impression": msgspec.json.Decoder(_Impression).decode,
    "click": msgspec.json.Decoder(_Click).decode,
    "dwell": msgspec.json.Decoder(_Dwell).decode,
    "conversion": msgspec.json.Decoder(_Conversion).decode,
}
_quick = msgspec.json.Encoder(order="sorted").encode_lines
_encoded = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode


class RefusedError(Exception):
    """An entry becomes a dead letter; the message is the reason that is kept and counted."""


def encode(event: Event) -> bytes:
    """Return an event as it is written into an outbox; raises as :func:`encode_all` does."""
    return encode_all([event])[0]


def encode_all(events: Sequence[Event]) -> list[bytes]:
    """Return events as they are written into an outbox; all at once, which takes a quarter of the time.

    Raises
    ------
    ValueError, TypeError
        One cannot be written at all: not JSON, a kind or arm that is no short printable text, over 64 KiB.
    """
    if not all(map(_name, {name for event in events for name in (event.kind, event.arm)})):
        raise ValueError("kind and arm must be printable texts of at most 200 characters")
    entries = _written(list(map(_head_of, events)), [event.body for event in events])
    longest = max(map(len, entries), default=0)
    if longest > MOST_ENTRY_BYTES:
        raise ValueError(f"the event takes {longest} bytes, at most {MOST_ENTRY_BYTES} are accepted")
    return entries


def _head_of(event: Event) -> tuple[Any, ...]:
    return (
        event.kind, event.arm, event.id.hex(), event.page_view, event.reader, event.experiment, event.issued_at, event.received_at,
        event.client_at, event.sent_at, event.source, event.device, event.bot, event.config, event.schema,
    )  # fmt: skip


def _written(heads: Sequence[tuple[Any, ...]], bodies: Sequence[object]) -> list[bytes]:
    """Return both lines of each: by msgspec where it writes what Python's encoder would, which takes longer, else by that one."""
    try:
        text = _quick(list(chain.from_iterable(zip(heads, bodies, strict=True))))  # msgspec 0.22 never lets go of an iterator
    except (ValueError, TypeError, OverflowError):
        text = b"null"
    # msgspec writes NaN as null, and letters as they are
    if text.isascii() and text.count(b"null") == sum(head.count(None) for head in heads):
        lines = iter(text.split(b"\n"))
        return [b"%b\n%b" % both for both in zip(lines, lines, strict=False)]
    if len(heads) > 1:
        return [_written([head], [body])[0] for head, body in zip(heads, bodies, strict=True)]
    return [f"{_encoded(heads[0])}\n{_encoded(bodies[0])}".encode("ascii")]


def decode(entry: bytes) -> StoredRow:
    """Return an entry as a row of the store (order of :data:`COLUMNS`); raises :class:`RefusedError` with the reason."""
    (row,) = zip(*decode_all([entry]), strict=True)
    return row


def decode_all(entries: Sequence[bytes]) -> Columns:
    """Return one or more entries as columns of the store, or raise :class:`RefusedError` if any of them is refused.

    Every rule is asked of all entries at once, which takes half of the time; the reason is that of :func:`decode` only
    for an entry that is alone.
    """
    heads, bodies = _halves(entries)
    kinds, arms, ids, page_views, readers, experiments, issued, received, clients, sent, *rest = zip(*heads, strict=True)
    sources, devices, bots, configs, schemas = rest
    _check_ids(kinds, ids, page_views)
    _check_names(list(map("".join, zip(arms, readers, experiments, devices, configs, strict=True))))
    _check_bodies(kinds, bodies)
    late = [int(came - issue > LATE_US) for came, issue in zip(received, issued, strict=True)]
    front = (list(map(bytes.fromhex, ids)), kinds, page_views, readers, experiments, arms, issued, received, clients, sent)
    return (*front, sources, devices, list(map(int, bots)), configs, schemas, late, bodies)


def payload(row: StoredRow) -> StoredRow:
    """What must be equal when an event is sent again: all but when it arrived; of a click, whose link may be opened again, time and plan."""
    return (*row[1:6], *row[10:13], row[16]) if row[1] == "click" else (*row[1:7], *row[10:15], row[16])


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


def _halves(entries: Sequence[bytes]) -> tuple[list[tuple[Any, ...]], Sequence[str]]:
    """The envelopes, read, and the bodies as they are written."""
    try:
        lines, _, bodies = zip(*[str(entry, "ascii").partition("\n") for entry in entries], strict=True)
        both = zip(lines, bodies, strict=True)
        if [0 for line, body in both if line[:1] != "[" or line[-1:] != "]" or body[:1] != "{" or body[-1:] != "}"]:  # no spaces around
            raise RefusedError("not readable")
        return list(map(_envelope, lines)), bodies
    except UnicodeDecodeError as wrong:
        raise RefusedError("not readable") from wrong
    except (msgspec.DecodeError, RecursionError) as wrong:
        place = PLACE.search(str(wrong))
        raise RefusedError(REASONS[int(place[1])] if place else "not readable") from wrong


def _check_ids(kinds: Sequence[str], ids: Sequence[str], page_views: Sequence[str]) -> None:
    others = "".join((*ids, *page_views)).encode().translate(None, b"0123456789abcdef")  # ids have 32 letters, page views at most
    homeless = {kind for kind, page_view in zip(kinds, page_views, strict=True) if not page_view}
    if others or not {0, 32}.issuperset(map(len, page_views)) or not homeless <= WITHOUT_PAGE:
        raise RefusedError("bad id")


def _check_names(names: Sequence[str]) -> None:
    """Look at the names of each envelope, all in one text."""
    if not "".join(names).isprintable() or max(map(len, names)) > MOST_NAME * 2:
        raise RefusedError("bad name")


def _check_bodies(kinds: Sequence[str], texts: Sequence[str]) -> None:
    if max(map(len, texts)) > MOST_BODY_BYTES:
        raise RefusedError(f"body over {MOST_BODY_BYTES} bytes")
    try:
        bodies = [_bodies.get(kind, _any_body)(text) for kind, text in zip(kinds, texts, strict=True)]
        for text in texts:
            if "\\u" in text:
                json.dumps(
                    json.loads(text), ensure_ascii=False
                ).encode()  # half of a surrogate pair is no text: no engine can read it again
    except (ValueError, msgspec.DecodeError, RecursionError) as wrong:
        raise RefusedError(_fault(kinds[0], texts[0], str(wrong))) from wrong
    for body in bodies:
        if body.dead is not msgspec.UNSET:
            raise RefusedError(_own_reason(body))
    if not "".join([body.names() for body in bodies]).isprintable():
        raise RefusedError(f"{kinds[0]}: bad name")


def _fault(kind: str, text: str, wrong: str) -> str:
    """Why a body is refused: the reason it carries itself, else the field that is wrong."""
    try:
        body = _any_body(text)
    except (msgspec.DecodeError, RecursionError):
        return "not readable"
    field = FIELD.search(wrong)
    return _own_reason(body) if body.dead is not msgspec.UNSET else f"{kind}: bad {(field[1] or field[2]) if field else 'body'}"


def _own_reason(body: _Body) -> str:
    reason = str(body.dead)[:MOST_NAME]
    return reason if reason.isprintable() else "no readable reason"
