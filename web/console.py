"""The blueprint that all staff pages hang on, and how they answer: as a page, or as JSON at the same address."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, jsonify, make_response, render_template

from web.site_protocol import site
from web.templating import prepare

__all__ = ["Page", "answer", "as_json", "console", "page_of"]

A_PAGE = 50

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


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a long list: its rows, its number, and how many pages there are (both from 1)."""

    rows: tuple[Any, ...]
    number: int
    pages: int


def page_of(rows: Sequence[Any], number: int) -> Page:
    """Return page ``number`` of a list, fifty rows each; the nearest one where there is none of this number.

    Examples
    --------
    >>> page = page_of(range(120), 9)
    >>> page.number, page.pages, len(page.rows)
    (3, 3, 20)
    """
    pages = max(1, -(-len(rows) // A_PAGE))
    number = min(max(number, 1), pages)
    return Page(tuple(rows[(number - 1) * A_PAGE : number * A_PAGE]), number, pages)
