"""Groups of readers, waiting times and ceilings as the report page and the command line show them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from analysis.moments import Distinct, Totals
from analysis.report import Report
from experiments.events.lake_values import EventValues
from tests.analysis.tables import crowd, plan, totals_of
from tests.analysis.test_report import report
from tests.web.preview import PreviewSite
from tests.web.test_console_pages import BANNED
from tests.web.test_real_reports import show
from web.cli.report_table import print_report

ARMS = ("status_quo", "front", "als")


def tables(rng: np.random.Generator, n: int, *, gain: float) -> dict[tuple[str, int], Any]:
    return {(arm, 1): crowd(rng, n, views=gain if arm == "front" else 1.0) for arm in ARMS}


def grouped() -> Totals:
    """Phones gain half as much again with front, desktops nothing; tablets are few."""
    rng = np.random.default_rng(3)
    parts = {"phone": tables(rng, 400, gain=1.6), "desktop": tables(rng, 400, gain=1.0), "tablet": tables(rng, 12, gain=1.0)}
    whole = totals_of({cell: np.concatenate([part[cell] for part in parts.values()]) for cell in parts["phone"]})
    return replace(whole, segments={"device": {name: totals_of(part) for name, part in parts.items()}})


def busy() -> Report:
    """With segments, a waiting time and revenue."""
    totals, rng = grouped(), np.random.default_rng(4)
    n = 812
    events = tuple(
        EventValues(arm, 1, np.arange(n), rng.integers(1, 40_000, n) if arm != "status_quo" else np.zeros(n, int), np.ones(n, int))
        for arm in ARMS
    )
    revenue = tuple(Distinct(arm, cents, 1, count, 1) for arm in ARMS for cents, count in ((0, 600), (900, 200), (5_000, 12)))
    keys = ("sum_conversion_value", "count_reader")
    cells = {
        cell: replace(m, keys=(*m.keys, *keys), mean=np.append(m.mean, [250.0, 1.0]), cross=_wider(m.cross))
        for cell, m in totals.moments.items()
    }
    totals = replace(
        totals, moments=cells, events={"slot_latency_p95": events}, uncut={"revenue_per_reader": revenue}, caps={"revenue_per_reader": 900}
    )
    experiment = plan(segments=("device",), guardrails={"slot_latency_p95": 20.0}, secondary=("revenue_per_reader",))
    return report(totals, experiment=experiment)


def _wider(cross: Any) -> Any:
    wide = np.zeros((len(cross) + 2, len(cross) + 2))
    wide[: len(cross), : len(cross)] = cross
    wide[-2, -2] = 1e8
    return wide


def section(page: Any, name: str, until: str) -> str:
    text: str = page.one("main").text
    return text.split(name)[1].split(until)[0]


def test_the_page_shows_every_group_of_the_plan_in_plain_words(client: FlaskClient, preview: PreviewSite) -> None:
    stored = busy().to_dict()
    text = section(show(client, preview, stored), "For whom: look, do not decide", "What we still do not know")
    for words in ("By device", "Front against status quo", "ALS against front", "Phone", "Tablet", "at least 30 are needed"):
        assert words in text
    assert "more than chance explains" in text
    assert [word for word in BANNED if re.search(rf"\b{word}\b", text, re.IGNORECASE)] == []


def test_before_the_planned_end_the_page_shows_no_change_of_any_group(client: FlaskClient, preview: PreviewSite) -> None:
    early = report(grouped(), experiment=plan(segments=("device",)), days=5.0, state="running").to_dict()
    text = section(show(client, preview, early), "For whom: look, do not decide", "What we still do not know")
    assert "Phone" in text
    assert "%" not in text


def test_a_waiting_time_stands_in_milliseconds_beside_what_is_allowed(client: FlaskClient, preview: PreviewSite) -> None:
    text = section(show(client, preview, busy().to_dict()), "What changed", "What it is worth")
    assert re.search(r"\+3\d\.?\d* to \+\d\d\.?\d* ms, 20 ms allowed", text)
    assert "a reader's total counts up to 900 cents; more came from 12 with front and 12 with status quo." in text
    assert "this compares different people" in text
    assert "leaving out any one reader" in text


def test_the_command_line_prints_the_groups_too(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(busy().to_dict())
    said = capsys.readouterr().out
    assert "For whom, by device: front against status_quo" in said
    assert "phone" in said
    assert " ms" in said
