"""``POST /api/conversions``: what readers ordered or signed up for, told by a server of the publisher. 202 means on disk."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from flask import Blueprint, Response, current_app, jsonify, request

from experiments.clock import moment
from experiments.errors import OutboxError
from experiments.events.event import Event
from experiments.events.ids import conversion_id
from web.access import allowed
from web.identity import known_reader
from web.site import NewsSite

__all__ = ["conversions"]

conversions = Blueprint("conversions", __name__)
MOST = 50
OLDEST, FUTURE = timedelta(days=7), timedelta(minutes=5)
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class Conversion(msgspec.Struct, forbid_unknown_fields=True):
    """One conversion as the publisher's server tells it.

    Parameters
    ----------
    reader : value of the cookie ``pl_id`` that the reader's browser sent.
    name : what it is, such as ``subscription``. order : tells two of one name apart; the same at every try.
    at : when it was ordered, with an offset; the same at every try.
    value : minor units of ``currency``, below zero for money that was given back.
    """

    reader: str
    name: Text
    order: Text
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    value: Annotated[int, msgspec.Meta(ge=-(10**12), le=10**12)] = 0
    currency: Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}\Z")] | None = None


class Refused(ValueError):
    """This one cannot be taken; sending it again would not help."""


@conversions.post("/api/conversions")
def receive() -> tuple[Response, int]:
    """Take up to 50 conversions; each is accepted or refused with its reason, and the accepted ones are durable."""
    site: NewsSite = current_app.extensions["presslab"]
    now = site.clock()
    if not allowed(site.home, request.headers.get("Authorization", ""), now_s=now // 1_000_000):
        answer = jsonify(error="this needs a token: Authorization: Bearer pl_... (presslab token new)")
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer, 401
    if request.mimetype != "application/json":
        return jsonify(error="the body must be application/json"), 415
    body = request.get_data(cache=False)
    request.stream.read(1)  # a body in chunks ends at the limit in silence; one byte more is refused
    try:
        rows = json.loads(body)
    except (ValueError, RecursionError):
        return jsonify(error="the body is not JSON"), 400
    rows = rows.get("conversions") if isinstance(rows, dict) else None
    if not isinstance(rows, list) or not rows:
        return jsonify(error=f"'conversions' must be a list of 1 to {MOST}"), 422
    if len(rows) > MOST:
        return jsonify(error=f"{len(rows)} conversions in one request; at most {MOST}"), 413
    return _kept(site, rows, now)


def _kept(site: NewsSite, rows: list[Any], now: int) -> tuple[Response, int]:
    events: list[Event] = []
    rejected: list[dict[str, Any]] = []
    for place, row in enumerate(rows):
        try:
            events.append(_event(site, msgspec.convert(row, Conversion), now))
        except (msgspec.ValidationError, Refused) as reason:
            rejected.append({"i": place, "reason": str(reason)})
    try:
        site.outbox.append(events)
    except OutboxError as error:
        answer = jsonify(error=error.what)
        answer.headers["Retry-After"] = "1"
        return answer, 503
    return jsonify(accepted=len(events), rejected=rejected), 202 if events else 422


def _event(site: NewsSite, told: Conversion, now: int) -> Event:
    reader, _, source = known_reader(site.tokens, told.reader, now // 1_000_000)
    if not reader:
        raise Refused("reader is not the value of a cookie of this site")
    if not -FUTURE <= moment(now) - told.at <= OLDEST:
        raise Refused(f"at lies in the future or more than {OLDEST.days} days ago")
    if not (told.name + told.order).isprintable():
        raise Refused("name and order must be printable")
    currencies = {live.experiment.currency for live in site.published.experiments}
    if told.value and (told.currency is None or (currencies and told.currency not in currencies)):
        raise Refused(f"a value needs a currency, that of the running test: {', '.join(sorted(currencies)) or 'any'}")
    at = round(told.at.astimezone(UTC).timestamp() * 1e6)
    body = {"name": told.name, "order": told.order, "value": told.value, "currency": told.currency or ""}
    return Event(
        conversion_id(at, told.name, told.order), "conversion", "", reader, at, now, body, source=source, config=site.published.plan
    )
