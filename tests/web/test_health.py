"""What the health page says about outbox files that are damaged and kept."""

from __future__ import annotations

from pathlib import Path

from experiments.events.loader import Loader
from tests.events.test_loader import abandoned
from tests.web.site_fixture import PHONE, Stand


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
