"""A publisher's server tells what readers ordered; it is durable, counted once, and reaches the report."""

from __future__ import annotations

import getpass
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from werkzeug.test import TestResponse

from analysis.report import build_report
from analysis.totals import totals
from experiments.errors import ConfigError, NotFoundError
from experiments.events.backup import back_up
from experiments.events.restoring import restore
from experiments.events.store import balance
from experiments.lifecycle import trail
from experiments.metric import load_metrics
from experiments.tables import control_engine
from tests.web.site_fixture import NOW, PHONE, Stand
from web.access import allowed, grant, granted, revoke
from web.cli import commands
from web.cli.main import app

DOCS = (Path(__file__).parents[2] / "docs" / "conversions.md").read_text("utf-8")
NOW_S = round(NOW.timestamp())


def cookie(stand: Stand, arm: str) -> str:
    """The cookie of a reader who was shown the slot of an arm."""
    client = stand.reader_in(arm)
    client.get(f"/en/article/{stand.article}", headers=PHONE)
    found = client.get_cookie("pl_id")
    assert found is not None
    return found.value


def told(stand: Stand, rows: Any, token: str | None = None, **headers: str) -> TestResponse:
    token = grant(stand.home, now_s=NOW_S) if token is None else token
    body = rows if isinstance(rows, str) else json.dumps({"conversions": rows})
    return stand.client().post(
        "/api/conversions", data=body, headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers}
    )


def sold(reader: str, order: str = "A-1", **more: Any) -> dict[str, Any]:
    return {"reader": reader, "name": "subscription", "order": order, "at": "2026-11-20T11:59:00Z", "value": 499, "currency": "EUR"} | more


def test_a_token_that_was_revoked_stays_revoked_when_an_older_copy_comes_back(stand: Stand, tmp_path: Path) -> None:
    tokens = {name: grant(stand.home, now_s=NOW_S) for name in ("kept", "early", "late")}
    copies, at_us = tmp_path / "copies", stand.clock()
    first = back_up(stand.home, copies, at_us=at_us).path
    revoke(stand.home, tokens["early"].split("_")[1])
    back_up(stand.home, copies, at_us=at_us + 1)
    revoke(stand.home, tokens["late"].split("_")[1])
    restore(first, tmp_path / "one", at_us=at_us)
    restore(first, tmp_path / "two", at_us=at_us, erased_in=stand.home)
    holds = {
        home: [name for name, token in tokens.items() if allowed(tmp_path / home, f"Bearer {token}", "conversions", now_s=NOW_S)]
        for home in ("one", "two")
    }
    assert holds == {"one": ["kept", "late"], "two": ["kept"]}


def test_orders_of_readers_reach_the_report_once_under_the_arm_they_were_shown(stand: Stand) -> None:
    buyers = {arm: [cookie(stand, arm) for _ in range(2)] for arm in ("status_quo", "front", "newest")}
    rows = [sold(buyers["front"][0]), sold(buyers["front"][0], "A-2", value=1), sold(buyers["front"][1]), sold(buyers["newest"][1], "A-3")]
    rows[2] |= {"order": "N-1", "name": "newsletter", "value": 0}
    token = grant(stand.home, now_s=NOW_S)
    for _ in range(2):
        answer = told(stand, [row | {"at": "2026-11-20T12:00:01+00:00"} for row in rows], token)
        assert (answer.status_code, answer.json) == (202, {"accepted": 4, "rejected": []})
    assert sum(event["kind"] == "conversion" for event in stand.events()) == 4
    assert all(row.exact for row in balance(stand.home))
    (block,) = re.findall(r"```toml\n(.*?)```", DOCS, re.S)
    assert "subscriptions_per_reader" in load_metrics(block)
    plan = replace(stand.plan, goal="conversions_per_reader", secondary=("revenue_per_reader",))
    until = NOW + timedelta(days=20)
    found = totals(stand.home, plan, until_us=round(until.timestamp() * 1e6), source="live")
    report = build_report(plan, found, balance(stand.home), start=NOW, until=until, state="stopped", snapshot="seq")
    values = {(one["metric"], arm): value for one in report.to_dict()["effects"] for arm, value in one["values"].items()}
    assert [values["conversions_per_reader", arm] for arm in buyers] == [0.0, 1.5, 0.5]
    assert [values["revenue_per_reader", arm] for arm in buyers] == [0.0, 250.0, 249.5]


