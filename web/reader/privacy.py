"""Why this, your privacy, how we choose: what a reader may know and decide. These pages are not measured themselves."""

from __future__ import annotations

import csv
import io
import json
import logging
from typing import Any

from flask import Response, abort, current_app, make_response, redirect, render_template, request, url_for
from werkzeug.exceptions import ServiceUnavailable

from web.reader.blueprint import reader
from web.reader.lookup import own_path
from web.site_protocol import PageView, site

__all__ = ["as_csv", "safe_cell"]

log = logging.getLogger("presslab.privacy")

SHOWN_EVENTS = 50
NOTICES = {
    "saved": "Saved. Your choices count from the next page on.",
    "erased": "This device is forgotten. What was held is being deleted, within a minute as a rule.",
    "nothing": "Nothing is held about this device, so nothing had to be erased.",
}
FORMULA = ("=", "+", "-", "@", "\t", "\r")


@reader.route("/en/why/<token>")
def why(token: str) -> Response:
    """What one slate was made from."""
    view = site().why(token)
    if view is None:
        abort(404)
    return _quiet("reader/why.html", why=view)


@reader.route("/en/how-we-choose")
def how_we_choose() -> Response:
    """The rules of recommending on this site, in words."""
    return _quiet("reader/how.html")


@reader.route("/en/privacy")
def privacy() -> Response:
    """What is held about this device, and the switches."""
    held: dict[str, Any] | None = None
    wait = ""
    try:
        held = site().export(request)
    except ServiceUnavailable:
        wait = "It is being collected for somebody else."
    except Exception as error:  # whatever became of the events: objecting and erasing need no list
        log.error("what is held about a device could not be read: %s", error)
        wait = "It cannot be read at the moment. Your choices and the button below work all the same."
    events = list((held or {}).get("events", ()))
    notice = NOTICES.get(request.args.get("done", ""), "")
    return _quiet(
        "reader/privacy.html",
        held=held,
        wait=wait,
        events=events[-SHOWN_EVENTS:][::-1],
        total=len(events),
        notice=notice,
        days=current_app.config["RETENTION_DAYS"],
    )


@reader.route("/en/privacy", methods=["POST"])
def privacy_save() -> Response:
    """Store all three switches."""
    response = make_response(redirect(url_for("reader.privacy", done="saved"), 303))
    site().choose(request, response, **{name: request.form.get(name) == "yes" for name in ("measured", "tests", "personal")})
    return response


@reader.route("/en/choose", methods=["POST"])
def choose() -> Response:
    """The slot's question, "use my reading to choose?"; back to where it was asked."""
    answer = request.form.get("personal")
    if answer not in ("yes", "no"):
        abort(400)
    response = make_response(redirect(own_path(request.form.get("next", ""), otherwise=url_for("reader.front")), 303))
    site().choose(request, response, personal=answer == "yes")
    return response


@reader.route("/en/privacy/erase", methods=["POST"])
def erase() -> Response:
    """Erase everything held about this device."""
    response = make_response(redirect(url_for("reader.privacy", done="erased"), 303))
    if not site().erase(request, response):
        response.location = url_for("reader.privacy", done="nothing")
    return response


@reader.route("/en/privacy/export.json")
def export_json() -> Response:
    """Everything held about this device, for programs."""
    return _download(json.dumps(site().export(request), indent=1, ensure_ascii=False, default=str), "application/json", "my-data.json")


@reader.route("/en/privacy/export.csv")
def export_csv() -> Response:
    """The events of this device as a table."""
    return _download(as_csv(list(site().export(request).get("events", ()))), "text/csv", "my-data.csv")


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Return rows as CSV; a cell that a spreadsheet would run as a formula is quoted.

    Examples
    --------
    >>> as_csv([{"kind": "view", "article": "=1+1"}])
    "kind,article\\r\\nview,'=1+1\\r\\n"
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows([safe_cell(row.get(column, "")) for column in columns] for row in rows)
    return out.getvalue()


def safe_cell(value: object) -> object:
    """Return numbers as they are and text that no spreadsheet takes for a formula."""
    if value is None or isinstance(value, (int, float)):
        return "" if value is None else value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return "'" + text if text.startswith(FORMULA) else text


def _download(text: str, mimetype: str, name: str) -> Response:
    response = Response(text, mimetype=mimetype)
    response.headers["Content-Disposition"] = f"attachment; filename={name}"
    response.headers["Cache-Control"] = "no-store"
    return response


def _quiet(template: str, **values: Any) -> Response:
    page = PageView(None, None, site().choices(request), reader_known=True)
    response = make_response(render_template(template, page=page, desk=site().desk, now=site().now(), **values))
    response.headers["Cache-Control"] = "no-store"
    return response
