"""The application: ``create_app(settings)``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from flask import Flask, Response, jsonify, make_response, render_template, request
from flask_limiter import Limiter
from werkzeug.exceptions import HTTPException, SecurityError

from experiments.errors import PresslabError
from experiments.settings import Settings
from web.api.articles import articles
from web.api.beacon import beacon, events_sent
from web.api.conversions import conversions
from web.api.window import Window
from web.guard import protect
from web.pages import install_pages
from web.site import NewsSite

__all__ = ["create_app"]

log = logging.getLogger("presslab.app")
WINDOW_S = 4  # in which a reader's events are counted: two requests of fifty may come at once


def create_app(settings: Settings, *, give_up: Callable[[], None] | None = None) -> Flask:
    """Return the site: reader pages, beacon, console.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> app = create_app(Settings(home=Path(tempfile.mkdtemp())))
    >>> app.test_client().get("/-/live").status_code
    200
    """
    app = Flask("web", static_folder="static", static_url_path="/static")
    app.config.update(MAX_CONTENT_LENGTH=64 * 1024, MAX_FORM_PARTS=100, TRUSTED_HOSTS=list(settings.trusted_hosts), JSON_SORT_KEYS=False)
    app.config["RETENTION_DAYS"] = settings.retention_days
    app.extensions["presslab"] = site = NewsSite(settings, give_up=give_up)
    _limit(app, settings, site)
    protect(app, console_port=settings.console_at if settings.console_at != settings.port else None, tls=settings.secure_cookies)
    app.register_blueprint(beacon)
    app.register_blueprint(conversions)
    app.register_blueprint(articles)
    install_pages(app)
    _errors(app, site)
    _probes(app, site)
    return app


def _limit(app: Flask, settings: Settings, site: NewsSite) -> None:
    """Events per reader, by a moving window in memory; addresses are never stored. A request is taken whole or not at all."""
    most = WINDOW_S * settings.events_per_second * (1 if settings.profile == "production" else 10)  # a simulated day is short
    limiter = Limiter(
        lambda: site.identify(request).reader or "nobody",
        strategy="moving-window",
        storage_uri=f"{Window.STORAGE_SCHEME[0]}://",
        headers_enabled=False,
    )
    limiter.init_app(app)
    limiter.limit(f"{most} per {WINDOW_S} second", cost=events_sent)(beacon)
    every_hook: tuple[dict[Any, Any], ...] = (app.before_request_funcs, app.after_request_funcs, app.teardown_request_funcs)
    for hooks in every_hook:
        hooks[beacon.name] = hooks.pop(None)  # nothing else is limited: the limiter would look at every page


def _probes(app: Flask, site: NewsSite) -> None:
    @app.get("/-/live")
    def live() -> Response:
        return jsonify(live=True)

    @app.get("/-/ready")
    def ready() -> tuple[Response, int]:
        fault = site.fault()
        return jsonify(ready=not fault, fault=fault or None), 503 if fault else 200


def _errors(app: Flask, site: NewsSite) -> None:
    @app.errorhandler(HTTPException)
    def known(error: HTTPException) -> Response | tuple[Response, int]:
        code = error.code or 500
        if request.path == "/e":
            site.edge.count(refused="429", events=events_sent()) if code == 429 else site.edge.count(rejected=[str(code)])
        if isinstance(error, SecurityError):  # the name of the host: no link of a page could be written
            return jsonify(error=f"{error.description}; trusted_hosts in presslab.toml names those of this site."), code
        if request.path == "/e" or request.path.startswith(("/-/", "/api/")):
            answer = jsonify(error=error.description)
            if code == 429:
                answer.headers["Retry-After"] = str(WINDOW_S)
            return answer, code
        page = make_response(render_template("error.html", code=code, reference="", site=site), code)
        if code == 503:
            page.headers["Retry-After"] = "1"
        return page

    @app.errorhandler(PresslabError)
    def refused(error: PresslabError) -> tuple[str, int]:
        reference = uuid4().hex[:8]
        log.error("%s %s", reference, error)
        staff = error if request.path.startswith("/console") else None
        return render_template("error.html", code=500, reference=reference, problem=staff, site=site), 500

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> tuple[str, int]:
        reference = uuid4().hex[:8]
        log.error("%s unexpected error on %s", reference, request.path, exc_info=error)
        return render_template("error.html", code=500, reference=reference, site=site), 500
