"""A reader's requests, from the page to the store."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from msgspec import structs
from werkzeug.test import TestResponse

from experiments.content import add_articles
from experiments.events import lake
from experiments.events.event import Event
from experiments.events.store import balance
from experiments.lifecycle import Step, draft, publish_plan, start, stop
from experiments.serving.level_shares import levels_of
from experiments.serving.recommender import Context, Ranking
from experiments.serving.slate import pool_at
from experiments.tables import control_engine
from recsys.interactions import to_reads
from tests.web.site_fixture import NOW, PHONE, Stand
from web.identity import choices_text
from web.published import refresh
from web.site_protocol import Choices

TOKEN = re.compile(r'data-token="([^"]+)"')
ARTICLE = re.compile(r'<dt><a href="/en/article/([^"?]+)')
REASON = re.compile(r"<dd>([^<]+)</dd>")
SLOT = re.compile(r'href="(/en/article/[^"?]+\?via=[^"]+)"')


def read(client: FlaskClient, path: str) -> str:
    answer = client.get(path, headers=PHONE)
    assert answer.status_code == 200
    return answer.text


def test_a_view_an_exposure_and_an_impression_are_stored_for_every_arm(stand: Stand) -> None:
    for arm in ("status_quo", "front", "newest"):
        read(stand.reader_in(arm), f"/en/article/{stand.article}")
    exposures = [e for e in stand.events() if e["kind"] == "exposure"]
    assert sorted((e["arm"], e["body"]["outcome"]) for e in exposures) == [
        ("front", "served"),
        ("newest", "served"),
        ("status_quo", "empty"),
    ]
    assert {e["experiment"] for e in exposures} == {"related"}


def test_the_status_quo_shows_no_slot_and_other_arms_show_six_articles(stand: Stand) -> None:
    assert SLOT.findall(read(stand.reader_in("status_quo"), f"/en/article/{stand.article}")) == []
    assert len(set(SLOT.findall(read(stand.reader_in("front"), f"/en/article/{stand.article}")))) == 6


def test_a_click_in_the_slot_is_stored_with_its_place_and_arm(stand: Stand) -> None:
    client = stand.reader_in("newest")
    links = SLOT.findall(read(client, f"/en/article/{stand.article}"))
    read(client, links[2].replace("&amp;", "&"))
    clicks = [e for e in stand.events() if e["kind"] == "click"]
    assert [(e["arm"], e["body"]["position"], e["body"]["slot"]) for e in clicks] == [("newest", 2, "article.related")]


def test_opening_a_clicked_link_twice_counts_one_click(stand: Stand) -> None:
    client = stand.reader_in("newest")
    link = SLOT.findall(read(client, f"/en/article/{stand.article}"))[0]
    read(client, link)
    stand.advance(60)
    read(client, link)
    assert sum(e["kind"] == "click" for e in stand.events()) == 1
    (clicks,) = [row for row in balance(stand.home) if row.kind == "click"]
    assert (clicks.received, clicks.stored, clicks.duplicate, clicks.conflict) == (2, 1, 1, 0)


def test_a_link_opened_more_than_a_day_later_is_a_view_and_no_click(stand: Stand) -> None:
    """A tab may be restored when the day of its first click is sealed: the second one would count again."""
    client = stand.reader_in("newest")
    links = SLOT.findall(read(client, f"/en/article/{stand.article}"))
    for link, hours in zip(links, (23.9, 0.2), strict=False):
        stand.advance(3_600 * hours)
        read(client, link)
    assert [e["body"]["position"] for e in stand.events() if e["kind"] == "click"] == [0]


def test_a_link_copied_to_another_reader_is_a_view_and_no_click(stand: Stand) -> None:
    link = SLOT.findall(read(stand.reader_in("newest"), f"/en/article/{stand.article}"))[0]
    read(stand.reader_in("newest"), link)
    assert not [e for e in stand.events() if e["kind"] == "click"]


def test_a_click_on_a_page_from_before_a_test_does_not_count_in_it(stand: Stand) -> None:
    """A tab may stay open while one test ends and the next begins; a report on the next would not be trusted."""
    clients = [stand.reader_in("newest"), stand.reader_in("front")]
    links = [SLOT.findall(read(client, f"/en/article/{stand.article}"))[0] for client in clients]
    engine, step = control_engine(stand.home), Step("test", NOW, "a test")
    stop(engine, "related", step)
    draft(engine, replace(stand.plan, name="next"), step)
    start(engine, "next", step)
    publish_plan(stand.home, engine, at=NOW)
    stand.site.published = refresh(stand.home, stand.site.published)
    for client, link in zip(clients, links, strict=True):
        read(client, link)
    events = stand.events()
    assert not [e for e in events if e["kind"] == "click"]
    assert [e["experiment"] for e in events if e["kind"] == "exposure"] == ["related", "related", "next", "next"]


def test_dwell_from_the_beacon_is_stored_once_however_often_it_is_sent(stand: Stand) -> None:
    client = stand.reader_in("front")
    token = TOKEN.findall(read(client, f"/en/article/{stand.article}"))[0]
    for _ in range(3):
        answer = client.post("/e", json={"token": token, "active_ms": 12_000, "depth": 80}, headers=PHONE)
        assert (answer.status_code, answer.json) == (202, {"accepted": 1, "rejected": []})
    assert [e["body"] for e in stand.events() if e["kind"] == "dwell"] == [{"active_ms": 12_000, "depth_percent": 80}]
    assert all(row.exact for row in balance(stand.home))


def of_readers(stand: Stand) -> list[dict[str, Any]]:
    """All events but the counts of the door, which ride along when a second has passed."""
    return [event for event in stand.events() if event["kind"] != "edge_count"]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ("no json", 400, "not JSON"),
        ("[" * 5_000, 400, "not JSON"),
        ('{"events": []}', 422, "1 to 50"),
        ('{"events": [' + ",".join(["{}"] * 51) + "]}", 413, "at most 50"),
        ('{"token": "x", "active_ms": 1}', 422, "token is bad"),
        ('{"active_ms": 1}', 422, "token is missing"),
        ('{"token": "x", "evil": 1}', 422, "unknown field"),
        ("[1]", 422, "not an object"),
        ("null", 422, "not an object"),
    ],
)
def test_a_bad_beacon_is_refused_with_its_reason_and_nothing_is_stored(stand: Stand, body: str, status: int, says: str) -> None:
    client = stand.reader_in("front")
    before = of_readers(stand)
    answer = client.post("/e", data=body, headers={**PHONE, "Content-Type": "application/json"})
    assert answer.status_code == status
    assert says in answer.text
    assert of_readers(stand) == before


@pytest.mark.parametrize("value", ["NaN", "-1", "1e400", '"x"', "true", "[]"])
def test_a_number_that_is_none_is_refused(stand: Stand, value: str) -> None:
    client = stand.reader_in("front")
    token = TOKEN.findall(read(client, f"/en/article/{stand.article}"))[0]
    answer = client.post("/e", data=f'{{"token": "{token}", "active_ms": {value}}}', headers={**PHONE, "Content-Type": "application/json"})
    assert answer.status_code == 422
    assert "active_ms must be a number" in answer.text


def test_events_above_the_limit_are_refused_for_this_reader_only(home: Path) -> None:
    """The limit counts events, over four seconds; a request is taken whole or not at all, and what is refused uses nothing up."""
    stand = Stand(home, profile="production", events_per_second=20)
    client, other = stand.reader_in("front"), stand.reader_in("front")

    def sent(by: FlaskClient, events: int) -> TestResponse:
        token = TOKEN.findall(read(by, f"/en/article/{stand.article}"))[0]
        return by.post("/e", json={"events": [{"token": token, "active_ms": n} for n in range(events)]}, headers=PHONE)

    answers = [sent(client, events) for events in (50, 31, 30, 1, 50)]
    assert [answer.status_code for answer in answers] == [202, 429, 202, 429, 429]
    assert answers[-1].headers["Retry-After"] == "4"
    assert sent(other, 50).status_code == 202
    assert stand.site.edge._body() | {"incarnation": ""} == {
        "incarnation": "", "seen": 212, "accepted": 130, "rejected": {}, "refused": {"429": 82},
    }  # fmt: skip
    assert len([event for event in stand.events() if event["kind"] == "dwell"]) == 130
    stand.site.close()


def test_a_reader_who_opens_twenty_articles_at_once_is_not_refused(home: Path) -> None:
    """The script of a page tells twice by the clock and whenever the page is hidden; here all of that within a second."""
    stand = Stand(home, profile="production")
    client = stand.reader_in("front")
    for _ in range(20):
        token = TOKEN.findall(read(client, f"/en/article/{stand.article}"))[0]
        told = [client.post("/e", json={"token": token, "active_ms": ms, "depth": 9}, headers=PHONE).status_code for ms in range(5)]
        assert told == [202] * 5
    assert client.post("/e", data="no json", headers={**PHONE, "Content-Type": "application/json"}).status_code == 400
    stand.site.close()


def test_a_reader_keeps_the_arm_from_page_to_page(stand: Stand) -> None:
    client = stand.reader_in("newest")
    for _ in range(3):
        read(client, f"/en/article/{stand.article}")
    assert {e["arm"] for e in stand.events() if e["kind"] == "exposure"} == {"newest"}


class Keeps:
    """An arm that ranks nothing and keeps what it was told."""

    name, kind, audience = "newest", "heuristic", "all"

    def __init__(self) -> None:
        self.told: list[Context] = []

    def rank(self, context: Context) -> Ranking:
        self.told.append(context)
        return Ranking.empty()


def test_an_arm_knows_device_and_referrer_of_a_reader_who_agreed_as_the_view_is_stored(stand: Stand) -> None:
    arm, client = Keeps(), stand.reader_in("newest")
    stand.site.published = replace(stand.site.published, arms={**stand.site.published.arms, "newest": arm})
    client.get(f"/en/article/{stand.article}", headers={**PHONE, "Referer": "https://search.example/"})
    client.set_cookie("pl_choice", stand.site.tokens.sign("choice", choices_text(Choices(personal=True))))
    for sent in ({"Referer": "https://search.example/"}, {"Referer": "http://localhost/en/"}, {}):
        client.get(f"/en/article/{stand.article}", headers={**PHONE, **sent})
        stand.advance(60)
    stand.events()
    stored = to_reads(lake.reads(stand.home, until_us=stand.clock()), stand.site.catalogue).levels.tolist()
    assert [list(context.levels) for context in arm.told] == [[], *stored[1:]]
    assert stored[1:] == [list(levels_of("phone", word)) for word in ("external", "internal", "direct")]


def test_a_bot_is_logged_as_a_bot_and_gets_the_status_quo(stand: Stand) -> None:
    client = stand.client()
    answer = client.get(f"/en/article/{stand.article}", headers={**PHONE, "User-Agent": "SomeBot/1.0"})
    assert 'class="slot"' not in answer.text
    assert client.get_cookie("pl_id") is None
    assert [(e["kind"], e["reader"], bool(e["bot"])) for e in stand.events()] == [("view", "", True)]


def test_readers_who_object_leave_one_number_an_hour(stand: Stand) -> None:
    client = stand.client()
    for seconds in (0, 60, 60, 3_600):
        stand.advance(seconds)
        client.get("/en/", headers={**PHONE, "DNT": "1"})
    assert [(e["kind"], e["reader"], e["body"]["objected"]) for e in stand.events()] == [("edge_count", "", 3)]


def test_of_readers_who_object_the_hour_that_runs_is_told_when_the_process_ends(stand: Stand) -> None:
    for seconds in (0, 60, 3_600):
        stand.advance(seconds)
        stand.client().get("/en/", headers={**PHONE, "DNT": "1"})
    stand.site.close()
    assert [e["body"]["objected"] for e in stand.events()] == [2, 1]


def test_a_page_of_which_only_the_headers_are_asked_for_is_shown_to_nobody(stand: Stand) -> None:
    client = stand.client()
    answer = client.head(f"/en/article/{stand.article}", headers=PHONE)
    assert (answer.status_code, answer.data) == (200, b"")
    assert client.get_cookie("pl_id") is None
    stand.site.close()
    assert stand.events() == []


AHEAD = ({"Sec-Purpose": "prefetch;prerender"}, {"Purpose": "prefetch"}, {"X-Purpose": "preview"}, {"X-Moz": "prefetch"})


@pytest.mark.parametrize("headers", [{"Sec-GPC": "1"}, {"DNT": "1"}, *AHEAD])
def test_who_objects_or_is_no_person_gets_the_status_quo_no_id_and_no_event(stand: Stand, headers: dict[str, str]) -> None:
    client = stand.client()
    answer = client.get(f"/en/article/{stand.article}", headers={**PHONE, **headers})
    assert answer.status_code == 200
    assert 'class="slot"' not in answer.text
    assert client.get_cookie("pl_id") is None
    assert not stand.events()


def test_objecting_on_the_privacy_page_counts_from_the_next_page_on(stand: Stand) -> None:
    client = stand.reader_in("front")
    client.post("/en/privacy", data={"tests": "yes"}, headers=PHONE)
    before = len(stand.events())
    assert 'class="slot"' not in read(client, f"/en/article/{stand.article}")
    assert len(stand.events()) == before
    assert client.get_cookie("pl_id") is None


def test_leaving_tests_means_no_exposure(stand: Stand) -> None:
    client = stand.reader_in("front")
    client.post("/en/privacy", data={"measured": "yes"}, headers=PHONE)
    read(client, f"/en/article/{stand.article}")
    assert not [e for e in stand.events() if e["kind"] == "exposure"]


def test_a_forged_cookie_is_a_new_reader(stand: Stand) -> None:
    client = stand.client()
    client.set_cookie("pl_id", "1.MDAwMA.AAAAAAAAAAAAAAAAAAAAAA")
    read(client, "/en/")
    cookie = client.get_cookie("pl_id")
    assert cookie is not None
    assert stand.site.tokens.unsign("id", cookie.value)


def test_only_a_signed_mark_makes_a_reader_simulated(stand: Stand) -> None:
    stand.reader_in("front", **{"Presslab-Simulated": "1"})
    stand.client().get("/en/", headers={**PHONE, "Presslab-Simulated": stand.site.tokens.sign("simulated", "1")})
    events = stand.events()
    assert events[-1]["source"] == "simulated"
    assert {e["source"] for e in events[:-1]} == {"live"}


def test_a_change_from_another_site_is_refused(stand: Stand) -> None:
    client = stand.client()
    assert client.post("/en/choose", data={"personal": "yes"}, headers={**PHONE, "Origin": "http://evil.example"}).status_code == 403
    assert client.post("/en/choose", data={"personal": "yes"}, headers={**PHONE, "Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_why_this_names_the_test_and_the_group(stand: Stand) -> None:
    client = stand.reader_in("newest")
    token = TOKEN.findall(read(client, f"/en/article/{stand.article}"))[0]
    page = read(client, f"/en/why/{token}")
    assert "Does it pay?" in page
    assert "the newest" in page
    assert stand.reader_in("front").get(f"/en/why/{token}", headers=PHONE).status_code == 404


class Failing:
    """An arm that answers no more."""

    name, kind, audience = "front", "heuristic", "all"

    def rank(self, _: Context) -> Ranking:
        raise RuntimeError("it is broken")


def test_why_this_is_answered_also_when_the_arm_fails(stand: Stand) -> None:
    client = stand.reader_in("front")
    token = TOKEN.findall(read(client, f"/en/article/{stand.article}"))[0]
    stand.site.published = replace(stand.site.published, arms={**stand.site.published.arms, "front": Failing()})  # type: ignore[dict-item]
    assert read(client, f"/en/why/{token}").count("<dt>") == 6


def test_why_this_does_not_say_editors_of_what_no_editor_chose(stand: Stand) -> None:
    """Nobody read anything, and the arm ranks nothing: the ladder filled the places. Then an editor pins one article."""
    client = stand.reader_in("front")
    token = TOKEN.findall(read(client, f"/en/article/{stand.article}"))[0]
    page = read(client, f"/en/why/{token}")
    assert "Chosen by the editors" not in page
    assert "Most read" not in page
    stand.site.published.arms.pop("front")
    assert "Chosen by the editors" not in read(client, f"/en/why/{token}")
    first = ARTICLE.findall(page)[0]
    desk = structs.replace(stand.site.desk, pins=((first, 0, 0.0, 9e12),))
    stand.site.published = replace(stand.site.published, desk=desk)
    assert read(client, f"/en/why/{token}").count("Chosen by the editors") == 2  # beside the article, and among the criteria


def test_a_reader_sees_exports_and_erases_what_is_held(stand: Stand) -> None:
    client = stand.reader_in("front")
    read(client, f"/en/article/{stand.article}")
    stand.events()
    held = client.get("/en/privacy/export.json", headers=PHONE).json
    assert held is not None
    assert {e["kind"] for e in held["events"]} == {"view", "exposure", "impression"}
    client.post("/en/privacy/erase", headers=PHONE)
    assert client.get_cookie("pl_id") is None
    assert len(list((stand.home / "erase").glob("*.json"))) == 1


def test_what_is_held_is_collected_for_one_reader_at_a_time(stand: Stand) -> None:
    """It goes through every event that is not sealed: whoever asks again and again would hold every thread of the process."""
    client = stand.reader_in("front")
    read(client, f"/en/article/{stand.article}")
    with stand.site.exporting:
        for path in ("/export.json", "/export.csv"):
            answer = client.get(f"/en/privacy{path}", headers=PHONE)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            assert "One moment" in answer.text
        page = read(client, "/en/privacy")
        assert "collected for somebody else" in page
        assert all(words in page for words in ("Take part in tests", "Erase everything"))  # what one may do needs no list
        assert "Nothing. This device" in read(stand.client(), "/en/privacy")
    assert "Events kept" in read(client, "/en/privacy")
    for path in ("/export.json", "/export.csv"):
        read(client, f"/en/privacy{path}")


def test_a_reader_may_ask_to_be_erased_while_what_is_held_cannot_be_read(stand: Stand) -> None:
    client = stand.reader_in("front")
    read(client, f"/en/article/{stand.article}")
    (stand.home / "events.db").write_bytes(b"damaged")
    assert client.post("/en/privacy/erase", headers=PHONE).status_code == 303
    assert len(list((stand.home / "erase").glob("*.json"))) == 1


def test_when_events_cannot_be_kept_the_reader_gets_the_page_without_recommendations(stand: Stand) -> None:
    client = stand.reader_in("front")
    stand.site.outbox.close()
    page = read(client, f"/en/article/{stand.article}")
    assert 'class="slot"' not in page
    assert not TOKEN.findall(page)
    assert client.post("/e", json={"token": "x"}, headers=PHONE).status_code in (422, 503)
    assert client.get("/-/ready").status_code == 503


def test_a_damaged_plan_leaves_the_last_good_one_in_force_and_is_named(stand: Stand) -> None:
    from web.published import refresh

    path = stand.home / "plan" / "current.json"
    path.write_text(path.read_text().replace('"version": "', '"version": "x').replace("0.333", "0.444"))
    after = refresh(stand.home, stand.site.published)
    assert after.experiments == stand.site.published.experiments
    assert "checksum" in after.faults["plan"]


def agreed(stand: Stand) -> FlaskClient:
    client = stand.reader_in("newest")
    client.post("/en/choose", data={"personal": "yes", "next": "/en/"}, headers={**PHONE, "Origin": "http://localhost"})
    return client


def read_to_the_end(client: FlaskClient, page: str, *, depth: int = 100) -> list[str]:
    """Open an article, read it, and return what its slot showed."""
    html = read(client, page)
    for seconds in (10, 40):
        client.post("/e", json={"token": TOKEN.findall(html)[0], "active_ms": seconds * 1_000, "depth": depth}, headers=PHONE)
    return [link.partition("?")[0] for link in SLOT.findall(html)]


def test_what_an_agreed_reader_had_on_screen_three_times_makes_room_for_something_else(stand: Stand) -> None:
    client, page = agreed(stand), f"/en/article/{stand.article}"
    shown = [read_to_the_end(client, page) for _ in range(4)]
    assert shown[0][:3] == shown[1][:3] == shown[2][:3]  # lower places may explore
    assert not set(shown[0]) & set(shown[1]) & set(shown[2]) & set(shown[3])
    assert len(shown[3]) == 6
    client.post("/en/choose", data={"personal": "no", "next": "/en/"}, headers={**PHONE, "Origin": "http://localhost"})
    assert client.get_cookie("pl_shown") is None


def test_a_slot_that_never_came_on_screen_or_a_reader_who_did_not_agree_changes_nothing(stand: Stand) -> None:
    page = f"/en/article/{stand.article}"
    for client, depth in ((agreed(stand), 99), (stand.reader_in("newest"), 100)):
        shown = [read_to_the_end(client, page, depth=depth)[:3] for _ in range(4)]
        assert shown[3] == shown[0]
        assert client.get_cookie("pl_shown") is None


def test_a_forged_memory_of_what_was_shown_counts_as_none(stand: Stand) -> None:
    client, page = agreed(stand), f"/en/article/{stand.article}"
    before = read_to_the_end(client, page)[:3]
    client.set_cookie("pl_shown", "0123abcd.89abcdef795483")
    assert read_to_the_end(client, page)[:3] == before


def test_an_arm_is_told_how_far_the_session_is_and_a_new_one_begins_at_nothing(stand: Stand) -> None:
    """Training counts a session's page views; what is told in serving must be the same number."""
    from heuristics.newest import Newest

    told: list[int] = []

    class Listening(Newest):
        def rank(self, context: Context) -> Ranking:
            told.append(context.session_position)
            return super().rank(context)

    client = agreed(stand)
    stand.site.watch(every_s=3_600.0)
    stand.site.published = replace(stand.site.published, arms={**stand.site.published.arms, "newest": Listening()})
    for pause_s in (0, 60, 60, 1_800, 60):
        stand.advance(pause_s)
        read(client, f"/en/article/{stand.article}")
    assert told == [0, 1, 2, 0, 1]


