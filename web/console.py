"""The blueprint that all staff pages hang on, and how they answer: as a page, or as JSON at the same address."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, make_response, render_template

from web.site_protocol import site
from web.templating import prepare

__all__ = ["answer", "as_json", "console"]

console = Blueprint("console", __name__, url_prefix="/console/en")
prepare(console)


def answer(template: str, *, active: str, **values: Any) -> Response:
    """Render a console page; ``active`` is the marked entry of its navigation. Nobody but this browser keeps it."""
    response = make_response(render_template(template, active=active, desk=site().desk, now=site().now(), **values))
    response.headers["Cache-Control"] = "no-store"
    return response


def as_json(value: Any) -> Response:
    """Return the stored result as it is."""
    response = jsonify(value)
    response.headers["Cache-Control"] = "no-store"
    return response
