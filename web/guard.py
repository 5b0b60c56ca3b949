"""What every request passes: host and origin checks before, safe headers after."""

from __future__ import annotations

import re

from flask import Flask, Request, Response, abort, request
from werkzeug.exceptions import SecurityError

from experiments.settings import HERE

__all__ = ["from_here", "protect", "same_origin"]

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
PASSED_ON = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP")  # what a proxy adds
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def same_origin(asked: Request) -> bool:
    """Say whether a changing request comes from our own pages (Sec-Fetch-Site, else Origin, else a client without cookies)."""
    site = asked.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = asked.headers.get("Origin")
    if origin is not None:
        return origin == f"{asked.scheme}://{asked.host}"
    return not asked.cookies


def from_here(asked: Request) -> bool:
    """Say whether a request comes from this machine, as far as it can tell: no proxy says that it hands it on, nor the host's public name."""
    return not any(name in asked.headers for name in PASSED_ON) and re.sub(r":\d*$", "", asked.host) in HERE


def _kept_from_readers(asked: Request, console_port: int | None) -> bool:
    """Whether a path is not there for this request: the console has no accounts, and each look at readiness writes an event."""
    if not asked.path.startswith("/console"):
        return asked.path == "/-/ready" and not from_here(asked)
    elsewhere = console_port is not None and asked.environ.get("SERVER_PORT") != str(console_port)
    return elsewhere or not from_here(asked) or asked.environ.get("SERVER_PROTOCOL") == "HTTP/1.0"  # nginx, unless told otherwise


def protect(app: Flask, *, console_port: int | None = None, tls: bool = False) -> None:
    """Install the checks on an application; with ``console_port`` the console is at that port only, with ``tls`` browsers come back by TLS alone."""
    headers = HEADERS | ({"Strict-Transport-Security": "max-age=31536000"} if tls else {})

    @app.before_request
    def _check() -> None:
        if request.environ.get("SERVER_PROTOCOL") == "HTTP/1.1" and not request.headers.get("Host"):
            # gunicorn would take the address it listens on
            raise SecurityError("A request of HTTP/1.1 must name its host (RFC 9112, 3.2)")
        try:
            _ = request.args
        except UnicodeDecodeError:
            abort(400)  # bytes in the address that are no UTF-8
        if _kept_from_readers(request, console_port):
            abort(404)  # also where a proxy forgets to keep readers out
        if request.method not in SAFE_METHODS and not same_origin(request):
            abort(403)

    @app.after_request
    def _headers(response: Response) -> Response:
        response.headers.extend(headers)  # no view sets one of these
        if request.path.startswith("/console"):
            response.headers["Cache-Control"] = "no-store"
        return response
