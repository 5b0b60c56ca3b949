"""What operators read: is all well, and if not, what broke first; and who did what."""

from __future__ import annotations

from flask import Response, request

from web.console import answer, as_json, console, page_of
from web.site_protocol import site

__all__ = ["health", "record"]

ORDER = {"warn": 1, "ok": 2}  # whatever else is broken and comes first


@console.route("/health")
def health() -> Response:
    """All well, or the first broken thing; then every part in words, what is broken first."""
    found = site().health()
    checks = sorted(found.get("checks") or (), key=lambda check: ORDER.get(check["state"], 0))
    return answer("console/health.html", active="health", health={**found, "checks": checks})


@console.route("/health.json")
def health_json() -> Response:
    return as_json(site().health())


@console.route("/record")
def record() -> Response:
    """Every step anybody took, fifty a page; ``about`` names one experiment."""
    found, about = site().record(), request.args.get("about", "")[:200]
    rows = [row for row in found["rows"] if about in ("", row["experiment"])]
    page = page_of(rows, request.args.get("page", 1, type=int))
    return answer("console/record.html", active="record", faults=found["faults"], page=page, about=about)


@console.route("/record.json")
def record_json() -> Response:
    return as_json(site().record())
