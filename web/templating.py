"""Names that every template may use: the formatters, the site, addresses of static files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from flask import Blueprint, render_template, request, url_for
from flask.blueprints import BlueprintSetupState
from markupsafe import Markup

from web import formatting
from web.owner.words import capital, spoken
from web.reader.lookup import author_name, author_of, section_name
from web.reader.shelf import latest
from web.reader.text import body_html, curly, reading_minutes
from web.site_protocol import Desk, site

__all__ = ["STATIC", "TEMPLATES", "asset", "prepare", "stylesheet"]

STATIC = Path(__file__).with_name("static")
TEMPLATES = Path(__file__).with_name("templates")
FILTERS = (
    "ago", "clock_time", "count", "date", "duration", "in_unit", "interval", "iso", "money", "number", "odds", "percent", "share", "signed", "size",
    "when",
)  # fmt: skip


def prepare(blueprint: Blueprint) -> None:
    """Make filters and globals known to any application that registers ``blueprint``."""
    blueprint.record_once(_install)


def _install(state: BlueprintSetupState) -> None:
    app = state.app
    app.jinja_env.filters.update({name: getattr(formatting, name) for name in FILTERS})
    app.jinja_env.filters.update(body_html=body_html, capital=capital, curly=curly, reading_minutes=reading_minutes, spoken=spoken)
    app.jinja_env.globals["url_for"] = _addresses()
    app.jinja_env.globals.update(
        asset=asset,
        masthead=masthead,
        colophon=colophon,
        author_name=author_name,
        author_of=author_of,
        latest=latest,
        section_name=section_name,
        site=site,
        stylesheet=stylesheet,
    )
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True


def _addresses() -> Callable[..., str]:
    """Return ``url_for`` that remembers addresses within the site: a page holds about forty, always the same few hundred.

    Those with a token are made for one page and never asked for again.
    """
    remembered = lru_cache(maxsize=8_192)(lambda _host, endpoint, values: url_for(endpoint, **dict(values)))

    def address(endpoint: str, **values: Any) -> str:
        if "token" in values:
            return url_for(endpoint, **values)
        return remembered(request.host_url if "_external" in values else "", endpoint, tuple(values.items()))

    return address


def masthead(desk: Desk, now: datetime, *, here: str, large: bool) -> Markup:
    """Return the head of every reader page: date, name, sections; ``here`` is the section's slug, ``large`` on the front page."""
    sections = tuple((section.slug, section.name) for section in desk.sections)
    return _masthead((desk.name, desk.motto, sections), now.replace(second=0, microsecond=0), here, large)


@lru_cache(maxsize=64)
def _masthead(desk: tuple[str, str, tuple[tuple[str, str], ...]], minute: datetime, here: str, large: bool) -> Markup:
    name, motto, sections = desk
    values = {"name": name, "motto": motto, "sections": sections, "now": minute, "here": here, "large": large}
    return Markup(render_template("reader/masthead.html", **values))


@lru_cache(maxsize=8)
def colophon(name: str) -> Markup:
    """Return the foot of every reader page of the newspaper ``name``."""
    return Markup(render_template("reader/colophon.html", name=name))


@lru_cache(maxsize=8)
def _hash(name: str) -> str:
    return hashlib.blake2b((STATIC / name).read_bytes(), digest_size=4).hexdigest()


@lru_cache(maxsize=64)
def asset(name: str) -> str:
    """Return the address of a static file with the hash of its content, so that it may be cached for ever."""
    return url_for("static", filename=name, v=_hash(name))


@lru_cache(maxsize=1)
def stylesheet() -> Markup:
    """Return the style sheet's text (for reports saved as one file)."""
    return Markup((STATIC / "site.css").read_text("utf-8"))
