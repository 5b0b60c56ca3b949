"""Front, section, article and search: what readers come for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from flask import Response, abort, make_response, redirect, render_template, request, url_for
from markupsafe import Markup
from werkzeug.wrappers import Response as AnyResponse

from experiments.serving.recommender import Article, Catalogue
from web.reader import feeds, privacy
from web.reader.art import picture
from web.reader.blueprint import reader
from web.reader.head import article_data, as_script_text, breadcrumb_data, collection_data
from web.reader.lookup import author_name, author_of, section_name, section_of
from web.reader.search import search
from web.reader.shelf import front_page, latest, published, section_page
from web.site_protocol import Desk, MostRead, PageView, site

__all__ = ["feeds", "privacy", "reader"]

MOST_READ = 5
MOST_QUERY = 100


@reader.route("/")
def home() -> AnyResponse:
    """The site speaks English so far."""
    return redirect(url_for("reader.front"))


@reader.route("/en/")
def front() -> Response:
    """The lead, six sections, and what is read most."""
    page = site().open_page(request, "front")
    data = as_script_text(collection_data(site().desk.name, url_for("reader.front", _external=True)))
    still = site().catalogue.derived(_still_front, site().now().replace(second=0, microsecond=0), site().most_read(MOST_READ), site().desk)
    return reply("reader/front.html", page, still=still, data=data)


@dataclass(frozen=True, slots=True)
class StillFront:
    """What every reader of one minute gets alike on the front page."""

    top: Markup
    shelves: Markup


def _still_front(catalogue: Catalogue, minute: datetime, most_read: MostRead, desk: Desk) -> StillFront:
    """Lay out and render the front page of a minute, once for everybody."""
    values = {"front": front_page(catalogue, desk, minute), "most_read": most_read, "desk": desk, "now": minute}
    top, shelves = (Markup(render_template(f"reader/{part}.html", **values)) for part in ("front_top", "front_shelves"))
    return StillFront(top, shelves)


@reader.route("/en/section/<slug>")
def section(slug: str) -> Response:
    """Twenty articles a page, newest first."""
    found = section_of(site().desk, slug) or abort(404)
    number = request.args.get("page", 1, type=int)
    articles, pages = section_page(site().catalogue, site().now(), section=slug, page=max(number, 1))
    if not 1 <= number <= pages:
        abort(404)
    page = site().open_page(request, "section", section=slug)
    address = url_for("reader.section", slug=slug, _external=True)
    crumbs = breadcrumb_data([(site().desk.name, url_for("reader.front", _external=True)), (found.name, address)])
    elsewhere = () if articles else latest(site().catalogue, site().now(), n=6)
    data = as_script_text([*collection_data(found.name, address), crumbs])
    return reply("reader/section.html", page, section=found, articles=articles, number=number, pages=pages, elsewhere=elsewhere, data=data)


@reader.route("/en/article/<article_id>")
def article(article_id: str) -> Response:
    """One article, and the slot when this reader's arm fills it."""
    found = _article(article_id)
    page = site().open_page(request, "article", article=found)
    return reply("reader/article.html", page, article=found, still=_still(found, (request.scheme, request.host), site().desk))


@dataclass(frozen=True, slots=True)
class Still:
    """What every reader gets alike: the head of an article's page and the story itself."""

    head: Markup
    story: Markup


def _still(found: Article, root: tuple[str, str], desk: Desk) -> Still:
    """Return the parts of an article's page that no reader and no arm changes, rendered once per article, desk and address of the site."""
    kept = _kept(found.id, root)
    last = kept[0]
    still = last[2] if last and last[1] is desk and last[0] == found else _rendered(found, desk)
    kept[0] = found, desk, still  # all at once; what is equal, of a catalogue that was replaced, goes with it
    return still


@lru_cache(maxsize=2_048)
def _kept(_article: str, _root: tuple[str, str]) -> list[tuple[Article, Desk, Still] | None]:
    """One place for an article as it was rendered last: a correction takes it from what it corrects."""
    return [None]


def _rendered(found: Article, desk: Desk) -> Still:
    name = section_name(desk, found.section)
    values = {
        "article": found,
        "author": author_of(desk, found.author),
        "section": section_of(desk, found.section),
        "section_name": name,
        "desk": desk,
        "data": as_script_text(article_data(found, desk, author=author_name(desk, found.author), section=name)),
    }
    head, story = (Markup(render_template(f"reader/{part}.html", **values)) for part in ("article_head", "story"))
    return Still(head, story)


@reader.route("/en/search")
def search_page() -> Response:
    """Full text, the same for every reader."""
    query, section, author = (request.args.get(name, "")[:MOST_QUERY] for name in ("q", "section", "author"))
    results = None
    if query.strip() or section or author:
        results = search(site().catalogue, query, now=site().now(), section=section, author=author)
    page = site().open_page(request, "search")
    return reply("reader/search.html", page, query=query, results=results, section=section, author=author)


@reader.route("/art/<article_id>.svg")
def art(article_id: str) -> Response:
    """The drawing of an article."""
    response = Response(picture(_article(article_id)), mimetype="image/svg+xml")
    response.headers["Cache-Control"] = "public, max-age=86400"
    return response


def _article(article_id: str) -> Article:
    position = site().catalogue.position(article_id)
    if position is None:
        abort(404)
    found = site().catalogue.articles[position]
    if found.withdrawn:
        abort(410)
    return found if published(found, site().now()) else abort(404)


def reply(template: str, page: PageView, **values: Any) -> Response:
    """Render a reader page; it is private because the slot and the choices on it are."""
    response = make_response(render_template(template, page=page, desk=site().desk, now=site().now(), **values))
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Vary"] = "Cookie"
    site().finish(response, page)
    return response
