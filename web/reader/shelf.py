"""Which articles stand where on the front and section pages: published, not withdrawn, editors first, then newest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from experiments.serving.recommender import Article, Catalogue
from web.site_protocol import Desk, SectionLike

__all__ = ["LEAD_AGE", "Front", "Shelf", "front_page", "latest", "published", "section_page"]

FRONT_SECTIONS = 6
CARDS = 4
PER_PAGE = 20
LEAD_AGE = timedelta(hours=36)


@dataclass(frozen=True, slots=True)
class Shelf:
    """Articles under one section heading."""

    section: SectionLike
    articles: tuple[Article, ...]


@dataclass(frozen=True, slots=True)
class Front:
    """The front page: the lead story (None on an empty site) and the sections, most important first."""

    lead: Article | None
    shelves: tuple[Shelf, ...]


def published(article: Article, now: datetime) -> bool:
    """Tell whether readers may see the article."""
    return article.published_at <= now and not article.withdrawn


def latest(catalogue: Catalogue, now: datetime, *, section: str | None = None, n: int | None = None, skip: int = 0) -> list[Article]:
    """Return published articles, newest first (ties by id)."""
    mask = (catalogue.published <= now.timestamp()) & ~catalogue.withdrawn
    if section is not None:
        if section not in catalogue.sections:
            return []
        mask &= catalogue.section == catalogue.sections.index(section)
    found = np.flatnonzero(mask)
    order = found[np.argsort(-catalogue.published[found], kind="stable")]
    return [catalogue.articles[i] for i in order[skip : None if n is None else skip + n]]


def front_page(catalogue: Catalogue, desk: Desk, now: datetime) -> Front:
    """Lay out the front: lead, then six sections with four cards each; no article stands twice.

    The lead is the editors' first choice of the last 36 hours, else the newest article. The section whose best story the
    editors rank highest comes first; within a section editors' choices come first, then the newest.
    """
    ranks = {identity: rank for rank, identity in enumerate(desk.editors_order)}
    chosen = [catalogue.articles[p] for p in (catalogue.position(i) for i in desk.editors_order) if p is not None]
    current = [article for article in chosen if published(article, now) and now - article.published_at <= LEAD_AGE]
    lead = next(iter(current or latest(catalogue, now, n=1)), None)
    fresh = {article.id for article in current}

    def place(article: Article) -> tuple[int, float]:
        return (ranks[article.id] if article.id in fresh else len(ranks), -article.published_at.timestamp())

    shelves = []
    for section in desk.sections:
        candidates = {a.id: a for a in [*latest(catalogue, now, section=section.slug, n=CARDS + 1), *current] if a.section == section.slug}
        cards = sorted((a for a in candidates.values() if lead is None or a.id != lead.id), key=place)[:CARDS]
        if cards:
            shelves.append(Shelf(section, tuple(cards)))
    shelves.sort(key=lambda shelf: place(shelf.articles[0])[0])
    return Front(lead, tuple(shelves[:FRONT_SECTIONS]))


def section_page(catalogue: Catalogue, now: datetime, *, section: str, page: int) -> tuple[list[Article], int]:
    """Return the articles of one page (20 each) and how many pages there are."""
    everything: Sequence[Article] = latest(catalogue, now, section=section)
    pages = max(1, -(-len(everything) // PER_PAGE))
    return list(everything[(page - 1) * PER_PAGE : page * PER_PAGE]), pages
