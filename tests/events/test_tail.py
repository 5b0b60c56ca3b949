"""Exposures of pages that came late: a page may be stored as served and as degraded, and counts once."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.checks import fallback
from experiments.events import lake
from experiments.events.lake_shown import exposure_groups
from experiments.events.lake_tables import arrow
from experiments.events.tail import open_tail
from experiments.experiment import Arm, Experiment
from experiments.metric import Measure, Metric
from tests.events.story import DAY, MINUTE, START, Story, send

pytestmark = pytest.mark.usefixtures("either_engine")
PLAN = Experiment(
    "related", "Does it pay?", "status_quo", (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5)), window_days=1.0
)
LATER = START + 3 * DAY


def degrade(story: Story, page_view: str, reader: str, minute: float, arm: str) -> None:
    """What the site leaves beside the page's own exposure."""
    body = {"slot": "article.related", "phase": 0, "bucket": 7, "audience": "all", "reason": "assigned", "outcome": "degraded"}
    story.add("exposure", page_view, reader, minute, key="related:degraded", arm=arm, body=body)


def a_late_page(home: Path) -> None:
    """Anna's second page is stored twice, Ben's only as degraded; Cleo's is well."""
    story = Story()
    story.exposed("anna", 0, "front")
    degrade(story, story.exposed("anna", 5, "front"), "anna", 5, "front")
    degrade(story, story.page("ben", 1), "ben", 1, "front")
    story.exposed("cleo", 2, "status_quo", body={"outcome": "empty"})
    send(home, story.events)


def test_a_page_stored_as_served_and_as_degraded_is_one_degraded_exposure(tmp_path: Path) -> None:
    a_late_page(tmp_path)
    with open_tail(tmp_path, until_us=LATER, source="live", experiment="related") as tail:
        assert exposure_groups(tail) == [
            ("front", "degraded", "assigned", 0, 0, 2),
            ("front", "served", "assigned", 0, 0, 1),
            ("status_quo", "empty", "assigned", 0, 0, 1),
        ]
        assert sorted(arrow(tail, "exposure", ["outcome"])["outcome"].to_pylist()) == ["degraded", "degraded", "empty", "served"]


def test_the_fallback_check_sees_each_late_page_once(tmp_path: Path) -> None:
    a_late_page(tmp_path)
    counted = lake.counts(tmp_path, PLAN, until_us=LATER, source="live")
    assert (counted.exposures["front"], counted.degraded["front"], counted.exposures["status_quo"]) == (3, 2, 1)
    assert fallback(counted.exposures, counted.degraded).figure == pytest.approx(2 / 3)  # two of Anna's and Ben's three pages


def test_a_late_page_stored_twice_is_no_second_entry_and_no_second_exposure_of_its_reader(tmp_path: Path) -> None:
    a_late_page(tmp_path)
    shown = Metric("shown", "exposures per session", Measure(count="exposure"), Measure(count="session"), "up")
    rows = lake.reader_rows(tmp_path, PLAN, [shown], until_us=LATER, source="live").table.to_pylist()
    found = {row["reader"]: (row["arm"], row["exposed_at"], row[shown.numerator.key]) for row in rows}
    assert found == {
        "anna": ("front", START, 2),
        "ben": ("front", START + MINUTE, 1),
        "cleo": ("status_quo", START + 2 * MINUTE, 1),
    }
