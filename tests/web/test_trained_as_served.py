"""What a model learns of a page view is what the site told it then: from real requests, through the store."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from flask.testing import FlaskClient

from experiments.experiment import Arm, Audience, Kind
from experiments.serving import recommender
from experiments.serving.recommender import Context, Ranking
from experiments.serving.signals import HOUR, Signals
from recsys.arms.als import folded
from recsys.candidates import candidates
from recsys.factors import Factors
from recsys.features import FEATURES, compute_features
from recsys.requests import contexts, next_reads
from recsys.source import read_source
from tests.web.site_fixture import PHONE, Stand
from web.published import refresh
from web.signal_job import SignalJob

HERE = {**PHONE, "Origin": "http://localhost"}
MINUTE = 60.0


class Listens:
    """An arm that keeps what it is told."""

    name: ClassVar[str] = "listens"
    kind: ClassVar[Kind] = "heuristic"
    audience: ClassVar[Audience] = "agreed"
    told: ClassVar[list[Context]] = []

    def rank(self, context: Context) -> Ranking:
        self.told.append(context)
        return Ranking.empty()


class Site:
    """A site in which everybody agreed; signals are published at every full hour, as training supposes."""

    def __init__(self, home: Path) -> None:
        (home / "presslab.toml").write_text("pool_hours = 168.0\nco_read_sessions = 1\n")
        arms = (Arm("status_quo", "status_quo", 0.5), Arm("listens", "heuristic", 0.5, "agreed"))
        self.stand = Stand(home, arms, pool_hours=168.0, co_read_sessions=1)
        self.job = SignalJob(self.stand.site.settings)
        out = [a for a in self.stand.site.catalogue.articles if a.published_at.timestamp() < self.stand.clock() / 1e6]
        self.articles = [a.id for a in sorted(out, key=lambda a: a.published_at)[-40:]]

    def reader(self) -> FlaskClient:
        client = self.stand.reader_in("listens")
        client.post("/en/privacy", data=dict.fromkeys(("measured", "tests", "personal"), "yes"), headers=HERE)
        return client

    def opens(self, client: FlaskClient, *pages: str) -> None:
        for page in pages:
            assert client.get(page, headers=PHONE).status_code == 200
            self.stand.advance(MINUTE)

    def reads(self, client: FlaskClient, *numbers: int) -> None:
        self.opens(client, *(f"/en/article/{self.articles[number]}" for number in numbers))

    def full_hour(self) -> None:
        self.stand.advance(HOUR - self.stand.clock() / 1e6 % HOUR)
        self.stand.events()
        self.job.run(self.stand.clock())
        self.stand.site.published = refresh(self.stand.home, self.stand.site.published)

    def trained(self) -> dict[tuple[float, int | None], Context]:
        """The context of every page view that training can learn from."""
        self.stand.events()
        source = read_source(self.stand.home, until_us=self.stand.clock(), agreed_only=True, texts=False)
        assert source.site.signal_rules == self.job.rules
        asked = next_reads(source.reads, since=0.0, until=self.stand.clock() / 1e6, most=999, seed=0)
        return {(context.at, context.article): context for _, context in contexts(asked, source.site)}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setitem(recommender._registry.classes, "listens", Listens)
    monkeypatch.setattr(Listens, "told", [])
    return Site(tmp_path)


def inputs(context: Context) -> tuple[list[int], np.ndarray]:
    """Candidates and features, with vectors that know every article."""
    signals: Signals = context.signals
    factors = Factors(np.random.default_rng(0).normal(size=(len(signals.catalogue), 4)).astype(np.float32), 10.0, 0.1)
    union = candidates(context, folded(factors, context, 10.0))
    return union.articles.tolist(), compute_features(context, union.articles, union.als)


def test_the_features_of_training_are_those_of_serving_for_every_page_view(site: Site) -> None:
    first, second = site.reader(), site.reader()
    site.full_hour()
    for client in (first, second):
        site.reads(client, 1, 2, 3, 4, 5, 6)
    site.full_hour()
    site.reads(first, 3, 5, 3, 7, 5, 9)  # opened again
    site.full_hour()
    site.reads(second, *range(8, 34))  # more than is remembered
    site.full_hour()
    site.reads(first, 10)
    for _ in range(2):  # a session goes on as long as pages are opened, whichever
        site.stand.advance(20 * MINUTE)
        site.opens(first, "/en/")
    site.full_hour()
    site.reads(first, 11, 12)
    trained, compared = site.trained(), 0
    for served in Listens.told:
        learned = trained.pop((served.at, served.article), None)
        if learned is None:
            continue  # the last of a session, or followed by an article that had been read
        compared += 1
        assert (served.reads, served.session_position, served.levels) == (learned.reads, learned.session_position, learned.levels)
        (shown, mine), (known, theirs) = inputs(served), inputs(learned)
        assert shown == known
        different = ~np.isclose(mine, theirs, rtol=1e-6, atol=1e-9, equal_nan=True).all(axis=0)
        assert [name for name, other in zip(FEATURES, different.tolist(), strict=True) if other] == []
    assert not trained
    assert compared > 30
