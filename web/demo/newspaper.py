"""The Larkhaven Courier goes into the site."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from experiments.content import add_articles
from fixtures.newspaper.edition import Edition, load_edition
from web.desk import save_desk

__all__ = ["build_newspaper"]


def build_newspaper(home: Path, now: datetime) -> Edition:
    """Write all articles and the desk; publication times are relative to ``now``."""
    edition = load_edition(now)
    add_articles(home, edition.articles)
    save_desk(
        home,
        {
            "name": edition.name,
            "motto": edition.motto,
            "sections": [{"slug": s.slug, "name": s.name, "says": s.says} for s in edition.sections],
            "authors": [{"slug": a.slug, "name": a.name, "beat": a.beat, "bio": a.bio} for a in edition.authors],
            "editors_order": list(edition.editors_order),
            "pins": [[p.article, place, p.since.timestamp(), p.until.timestamp()] for place, p in enumerate(edition.pins)],
        },
    )
    return edition
