"""What operators read: is all well, and if not, what broke first."""

from __future__ import annotations

from flask import Response

from web.console import answer, as_json, console
from web.site_protocol import site

__all__ = ["health"]


@console.route("/health")
def health() -> Response:
    """All well, or the first broken thing; then every part in words."""
    return answer("console/health.html", active="health", health=site().health())


@console.route("/health.json")
def health_json() -> Response:
    return as_json(site().health())
