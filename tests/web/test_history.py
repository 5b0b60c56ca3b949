"""The weeks before the experiment: what readers saw then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from experiments.content import load_catalogue
from experiments.serving.signals import Signals
from experiments.serving.slate import SlateRules
from fixtures.behaviour import Open
from web.demo.history import Pages, front_links, section_links
from web.demo.newspaper import build_newspaper
from web.desk import load_desk
from web.reader.shelf import LEAD_AGE

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize("age", [timedelta(0), LEAD_AGE])
def test_a_page_that_was_laid_out_once_is_what_the_site_shows_at_every_moment(tmp_path: Path, age: timedelta) -> None:
    build_newspaper(tmp_path, NOW)
    catalogue, desk = load_catalogue(tmp_path), load_desk(tmp_path)
    unread, rules = Signals.empty(catalogue, NOW.timestamp()), SlateRules()
    pages = Pages(unread, desk)
    turns = sorted({article.published_at + age for article in catalogue.articles})[::9]
    for at in [(turn + timedelta(microseconds=step)).timestamp() for turn in turns for step in (-1, 0, 1, 60_000_000)]:
        assert pages.links(Open(at, "front")) == front_links(catalogue, desk, at, signals=unread, rules=rules)
        assert pages.links(Open(at, "section", "city")) == section_links(catalogue, at, "city")
    assert pages.links(Open(at, "article", catalogue.ids[0])) == ()
