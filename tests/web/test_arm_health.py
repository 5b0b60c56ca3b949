"""Whether an arm fills its own slates is counted, kept, and shown: readers of a silent fallback test nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments.events.store import balance
from experiments.serving.recommender import Context, Ranking
from heuristics.front import Front
from tests.web.site_fixture import PHONE, Stand
from web.arm_health import arm_health
from web.cli.arms import arm as arm_command


class Failing(Front):
    """An arm that cannot rank."""

    def rank(self, context: Context) -> Ranking:
        raise ValueError("no")


@pytest.fixture
def stand(home: Path) -> Stand:
    return Stand(home)


def told(stand: Stand) -> dict[str, dict[str, object]]:
    stand.site.arm_health.tell()
    stand.events()
    return arm_health(stand.home, until_us=stand.clock())


def ask(stand: Stand, arm: str, times: int) -> None:
    client = stand.reader_in(arm)
    for _ in range(times):
        assert client.get(f"/en/article/{stand.article}", headers=PHONE).status_code == 200


def test_slates_are_counted_under_the_arm_that_was_due_and_a_blank_one_is_none(stand: Stand) -> None:
    for arm in ("front", "newest", "status_quo"):
        ask(stand, arm, 3)
    found = told(stand)
    assert {arm: (row["calls"], row["own"], row["causes"]) for arm, row in found.items()} == {"front": (3, 1.0, {}), "newest": (3, 1.0, {})}
    assert all(0 < row["p50_ms"] <= row["p99_ms"] < 1_000 for row in found.values())  # type: ignore[operator]
    assert all(row.exact for row in balance(stand.home))


def test_an_arm_that_fails_is_named_with_its_causes_on_the_health_page_and_the_command_line(stand: Stand) -> None:
    stand.site.watch(every_s=3_600.0)  # nothing newly published takes the failing arm away
    stand.site.published = replace(stand.site.published, arms={**stand.site.published.arms, "front": Failing()})
    ask(stand, "front", 100)
    found = told(stand)["front"]
    assert found["own"] == 0.0
    assert found["causes"]["failed"] >= 5  # type: ignore[index]
    assert sum(found["causes"].values()) == 100  # type: ignore[attr-defined]
    bodies = [e["body"] for e in stand.events() if e["kind"] == "arm_health"]
    assert bodies[-1]["opened"] >= 1
    assert bodies[-1]["rungs"].keys() == {"1", "2"}
    page = stand.client().get("/console/en/health", headers=PHONE).text
    assert "front filled 0.0% of 100 slates itself in the last 24 hours" in page
    assert "failed" in page
    run = partial(CliRunner().invoke, arm_command, env={"PRESSLAB_PROFILE": "demo", "COLUMNS": "150"})
    listed = json.loads(run(["list", "--json", "--home", str(stand.home)]).stdout)["arms"]
    assert {row["name"]: row["day"] and row["day"]["own"] for row in listed if row["name"] in ("front", "newest")} == {
        "front": 0.0,
        "newest": None,
    }
    assert " 0.0% " in run(["list", "--home", str(stand.home)]).stdout


def test_what_is_counted_is_told_every_ten_seconds_and_at_the_end(home: Path) -> None:
    def rows() -> list[tuple[str, int]]:
        return [(e["arm"], e["body"]["calls"]) for e in stand.events() if e["kind"] == "arm_health"]

    stand = Stand(home)
    ask(stand, "front", 2)
    stand.site.arm_health.tell(now=False)
    assert rows() == []
    stand.site.arm_health.every_s = 0.0
    stand.site.arm_health.tell(now=False)
    assert rows() == [("front", 2)]
    stand.site.arm_health.every_s = 10.0
    ask(stand, "newest", 1)
    stand.site.close()
    assert rows() == [("front", 2), ("newest", 1)]


def test_the_health_page_says_with_which_error_an_arm_fails(stand: Stand) -> None:
    stand.site.published = replace(stand.site.published, arms={**stand.site.published.arms, "front": Failing()})
    for _ in range(4):
        ask(stand, "front", 1)
    told(stand)
    assert "Most often failed: ValueError: no (4 readers)." in stand.client().get("/console/en/health", headers=PHONE).text
