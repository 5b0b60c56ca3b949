"""Atom feeds, sitemaps, robots: what other programs read; never personal, never part of a test."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from xml.etree.ElementTree import Element, SubElement, register_namespace, tostring

from flask import Response, abort, request, url_for

from experiments.serving.recommender import Article
from web.formatting import iso
from web.reader.blueprint import reader
from web.reader.lookup import author_name, section_of
from web.reader.shelf import latest
from web.site_protocol import site

__all__ = ["atom", "sitemap"]

ATOM = "http://www.w3.org/2005/Atom"
MAP = "http://www.sitemaps.org/schemas/sitemap/0.9"
NEWS = "http://www.google.com/schemas/sitemap-news/0.9"
FEED_LENGTH = 30
MAP_LENGTH = 5_000


@reader.route("/feeds/site.xml")
def site_feed() -> Response:
    """The newest articles of all sections."""
    return _conditional(atom(latest(site().catalogue, site().now(), n=FEED_LENGTH), title=site().desk.name), "application/atom+xml")


@reader.route("/feeds/section/<slug>.xml")
def section_feed(slug: str) -> Response:
    """The newest articles of one section."""
    section = section_of(site().desk, slug) or abort(404)
    articles = latest(site().catalogue, site().now(), section=slug, n=FEED_LENGTH)
    return _conditional(atom(articles, title=f"{site().desk.name}: {section.name}"), "application/atom+xml")


@reader.route("/sitemap.xml")
def sitemap_file() -> Response:
    """Every published article (the newest 5,000)."""
    return _conditional(sitemap(latest(site().catalogue, site().now(), n=MAP_LENGTH), news=False), "application/xml")


@reader.route("/news-sitemap.xml")
def news_sitemap_file() -> Response:
    """Articles of the last two days, as news search engines ask."""
    since = site().now() - timedelta(days=2)
    articles = [a for a in latest(site().catalogue, site().now(), n=1_000) if a.published_at >= since]
    return _conditional(sitemap(articles, news=True), "application/xml")


@reader.route("/robots.txt")
def robots() -> Response:
    """Search engines may read articles; console, personal pages and link tokens are none of their business."""
    lines = ["User-agent: *", "Disallow: /console/", "Disallow: /en/why/", "Disallow: /en/privacy", "Disallow: /*?via="]
    lines += [f"Sitemap: {url_for(name, _external=True)}" for name in ("reader.sitemap_file", "reader.news_sitemap_file")]
    return Response("\n".join(lines) + "\n", mimetype="text/plain")


def _conditional(body: bytes, mimetype: str) -> Response:
    response = Response(body, mimetype=mimetype)
    response.headers["Cache-Control"] = "public, max-age=300"
    response.add_etag()  # and no time: that of the newest article stays when another is corrected or withdrawn
    return response.make_conditional(request)  # type: ignore[return-value]


def atom(articles: Sequence[Article], *, title: str) -> bytes:
    """Return an Atom feed (RFC 4287) of ``articles``, newest first."""
    register_namespace("", ATOM)
    feed = Element(f"{{{ATOM}}}feed")
    own = request.base_url
    _texts(feed, {"id": own, "title": title, "updated": iso(articles[0].published_at if articles else site().now())})
    SubElement(feed, f"{{{ATOM}}}link", rel="self", href=own)
    SubElement(feed, f"{{{ATOM}}}link", href=url_for("reader.front", _external=True))
    for article in articles:
        entry = SubElement(feed, f"{{{ATOM}}}entry")
        address = url_for("reader.article", article_id=article.id, _external=True)
        at = iso(article.published_at)
        _texts(entry, {"id": address, "title": article.title, "published": at, "updated": at, "summary": article.dek})
        SubElement(entry, f"{{{ATOM}}}link", href=address)
        _texts(SubElement(entry, f"{{{ATOM}}}author"), {"name": author_name(site().desk, article.author) or site().desk.name})
        for term in (article.section, *article.tags):
            SubElement(entry, f"{{{ATOM}}}category", term=term)
    return bytes(tostring(feed, "utf-8", xml_declaration=True))


def _texts(parent: Element, values: dict[str, str]) -> None:
    for name, text in values.items():
        SubElement(parent, f"{{{ATOM}}}{name}").text = text


def sitemap(articles: Sequence[Article], *, news: bool) -> bytes:
    """Return a sitemap of ``articles``; with ``news`` the publication block of each is added."""
    register_namespace("", MAP)
    register_namespace("news", NEWS)
    root = Element(f"{{{MAP}}}urlset")
    for article in articles:
        entry = SubElement(root, f"{{{MAP}}}url")
        SubElement(entry, f"{{{MAP}}}loc").text = url_for("reader.article", article_id=article.id, _external=True)
        SubElement(entry, f"{{{MAP}}}lastmod").text = iso(article.published_at)
        if news:
            block = SubElement(entry, f"{{{NEWS}}}news")
            publication = SubElement(block, f"{{{NEWS}}}publication")
            SubElement(publication, f"{{{NEWS}}}name").text = site().desk.name
            SubElement(publication, f"{{{NEWS}}}language").text = article.language
            SubElement(block, f"{{{NEWS}}}publication_date").text = iso(article.published_at)
            SubElement(block, f"{{{NEWS}}}title").text = article.title
    return bytes(tostring(root, "utf-8", xml_declaration=True))
