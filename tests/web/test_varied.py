"""How varied the articles were: from requests to the stored report, and as the page and the command line show it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from analysis.effect import LEAST_READERS
from analysis.observed import Observed
from experiments.events.lake_articles import Shown
from experiments.files import read_json
from tests.analysis.test_report import report, world
from tests.web.preview import PreviewSite
from tests.web.site_fixture import NOW, PHONE, Stand
from tests.web.test_real_reports import show
from web.cli.report_table import print_report
from web.reporting import report_path, write_reports

LATER_US = 60 * 86_400_000_000


def test_requests_become_the_articles_and_places_of_every_arm_in_the_report(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    clients = [stand.client() for _ in range(130)]
    for client in clients:
        client.get(f"/en/article/{stand.article}", headers=PHONE)
    events = stand.events()
    write_reports(tmp_path, until_us=round(NOW.timestamp() * 1e6) + LATER_US, source="live")
    stored: dict[str, Any] = read_json(report_path(tmp_path, "related")) or {}
    shown: dict[str, Counter[str]] = {"status_quo": Counter(), "front": Counter(), "newest": Counter()}
    readers = Counter(
        event["arm"] for event in events if event["kind"] == "impression"
    )  # each opened one page; chance says how many an arm gets
    for event in events:
        if event["kind"] == "impression":
            shown[event["arm"]].update(event["body"]["articles"])
    status = {arm: "undefined_for_arm" if not n else "ok" if readers[arm] >= LEAST_READERS else "insufficient" for arm, n in shown.items()}
    told = {arm["arm"]: (arm["places"], arm["articles"], arm["coverage"]["status"]) for arm in stored["diversity"]["arms"]}
    assert told == {arm: (n.total(), len(n), status[arm]) for arm, n in shown.items()}
    assert "ok" in status.values()
    assert stored["diversity"]["catalogue"] == len({stand.article}.union(*shown.values()))
    says = next(check["says"] for check in stored["checks"] if check["name"] == "interference")
    assert "Articles opened during the test: 130, by readers of status quo " in says


def varied(**more: Any) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    arms = {arm: (rng.integers(0, 200, 4_000), rng.zipf(a, 4_000) % 300, np.ones(4_000, int)) for arm, a in (("front", 1.7), ("als", 1.4))}
    return report(world(), observed=Observed(articles=Shown(arms, 300)), **more).to_dict()


def test_the_page_shows_coverage_and_gini_of_every_arm(client: FlaskClient, preview: PreviewSite) -> None:
    text = show(client, preview, varied()).one("main").text.split("How varied were the articles?")[1].split("What it is worth")[0]
    assert "300 articles were opened or shown." in text
    assert "not shown: its slots stayed empty" in text
    assert "% higher with ALS than with front" in text


def test_the_command_line_shows_them_too(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(varied())
    said = capsys.readouterr().out
    assert "How varied the articles were" in said
    assert "its slots stayed empty" in said


def test_before_the_planned_end_and_in_reports_of_somebodys_own_file_nothing_is_said(client: FlaskClient, preview: PreviewSite) -> None:
    early = varied(days=5.0, state="running")
    assert early["diversity"] is None
    assert "How varied" not in show(client, preview, early).text
    assert "How varied" not in show(client, preview, {key: value for key, value in varied().items() if key != "diversity"}).text
