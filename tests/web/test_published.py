"""What a newsroom publishes reaches readers, and what it replaces goes."""

from __future__ import annotations

import gc
import html
import json
import sqlite3
import threading
import weakref
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.content import add_articles, content_version, load_catalogue, withdraw_article, withdrawn_articles
from experiments.errors import BusyError, ConfigError
from experiments.lifecycle import Step, publish_plan, stop
from experiments.serving.recommender import Catalogue
from experiments.tables import control_engine
from tests.conftest import article
from tests.web.markup import links, parse
from tests.web.site_fixture import NOW, PHONE, Stand, until
from web.confirmed import serving_now
from web.desk import save_desk
from web.published import Published, refresh
from web.reader.pages import Still
from web.signal_job import SignalJob


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


def test_an_article_that_is_corrected_again_and_again_is_rendered_anew_and_kept_once(stand: Stand) -> None:
    """A newspaper that corrects an article every half minute would keep each edition until two thousand others were read."""
    client, address = stand.client(), f"/en/article/{stand.article}"
    found = []
    for number in range(5):
        publish(stand, stand.article, title=f"Edition {number}")
        assert f"Edition {number}" in client.get(address, headers=PHONE).text
        gc.collect()
        found.append(sum(type(one) is Still for one in gc.get_objects()))
    assert found == [found[0]] * 5


@pytest.mark.parametrize("section", ["a-new-first", "zz-new-last"])
def test_an_article_that_moves_to_a_section_nobody_had_yet_leaves_signals_as_they_were(stand: Stand, section: str) -> None:
    SignalJob(stand.site.settings).run(stand.clock())
    stand.site.published = refresh(stand.home, stand.site.published)
    before = stand.site.published.signals
    publish(stand, stand.article, section=section)
    now = stand.site.published
    named = dict(zip(before.catalogue.sections, before.typical.tolist(), strict=True))
    assert dict(zip(now.catalogue.sections, now.signals.typical.tolist(), strict=True)) == {section: min(named.values()), **named}
    assert 'class="slot"' in stand.reader_in("front").get(f"/en/article/{stand.article}", headers=PHONE).text


def test_readers_go_on_getting_what_is_read_when_an_article_comes_out(stand: Stand) -> None:
    out = (article for article in stand.site.catalogue.articles if article.published_at < NOW)
    read = sorted(out, key=lambda article: article.published_at)[-3]
    for _ in range(4):
        stand.reader_in("front").get(f"/en/article/{read.id}", headers=PHONE)
    stand.advance(60)
    stand.events()
    SignalJob(stand.site.settings).run(stand.clock())
    before = stand.site.published = refresh(stand.home, stand.site.published)
    add_articles(stand.home, [replace(read, id="0-new", title="Just out", published_at=NOW)])
    after = stand.site.published = refresh(stand.home, before)
    heat = [published.signals.heat[published.catalogue.positions[read.id]] for published in (before, after)]
    assert heat[0] > 1
    assert heat[1] == heat[0]
    page = parse(stand.reader_in("front").get("/en/article/0-new", headers=PHONE).text)
    assert links(page.one("ol"))[0].startswith(f"/en/article/{read.id}?via=")
    SignalJob(stand.site.settings).run(stand.clock() + 1)
    assert refresh(stand.home, after).signal_version > after.signal_version == before.signal_version


def test_an_article_comes_out_while_somebody_reads_them_all(home: Path) -> None:
    first = add_articles(home, [article(1)])
    with closing(sqlite3.connect(home / "content.db", isolation_level=None)) as reading:
        reading.execute("BEGIN")
        assert reading.execute("SELECT count(*) FROM article").fetchone() == (first,)
        add_articles(home, [article(2)])
    assert load_catalogue(home).ids == ("a001", "a002")


def test_who_cannot_write_because_somebody_else_does_is_told_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.content.WAIT_S", 0.01)
    add_articles(home, [article(1)])
    with closing(sqlite3.connect(home / "content.db", isolation_level=None)) as writing:
        writing.execute("BEGIN IMMEDIATE")
        with pytest.raises(BusyError, match=r"content\.db is being written by another process; nothing was changed"):
            add_articles(home, [article(2)])
    assert load_catalogue(home).ids == ("a001",)


