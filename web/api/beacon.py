"""``POST /e``: what the browser tells after a page was shown. 202 means on disk."""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, request

from experiments.errors import OutboxError
from experiments.events.event import Event
from experiments.events.ids import PageClaims, TokenError, event_id
from web.identity import Identity, remember_shown, short_id
from web.site import NewsSite

__all__ = ["beacon"]

beacon = Blueprint("beacon", __name__)
MOST_EVENTS = 50
LONGEST_MS = 30 * 60 * 1000
HOUR_US = 3_600_000_000
SEEN = 100  # read to the end: the slot below the text came on screen
KNOWN = {"token", "active_ms", "depth", "client_at", "sent_at"}


class Refused(ValueError):
    """One event cannot be taken; the message is the reason, ``kind`` the word under which it is counted."""

    def __init__(self, kind: str, says: str = "") -> None:
        self.kind = kind
        super().__init__(says or kind)


@beacon.post("/e")
def receive() -> tuple[Response, int]:
    """Take up to 50 events; each is accepted or refused with its reason, and the accepted ones are durable."""
    site: NewsSite = current_app.extensions["presslab"]
    if request.mimetype != "application/json":
        return _whole(site, "the body must be application/json", 415)
    try:
        sent = request.get_data(cache=False, as_text=True)
        request.stream.read(1)  # a body in chunks ends at the limit in silence; one byte more is refused
        body = json.loads(sent)
    except (ValueError, RecursionError):
        return _whole(site, "the body is not JSON", 400)
    rows = body.get("events") if isinstance(body, dict) and "events" in body else [body]
    if not isinstance(rows, list) or not rows:
        return _whole(site, "'events' must be a list of 1 to 50 events", 422)
    if len(rows) > MOST_EVENTS:
        return _whole(site, f"{len(rows)} events in one request; at most {MOST_EVENTS}", 413)
    who, now = site.identify(request), site.clock()
    events: list[Event] = []
    rejected: dict[int, Refused] = {}
    shown = who.shown
    for index, row in enumerate(rows):
        try:
            claims = _claims(site, row, who, now)
            events.append(_dwell(row, claims, who, now))
            if who.agreed and events[-1].body["depth_percent"] == SEEN:
                shown = shown.with_page(claims.page_view[-8:], [short_id(article) for article in claims.articles], hour=now // HOUR_US)
        except Refused as reason:
            rejected[index] = reason
    answer, status = _kept(site, events, rejected)
    if shown != who.shown:
        remember_shown(answer, shown, site.tokens, secure=site.settings.secure_cookies)
    return answer, status


def _whole(site: NewsSite, says: str, status: int) -> tuple[Response, int]:
    """Nothing of this request can be read as events."""
    site.edge.count(rejected=[str(status)])
    return jsonify(error=says), status


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


def _dwell(row: dict[str, Any], claims: PageClaims, who: Identity, now: int) -> Event:
    active_ms = min(_number(row, "active_ms"), LONGEST_MS)
    depth = min(_number(row, "depth"), 100)
    client_at, sent_at = (_number(row, key) * 1000 if row.get(key) is not None else None for key in ("client_at", "sent_at"))
    return Event(
        event_id(claims.page_view, "dwell", f"{active_ms}:{depth}"), "dwell", claims.page_view, who.reader, claims.issued_at, now,
        {"active_ms": active_ms, "depth_percent": depth}, client_at=client_at, sent_at=sent_at,
        source=who.source, device=who.device, bot=who.bot, config=claims.config,
    )  # fmt: skip


def _claims(site: NewsSite, row: Any, who: Identity, now: int) -> PageClaims:
    """What the token of an event says; the event must be an object of known fields about a reader who is measured."""
    if not isinstance(row, dict):
        raise Refused("not an object")
    if unknown := sorted(set(row) - KNOWN):
        raise Refused("unknown field", f"unknown field {unknown[0]!r}")
    if not who.measured:
        raise Refused("this reader is not measured")
    if not isinstance(row.get("token"), str):
        raise Refused("token is missing")
    try:
        return site.tokens.read_page(row["token"], reader=who.reader, now_us=now)
    except TokenError as error:
        raise Refused(f"token is {error.reason}") from error


def _number(row: dict[str, Any], key: str) -> int:
    """A whole number from 0 to 2**53, however the client wrote it."""
    value = row.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 2**53:  # NaN is refused, too
        raise Refused("bad number", f"{key} must be a number from 0 on, not {str(value)[:40]!r}")
    return int(value)
