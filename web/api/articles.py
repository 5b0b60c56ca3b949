"""``POST /api/articles`` and ``DELETE /api/articles/<id>``: a newsroom's system publishes, corrects and withdraws articles."""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from flask import Blueprint, Response, current_app, jsonify, request

from experiments.content import add_articles, withdraw_article
from experiments.errors import BusyError
from experiments.events.outbox_queue import in_words
from experiments.serving.recommender import Article
from web.api.posted import Refused, check_token, refuse, rows_named, taken
from web.site import NewsSite

__all__ = ["articles"]

articles = Blueprint("articles", __name__)
MOST, MOST_BYTES = 50, 1 << 20
YEARS = range(1970, 2100)
NO_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")  # XML of the feeds has none of these either
NEW_LINE = re.compile(r"[\t\n\r]")
Slug = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}\Z")]
Name = Annotated[str, msgspec.Meta(max_length=100)]


class Posted(msgspec.Struct, forbid_unknown_fields=True):
    """One article as the newsroom's system tells it; fields as in :class:`~experiments.serving.recommender.Article`."""

    id: Slug
    title: Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
    section: Slug
    published_at: Annotated[datetime, msgspec.Meta(tz=True)]
    dek: Annotated[str, msgspec.Meta(max_length=1_000)] = ""
    body: Annotated[str, msgspec.Meta(max_length=200_000)] = ""
    author: Name = ""
    tags: Annotated[tuple[Name, ...], msgspec.Meta(max_length=30)] = ()
    story: Name = ""
    evergreen: bool = False
    withdrawn: bool = False
    language: Annotated[str, msgspec.Meta(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*\Z")] = "en"


@articles.post("/api/articles")
def publish() -> tuple[Response, int]:
    """Take up to 50 articles; each is accepted or refused with its reason. 200: they are on disk, and on the site in a moment."""
    site = _site()
    request.max_content_length = MOST_BYTES
    made, rejected = taken(rows_named("articles", most=MOST), lambda row: _article(site, msgspec.convert(row, Posted)))
    with _answered():
        changed = add_articles(site.home, made) if made else 0
    return jsonify(accepted=len(made), changed=changed, rejected=rejected), 200 if made else 422


@articles.delete("/api/articles/<article_id>")
def withdraw(article_id: str) -> tuple[Response, int]:
    """Show an article to nobody any more; its address says that it is gone."""
    site = _site()
    with _answered():
        known = withdraw_article(site.home, article_id)
    return (jsonify(withdrawn=article_id), 200) if known else (jsonify(error=f"no article is called '{article_id}'"), 404)


def _site() -> NewsSite:
    site: NewsSite = current_app.extensions["presslab"]
    check_token(site, "articles")
    return site


@contextmanager
def _answered() -> Iterator[None]:
    """Nothing was kept while the store is busy or damaged, or the disk is full: the same may be sent again."""
    try:
        yield
    except BusyError:
        refuse(503, "the articles are being written by somebody else; nothing was changed", Retry_After="1")
    except sqlite3.Error as error:
        refuse(503, f"the articles cannot be written: {in_words(error)}; nothing was changed", Retry_After="1")


def _article(site: NewsSite, told: Posted) -> Article:
    sections = [section.slug for section in site.desk.sections]
    if sections and told.section not in sections:
        raise Refused(f"no section is called '{told.section}'; known: {', '.join(sections)}")
    if told.published_at.year not in YEARS:
        raise Refused(f"published_at must lie in the years {YEARS[0]} to {YEARS[-1]}")
    if not any(unicodedata.category(letter)[0] in "LNPS" for letter in told.title):
        raise Refused("title shows nothing: no letter, digit or sign")
    fields: dict[str, Any] = msgspec.structs.asdict(told)
    for name, text in (*fields.items(), *(("tags", tag) for tag in told.tags)):
        if isinstance(text, str) and (NO_TEXT.search(text) or (name != "body" and NEW_LINE.search(text))):
            raise Refused(f"{name} holds a character that no text has{'' if name == 'body' else ', or a new line'}")
    return Article(**{**fields, "published_at": told.published_at.astimezone(UTC)})
