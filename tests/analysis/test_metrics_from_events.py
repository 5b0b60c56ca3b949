"""Waiting time, revenue, coming back, time per session and variety: from events to the report, the truth known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.guardrail import guardrail_state
from analysis.report import Report
from analysis.totals import metrics_of
from experiments.errors import MetricError
from experiments.events.event import Event
from experiments.experiment import Arm, Experiment
from tests.analysis.test_segments_from_events import report_of
from tests.events.story import MINUTE, START, Story, send

ARMS = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5))
PLAN = Experiment("related", "Does it pay?", "status_quo", ARMS, window_days=3.0, planned_days=14.0)


def named(report: Report, name: str) -> dict[str, Any]:
    return next(effect for effect in report.to_dict()["effects"] if effect["metric"] == name)


def effect_of(home: Path, plan: Experiment, name: str) -> dict[str, Any]:
    return named(report_of(home, plan), name)


def paid(story: Story, reader: str, minute: float, cents: int) -> None:
    at = START + int(minute * MINUTE)
    order = at.to_bytes(8, "big") + f"{reader:>8.8}".encode()
    story.events.append(Event(order, "conversion", "", reader, at, at, {"value": cents, "currency": "EUR"}))


def slot(story: Story, reader: str, minute: float, arm: str, latency_us: int, **more: Any) -> None:
    page = story.exposed(reader, minute, arm, **more)
    shown = {"slot": "article.related", "articles": ["a2"] if arm != "status_quo" else [], "latency_us": latency_us}
    story.add("impression", page, reader, minute, arm=arm, body=shown)


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Report]:
    """Front takes 1 to 40 ms, every value equally often in both phases, the status quo no time: at the end, and on day 8."""
    story = Story()
    for i in range(400):
        arm = ("status_quo", "front")[i % 2]
        for k in range(4):
            took = (i // 2 * 4 + k) * 37 % 40 + 1
            slot(story, f"r{i:03d}", 10 * i + k, arm, 1000 * took if arm == "front" else 0, body={"phase": int(i >= 200)})
    home: Path = tmp_path_factory.mktemp("waiting")
    send(home, story.events)
    plan = replace(PLAN, guardrails={"slot_latency_p95": 20.0})
    return report_of(home, plan), report_of(home, plan, days=8.0)


def test_the_waiting_time_is_the_quantile_of_all_events_and_its_margin_is_in_milliseconds(waiting: tuple[Report, Report]) -> None:
    found = named(waiting[0], "slot_latency_p95")
    assert found["values"] == {"front": 38.0, "status_quo": 0.0}
    assert found["absolute"]["estimate"] == 38.0
    assert found["absolute"]["low"] > 35
    assert (found["status"], found["relative"]["estimate"], found["margin"], found["margin_unit"]) == ("ok", None, 20.0, "ms")
    assert found["says"].endswith("ms more with front than with status quo.")
    assert "slot latency p95" in " ".join((waiting[0].verdict.sentence, *waiting[0].verdict.reasons))


@pytest.mark.parametrize(("margin", "state"), [(20.0, "broke"), (45.0, "worse")])
def test_a_waiting_time_beyond_its_margin_breaks_the_guardrail(waiting: tuple[Report, Report], margin: float, state: str) -> None:
    for report, early in zip(waiting, (False, True), strict=True):
        effect = next(e for e in report.compared.effects if e.role == "guardrail")
        assert guardrail_state(replace(effect, margin=margin), early=early) == state


def test_before_the_end_the_waiting_time_shows_the_range_that_may_be_looked_at(waiting: tuple[Report, Report]) -> None:
    found = named(waiting[1], "slot_latency_p95")
    assert found["absolute"]["low"] is None
    assert found["anytime"]["low"] is None
    assert 30 < found["anytime"]["difference_low"] < 38 < found["anytime"]["difference_high"]


def test_a_quantile_without_events_says_why(tmp_path: Path) -> None:
    story = Story()
    for i in range(80):
        story.exposed(f"r{i}", 10 * i, ("status_quo", "front")[i % 2])
    send(tmp_path, story.events)
    found = effect_of(tmp_path, replace(PLAN, secondary=("slot_latency_p95",)), "slot_latency_p95")
    assert (found["status"], found["absolute"]["estimate"], found["q"]) == ("insufficient", None, None)
    assert "0 readers with an event" in found["reason"]


def test_a_quantile_cannot_decide() -> None:
    with pytest.raises(MetricError, match="cannot decide a test"):
        metrics_of(replace(PLAN, goal="slot_latency_p95"))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In front two of four pay, else one of four; each 1,000 cents, but for one reader who pays a million."""
    story = Story()
    for i in range(3000):
        arm, reader = ("status_quo", "front")[i % 2], f"r{i:04d}"
        story.exposed(reader, i, arm)
        if i // 2 % 4 < (2 if arm == "front" else 1):
            paid(story, reader, i + 5, 600)
            paid(story, reader, i + 6, 400)
    paid(story, "r0000", 7, 999_000)
    paid(story, "r0002", 3 * 1440 + 2, 5_000)  # a moment after the window
    home: Path = tmp_path_factory.mktemp("shop")
    send(home, story.events)
    return home