def test_the_example_of_the_documentation_is_taken(stand: Stand) -> None:
    (body,) = re.findall(r"```json\n(.*?)```", DOCS, re.S)
    assert told(stand, body.replace("COOKIE", cookie(stand, "front"))).json == {"accepted": 2, "rejected": []}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"reader": "0" * 32}, "reader is not the value of a cookie"),
        ({"at": "2026-11-20T13:00:00Z"}, "future"),
        ({"at": "2026-11-12T12:00:00Z"}, "7 days ago"),
        ({"at": "2026-11-20T11:59:00"}, "timezone"),
        ({"at": 5}, "at"),
        ({"name": ""}, "name"),
        ({"order": "a\u0000"}, "printable"),
        ({"order": "x" * 101}, "order"),
        ({"value": 4.99}, "value"),
        ({"value": True}, "value"),
        ({"value": 10**13}, "value"),
        ({"currency": "eur"}, "currency"),
        ({"currency": "USD"}, "EUR"),
        ({"currency": None}, "EUR"),
        ({"currency": "EUR\n", "value": 0}, "currency"),
        ({"arm": "front"}, "arm"),
        ({"name": "\ud800"}, "printable"),
        ({"at": "\ud800"}, "half of a character"),
        ({"\ud800": 1}, "half of a character"),
    ],
)
def test_a_conversion_that_cannot_be_right_is_refused_and_the_others_are_kept(stand: Stand, change: dict[str, Any], reason: str) -> None:
    reader = cookie(stand, "front")
    answer = told(stand, [sold(reader), sold(reader) | change, 5])
    assert answer.status_code == 202
    assert answer.json is not None
    assert (answer.json["accepted"], [one["i"] for one in answer.json["rejected"]]) == (1, [1, 2])
    assert reason in answer.json["rejected"][0]["reason"]


@pytest.mark.parametrize(
    ("body", "status"),
    [("no json", 400), ("[" * 5_000, 400), ("[]", 422), ('{"conversions": []}', 422), ('{"conversions": [1]}', 422), (f'{{"conversions": {[1] * 51}}}', 413)],
)  # fmt: skip
def test_a_body_that_holds_no_conversions_is_refused_with_its_code(stand: Stand, body: str, status: int) -> None:
    assert told(stand, body).status_code == status
    assert told(stand, body, **{"Content-Type": "text/plain"}).status_code == 415


def test_only_a_token_that_holds_may_tell(stand: Stand) -> None:
    reader, good = cookie(stand, "front"), grant(stand.home, now_s=NOW_S, days=1)
    for token in ("", "x", "pl_", "pl_x_y", good[:-1], f"{good}x", good.replace("pl_", "pl"), "pl_\xff_\xff"):
        answer = told(stand, [sold(reader)], token)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert told(stand, [sold(reader)], good).status_code == 202
    assert told(stand, [sold(reader)], good, **{"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert good.split("_", 2)[2] not in (stand.home / "api_tokens.json").read_text()
    assert (stand.home / "api_tokens.json").stat().st_mode & 0o077 == 0
    stand.advance(86_400)
    assert told(stand, [sold(reader)], good).status_code == 401


def test_a_revoked_token_ends_at_once(stand: Stand) -> None:
    token = grant(stand.home, now_s=NOW_S)
    (identity,) = granted(stand.home)
    revoke(stand.home, identity)
    assert told(stand, [sold("x")], token).status_code == 401
    with pytest.raises(NotFoundError, match=identity):
        revoke(stand.home, identity)
    with pytest.raises(ConfigError, match="90 days"):
        grant(stand.home, now_s=0, days=91)


def test_tokens_made_at_once_are_all_kept(home: Path) -> None:
    """Each is read, added and written: without taking turns one that was revoked meanwhile would come back."""
    with ThreadPoolExecutor(8) as pool:
        made = [token.split("_")[1] for token in pool.map(lambda _: grant(home, now_s=0), range(24))]
    assert sorted(granted(home)) == sorted(made)


def test_when_nothing_can_be_kept_the_server_is_told_to_come_again(stand: Stand) -> None:
    reader = cookie(stand, "front")
    stand.site.outbox.close()
    answer = told(stand, [sold(reader)])
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def test_the_commands_make_list_and_revoke_a_token(home: Path) -> None:
    commands.install()
    run = CliRunner().invoke
    token = run(app, ["token", "new", "--days", "2", "--home", str(home)]).stdout.strip()
    (identity,) = granted(home)
    assert token.startswith(f"pl_{identity}_")
    assert identity in run(app, ["token", "list", "--home", str(home)]).stdout
    assert run(app, ["token", "revoke", identity, "--home", str(home)]).exit_code == 0
    assert json.loads(run(app, ["token", "list", "--json", "--home", str(home)]).stdout) == []
    steps = [(row.action, row.subject, row.actor, row.reason) for row in trail(control_engine(home))]
    assert steps == [
        ("grant", f"token {identity}", getpass.getuser(), "for conversions, 2 days"), ("revoke", f"token {identity}", getpass.getuser(), "")
    ]  # fmt: skip
    assert token not in (home / "control.db").read_bytes().decode("latin-1")
