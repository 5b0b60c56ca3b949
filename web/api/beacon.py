"""``POST /e``: what the browser tells after a page was shown. 202 means on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from flask import Blueprint, Response, current_app, g, jsonify, request

from experiments.errors import OutboxError
from experiments.events.event import Event
from experiments.events.ids import PageClaims, TokenError, event_id
from web.identity import Identity, remember_shown, short_id
from web.site import NewsSite

__all__ = ["beacon", "events_sent"]

beacon = Blueprint("beacon", __name__)
MOST_EVENTS = 50
LONGEST_MS = 30 * 60 * 1000
LARGEST = 2**62 // 1000  # in microseconds it is what an event may say
HOUR_US = 3_600_000_000
SEEN = 100  # read to the end: the slot below the text came on screen
NUMBERS = ("active_ms", "depth", "client_at", "sent_at")
Number = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]


class Sent(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """An event as it should be."""

    token: str
    active_ms: Number = 0
    depth: Number = 0
    client_at: Number | None = None
    sent_at: Number | None = None


class Many(msgspec.Struct):
    """A request for events that are all as they should be."""

    events: list[Sent]


class Refused(ValueError):
    """One event cannot be taken; the message is the reason, ``kind`` the word under which it is counted."""

    def __init__(self, kind: str, says: str = "") -> None:
        self.kind = kind
        super().__init__(says or kind)


_many = msgspec.json.Decoder(Many).decode


@beacon.post("/e")
def receive() -> tuple[Response, int]:
    """Take up to 50 events; each is accepted or refused with its reason, and the accepted ones are durable."""
    site: NewsSite = current_app.extensions["presslab"]
    rows, says, status = _told()
    if not rows:
        return _whole(site, says, status)
    who, now = site.identify(request), site.clock()
    pages, refused = _sorted_out(site, rows, who, now)
    answer, status = _kept(site, [_dwell(sent, claims, who, now) for sent, claims in pages], refused)
    if who.agreed:
        _keep_shown(site, answer, who, [claims for sent, claims in pages if sent.depth >= SEEN], hour=now // HOUR_US)
    return answer, status


def events_sent() -> int:
    """Return how many events this request holds, for the limit; 1 if it holds none that can be taken."""
    return len(_told()[0]) or 1


def _told() -> tuple[list[Any], str, int]:
    """The events of this request, read once; or none, why, and the status that says so."""
    if "told" not in g:
        g.told = _read()
    return g.told  # type: ignore[no-any-return]


def _read() -> tuple[list[Any], str, int]:
    if request.mimetype != "application/json":
        return [], "the body must be application/json", 415
    body = request.get_data(cache=False)
    request.stream.read(1)  # a body in chunks ends at the limit in silence; one byte more is refused
    try:
        rows = _rows(body)
    except (ValueError, RecursionError):
        return [], "the body is not JSON", 400
    if not isinstance(rows, list) or not rows:
        return [], "'events' must be a list of 1 to 50 events", 422
    if len(rows) > MOST_EVENTS:
        return [], f"{len(rows)} events in one request; at most {MOST_EVENTS}", 413
    return rows, "", 202


def _rows(body: bytes) -> Any:
    """What a request holds: by type where every event is as it should be, by Python's reader where one may have to be refused."""
    try:
        return _many(body).events
    except (msgspec.DecodeError, RecursionError):
        told = json.loads(body.decode(errors="replace"))
    return told.get("events") if isinstance(told, dict) and "events" in told else [told]


def _whole(site: NewsSite, says: str, status: int) -> tuple[Response, int]:
    """Nothing of this request can be read as events."""
    site.edge.count(rejected=[str(status)])
    return jsonify(error=says), status


def _sorted_out(site: NewsSite, rows: Sequence[Any], who: Identity, now: int) -> tuple[list[tuple[Sent, PageClaims]], dict[int, Refused]]:
    """The events that can be taken, each with what its token says, and why the others cannot, by place."""
    sent: dict[int, Sent] = {}
    refused: dict[int, Refused] = {}
    for place, row in enumerate(rows):
        try:
            sent[place] = row if isinstance(row, Sent) else _sent(row)
        except Refused as reason:
            refused[place] = reason
    if not who.measured:
        return [], refused | dict.fromkeys(sent, Refused("this reader is not measured"))
    read = site.tokens.read_pages([one.token for one in sent.values()], reader=who.reader, now_us=now)
    pages: list[tuple[Sent, PageClaims]] = []
    for (place, one), claims in zip(sent.items(), read, strict=True):
        if isinstance(claims, TokenError):
            refused[place] = Refused(f"token is {claims.reason}")
        else:
            pages.append((one, claims))
    return pages, dict(sorted(refused.items()))


def _sent(row: Any) -> Sent:
    """An event that may not be as it should: an object of known fields, with a token."""
    if not isinstance(row, dict):
        raise Refused("not an object")
    if unknown := sorted(set(row) - {"token", *NUMBERS}):
        raise Refused("unknown field", f"unknown field {unknown[0]!r}")
    if not isinstance(row.get("token"), str):
        raise Refused("token is missing")
    absent = {name for name in ("client_at", "sent_at") if row.get(name) is None}
    return Sent(row["token"], **{name: _number(row, name) for name in NUMBERS if name not in absent})


def _number(row: dict[str, Any], key: str) -> int:
    """A whole number from 0 to LARGEST, however the client wrote it."""
    value = row.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:  # NaN is refused, too
        raise Refused("bad number", f"{key} must be a number from 0 on, not {str(value)[:40]!r}")
    return int(value)


def _dwell(sent: Sent, claims: PageClaims, who: Identity, now: int) -> Event:
    active_ms, depth = min(sent.active_ms, LONGEST_MS), min(sent.depth, 100)
    client_at = None if sent.client_at is None else sent.client_at * 1000
    sent_at = None if sent.sent_at is None else sent.sent_at * 1000
    return Event(
        event_id(claims.page_view, "dwell", f"{active_ms}:{depth}"), "dwell", claims.page_view, who.reader, claims.issued_at, now,
        {"active_ms": active_ms, "depth_percent": depth}, client_at=client_at, sent_at=sent_at,
        source=who.source, device=who.device, bot=who.bot, config=claims.config,
    )  # fmt: skip


def _kept(site: NewsSite, events: list[Event], refusals: dict[int, Refused]) -> tuple[Response, int]:
    rejected = [{"i": index, "reason": str(reason)} for index, reason in refusals.items()]
    kinds = [reason.kind for reason in refusals.values()]
    if not events:
        site.edge.count(rejected=kinds)
        return jsonify(accepted=0, rejected=rejected), 422
    try:
        site.outbox.append(events)
    except OutboxError as error:
        site.edge.count(rejected=kinds, refused="503", events=len(events))
        answer = jsonify(error=error.what)
        answer.headers["Retry-After"] = "1"
        return answer, 503
    site.edge.count(accepted=len(events), rejected=kinds)
    return jsonify(accepted=len(events), rejected=rejected), 202


def _keep_shown(site: NewsSite, answer: Response, who: Identity, pages: Sequence[PageClaims], *, hour: int) -> None:
    """Let the browser of a reader who agreed remember what was on screen."""
    shown = who.shown
    for page in pages:
        shown = shown.with_page(page.page_view[-8:], [short_id(article) for article in page.articles], hour=hour)
    if shown != who.shown:
        remember_shown(answer, shown, site.cookies)
