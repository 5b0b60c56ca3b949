"""What another server posts: a list of rows under a token, each taken or refused with its reason."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeVar

import msgspec
from flask import abort, jsonify, make_response, request

from web.access import Use, allowed
from web.site import NewsSite

T = TypeVar("T")
__all__ = ["Refused", "check_token", "refuse", "rows_named", "taken"]


class Refused(ValueError):
    """This one cannot be taken; sending it again would not help."""


def refuse(status: int, error: str, **headers: str) -> NoReturn:
    """Answer this request at once, in words."""
    abort(make_response(jsonify(error=error), status, {name.replace("_", "-"): value for name, value in headers.items()}))


def check_token(site: NewsSite, use: Use) -> None:
    """Answer 401 unless the request carries a token for this use."""
    if not allowed(site.home, request.headers.get("Authorization", ""), use, now_s=site.clock() // 1_000_000):
        refuse(401, f"this needs a token: Authorization: Bearer pl_... (presslab token new --for {use})", WWW_Authenticate="Bearer")


def rows_named(name: str, *, most: int) -> list[Any]:
    """Return the list ``name`` of the body, 1 to ``most`` rows; any other body is answered at once."""
    if request.mimetype != "application/json":
        refuse(415, "the body must be application/json")
    body = request.get_data(cache=False)
    request.stream.read(1)  # a body in chunks ends at the limit in silence; one byte more is refused
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        refuse(400, "the body is not JSON")
    rows = told.get(name) if isinstance(told, dict) else None
    if not isinstance(rows, list) or not rows:
        refuse(422, f"'{name}' must be a list of 1 to {most}")
    if len(rows) > most:
        refuse(413, f"{len(rows)} {name} in one request; at most {most}")
    return rows


def taken(rows: Iterable[Any], make: Callable[[Any], T]) -> tuple[list[T], list[dict[str, Any]]]:
    """Return what ``make`` makes of the rows, and the refused ones as ``{"i": place, "reason": words}``."""
    made: list[T] = []
    rejected: list[dict[str, Any]] = []
    for place, row in enumerate(rows):
        try:
            made.append(make(row))
        except (msgspec.ValidationError, Refused) as reason:
            rejected.append({"i": place, "reason": str(reason)})
        except UnicodeEncodeError:  # msgspec asks for UTF-8
            rejected.append({"i": place, "reason": "a text holds half of a character (a surrogate without its other half)"})
    return made, rejected
