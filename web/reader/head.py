"""What machines read in the head of a page: JSON-LD and canonical addresses. Arms never change either."""

from __future__ import annotations

import json
from typing import Any

from flask import url_for
from markupsafe import Markup

from experiments.serving.recommender import Article
from web.formatting import iso
from web.reader.text import word_count
from web.site_protocol import Desk

__all__ = ["article_data", "as_script_text", "breadcrumb_data", "collection_data"]


def as_script_text(data: Any) -> Markup:
    """Return JSON that cannot end the script element it stands in.

    Examples
    --------
    >>> as_script_text({"headline": "</script>", "image": None})
    Markup('{"headline":"\\\\u003c/script\\\\u003e"}')
    """
    text = json.dumps(_without_nulls(data), ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _without_nulls(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_nulls(value) for key, value in data.items() if value not in (None, "", [])}
    if isinstance(data, list):
        return [_without_nulls(value) for value in data]
    return data


def article_data(article: Article, desk: Desk, *, author: str, section: str) -> list[dict[str, Any]]:
    """Return the ``NewsArticle`` and its breadcrumb as schema.org objects."""
    address = url_for("reader.article", article_id=article.id, _external=True)
    news = {
        "@context": "https://schema.org",
        "@type": "NewsArticle",
        "headline": article.title,
        "description": article.dek,
        "url": address,
        "image": url_for("reader.art", article_id=article.id, _external=True),
        "datePublished": iso(article.published_at),
        "dateModified": iso(article.published_at),
        "author": {"@type": "Person", "name": author} if author else None,
        "publisher": {"@type": "NewsMediaOrganization", "name": desk.name, "url": url_for("reader.front", _external=True)},
        "mainEntityOfPage": address,
        "articleSection": section,
        "inLanguage": article.language,
        "keywords": list(article.tags),
        "wordCount": word_count(article.body) or None,
        "isAccessibleForFree": True,
    }
    return [
        news,
        breadcrumb_data(
            [(desk.name, url_for("reader.front", _external=True)), (section, _section_url(article.section)), (article.title, address)]
        ),
    ]


def _section_url(slug: str) -> str:
    return url_for("reader.section", slug=slug, _external=True)


def breadcrumb_data(steps: list[tuple[str, str]]) -> dict[str, Any]:
    """Return a ``BreadcrumbList`` of (name, address) steps."""
    items = [{"@type": "ListItem", "position": i, "name": name, "item": address} for i, (name, address) in enumerate(steps, 1)]
    return {"@context": "https://schema.org", "@type": "BreadcrumbList", "itemListElement": items}


def collection_data(name: str, address: str) -> list[dict[str, Any]]:
    """Return a ``CollectionPage`` for the front and for sections."""
    return [{"@context": "https://schema.org", "@type": "CollectionPage", "name": name, "url": address}]
