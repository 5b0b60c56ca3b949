"""Reports as the analysis really writes them, as the page shows them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from analysis.report import Report
from tests.analysis.tables import plan, totals_of
from tests.analysis.test_looks import running
from tests.analysis.test_metrics_from_events import waiting as waiting  # a fixture
from tests.analysis.test_report import report, world
from tests.web.markup import Element, parse
from tests.web.preview import PreviewSite
from tests.web.test_console_pages import BANNED
from web.formatting import money, number
from web.owner.memo import memo_of
from web.owner.words import spoken


def without_als() -> Any:
    totals = world(front=1.5)
    return replace(totals, moments={cell: m for cell, m in totals.moments.items() if cell[0] != "als"})


def show(client: FlaskClient, preview: PreviewSite, stored: dict[str, Any]) -> Element:
    preview.stored["reports"] = {"real": stored}
    answer = client.get("/console/en/experiment/real")
    assert answer.status_code == 200
    return parse(answer.text)


CASES = {
    "rule pays": lambda: report(world(front=1.4, als=1.5)),
    "guardrail hurt": lambda: report(world(als=1.5, dwell=0.5)),
    "early": lambda: report(world(front=1.5), days=5.0, state="running"),
    "looked at": lambda: running(9.5, front=1.6, taken=running(9.0, front=1.6).look()),
    "nobody": lambda: report(totals_of({})),
    "one arm empty": lambda: report(without_als()),
    "no value stated": lambda: report(world(front=1.5), experiment=plan(value_per_view=None)),
    "split broken": lambda: report(world(n=(900, 300, 600))),
}


@pytest.mark.parametrize("case", CASES)
def test_a_real_report_begins_with_its_verdict_and_speaks_plainly(client: FlaskClient, preview: PreviewSite, case: str) -> None:
    stored = CASES[case]().to_dict()
    page = show(client, preview, stored)
    assert page.one("section", stored["verdict"]["key"]).one("h2", "headline").text
    text = page.one("main").text.split("Numbers and method")[0]
    assert [word for word in BANNED if re.search(rf"\b{word}\b", text, re.IGNORECASE)] == []
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b|Undefined", page.one("main").text)
    said = [p.text for p in page.one("main").all("p")]
    assert [sentence for says in said for sentence in re.split(r"(?<=[.!?:;])\s", says) if len(sentence.split()) > 25] == []
    told = page.one("ul", "checks")
    assert [check["name"] for check in stored["checks"] if spoken(check["says"]) not in told.text] == []
    assert len(told.all("li")) < len(stored["checks"])


def test_every_comparison_of_a_real_report_has_a_row_and_a_number_line(client: FlaskClient, preview: PreviewSite) -> None:
    stored = CASES["rule pays"]().to_dict()
    page = show(client, preview, stored)
    assert len(page.one("table", "forest").one("tbody").all("td", "words")) == len(stored["effects"])
    assert len(page.all("svg", "dots")) == 2
    assert len(page.all("tbody")[-2 if stored.get("log") else -1].all("tr")) == len(stored["effects"])


def test_early_only_guardrails_have_a_range(client: FlaskClient, preview: PreviewSite) -> None:
    rows = show(client, preview, CASES["early"]().to_dict()).one("table", "forest").one("tbody").all("tr")
    drawn = [bool(row.all("line", "whisker")) for row in rows if row.all("td", "words")]
    assert drawn[:3] == [False, False, False]
    assert any(drawn)


def test_the_table_beside_the_chart_says_a_limit_in_milliseconds_too(waiting: tuple[Report, Report]) -> None:
    rows = [memo_of(found.to_dict()).forest.table.rows[-1] for found in waiting]  # type: ignore[union-attr]
    assert [row[0].startswith("Time the slot takes") for row in rows] == [True, True]
    assert [(row[2], row[4]) for row in rows] == [("+38 ms", "+20 ms"), ("not yet", "+20 ms")]
    assert all(row[3].endswith(" ms, 20 ms allowed") for row in rows)


def test_an_arm_nobody_saw_is_said_in_words(client: FlaskClient, preview: PreviewSite) -> None:
    page = show(client, preview, CASES["nobody"]().to_dict())
    assert "0 readers, nobody so far" in page.text
    assert "not yet:" in page.text


def test_the_looks_of_a_test_are_listed_under_how_it_settled(client: FlaskClient, preview: PreviewSite) -> None:
    stored = CASES["looked at"]().to_dict()
    page = show(client, preview, stored)
    rows = page.one("main").text.split("How it settled")[1].split("For whom")[0]
    assert len(stored["looks"]) == 3
    assert "Front against status quo" in rows
    assert "Nobody looked before the end" in show(client, preview, CASES["early"]().to_dict()).one("main").text


def test_the_money_says_what_it_rests_on_and_how_sure_its_range_is(client: FlaskClient, preview: PreviewSite) -> None:
    stored = CASES["rule pays"]().to_dict()
    low, middle, high = (money(stored["roi"]["value_per_view"][key]) for key in ("low", "middle", "high"))
    text = show(client, preview, stored).text
    assert f"By the plan one view is worth {middle} (nine times out of ten {low} to {high})." in text
    assert f"bears on {number(stored['roi']['views_per_day'])} article views a day" in text
    found = next(s for s in stored["roi"]["scenarios"] if s["arm"] == "front")
    assert f"expected, nine times out of ten {money(found['low'])} to {money(found['high'])}" in text
