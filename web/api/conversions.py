"""``POST /api/conversions``: what readers ordered or signed up for, told by a server of the publisher. 202 means on disk."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from flask import Blueprint, Response, current_app, jsonify

from experiments.clock import moment
from experiments.errors import OutboxError
from experiments.events.event import Event
from experiments.events.ids import conversion_id
from web.api.posted import Refused, check_token, refuse, rows_named, taken
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


@conversions.post("/api/conversions")
def receive() -> tuple[Response, int]:
    """Take up to 50 conversions; each is accepted or refused with its reason, and the accepted ones are durable."""
    site: NewsSite = current_app.extensions["presslab"]
    check_token(site, "conversions")
    now = site.clock()
    events, rejected = taken(rows_named("conversions", most=MOST), lambda row: _event(site, msgspec.convert(row, Conversion), now))
    try:
        site.outbox.append(events)
    except OutboxError as error:
        refuse(503, error.what, Retry_After="1")
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
