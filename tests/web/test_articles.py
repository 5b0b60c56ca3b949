"""A newsroom's system publishes, corrects and withdraws articles over HTTP."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from typer.testing import CliRunner
from werkzeug.http import http_date
from werkzeug.test import TestResponse

from experiments.content import content_version, load_catalogue
from experiments.errors import ConfigError
from tests.web.site_fixture import NOW, PHONE, Stand
from web.access import grant
from web.api.articles import NO_TEXT
from web.cli import commands
from web.cli.main import app
from web.published import refresh
from web.signal_job import SignalJob

ATOM = "{http://www.w3.org/2005/Atom}"
DOCS = (Path(__file__).parents[2] / "docs" / "articles.md").read_text("utf-8")
NOW_S = round(NOW.timestamp())
FRENCH = "Le port rouvre\N{NO-BREAK SPACE}: « enfin »"


@pytest.fixture
def stand(home: Path) -> Iterator[Stand]:
    made = Stand(home)
    yield made
    made.site.close()


def sent(
    stand: Stand, rows: Any, *, token: str | None = None, method: str = "POST", path: str = "/api/articles", **headers: str
) -> TestResponse:
    token = grant(stand.home, "articles", now_s=NOW_S) if token is None else token
    body = rows if isinstance(rows, str | bytes) else json.dumps({"articles": rows})
    return stand.client().open(
        path, method=method, data=body, headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers}
    )


def news(identity: str = "harbour-reopens", **more: Any) -> dict[str, Any]:
    return {
        "id": identity,
        "title": FRENCH,
        "section": "city",
        "published_at": "2026-11-20T12:59:00+01:00",
        "body": "Quayside words.",
        **more,
    }


def seen(stand: Stand, path: str) -> str:
    stand.site.published = refresh(stand.home, stand.site.published)
    return stand.client().get(path, headers=PHONE).text


def test_an_article_that_is_sent_is_read_found_and_listed(stand: Stand) -> None:
    answer = sent(stand, [news(), news("embargoed", published_at="2026-11-20T12:00:01Z")])
    assert (answer.status_code, answer.json) == (200, {"accepted": 2, "changed": 2, "rejected": []})
    for path in (
        "/en/article/harbour-reopens",
        "/en/section/city",
        "/en/search?q=quayside",
        "/feeds/site.xml",
        "/sitemap.xml",
        "/news-sitemap.xml",
    ):
        page = seen(stand, path)
        assert "harbour-reopens" in page
        assert "embargoed" not in page
    assert FRENCH in seen(stand, "/en/article/harbour-reopens")
    assert stand.client().get("/en/article/embargoed", headers=PHONE).status_code == 404
    stand.advance(1)
    assert stand.client().get("/en/article/embargoed", headers=PHONE).status_code == 200


def test_an_article_that_is_sent_again_replaces_the_former_one(stand: Stand) -> None:
    sent(stand, [news()])
    assert sent(stand, [news(title="Corrected")]).json == {"accepted": 1, "changed": 1, "rejected": []}
    page = seen(stand, "/en/article/harbour-reopens")
    assert "Corrected" in page
    assert "rouvre" not in page


def test_what_is_sent_again_unchanged_makes_nobody_read_the_articles_anew(stand: Stand) -> None:
    """A system that sends everything every five minutes must not make each process read everything every five minutes."""
    sent(stand, [news(tags=["sea", "trade"], evergreen=True)])
    before = content_version(stand.home)
    assert sent(stand, [news(tags=["sea", "trade"], evergreen=True)]).json == {"accepted": 1, "changed": 0, "rejected": []}
    assert content_version(stand.home) == before
    assert sent(stand, [news(tags=["sea"], evergreen=True)]).json == {"accepted": 1, "changed": 1, "rejected": []}
    assert content_version(stand.home) == before + 1


def test_an_article_that_is_withdrawn_is_gone_until_it_is_sent_anew(stand: Stand) -> None:
    sent(stand, [news()])
    for _ in range(2):
        answer = sent(stand, "", method="DELETE", path="/api/articles/harbour-reopens")
        assert (answer.status_code, answer.json) == (200, {"withdrawn": "harbour-reopens"})
    assert "harbour-reopens" not in seen(stand, "/en/section/city")
    assert stand.client().get("/en/article/harbour-reopens", headers=PHONE).status_code == 410
    sent(stand, [news()])
    assert FRENCH in seen(stand, "/en/article/harbour-reopens")


def test_what_everybody_reads_is_on_no_page_once_it_is_withdrawn_or_held_back(stand: Stand) -> None:
    read = sorted((one for one in stand.site.catalogue.articles if one.published_at < NOW), key=lambda one: one.published_at)[-3]
    for _ in range(20):
        stand.reader_in("front").get(f"/en/article/{read.id}", headers=PHONE)
    stand.advance(60)
    stand.events()
    SignalJob(stand.site.settings).run(stand.clock())
    feeds = ("/feeds/site.xml", "/sitemap.xml", "/news-sitemap.xml")
    paths = ["/en/", f"/en/article/{stand.article}", f"/en/section/{read.section}", f"/en/search?section={read.section}", *feeds]
    reader = stand.reader_in("front")

    def shown_on() -> list[str]:
        stand.site.published = refresh(stand.home, stand.site.published)
        return [path for path in paths if read.id in reader.get(path, headers=PHONE).text]

    assert shown_on() == paths
    sent(stand, "", method="DELETE", path=f"/api/articles/{read.id}")
    assert shown_on() == []
    sent(stand, [news(read.id, section=read.section, published_at="2026-11-25T12:00:00Z")])
    assert shown_on() == []
    sent(stand, [news(read.id, section=read.section)])
    assert shown_on() == paths


def test_an_author_whom_the_desk_does_not_know_is_named_as_told(stand: Stand) -> None:
    lead = re.findall(r'<article class="lead".*?/en/article/([^"]+)"', seen(stand, "/en/"), re.S)[0]
    sent(stand, [news(author="Jane <Doe>"), news(lead, author="John <Roe>")])
    for path, told in (("/en/article/harbour-reopens", "By Jane &lt;Doe&gt;"), ("/en/", "John &lt;Roe&gt; ·")):
        assert told in re.sub(r"<script.*?</script>", "", seen(stand, path), flags=re.S)
    entries = ElementTree.fromstring(seen(stand, "/feeds/site.xml")).findall(f"{ATOM}entry")
    names = {str(e.findtext(f"{ATOM}id")).rsplit("/", 1)[1]: e.findtext(f"{ATOM}author/{ATOM}name") for e in entries}
    assert names["harbour-reopens"] == "Jane <Doe>"


def test_an_article_without_an_author_is_the_newspapers(stand: Stand) -> None:
    sent(stand, [news()])
    feed = ElementTree.fromstring(seen(stand, "/feeds/site.xml"))
    assert stand.site.desk.name in {e.findtext(f"{ATOM}author/{ATOM}name") for e in feed.findall(f"{ATOM}entry")}


def test_a_feed_without_a_withdrawn_article_is_sent_to_who_asks_by_time_only(stand: Stand) -> None:
    sent(stand, [news(), news("stays")])
    seen(stand, "/")
    first = stand.client().get("/feeds/site.xml", headers=PHONE)
    assert "harbour-reopens" in first.text
    sent(stand, "", method="DELETE", path="/api/articles/harbour-reopens")
    seen(stand, "/")
    since = {"If-Modified-Since": http_date(NOW)}
    again = stand.client().get("/feeds/site.xml", headers=PHONE | since)
    assert (again.status_code, "harbour-reopens" in again.text, "stays" in again.text) == (200, False, True)
    assert stand.client().get("/feeds/site.xml", headers=PHONE | since | {"If-None-Match": again.headers["ETag"]}).status_code == 304


def test_what_was_never_there_cannot_be_withdrawn(stand: Stand) -> None:
    before = content_version(stand.home)
    answer = sent(stand, "", method="DELETE", path="/api/articles/never-there")
    assert (answer.status_code, answer.json) == (404, {"error": "no article is called 'never-there'"})
    assert content_version(stand.home) == before


def test_the_example_of_the_documentation_is_taken(stand: Stand) -> None:
    (body,) = re.findall(r"```json\n(.*?)```", DOCS, re.S)
    assert sent(stand, body).json == {"accepted": 1, "changed": 1, "rejected": []}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": ""}, "id"),
        ({"id": "../../etc"}, "id"),
        ({"id": "a b"}, "id"),
        ({"id": "a\n"}, "id"),
        ({"id": 5}, "id"),
        ({"title": ""}, "title"),
        ({"title": " \N{NO-BREAK SPACE}"}, "title shows nothing"),
        ({"title": "\N{ZERO WIDTH SPACE}\N{RIGHT-TO-LEFT OVERRIDE}"}, "title shows nothing"),
        ({"title": "x" * 301}, "title"),
        ({"title": "two\nlines"}, "title holds a character"),
        ({"title": "a\u0000"}, "title holds a character"),
        ({"title": "half \ud83d of a pair"}, "title holds a character"),
        ({"body": "a\u000b"}, "body holds a character"),
        ({"tags": ["good", "\ufffe"]}, "tags holds a character"),
        ({"tags": ["x"] * 31}, "tags"),
        ({"section": "no-such-section"}, "no section is called 'no-such-section'; known: "),
        ({"published_at": "2026-11-20T12:00:00"}, "published_at"),
        ({"published_at": 1_795_000_000}, "published_at"),
        ({"published_at": "0001-01-01T00:00:00Z"}, "years 1970 to 2099"),
        ({"published_at": "9999-12-31T23:59:59-12:00"}, "years 1970 to 2099"),
        ({"language": "English"}, "language"),
        ({"evergreen": "no"}, "evergreen"),
        ({"headline": "?"}, "headline"),
        ({"published_at": "\ud800"}, "half of a character"),
        ({"\ud800": 1}, "half of a character"),
    ],
)
def test_an_article_that_cannot_be_right_is_refused_and_the_others_are_kept(stand: Stand, change: dict[str, Any], reason: str) -> None:
    answer = sent(stand, [news(), news("another") | change, "no article"])
    assert answer.status_code == 200
    assert answer.json is not None
    assert (answer.json["accepted"], [one["i"] for one in answer.json["rejected"]]) == (1, [1, 2])
    assert reason in answer.json["rejected"][0]["reason"]
    assert load_catalogue(stand.home).position("another") is None


def test_a_request_without_a_good_article_changes_nothing(stand: Stand) -> None:
    before = content_version(stand.home)
    assert sent(stand, [news(id="")]).status_code == 422
    assert content_version(stand.home) == before


@pytest.mark.parametrize(
    ("body", "status"),
    [("no json", 400), ("[" * 5_000, 400), ("[]", 422), ('{"articles": {}}', 422), (json.dumps({"articles": [1] * 51}), 413), (b"x" * (1 << 20) + b"x", 413)],
)  # fmt: skip
def test_a_body_that_holds_no_articles_is_refused_with_its_code(stand: Stand, body: str | bytes, status: int) -> None:
    answer = sent(stand, body)
    assert (answer.status_code, list(answer.json or {})) == (status, ["error"])
    assert sent(stand, body, **{"Content-Type": "text/plain"}).status_code in (413, 415)


def test_fifty_long_articles_fit_into_a_request_and_into_the_pages(stand: Stand) -> None:
    rows = [news(f"long-{number}", body="Words. " * 2_800) for number in range(50)]
    answer = sent(stand, rows)
    assert answer.json == {"accepted": 50, "changed": 50, "rejected": []}
    assert "Words. Words." in seen(stand, "/en/article/long-49")


def test_a_token_is_for_one_use(stand: Stand) -> None:
    shop, desk = (grant(stand.home, use, now_s=NOW_S) for use in ("conversions", "articles"))
    assert sent(stand, [news()], token=shop).status_code == 401
    assert sent(stand, "", method="DELETE", path=f"/api/articles/{stand.article}", token=shop).status_code == 401
    assert sent(stand, json.dumps({"conversions": [1]}), path="/api/conversions", token=desk).status_code == 401
    answer = sent(stand, [news()], token="")
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "presslab token new --for articles" in answer.text
    assert load_catalogue(stand.home).position("harbour-reopens") is None
    assert sent(stand, [news()], token=desk).status_code == 200
    with pytest.raises(ConfigError, match="conversions, articles"):
        grant(stand.home, "everything", now_s=0)  # type: ignore[arg-type]


def test_a_token_from_before_uses_were_told_apart_still_reports_conversions(stand: Stand) -> None:
    token = grant(stand.home, now_s=NOW_S)
    kept = stand.home / "api_tokens.json"
    kept.write_text(
        json.dumps({name: {"sha256": one["sha256"], "until_s": one["until_s"]} for name, one in json.loads(kept.read_text()).items()})
    )
    assert sent(stand, json.dumps({"conversions": [1]}), path="/api/conversions", token=token).status_code == 422
    assert sent(stand, [news()], token=token).status_code == 401


def test_the_command_line_makes_and_lists_tokens_by_their_use(home: Path) -> None:
    commands.install()
    run = lambda *words: CliRunner().invoke(app, ["token", *words, "--home", str(home)])  # noqa: E731
    assert run("new", "--for", "articles").stdout.startswith("pl_")
    assert " for articles until " in run("list").stdout
    assert [one["for"] for one in json.loads(run("list", "--json").stdout)] == ["articles"]
    assert run("new", "--for", "everything").exit_code == 2


def busy(path: Path) -> sqlite3.Connection:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


def test_while_somebody_else_writes_articles_the_sender_is_told_to_try_again(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.content.WAIT_S", 0.01)
    with closing(busy(stand.home / "content.db")):
        for answer in (sent(stand, [news()]), sent(stand, "", method="DELETE", path=f"/api/articles/{stand.article}")):
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            assert "nothing was changed" in answer.text
    assert sent(stand, [news()]).status_code == 200


def test_a_store_that_cannot_be_written_is_no_fault_of_the_sender(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(stand.home / "content.db", isolation_level=None)) as store:
        pages = store.execute("PRAGMA page_count").fetchone()[0]
    real: Callable[..., sqlite3.Connection] = sqlite3.connect

    def small(*where: Any, **how: Any) -> sqlite3.Connection:
        made = real(*where, **how)
        made.execute(f"PRAGMA max_page_count = {pages}")
        return made

    monkeypatch.setattr("experiments.content.sqlite3.connect", small)
    answer = sent(stand, [news(f"long-{number}", body="Words. " * 2_800) for number in range(50)])
    assert (answer.status_code, answer.json) == (
        503,
        {"error": "the articles cannot be written: database or disk is full; nothing was changed"},
    )
    monkeypatch.undo()
    assert load_catalogue(stand.home).position("long-0") is None
    (stand.home / "content.db").write_bytes(b"this is no database" * 100)
    answer = sent(stand, [news()])
    assert (answer.status_code, answer.json) == (
        503,
        {"error": "the articles cannot be written: file is not a database; nothing was changed"},
    )


@given(st.text(st.characters()))
def test_text_that_is_taken_fits_into_the_store_and_the_feeds(text: str) -> None:
    assume(not NO_TEXT.search(text))
    read = ElementTree.fromstring(f"<a>{escape(text)}</a>").text or ""
    assert read == text.replace("\r\n", "\n").replace("\r", "\n")  # as XML has it
    with closing(sqlite3.connect(":memory:")) as store:
        assert store.execute("SELECT ?", (text,)).fetchone() == (text,)