def test_a_page_names_the_articles_that_were_recorded_when_others_are_published_meanwhile(stand: Stand) -> None:
    """Positions of articles move when one is added; the page was chosen, and logged, before."""
    client, keep = stand.reader_in("newest"), stand.site.outbox.append

    def published_meanwhile(events: Sequence[Event], *, timeout_s: float = 1.0) -> None:
        keep(events, timeout_s=timeout_s)
        add_articles(stand.home, [replace(stand.site.catalogue.articles[0], id="0-the-first-of-all")])
        stand.site.published = refresh(stand.home, stand.site.published)

    stand.site.outbox.append = published_meanwhile  # type: ignore[method-assign]
    page = read(client, f"/en/article/{stand.article}")
    (logged,) = (e["body"]["items"] for e in stand.events() if e["kind"] == "impression")
    assert [link.partition("?")[0].rpartition("/")[2] for link in SLOT.findall(page)] == [item["article"] for item in logged]


@pytest.mark.parametrize("agreed", [False, True])
def test_why_this_says_what_the_page_said_also_of_what_was_explored(stand: Stand, agreed: bool) -> None:
    stand.site.rules = replace(stand.site.rules, explore=1.0)
    published = stand.site.published
    position = published.catalogue.position(stand.article)
    assert position is not None
    fresh = pool_at(published.catalogue, NOW.timestamp(), article=position)[:12]
    rows = {"co_indptr": np.repeat([0, len(fresh)], [position + 1, len(published.catalogue) - position]), "co_articles": fresh}
    weights = {"co_weights": np.ones(len(fresh), np.float32), "co_total": np.full(len(published.catalogue), 12.0, np.float32)}
    stand.site.published = replace(published, signals=replace(published.signals, **rows, **weights))
    client = stand.reader_in("front")
    if agreed:
        client.post("/en/choose", data={"personal": "yes"}, headers=PHONE)
    for opened in (published.catalogue.ids[fresh[0]], stand.article):
        page = read(client, f"/en/article/{opened}")
    told = REASON.findall(page)
    assert "Also read by readers of this article" in told
    assert REASON.findall(read(client, f"/en/why/{TOKEN.findall(page)[0]}"))[: len(told)] == told
