"""What the health page says about outbox files that are damaged and kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.events.loader import Loader
from experiments.files import read_json, replace_json
from experiments.lifecycle import Step, decide, publish_plan, stop
from experiments.tables import control_engine
from tests.events.test_loader import abandoned
from tests.web.site_fixture import NOW, PHONE, Stand
from web.published import refresh
from web.reporting import write_reports


def test_a_damaged_outbox_file_is_named_with_what_to_do_until_it_is_removed(home: Path) -> None:
    stand = Stand(home)
    owner = abandoned(home, 1, 2)
    owner._connection.execute("DELETE FROM entry WHERE seq = 1")
    with Loader(home, clock=stand.clock) as loader:
        assert loader.drain().alarms == 1
    owner._connection.close()
    page = stand.client().get("/console/en/health", headers=PHONE).text
    assert f"{owner.path}: entry 1 is missing or damaged" in page
    assert "run presslab data salvage" in page
    owner.path.unlink()
    assert "Every file could be read." in stand.client().get("/console/en/health", headers=PHONE).text
    stand.site.close()


def test_an_event_that_does_not_reach_the_store_is_named_until_it_does(home: Path) -> None:
    stand = Stand(home)
    stand.site.canary.longest_s = 0.0

    def arrives() -> dict[str, str]:
        return next(check for check in stand.site.health()["checks"] if check["name"] == "events arrive")  # type: ignore[no-any-return]

    assert arrives()["state"] == "block"
    assert "is not in the store: is there a worker" in arrives()["says"]
    stand.events()
    assert arrives()["state"] == "ok"
    stand.site.close()


def test_a_decided_arm_that_this_process_cannot_show_is_named_with_what_to_do(home: Path) -> None:
    stand = Stand(home)
    engine = control_engine(home)
    stop(engine, "related", Step("Ines", NOW))
    decide(engine, "related", "front", Step("Ines", NOW, "the editors like it"))
    publish_plan(home, engine, at=NOW)

    def told(decided: str) -> dict[str, str]:
        stand.site.published = refresh(home, replace(stand.site.published, defaults={"article.related": decided}))
        return next(check for check in stand.site.health()["checks"] if check["name"] == "arms and models")  # type: ignore[no-any-return]

    assert told("front")["state"] == "ok"
    model = told("als")
    assert model["state"] == "block"
    assert "decided for article.related: 'als' is not loaded in this process, its readers get the fallback" in model["says"]
    assert "presslab model train als" in model["says"]
    assert "'tide' is not loaded in this process, its readers get the fallback: no module registers it" in told("tide")["says"]
    assert told("front")["state"] == "ok"
    stand.site.close()


@pytest.mark.parametrize(
    "result", ["reports/related", "checks/assignment", "recall/ranked", "training/als", "explanations/ranked", "worker"]
)
def test_one_damaged_result_stops_no_page_and_no_report_and_is_named(home: Path, result: str) -> None:
    """A cut report was the end of the front page, and of the hourly reports of all tests."""
    stand = Stand(home)
    stand.reader_in("front").get(f"/en/article/{stand.article}")
    stand.events()
    path = home / f"{result}.json"
    replace_json(path, {})
    path.write_bytes(b'{"a":')
    for page in ("", "health", "models", "jobs", "drift", "explain", "record"):
        assert stand.client().get(f"/console/en/{page}", headers=PHONE).status_code == 200, page
    (told,) = (check for check in stand.site.health()["checks"] if check["name"] == "results of jobs")
    assert (told["state"], f"{result}.json is damaged" in told["says"]) == ("warn", True)
    assert write_reports(home, until_us=stand.clock(), source="live") == ["related"]
    assert (read_json(path) is None) == (result != "reports/related")
    stand.site.close()
