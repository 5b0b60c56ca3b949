"""What a newsroom publishes reaches readers, and what it replaces goes."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.content import add_articles
from tests.web.site_fixture import PHONE, Stand
from web.published import refresh


@pytest.fixture
def stand(home: Path) -> Stand:
    return Stand(home)


def publish(stand: Stand, article: str, **changed: str) -> None:
    add_articles(stand.home, [replace(stand.site.catalogue.articles[stand.site.catalogue.positions[article]], **changed)])
    stand.site.published = refresh(stand.home, stand.site.published)


def test_a_corrected_article_is_shown_at_once(stand: Stand) -> None:
    client, address = stand.client(), f"/en/article/{stand.article}"
    before = client.get(address, headers=PHONE).text
    publish(stand, stand.article, title="A title that was wrong", body="Corrected words.")
    after = client.get(address, headers=PHONE).text
    assert "A title that was wrong" not in before
    assert "A title that was wrong" in after
    assert "Corrected words." in after


def test_a_newspaper_that_changes_often_takes_no_more_memory(stand: Stand) -> None:
    client = stand.reader_in("front")
    published = []
    for number in range(5):
        publish(stand, stand.site.catalogue.ids[0], title=f"Edition {number}")
        published.append(weakref.ref(stand.site.catalogue))
        for address in (f"/en/article/{stand.article}", "/en/", "/en/search?q=council"):
            assert client.get(address, headers=PHONE).status_code == 200
    gc.collect()
    assert [catalogue() is not None for catalogue in published] == [False] * 4 + [True]