def test_revenue_is_cut_at_a_ceiling_shown_without_it_and_taken_apart_into_payers(shop: Path) -> None:
    plan = replace(PLAN, goal="revenue_per_reader")
    report = report_of(shop, plan)
    found = report.to_dict()["effects"][0]
    assert report.totals.caps == {"revenue_per_reader": 1000}
    assert found["values"] == {"front": pytest.approx(500.0), "status_quo": pytest.approx(250.0)}
    uncut = found["beside"]["uncut"]
    assert (uncut["cap"], uncut["above"]) == (1000, {"front": 0, "status_quo": 1})
    assert uncut["values"] == {"front": pytest.approx(500.0), "status_quo": pytest.approx((375_000 - 1000 + 1_000_000) / 1500)}
    assert found["absolute"]["low"] > 0
    assert uncut["absolute"]["low"] < 0
    assert {check.name: check.state for check in report.checks}["recomputed"] == "ok"
    parts = found["beside"]["parts"]
    assert parts["payer_rate"]["values"] == {"front": pytest.approx(0.5), "status_quo": pytest.approx(0.25)}
    assert parts["payer_rate"]["log_change"] == pytest.approx(math.log(2))
    assert parts["per_payer"]["values"]["front"] == pytest.approx(1000.0)
    assert (parts["payer_rate"]["causal"], parts["per_payer"]["causal"]) == (True, False)


def test_a_ceiling_in_the_plan_is_taken_as_it_is(shop: Path) -> None:
    plan = replace(PLAN, secondary=("revenue_per_reader",), caps={"revenue_per_reader": 500})
    assert effect_of(shop, plan, "revenue_per_reader")["values"]["front"] == pytest.approx(250.0)


def test_a_shop_nobody_bought_from_has_no_ceiling_and_no_number(tmp_path: Path) -> None:
    story = Story()
    for i in range(80):
        story.exposed(f"r{i}", 10 * i, ("status_quo", "front")[i % 2])
    send(tmp_path, story.events)
    plan = replace(PLAN, secondary=("revenue_per_reader",))
    report = report_of(tmp_path, plan)
    found = next(e for e in report.to_dict()["effects"] if e["metric"] == "revenue_per_reader")
    assert (report.totals.caps, found["status"], found["absolute"]["estimate"], found["beside"]) == ({}, "no_variation", None, None)


def test_coming_back_counts_a_reader_once_and_only_inside_the_window(tmp_path: Path) -> None:
    story = Story()
    for i in range(200):
        arm, reader = ("status_quo", "front")[i % 2], f"r{i:03d}"
        story.exposed(reader, i, arm)
        story.page(reader, i + 1400)  # within a day
        story.page(reader, i + 3 * 1440)  # after the window
        if i // 2 % 10 < (6 if arm == "front" else 3):
            story.page(reader, i + 1440)
            story.page(reader, i + 2 * 1440)
    send(tmp_path, story.events)
    found = effect_of(tmp_path, replace(PLAN, goal="returned"), "returned")
    assert found["values"] == {"front": 0.6, "status_quo": 0.3}
    assert found["absolute"]["low"] > 0