def test_a_stop_does_not_wait_until_all_articles_are_read(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, may_go_on = threading.Event(), threading.Event()

    def slowly(home: Path, *, gently: bool) -> Catalogue:
        reading.set()
        assert may_go_on.wait(20)
        return load_catalogue(home, gently=gently)

    monkeypatch.setattr("web.published.load_catalogue", slowly)
    stand.site.watch(0.01)
    add_articles(stand.home, [article(1, title="Slow to come")])
    assert reading.wait(20)
    engine, step = control_engine(stand.home), Step("test", NOW, "a test")
    stop(engine, "related", step)
    publish_plan(stand.home, engine, at=NOW)
    until(lambda: stand.site.published.experiments == ())
    assert stand.client().get("/en/article/a001", headers=PHONE).status_code == 404
    may_go_on.set()
    until(lambda: stand.client().get("/en/article/a001", headers=PHONE).status_code == 200)


def test_a_withdrawn_article_is_shown_to_nobody_while_all_articles_are_read(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    may_go_on, client = threading.Event(), stand.reader_in("newest")

    def shown() -> list[str]:
        return links(parse(client.get(f"/en/article/{stand.article}", headers=PHONE).text).one("ol"))

    def slowly(home: Path, *, gently: bool) -> Catalogue:
        assert may_go_on.wait(20)
        return load_catalogue(home, gently=gently)

    monkeypatch.setattr("web.published.load_catalogue", slowly)
    stand.site.watch(0.01)
    victim = shown()[0].partition("?")[0].rpartition("/")[2]
    before = content_version(stand.home)
    withdraw_article(stand.home, victim)
    until(lambda: [told["withdrawn"] for told in serving_now(stand.home)] == [before + 1])
    assert stand.site.published.content == before
    assert client.get(f"/en/article/{victim}", headers=PHONE).status_code == 410
    assert victim not in " ".join(shown())
    assert victim not in client.get("/en/", headers=PHONE).text
    may_go_on.set()
    until(lambda: stand.site.published.content == before + 1)
    assert client.get(f"/en/article/{victim}", headers=PHONE).status_code == 410


def test_an_article_that_was_withdrawn_while_articles_were_read_does_not_come_back_with_them(stand: Stand) -> None:
    before = replace(stand.site.published, content=-1)

    def read(work: Callable[[], Published]) -> Published:
        built = work()
        withdraw_article(stand.home, stand.article)
        return built

    now = refresh(stand.home, before, aside=read)
    assert (now.content, now.withdrawn) == (stand.site.published.content, content_version(stand.home))
    assert now.catalogue.articles[now.catalogue.positions[stand.article]].withdrawn
    assert now.signals.catalogue is now.catalogue


def test_an_article_that_was_withdrawn_while_an_arm_was_built_does_not_come_back_with_it(stand: Stand) -> None:
    built, before = list[Published](), stand.site.published
    refresh(stand.home, before, aside=lambda work: built.append(work()))
    withdraw_article(stand.home, stand.article)
    meanwhile = refresh(stand.home, before, aside=lambda _: None)
    after = refresh(stand.home, meanwhile, aside=lambda _: built[0])
    assert [now.catalogue.articles[now.catalogue.positions[stand.article]].withdrawn for now in (meanwhile, after)] == [True, True]
    last = refresh(stand.home, after)
    assert (last.content, last.withdrawn) == (content_version(stand.home),) * 2


def test_withdrawn_articles_are_found_without_reading_the_texts_of_all(home: Path) -> None:
    add_articles(home, [article(number) for number in range(9)])
    withdraw_article(home, "a004")
    assert withdrawn_articles(home) == {"a004"}
    with closing(sqlite3.connect(home / "content.db")) as store:
        (how,) = store.execute("EXPLAIN QUERY PLAN SELECT id FROM article WHERE withdrawn").fetchall()
    assert "INDEX article_withdrawn" in how[3]


def test_articles_that_cannot_be_read_aside_are_a_fault_until_they_can(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(home: Path, *, gently: bool) -> Catalogue:
        raise ConfigError("the disk is gone.", "Bring it back.")

    with monkeypatch.context() as context:
        context.setattr("web.published.load_catalogue", broken)
        stand.site.watch(0.01)
        add_articles(stand.home, [article(1)])
        until(lambda: "the disk is gone" in stand.site.published.faults.get("content", ""))
    until(lambda: stand.site.published.faults == {} and stand.site.catalogue.position("a001") is not None)


def changed_desk(stand: Stand, **changes: object) -> None:
    save_desk(stand.home, {**json.loads((stand.home / "desk.json").read_text("utf-8")), **changes})
    stand.site.published = refresh(stand.home, stand.site.published)


def test_what_the_desk_changes_is_on_every_page_without_a_restart(stand: Stand) -> None:
    client, found = stand.reader_in("front"), stand.site.catalogue.articles[stand.site.catalogue.positions[stand.article]]
    client.get("/en/", headers=PHONE)
    client.get(f"/en/article/{stand.article}", headers=PHONE)
    first = next(one.id for one in stand.site.catalogue.articles if one.published_at < NOW and one.id != found.id)
    authors = [{"slug": found.author, "name": "Somebody Else"}]
    changed_desk(stand, name="The Other Paper", authors=authors, editors_order=[first], pins=[[first, 0, 0, 9e9]])
    page = client.get(f"/en/article/{stand.article}", headers=PHONE).text
    assert "The Other Paper" in page
    assert "Somebody Else" in page
    assert links(parse(page).one("ol"))[0].startswith(f"/en/article/{first}?via=")
    assert "The Other Paper" in client.get("/en/", headers=PHONE).text
    stand.site.close()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "desk.json is damaged"),
        ("[]", "it holds list instead of an object"),
        ('{"sections": [{"slug": "city"}]}', "missing required field `name` - at `$.sections[0]`"),
        ('{"pinz": []}', "unknown field `pinz`"),
        ('{"pins": [["a", 0, 5]]}', "length 4, got 3 - at `$.pins[0]`"),
    ],
)
def test_a_desk_that_cannot_be_read_is_named_and_the_last_good_one_stays(stand: Stand, text: str, says: str) -> None:
    before = stand.site.desk
    (stand.home / "desk.json").write_text(text)
    stand.site.published = refresh(stand.home, stand.site.published)
    assert stand.site.desk is before
    assert says in stand.site.published.faults["desk"]
    checks = {check["name"]: check for check in stand.site.health()["checks"]}
    assert says in checks["desk"]["says"]
    assert checks["arms and models"]["state"] == "ok"
    page = html.unescape(stand.client().get("/console/en/health", headers=PHONE).text)
    assert "desk.json" in page
    assert says in page
    assert stand.client().get("/en/", headers=PHONE).status_code == 200
    stand.site.close()
