"""What a reader decides on the privacy page holds, also for what was counted before."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from experiments.content import withdraw_article
from experiments.events import lake
from experiments.events.erase import erase_readers
from experiments.files import read_json
from experiments.serving.recommender import Context, Ranking
from tests.events.story import send, view
from tests.web.site_fixture import PHONE, Stand
from web.identity import is_bot

TOKEN = re.compile(r'data-token="([^"]+)"')
HERE = {**PHONE, "Origin": "http://localhost"}
GPC = {**PHONE, "Sec-GPC": "1"}
NOTHING: dict[str, str] = {}


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


def export(client: FlaskClient, headers: dict[str, str] = PHONE) -> dict[str, object]:
    return client.get("/en/privacy/export.json", headers=headers).get_json()  # type: ignore[no-any-return]


def save(client: FlaskClient, *on: str) -> None:
    assert client.post("/en/privacy", data=dict.fromkeys(on, "yes"), headers=HERE).status_code == 303


def asked_to_erase(stand: Stand) -> list[str]:
    return [read_json(path)["reader"] for path in (stand.home / "erase").glob("*.json")]


def reading(stand: Stand, arm: str = "front") -> tuple[FlaskClient, str]:
    """A reader with some events in the store, and their id."""
    client = stand.reader_in(arm)
    client.get(f"/en/article/{stand.article}", headers=PHONE)
    stand.events()
    reader = str(export(client)["reader"])
    assert len(reader) == 32
    return client, reader


@pytest.mark.parametrize("signal", ["Sec-GPC", "DNT"])
def test_who_signals_an_objection_sees_and_erases_what_was_counted_before(stand: Stand, signal: str) -> None:
    client, reader = reading(stand)
    told = export(client, {**PHONE, signal: "1"})
    assert (told["reader"], told["groups"], len(told["events"])) == (reader, [], len(export(client)["events"]))  # type: ignore[arg-type]
    answer = client.post("/en/privacy/erase", headers={**HERE, signal: "1"})
    assert answer.location == "/en/privacy?done=erased"
    assert asked_to_erase(stand) == [reader]


def test_who_objects_sees_and_erases_what_was_counted_before_and_no_other_page_is_sent_the_id(stand: Stand) -> None:
    client, reader = reading(stand)
    save(client)
    assert client.get_cookie("pl_id") is None
    assert client.get_cookie("pl_held", path="/en/privacy") is not None
    assert client.get_cookie("pl_held", path="/") is None
    assert "Nothing is counted on this device any more" in client.get("/en/privacy", headers=PHONE).text
    assert export(client)["reader"] == reader
    client.post("/en/privacy/erase", headers=HERE)
    assert asked_to_erase(stand) == [reader]
    assert export(client) == {"reader": None}


def test_who_is_counted_again_is_the_reader_they_were(stand: Stand) -> None:
    client, reader = reading(stand)
    save(client)
    save(client, "measured", "tests")
    assert export(client)["reader"] == reader
    assert client.get_cookie("pl_held", path="/en/privacy") is None
    slot = client.get(f"/en/article/{stand.article}", headers=PHONE).text
    assert 'class="slot"' in slot


def test_who_is_counted_keeps_the_id_they_have_and_erases_both(stand: Stand) -> None:
    client, reader = reading(stand)
    other = f"{'a' * 32}.{stand.clock() // 1_000_000}.l"
    client.set_cookie("pl_held", stand.site.tokens.sign("id", other), path="/en/privacy")
    send(stand.site.home, [view(1, "a" * 32)])
    save(client, "measured")
    told = export(client)
    assert told["reader"] == reader
    assert {event["reader"] for event in told["events"]} == {reader, "a" * 32}  # type: ignore[attr-defined]
    client.post("/en/privacy/erase", headers=HERE)
    assert sorted(asked_to_erase(stand)) == sorted([reader, "a" * 32])


def test_nothing_is_called_erased_when_nothing_is_held(stand: Stand) -> None:
    answer = stand.client().post("/en/privacy/erase", headers=HERE)
    assert answer.location == "/en/privacy?done=nothing"
    assert asked_to_erase(stand) == []


def test_an_objection_outlives_an_erasure(stand: Stand) -> None:
    client, _ = reading(stand)
    save(client, "measured")
    client.post("/en/privacy/erase", headers=HERE)
    client.get(f"/en/article/{stand.article}", headers=PHONE)
    assert not [e for e in stand.events()[-2:] if e["kind"] == "exposure"]
    assert "Use my reading to choose?" not in client.get(f"/en/article/{stand.article}", headers=PHONE).text


def test_who_objects_to_nothing_leaves_no_cookie_when_everything_is_erased(stand: Stand) -> None:
    client, _ = reading(stand)
    save(client, "measured", "tests", "personal")
    client.get(f"/en/article/{stand.article}", headers=PHONE)
    client.post("/en/privacy/erase", headers=HERE)
    assert [client.get_cookie(name) for name in ("pl_id", "pl_choice", "pl_reads", "pl_shown")] == [None] * 4


def test_an_objection_is_kept_for_thirteen_months_and_a_no_to_the_question_for_six(stand: Stand) -> None:
    def age(*on: str) -> int:
        cookies = stand.client().post("/en/privacy", data=dict.fromkeys(on, "yes"), headers=HERE).headers.getlist("Set-Cookie")
        return int(next(c for c in cookies if c.startswith("pl_choice")).partition("Max-Age=")[2].partition(";")[0]) // 86_400

    assert (age("measured", "tests"), age("measured"), age()) == (183, 395, 395)


def agreed(stand: Stand) -> dict[str, bool]:
    """Per read of the store: whether a model may learn from it."""
    stand.events()
    table = lake.reads(stand.home, until_us=stand.clock() + 1, agreement=True)
    return dict(zip(table["reader"].to_pylist(), table["agreed"].to_pylist(), strict=True))


@pytest.mark.parametrize("back", ["all", "personal", "signal", "page"])
def test_models_learn_no_more_from_who_takes_an_agreement_back(stand: Stand, back: str) -> None:
    client, reader = reading(stand)
    save(client, "measured", "tests", "personal")
    for _ in range(2):
        stand.advance(60)
        client.get(f"/en/article/{stand.article}", headers=PHONE)
    assert agreed(stand) == {reader: True}
    stand.advance(60)
    before = len(stand.events())
    if back in ("all", "personal"):
        save(client, *(("measured", "tests") if back == "personal" else ()))
    else:
        for _ in range(3):
            client.get("/en/" if back == "signal" else f"/en/article/{stand.article}", headers=GPC)
    assert agreed(stand) == {reader: False}
    assert len(stand.events()) == before + 1
    assert client.get_cookie("pl_reads") is None


def test_where_agreement_comes_first_an_article_asks_for_it(tmp_path: Path) -> None:
    stand = Stand(tmp_path, regime="strict")
    client, page = stand.client(), f"/en/article/{stand.article}"
    assert "Use my reading to choose?" in client.get(page, headers=PHONE).text
    assert "Use my reading to choose?" not in client.get(page, headers=GPC).text
    assert client.get_cookie("pl_id") is None
    client.post("/en/choose", data={"personal": "yes", "next": page}, headers=HERE)
    client.get(page, headers=PHONE)
    reader = export(client)["reader"]
    assert reader
    save(client, "measured", "tests")
    assert client.get_cookie("pl_id") is None
    assert export(client)["reader"] == reader


def test_the_switches_are_reached_when_the_events_cannot_be_read(stand: Stand) -> None:
    client, _ = reading(stand)
    stand.site.export = lambda _: (_ for _ in ()).throw(OSError("disk"))  # type: ignore[assignment]
    page = client.get("/en/privacy", headers=PHONE)
    assert page.status_code == 200
    assert "It cannot be read at the moment." in page.text
    assert "Erase everything" in page.text


class Sleeps:
    """An arm that hangs."""

    name, kind, audience = "front", "heuristic", "all"
    asleep = False

    def rank(self, context: Context) -> Ranking:
        if self.asleep:
            time.sleep(3)
        return Ranking.best_first(context.pool, [1.0] * len(context.pool), "heat")


def test_an_arm_that_hangs_is_not_waited_for_when_somebody_asks_why(stand: Stand) -> None:
    client, arm = stand.reader_in("front"), Sleeps()
    stand.site.published = replace(stand.site.published, arms={**stand.site.published.arms, "front": arm})
    token = TOKEN.findall(client.get(f"/en/article/{stand.article}", headers=PHONE).text)[0]
    arm.asleep = True
    before = time.monotonic()
    page = client.get(f"/en/why/{token}", headers=PHONE)
    assert time.monotonic() - before < 2.5
    assert page.text.count("<dt>") == 6


def test_why_this_does_not_name_what_was_withdrawn(stand: Stand) -> None:
    client = stand.reader_in("newest")
    html = client.get(f"/en/article/{stand.article}", headers=PHONE).text
    token, first = TOKEN.findall(html)[0], re.findall(r'href="/en/article/([^"?]+)\?via', html)[0]
    title = next(a.title for a in stand.site.catalogue.articles if a.id == first)
    withdraw_article(stand.home, first)
    from web.published import refresh

    stand.site.published = refresh(stand.home, stand.site.published)
    page = client.get(f"/en/why/{token}", headers=PHONE).text
    assert page.count("<dt>") == 5
    assert title not in page


def test_why_this_says_that_own_reading_left_something_out(stand: Stand) -> None:
    client = stand.reader_in("front")
    client.get(f"/en/article/{stand.article}", headers=PHONE)
    ask = lambda html: client.get(f"/en/why/{TOKEN.findall(html)[0]}", headers=PHONE).text  # noqa: E731
    assert "Not used." in ask(client.get(f"/en/article/{stand.article}", headers=PHONE).text)
    save(client, "measured", "tests", "personal")
    for article in [a.id for a in stand.site.catalogue.articles[:3]]:
        html = client.get(f"/en/article/{article}", headers=PHONE).text
    assert "is not offered again" in ask(html)


@pytest.mark.parametrize(
    "agent",
    [
        "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)", "WhatsApp/2.23.20.0", "Go-http-client/2.0", "okhttp/5.1",
        "Scrapy/2.12 (+https://scrapy.org)", "Mediapartners-Google", "Zabbix", "NewsReader/3", "Java/21",
        "Mozilla/5.0 (Linux; Android 11) AppleWebKit/537.36 Chrome/137 Mobile Safari/537.36 Chrome-Lighthouse",
        "Mozilla/5.0 (Linux; Android 6.0.1) (compatible; Google-InspectionTool/1.0;)", "Mozilla/5.0 (compatible; Nmap Scripting Engine)",
    ],
)  # fmt: skip
def test_a_program_is_no_reader(agent: str) -> None:
    assert is_bot(agent)


@pytest.mark.parametrize(
    "agent",
    [
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36", "Opera/9.80 (J2ME/MIDP; Opera Mini/9) Presto/2.12",
        "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0", "Mozilla/5.0 (Linux; Android 15; CUBOT X90) Mobile Safari/537.36",
    ],
)  # fmt: skip
def test_a_person_with_a_browser_is_no_program(agent: str) -> None:
    assert not is_bot(agent)


def test_bytes_in_an_address_that_are_no_text_are_refused(stand: Stand) -> None:
    environ = {"QUERY_STRING": b"utm=caf\xe9".decode("latin-1")}
    for path in ("/en/", f"/en/article/{stand.article}", "/en/search", "/en/privacy"):
        assert stand.client().get(path, headers=PHONE, environ_overrides=environ).status_code == 400


def test_over_tls_cookies_are_bound_to_this_host_and_browsers_come_back_by_tls(tmp_path: Path) -> None:
    stand = Stand(tmp_path, secure_cookies=True)
    client = stand.app.test_client()
    answer = client.get("/en/", base_url="https://localhost", headers=PHONE)
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-pl_id=")
    assert "Secure" in cookie
    assert "Path=/" in cookie
    assert "Domain" not in cookie
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    told = client.get("/en/privacy/export.json", base_url="https://localhost", headers=PHONE).get_json()
    assert told["reader"]


def test_without_tls_browsers_are_told_nothing_of_it(stand: Stand) -> None:
    assert "Strict-Transport-Security" not in stand.client().get("/en/", headers=PHONE).headers


def test_what_was_taken_back_is_erased_with_the_rest(stand: Stand) -> None:
    client, reader = reading(stand)
    save(client, "measured", "tests", "personal")
    client.get(f"/en/article/{stand.article}", headers=PHONE)
    save(client)
    stand.events()
    erase_readers(stand.home, [reader], until_us=stand.clock())
    assert reader not in {e["reader"] for e in stand.events()}


def test_taking_an_agreement_back_joins_no_two_sessions_and_stays_with_its_source(stand: Stand) -> None:
    client = stand.client()
    simulated = {**PHONE, "Presslab-Simulated": stand.site.tokens.sign("simulated", "1")}
    page = f"/en/article/{stand.article}"
    client.get(page, headers=simulated)
    save(client, "measured", "tests", "personal")
    client.get(page, headers=PHONE)
    stand.advance(20 * 60)
    client.get(page, headers=GPC)  # takes it back
    stand.advance(20 * 60)
    client.get(page, headers=PHONE)
    assert {e["source"] for e in stand.events() if e["reader"]} == {"simulated"}
    table = lake.reads(stand.home, until_us=stand.clock() + 1)
    assert len(set(table["session"].to_pylist())) == 2
