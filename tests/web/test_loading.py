"""Arms are built each by itself: what one raises, or a load that never ends, costs no other and delays no stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from experiments.content import add_articles
from experiments.lifecycle import Step, publish_plan, stop
from experiments.serving import recommender
from experiments.serving.artefacts import Bundle, publish, write_bundle
from experiments.serving.recommender import Catalogue, Context, Ranking
from experiments.tables import control_engine
from tests.conftest import article
from tests.web.site_fixture import NOW, PHONE, Stand, until
from web import loading
from web.published import refresh

DAMAGED = "was changed after it was written"


class Tide:
    """A model arm whose load, of any version from ``first`` on, does what ``load_does``."""

    name, kind, audience = "tide", "model", "all"
    load_does: ClassVar[Callable[[], object]]
    first: ClassVar[int]
    loads: ClassVar[int]

    def __init__(self, version: str) -> None:
        self.version = version

    @classmethod
    def load(cls, arrays: Mapping[str, Any], manifest: Mapping[str, Any], catalogue: Catalogue) -> Tide:
        cls.loads += 1
        if int(manifest["version"]) >= cls.first:
            cls.load_does()
        return cls(manifest["version"])

    def rank(self, context: Context) -> Ranking:
        return Ranking.empty()


class Brook:
    """A heuristic arm whose construction does what ``starts`` does."""

    name, kind, audience = "brook", "heuristic", "all"
    starts: ClassVar[Callable[[], object]]
    made: ClassVar[int]

    def __init__(self) -> None:
        type(self).made += 1
        type(self).starts()

    def rank(self, context: Context) -> Ranking:
        return Ranking.empty()


def raises(error: BaseException) -> Callable[[], object]:
    def call() -> object:
        raise error

    return call


@pytest.fixture
def stand(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    made: dict[str, Any] = {
        "tide": type("Tide", (Tide,), {"load_does": lambda: None, "first": 1, "loads": 0}),
        "brook": type("Brook", (Brook,), {"starts": lambda: None, "made": 0}),
    }
    for name, kind in made.items():
        monkeypatch.setitem(recommender._registry.classes, name, kind)
    stand = Stand(home)
    yield stand
    stand.site.close()


def kind_of(name: str) -> Any:
    return recommender._registry.classes[name]


def publish_tide(stand: Stand) -> Bundle:
    bundle = write_bundle(stand.home / "models" / "tide", {"weights": np.zeros(3)}, {})
    publish(stand.home, "tide", bundle.version, at_us=1)
    return bundle


def stop_the_test(stand: Stand) -> None:
    engine = control_engine(stand.home)
    stop(engine, "related", Step("test", NOW, "a test"))
    publish_plan(stand.home, engine, at=NOW)


ERRORS = [IndexError("index 7"), MemoryError(), ImportError("x"), AssertionError(), SystemExit(3), BaseException("panic")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_model_that_cannot_be_loaded_is_named_and_a_stop_is_taken_over(stand: Stand, error: BaseException) -> None:
    """Every look failed at the load, and readers went on being enrolled into a test that was stopped."""
    publish_tide(stand)
    before = refresh(stand.home, stand.site.published)
    kind_of("tide").load_does = raises(error)
    publish_tide(stand)
    stop_the_test(stand)
    after = refresh(stand.home, before)
    assert (after.experiments, after.bundles, after.arms["tide"]) == ((), {"tide": "1"}, before.arms["tide"])
    assert type(error).__name__ in after.faults["model tide"]
    assert "Version 1 serves." in after.faults["model tide"]
    kind_of("tide").first = 1
    assert refresh(stand.home, None).arms.keys() == before.arms.keys() - {"tide"}


@pytest.mark.parametrize("error", [*ERRORS, TypeError("t"), OSError("o")], ids=lambda error: type(error).__name__)
def test_a_heuristic_that_cannot_be_made_takes_no_other_arm_away(stand: Stand, error: BaseException) -> None:
    kind_of("brook").starts = raises(error)
    found = refresh(stand.home, None)
    assert {"front", "newest", "status_quo"} <= found.arms.keys()
    assert type(error).__name__ in found.faults["heuristic brook"]
    kind_of("brook").starts = lambda: None
    assert refresh(stand.home, found).faults == {}


def test_a_pointer_nested_so_deep_that_it_cannot_be_read_stops_no_site_from_starting(stand: Stand) -> None:
    publish_tide(stand)
    (stand.home / "models" / "tide" / "current.json").write_text("[" * 200_000)
    found = refresh(stand.home, None)
    assert "RecursionError" in found.faults["model tide"]
    assert "front" in found.arms


def test_a_heuristic_is_made_once_not_at_every_look(stand: Stand) -> None:
    made, now = kind_of("brook").made, stand.site.published
    for _ in range(3):
        assert refresh(stand.home, now) is now
    assert kind_of("brook").made == made


def damage(bundle: Bundle) -> None:
    content = bytearray((bundle.path / "arrays.npz").read_bytes())
    content[-5] ^= 1
    (bundle.path / "arrays.npz").write_bytes(content)


def test_the_last_good_version_goes_on_serving_after_a_new_article_and_after_a_restart(stand: Stand) -> None:
    """One new article was enough: the arm was gone, although the version before was whole on the disk."""
    publish_tide(stand)
    before = refresh(stand.home, stand.site.published)
    damage(second := publish_tide(stand))
    assert refresh(stand.home, before).bundles == {"tide": "1"}
    add_articles(stand.home, [article(1)])
    for after in (refresh(stand.home, before), refresh(stand.home, None)):
        assert (after.catalogue.position("a001") is not None, after.bundles) == (True, {"tide": "1"})
        assert DAMAGED in after.faults["model tide"]
        assert "Version 1 serves." in after.faults["model tide"]
    damage(second)  # the same byte: it is whole again
    assert (mended := refresh(stand.home, after)).bundles == {"tide": "2"}
    assert mended.faults == {}


def test_a_stop_does_not_wait_for_a_load(stand: Stand) -> None:
    loads, may_go_on = threading.Event(), threading.Event()
    kind_of("tide").load_does = lambda: loads.set() or may_go_on.wait(20)  # type: ignore[func-returns-value]
    publish_tide(stand)
    stand.site.watch(0.01)
    assert loads.wait(20)
    stop_the_test(stand)
    until(lambda: stand.site.published.experiments == ())
    assert stand.site.published.bundles == {}
    may_go_on.set()
    until(lambda: stand.site.published.bundles == {"tide": "1"})


def test_a_load_that_never_ends_is_given_up_and_articles_come_out(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "LOAD_S", 0.02)
    for_ever = threading.Event()
    kind_of("tide").load_does = for_ever.wait
    publish_tide(stand)
    add_articles(stand.home, [article(1)])
    stand.site.published = refresh(stand.home, refresh(stand.home, stand.site.published))
    assert stand.client().get("/en/article/a001", headers=PHONE).status_code == 200
    assert "its load took longer than 0.02 s and was given up. Publish another version" in stand.site.published.faults["model tide"]
    assert kind_of("tide").loads == 1
    for_ever.set()
