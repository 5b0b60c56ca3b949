"""Whatever a request says, it is answered with a reason, never with a 500, and nothing of it is half kept."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Response

from experiments.events.store import balance
from tests.web.site_fixture import PHONE, Stand
from web.templating import asset

TOKEN = re.compile(r'data-token="([^"]+)"')
JSON = {**PHONE, "Content-Type": "application/json"}
ODD = (
    *(
        "null",
        "true",
        "-0",
        "0.5",
        "1e308",
        "1e999",
        "-1e999",
        "NaN",
        "-Infinity",
        "9" * 400,
        "9" * 5_000,
        "-1",
        '"7"',
        '"\\ud800"',
        '"\\u0000"',
    ),
    *(
        "[]",
        "{}",
        "[[]]",
        '{"token": 1}',
        "[" * 30_000 + "]" * 30_000,
        '{"a":' * 9_000 + "1" + "}" * 9_000,
        '"' + "x" * 60_000 + '"',
        '"ü"',
        '"\\"',
    ),
)
BODIES = (
    *(
        b"",
        b" ",
        b"\x00",
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        "{}".encode("utf-32"),
        b'{"token":"\xc3\x28"}',
        b"\x1f\x8b\x08",
    ),
    *(
        b'{"events": {}}',
        b'{"events": []}',
        b'{"events": null}',
        b'{"events": [null, 1, "x", [], {}]}',
        b'{"events": [{}], "events": []}',
        b"[]",
        b"{",
    ),
    *(b'{"' + b"k" * 60_000 + b'": 1}', b"x" * 70_000, b'{"token": "a", "__class__": 1}'),
)
PATHS = (
    *(
        "/en/article/%00",
        "/en/article/%ff%fe",
        "/en/article/" + "a" * 4_000,
        "/en/article/..%2f..%2fetc",
        "/en/search?q=%ff",
        "/en/search?q=" + "x" * 4_000,
    ),
    *(
        "/en/search?q[]=1&q=2&q=%00",
        "/en/?via=%ff",
        "/en/section/%F0%9F%92%A9",
        "/xx/",
        "/en/article/a?via=" + "A" * 999,
        "//evil",
        "/static/../web/app.py",
    ),
)
COOKIES = ("pl_id", "pl_choice", "pl_reads", "pl_shown")


@pytest.fixture
def stand(home: Path) -> Iterator[Stand]:
    made = Stand(home, events_per_second=1_000_000)
    yield made
    made.site.close()


@pytest.mark.parametrize("path", ["/en/", "/e", "/-/live", "/console/en/"])
def test_a_host_that_is_not_ours_is_refused_in_words(stand: Stand, path: str) -> None:
    answer = stand.client().get(path, headers={**PHONE, "Host": "elsewhere.example"})
    assert answer.status_code in (400, 405)
    assert "elsewhere.example" in answer.text
    assert "trusted_hosts" in answer.text


@pytest.mark.parametrize(
    ("protocol", "host", "status"), [("1.1", None, 400), ("1.1", "", 400), ("1.1", "localhost", 200), ("1.0", None, 200)]
)
def test_a_request_that_names_no_host_is_refused_where_it_must(stand: Stand, protocol: str, host: str | None, status: int) -> None:
    asset.cache_clear()  # a process that has not shown a page yet
    names = {"SERVER_PROTOCOL": f"HTTP/{protocol}", "SERVER_NAME": "localhost" if host is None else host}  # as gunicorn fills it in
    environment = {**EnvironBuilder("/en/", headers=PHONE).get_environ(), **names}
    environment = {key: value for key, value in environment.items() if key != "HTTP_HOST"} | ({} if host is None else {"HTTP_HOST": host})
    assert Response.from_app(stand.app, environment).status_code == status


@pytest.mark.parametrize("header", ["X-Forwarded-Proto", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Forwarded", "Via"])
def test_the_console_is_not_there_for_whoever_comes_through_a_proxy(stand: Stand, header: str) -> None:
    client, passed_on = stand.client(), {**PHONE, header: "https"}
    assert client.get("/console/en/jobs", headers=PHONE).status_code == 200
    assert client.get("/console/en/jobs", headers=passed_on).status_code == 404
    assert client.post("/console/en/experiment/related/stop", headers=passed_on, data={"who": "x"}).status_code == 404
    assert client.get("/en/", headers=passed_on).status_code == 200


@pytest.mark.parametrize(
    ("host", "port", "protocol", "status"),
    [
        ("news.example", 8750, "HTTP/1.1", 404),  # a proxy that passes on the name and says no more
        ("127.0.0.1", 8750, "HTTP/1.1", 404),  # or the name that somebody elsewhere gave
        ("127.0.0.1:8751", 8750, "HTTP/1.1", 404),
        ("news.example:8751", 8751, "HTTP/1.1", 404),
        ("127.0.0.1:8751", 8751, "HTTP/1.0", 404),  # nginx that was told nothing
        ("127.0.0.1:8751", 8751, "HTTP/1.1", 200),
        ("localhost:9000", 8751, "HTTP/1.1", 200),  # ssh -L 9000:127.0.0.1:8751
    ],
)
def test_the_console_is_not_there_for_whoever_may_come_through_a_proxy_that_says_nothing(
    home: Path, host: str, port: int, protocol: str, status: int
) -> None:
    stand = Stand(home, trusted_hosts=("127.0.0.1", "localhost", "news.example"))
    asked = {"headers": {**PHONE, "Host": host}, "environ_overrides": {"SERVER_PROTOCOL": protocol, "SERVER_PORT": str(port)}}
    assert [stand.client().get(path, **asked).status_code for path in ("/console/en/jobs", "/en/")] == [status, 200]
    stand.site.close()


def test_readiness_is_not_told_and_no_event_is_written_for_whoever_comes_through_a_proxy(stand: Stand) -> None:
    assert stand.client().get("/-/ready", headers={"X-Forwarded-Proto": "https"}).status_code == 404
    assert stand.events() == []
    assert stand.client().get("/-/ready").status_code == 200


@pytest.mark.parametrize("referer", ["http://[", "http://[::1/", "http://a]b/", "//[x"])
def test_a_referer_that_is_no_address_is_none(stand: Stand, referer: str) -> None:
    for path in ("/en/", f"/en/article/{stand.article}"):
        assert stand.client().get(path, headers={**PHONE, "Referer": referer}).status_code == 200
    assert {event["body"]["referrer"] for event in stand.events() if event["kind"] == "view"} == {"direct"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Cookie": "pl_id=x"}, 403),  # a browser, and it does not say which page the form is on
        ({}, 422),
        ({"Sec-Fetch-Site": "same-origin", "Cookie": "pl_id=x"}, 422),
    ],
)
def test_a_step_is_taken_from_our_own_pages_or_by_a_program_without_cookies(stand: Stand, headers: dict[str, str], status: int) -> None:
    agent = {"User-Agent": PHONE["User-Agent"]}
    client = stand.app.test_client(use_cookies=False)  # the header of the request counts
    assert client.post("/console/en/experiment/related/stop", data={"who": ""}, headers={**agent, **headers}).status_code == status


def test_no_body_sent_to_the_beacon_is_answered_with_a_500(stand: Stand) -> None:
    client = stand.reader_in("front")
    token = TOKEN.findall(client.get(f"/en/article/{stand.article}", headers=PHONE).text)[0]
    good = {"token": json.dumps(token), "active_ms": "5", "depth": "5", "client_at": "1", "sent_at": "1"}
    bodies = list(BODIES)
    for name in (*good, "events", "x"):
        for value in ODD:
            one = ", ".join(f'"{key}": {text}' for key, text in {**good, name: value}.items())
            bodies += [f"{{{one}}}".encode(), f'{{"events": [{{{one}}}]}}'.encode()]
    for body in bodies:
        answer = client.post("/e", data=body, headers=JSON)
        assert answer.status_code in (202, 400, 413, 422), body[:200]
        assert answer.json
    stand.site.close()
    assert all(row.exact for row in balance(stand.home))


def test_an_event_is_taken_as_it_is_beside_one_that_must_be_refused(stand: Stand) -> None:
    """Alone it is read by its type, beside a bad one by Python's reader: the answer and what is stored are the same."""
    client = stand.reader_in("front")
    token = TOKEN.findall(client.get(f"/en/article/{stand.article}", headers=PHONE).text)[0]
    good, taken = {"token": json.dumps(token), "active_ms": "5", "depth": "5", "client_at": "1", "sent_at": "null"}, 0
    for value in (*ODD, "0", "1.0", "12.7", "1e3", "01", "+1", "9007199254740992", "9007199254740993", '"a\tb"', '"\\u00e9"'):
        for name in good:
            one = "{" + ", ".join(f'"{key}": {text}' for key, text in {**good, name: value}.items()) + "}"
            alone, beside = (client.post("/e", data=f'{{"events": [{rows}]}}', headers=JSON).json for rows in (one, f"{one}, 0"))
            assert alone is not None
            assert beside is not None
            if "error" not in alone:
                taken += alone["accepted"]
                assert beside["accepted"] == alone["accepted"], one[:200]
                assert beside["rejected"] == [*alone["rejected"], {"i": 1, "reason": "not an object"}], one[:200]
    stored = [event["body"] for event in stand.events() if event["kind"] == "dwell"]
    assert taken > len(stored) == len({tuple(body.items()) for body in stored})
    rows = [row for row in balance(stand.home) if row.kind == "dwell"]
    assert [(row.received, row.conflict, row.dead, row.exact) for row in rows] == [(2 * taken, 0, 0, True)]


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "\x7f", "a" * 5_000])
def test_a_body_that_is_not_called_json_is_refused_and_counted(stand: Stand, kind: str) -> None:
    client = stand.reader_in("front")
    token = TOKEN.findall(client.get(f"/en/article/{stand.article}", headers=PHONE).text)[0]
    good = json.dumps({"token": token, "active_ms": 5, "depth": 5})
    assert client.post("/e", data=good, headers={**PHONE, "Content-Type": kind}).status_code == 415
    assert stand.site.edge._body()["rejected"] == {"415": 1}
    for charset in ("", "; charset=utf-8", "; charset=nonsense"):
        assert client.post("/e", data=good, headers={**PHONE, "Content-Type": f"application/json{charset}"}).status_code == 202


def test_no_address_and_no_cookie_is_answered_with_a_500(stand: Stand) -> None:
    chance, client = random.Random(7), stand.reader_in("front")
    known = {name: cookie.value for name in COOKIES if (cookie := client.get_cookie(name))}
    for path in (*PATHS, f"/en/article/{stand.article}"):
        cookies = "; ".join(f"{name}={_odd(known.get(name, ''), chance)}" for name in COOKIES)
        answer = stand.client().get(
            path, headers={**PHONE, "Cookie": cookies, "Accept-Language": _odd("en", chance), "Referer": _odd("http://x", chance)}
        )
        assert answer.status_code < 500, path


def _odd(text: str, chance: random.Random) -> str:
    letters = [chr(chance.randrange(1, 256)) for _ in range(chance.randrange(9))]
    return (text[: chance.randrange(len(text) + 1)] + "".join(letters)).replace("\n", "").replace("\r", "")


@pytest.mark.parametrize("name", ["a" * 240, "a" * 241, "a" * 300, "\N{CJK UNIFIED IDEOGRAPH-65B0}" * 90])
def test_a_name_no_file_can_have_is_the_name_of_no_test(stand: Stand, name: str) -> None:
    assert stand.client().get(f"/console/en/experiment/{name}").status_code == 404
