"""What a new version is judged by: the one readers get where it can stand for it, else one fitted for the comparison."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from experiments.content import add_articles
from experiments.errors import NotFoundError
from experiments.events import lake
from experiments.serving import recommender
from experiments.serving.artefacts import Bundle, current, publish, read_bundle, write_bundle
from experiments.serving.recommender import Catalogue, Context, Ranking, register
from experiments.serving.signals import HOUR
from recsys import fit_als
from recsys.arms.als import Als
from recsys.judging import ENOUGH_REQUESTS, Judged, judge_served, verdict
from recsys.reproduce import reproduce
from recsys.requests import Request
from recsys.served import Served, libraries, served
from recsys.source import Source, read_source
from recsys.training import train
from tests.recsys import small_site

DAYS = 4.0
UNTIL_US = small_site.until_us(DAYS)
UNTIL = UNTIL_US / 1e6
HOUR_US = round(HOUR * 1e6)
RECIPE = fit_als.AlsRecipe(factors=8, regularization=1.0, window_h=72.0, iterations=4, again=2)
Trainer = partial(fit_als.Trainer, recipe=RECIPE)  # what a busy site has, found by the arm below


class Led(Als):
    name: ClassVar[str] = "led"
    trainer: ClassVar[str] = __name__


class Unwaived(Led):
    """Shows the oldest articles to readers who like new ones, and may not."""

    name: ClassVar[str] = "unwaived"
    waived: ClassVar[str] = ""

    def rank(self, context: Context) -> Ranking:
        return Ranking.best_first(context.pool, -context.signals.catalogue.published[context.pool], "als")


@pytest.fixture(scope="module", autouse=True)
def arms() -> Iterator[None]:
    for kind in (Led, Unwaived):
        register(kind)
    yield
    for kind in (Led, Unwaived):
        recommender._registry.classes.pop(kind.name)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Source]:
    """A site of 250 readers who open a thousand pages a day."""
    home, everything = tmp_path_factory.mktemp("site") / "home", small_site.articles(60, DAYS)
    add_articles(home, everything)
    table = small_site.read_table(Catalogue(everything), readers=250, sessions=1_300, days=DAYS)
    lake.add_import(home, table, name="small", sha256="0" * 64)
    return home, read_source(home, until_us=UNTIL_US, agreed_only=True, texts=False)


def trainer(source: Source) -> fit_als.Trainer:
    return Trainer(source.reads, source.site, UNTIL, 0)


def version(source: Source, hours_ago: float, folder: Path, **changes: Any) -> Bundle:
    arrays, about = trainer(source).fit(UNTIL - hours_ago * HOUR)
    about |= {"until": UNTIL_US - round(hours_ago * HOUR_US), "seed": 0, "libraries": libraries(), **changes}
    return write_bundle(folder / "models" / "led", arrays, about)


def judged(source: Source, bundle: Bundle, arm: str = "led") -> tuple[Judged | None, fit_als.Trainer]:
    own, (arrays, manifest) = trainer(source), read_bundle(bundle.path)
    versions = [Served(bundle.version, manifest["until"] / 1e6, arrays, manifest)]
    return judge_served(own, source, arm, versions=versions, until=UNTIL), own


def test_the_version_readers_get_is_judged_on_what_came_after_it(built: tuple[Path, Source], tmp_path: Path) -> None:
    source = built[1]
    found, own = judged(source, version(source, 20, tmp_path))
    since = UNTIL_US - 20 * HOUR_US
    assert found is not None
    assert found.who == {"version": "1", "until": since, "since": since}
    assert ENOUGH_REQUESTS <= found.metrics["queries"] <= 1_000
    assert min(request.at for request in found.asked) >= since / 1e6
    assert own.fit(UNTIL)[1]["began"]["version"] == "1"


@pytest.mark.parametrize("hours_ago", [-1, 0, 3, 25])
def test_too_few_page_views_later_or_an_age_of_more_than_a_day_leave_nothing_to_judge(
    built: tuple[Path, Source], tmp_path: Path, hours_ago: float
) -> None:
    assert judged(built[1], version(built[1], hours_ago, tmp_path))[0] is None


def test_what_an_older_version_can_be_judged_by_stands_for_a_fresh_one_that_is_led_on_from(
    built: tuple[Path, Source], tmp_path: Path
) -> None:
    source = built[1]
    for hours_ago in (20, 3):
        publish(tmp_path, "led", version(source, hours_ago, tmp_path).version, at_us=0)
    own = trainer(source)
    found = judge_served(own, source, "led", versions=served(tmp_path, "led", seed=0), until=UNTIL)
    assert found is not None
    assert found.who["version"] == "1"
    assert own.fit(UNTIL)[1]["began"]["version"] == "2"


def test_a_version_that_cannot_be_loaded_stands_for_nothing(built: tuple[Path, Source], tmp_path: Path) -> None:
    source, bundle = built[1], version(built[1], 20, tmp_path, ids=["one"])
    assert judged(source, bundle)[0] is None


def test_one_that_would_be_refused_gives_way_to_a_comparison_anew(built: tuple[Path, Source], tmp_path: Path) -> None:
    found, _ = judged(built[1], version(built[1], 20, tmp_path), arm="unwaived")
    assert found is None


@pytest.mark.parametrize(("said", "stands"), [(0.3, False), (-0.9, True)])
def test_one_that_did_clearly_worse_than_it_was_said_to_is_not_led_on_from(
    built: tuple[Path, Source], tmp_path: Path, said: float, *, stands: bool
) -> None:
    found, _ = judged(built[1], version(built[1], 20, tmp_path, metrics={"difference_low": said}))
    assert (found is not None) == stands


def test_trainers_that_begin_every_fit_anew_are_left_alone(built: tuple[Path, Source], tmp_path: Path) -> None:
    source = built[1]
    arrays, manifest = read_bundle(version(source, 20, tmp_path).path)
    one = [Served("1", UNTIL - 20 * HOUR, arrays, manifest)]
    small = fit_als.Trainer(source.reads, source.site, UNTIL, 0, replace(RECIPE, again=0))

    class Plain:
        ablations: ClassVar[dict[str, tuple[str, ...]]] = {}

    assert judge_served(small, source, "led", versions=one, until=UNTIL) is None
    assert judge_served(Plain(), source, "led", versions=one, until=UNTIL) is None  # type: ignore[arg-type]


def fits_of(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, str]]:
    """Fits from now on: hours before the end, and the version they began at."""
    seen: list[tuple[float, str]] = []
    plain = fit_als.Trainer.fit

    def fit(self: fit_als.Trainer, until: float, without: Any = ()) -> Any:
        arrays, about = plain(self, until, without)
        seen.append((round((UNTIL - until) / HOUR, 1), about["began"].get("version", "anew")))
        return arrays, about

    monkeypatch.setattr(fit_als.Trainer, "fit", fit)
    return seen


@pytest.fixture(scope="module")
def trained(built: tuple[Path, Source], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[tuple[float, str]]]:
    """The site after its first training, twenty hours before the end, what that said and what it fitted."""
    home = copied(built[0], tmp_path_factory.mktemp("trained") / "home")
    with pytest.MonkeyPatch.context() as patch:
        fits = fits_of(patch)
        return home, train("led", home, until_us=UNTIL_US - 20 * HOUR_US), fits


Trained = tuple[Path, dict[str, Any], list[tuple[float, str]]]


def test_a_first_training_fits_twice_and_the_next_once(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, first, fits = trained
    assert fits == [(44.0, "anew"), (20.0, "")]
    assert first["judged"]["version"] == ""
    home, fits = copied(home, tmp_path / "home"), fits_of(monkeypatch)
    second = train("led", home, until_us=UNTIL_US)
    assert fits == [(0.0, "1")]
    assert second["judged"] == {"version": "1", "until": UNTIL_US - 20 * HOUR_US, "since": UNTIL_US - 20 * HOUR_US}
    assert second["says"].startswith("version 2 is published; judged was version 1: hit rate at 10 ")
    manifest = json.loads((home / "models" / "led" / "2" / "manifest.json").read_text())
    assert manifest["judged"] == second["judged"]
    assert manifest["began"]["anew_until"] == UNTIL_US - 44 * HOUR_US
    again = train("led", copied(trained[0], tmp_path / "again"), until_us=UNTIL_US)
    assert again["content_sha256"] == second["content_sha256"]  # the same reads and the same version before, the same bits


def test_a_version_that_was_led_on_comes_out_the_same_while_the_one_before_is_kept(trained: Trained, tmp_path: Path) -> None:
    home = copied(trained[0], tmp_path / "home")
    train("led", home, until_us=UNTIL_US)
    assert [reproduce("led", home, number)["same"] for number in ("1", "2")] == [True, True]
    (home / "models" / "led" / "1").rename(home / "models" / "led" / "7")
    with pytest.raises(NotFoundError, match="led on from version 1, which is no longer kept"):
        reproduce("led", home)
    shutil.copytree(home / "models" / "led" / "2", home / "models" / "led" / "1")
    with pytest.raises(NotFoundError, match="version 1 of 'led' is not the one"):
        reproduce("led", home)


def test_a_damaged_version_in_force_does_not_keep_the_next_from_being_trained(trained: Trained, tmp_path: Path) -> None:
    home = copied(trained[0], tmp_path / "home")
    file = home / "models" / "led" / "1" / "arrays.npz"
    file.write_bytes(file.read_bytes()[:-1])
    told = train("led", home, until_us=UNTIL_US)
    assert (told["state"], told["judged"]["version"]) == ("published", "")
    pointer = current(home, "led")
    assert pointer is not None
    assert pointer.version == "2"


def test_an_arm_that_would_be_refused_is_judged_once_more_by_a_fit_anew(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = copied(trained[0], tmp_path / "home")
    (home / "models" / "led").rename(home / "models" / "unwaived")
    fits = fits_of(monkeypatch)
    told = train("unwaived", home, until_us=UNTIL_US)
    assert (told["state"], told["judged"]["version"], fits) == ("refused", "", [(24.0, "anew")])


def copied(built: Path, home: Path) -> Path:
    shutil.copytree(built, home)
    return home


@pytest.mark.parametrize(("worse", "least", "most"), [(0.0, 0.0, 0.06), (0.1, 0.85, 1.0)])
def test_a_model_as_good_as_the_rule_is_seldom_refused_and_a_clearly_worse_one_nearly_always(
    worse: float, least: float, most: float
) -> None:
    """Readers differ in how predictable they are, and in which arm suits them; 300 page views of at most 120."""
    rng, refused, logs = np.random.default_rng(6), 0, 200
    for _ in range(logs):
        reader = rng.integers(120, size=300)
        chance, suits = rng.beta(4, 4, 120)[reader], rng.uniform(-0.15, 0.15, 120)[reader] - worse
        luck = rng.random(300)  # the same for both on seven page views in ten
        own = np.where(rng.random(300) < 0.7, luck, rng.random(300))
        places = {"model": np.where(own < chance + suits, 0.0, np.inf), "front": np.where(luck < chance, 0.0, np.inf)}
        asked = [Request(0.0, 0.0, 0, 0, code, (), 0) for code in reader.tolist()]
        refused += bool(verdict(places, asked, "model", "front").reason)
    assert least <= refused / logs <= most