def test_time_per_session_is_the_longest_beat_of_each_page(tmp_path: Path) -> None:
    story = Story()
    for i in range(120):
        arm, reader = ("status_quo", "front")[i % 2], f"r{i:03d}"
        page = story.exposed(reader, i, arm)
        seconds = 30 + i // 2 % 3 + (10 if arm == "front" else 0)
        for part in (0.3, 1.0, 0.6):
            story.dwell(page, reader, i, round(1000 * seconds * part))
        story.page(reader, i + 60)  # a second session, in which nothing was seen
    send(tmp_path, story.events)
    found = effect_of(tmp_path, replace(PLAN, secondary=("time_per_session",)), "time_per_session")
    assert found["values"] == {"front": pytest.approx(41_000 / 2), "status_quo": pytest.approx(31_000 / 2)}


@pytest.fixture(scope="module")
def variety(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Before the test a0 to a99 were read twice and b0 to b49 once; then front shows b as often as a, else one in four."""
    story = Story()
    for k in range(150):
        for reader in ("early", "bird")[: 2 if k < 100 else 1]:
            story.page(reader, -1440 + k, body={"article": f"a{k:02d}" if k < 100 else f"b{k - 100:02d}"})
    for i in range(160):
        arm, reader = ("status_quo", "front")[i % 2], f"r{i:03d}"
        own = "b" if i // 2 % 4 < (2 if arm == "front" else 1) else "a"
        story.exposed(reader, 10 * i, arm, page={"article": f"{own}{i % 50:02d}"})
        for k in range(1 + i // 8 % 2):
            story.page(reader, 10 * i + 1 + k, body={"article": f"{own}{(i + k) % 50:02d}"})
    for k in range(500):  # what is read during the test changes nothing
        story.page("late", 5000 + k, body={"article": "b01"})
    home: Path = tmp_path_factory.mktemp("variety")
    send(home, story.events)
    return home


def test_variety_is_the_share_of_views_beyond_what_was_most_read_before_the_test(variety: Path) -> None:
    found = effect_of(variety, replace(PLAN, secondary=("beyond_most_read",)), "beyond_most_read")
    assert found["values"] == {"front": pytest.approx(0.5), "status_quo": pytest.approx(0.25)}
    assert found["absolute"]["low"] > 0


def test_without_anything_read_before_the_test_variety_cannot_be_measured(tmp_path: Path) -> None:
    story = Story()
    for i in range(80):
        story.exposed(f"r{i}", 10 * i, ("status_quo", "front")[i % 2])
    send(tmp_path, story.events)
    found = effect_of(tmp_path, replace(PLAN, segments=("device",), goal="beyond_most_read"), "beyond_most_read")
    assert (found["status"], found["values"]["front"]) == ("not_estimable", None)
    assert "no article was read in the seven days before" in found["reason"]


def test_one_reader_who_reads_everything_is_named_and_the_average_reader_disagrees(tmp_path: Path) -> None:
    story = Story()
    for i in range(80):
        arm, reader = ("status_quo", "front")[i % 2], f"r{i:02d}"
        minute = 2 * i
        story.exposed(reader, minute, arm)
        for k in range(2 + i // 2 % 2 if arm == "status_quo" else 1 + i // 2 % 2):
            story.page(reader, minute + 1 + k)
    for k in range(480):  # sixty sessions of eight articles each
        story.page("r01", 200 + k // 8 * 60 + k % 8)
    send(tmp_path, story.events)
    heavy = effect_of(tmp_path, PLAN, "views_per_session")["beside"]["heavy"]
    assert heavy["flagged"]
    assert heavy["in_se"] > 0.5
    assert heavy["sign_change"]


def test_the_same_events_in_any_order_give_the_same_report(variety: Path, tmp_path: Path) -> None:
    plan = replace(PLAN, secondary=("beyond_most_read", "revenue_per_reader", "slot_latency_p95"), segments=("section", "returning"))
    story = Story()
    for i in range(90):
        arm = ("status_quo", "front")[i % 2]
        slot(story, f"r{i:02d}", i, arm, (i * 7919) % 4000, page={"section": f"s{i % 11}"})
        paid(story, f"r{i:02d}", i + 1, 100 * (i % 7))
        story.page("early", -i - 1, body={"article": f"a{i}"})
    events = story.events
    texts = set()
    for number, order in enumerate((events, events[::-1] + events[:50])):
        send(tmp_path / str(number), order)
        report = report_of(tmp_path / str(number), plan)
        assert len(report.totals.segments["section"]) == 11
        found = report.to_dict()
        texts.add(repr((found["effects"], found["segments"], found["caps"])))
    assert len(texts) == 1
