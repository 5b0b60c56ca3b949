"""A small generated site on which every arm can be tried before it meets readers: no file, no clock, one seed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.errors import ArmError
from experiments.serving.recommender import Article, Catalogue, Context, Recommender
from experiments.serving.signals import HOUR, Reads, SignalRules, Signals, build_signals
from experiments.serving.slate import pool_at
from recsys.requests import Site

__all__ = ["UNTIL", "OnTrial", "fitted", "later_reads", "on_trial", "practice_articles", "practice_site"]

DAYS, ARTICLES, READERS, SESSIONS = 6, 90, 120, 250
SECTIONS = ("business", "city", "culture", "sport")
START = datetime(2026, 1, 5, tzinfo=UTC).timestamp()
UNTIL = START + DAYS * 24 * HOUR  # unix seconds: the moment at which arms are asked


def practice_articles() -> list[Article]:
    """Return ninety articles in four sections; 0 is evergreen, 40 withdrawn, 70 and 71 one story, the last four not yet out."""
    times = START + np.linspace(0, DAYS * 24 * HOUR - HOUR, ARTICLES - 4)
    times = np.append(times, UNTIL + HOUR * np.arange(1, 5))
    return [
        Article(
            f"p{i:03d}", f"Practice article {i}", "", "", SECTIONS[i % len(SECTIONS)], "nobody", datetime.fromtimestamp(float(at), UTC),
            story="one" if i in (70, 71) else "", evergreen=i == 0, withdrawn=i == 40,
        )
        for i, at in enumerate(times)
    ]  # fmt: skip


def practice_site(seed: int = 0) -> Site:
    """Return a site whose readers prefer one section and new articles.

    Examples
    --------
    >>> site = practice_site()
    >>> len(site.catalogue), bool((site.reads.at < UNTIL).all())
    (90, True)
    """
    catalogue = Catalogue(practice_articles())
    reads = _reads(catalogue, since=START + 24 * HOUR, until=UNTIL, sessions=SESSIONS, seed=seed)
    return Site(catalogue, reads, SignalRules(co_read_sessions=2))


def later_reads(site: Site, seed: int = 1) -> Reads:
    """Return the site's reads and, after them, an hour of reads that no arm asked at :data:`UNTIL` may know."""
    more = _reads(site.catalogue, since=UNTIL, until=UNTIL + HOUR, sessions=SESSIONS, seed=seed)
    shifted = replace(more, session=more.session + SESSIONS)
    return Reads(*(np.concatenate([getattr(site.reads, name), getattr(shifted, name)]) for name in Reads.__slots__))


def _reads(catalogue: Catalogue, *, since: float, until: float, sessions: int, seed: int) -> Reads:
    rng = np.random.default_rng(seed)
    likes = np.arange(READERS) % len(catalogue.sections)
    rows: list[tuple[int, int, int, float]] = []
    for session in range(sessions):
        reader, at = int(rng.integers(READERS)), float(rng.uniform(since, until - 0.2 * HOUR))
        weight = _appeal(catalogue, at, int(likes[reader]))
        for article in rng.choice(len(catalogue), 3, replace=False, p=weight):
            rows.append((reader, session, int(article), at))
            at += float(rng.uniform(20, 200))
    columns: list[Any] = [np.array(column) for column in zip(*sorted(rows, key=lambda row: row[3]), strict=True)]
    reader, number = columns[0].astype(np.int64), columns[1].astype(np.int64)
    levels = np.stack([reader % 2, number % 3], axis=1) + 1  # two devices, three referrers
    return Reads(reader, number, columns[2].astype(np.int32), columns[3].astype(np.float64), levels)


def _appeal(catalogue: Catalogue, at: float, section: int) -> npt.NDArray[np.float64]:
    age_h = (at - catalogue.published) / HOUR
    weight = np.where((age_h >= 0) & ~catalogue.withdrawn, np.exp(-np.maximum(age_h, 0.0) / 24 + 2.0 * (catalogue.section == section)), 0.0)
    return np.asarray(weight / weight.sum())


@dataclass(frozen=True)
class OnTrial:
    """An arm on the practice site.

    Parameters
    ----------
    kind : the arm's class. site : see :mod:`recsys.practice`. arrays, about : of a trained arm; both None for a rule.
    """

    kind: Any
    site: Site
    arrays: Mapping[str, Any] | None = None
    about: Mapping[str, Any] | None = None

    def arm(self, catalogue: Catalogue | None = None) -> Recommender:
        """Return a fresh arm, over the practice articles or over those of another catalogue."""
        made: Recommender = (
            self.kind() if self.arrays is None else self.kind.load(self.arrays, self.about, catalogue or self.site.catalogue)
        )
        return made

    @cached_property
    def signals(self) -> Signals:
        return build_signals(self.site.reads, self.site.catalogue, at=UNTIL, rules=self.site.signal_rules)

    def ask(self, *, article: int | None = 80, reads: Sequence[int] = (60, 64, 72, 76), **changes: Any) -> Context:
        """Return the request of a reader with four reads who has article 80 open on a device the site knows, with changes."""
        signals: Signals = changes.setdefault("signals", self.signals)
        changes.setdefault("pool", pool_at(signals.catalogue, UNTIL, article=article))
        changes.setdefault("levels", (1, 2))
        return Context(UNTIL, article, tuple(reads), **changes)

    @cached_property
    def requests(self) -> tuple[Context, ...]:
        """A reader with reads, without, without an open article, with neither, with an unread article open, on an unknown device,
        with one article left."""
        one = np.array([79], np.int32)
        return (
            self.ask(), self.ask(reads=()), self.ask(article=None), self.ask(article=None, reads=()),
            self.ask(article=self._unread), self.ask(levels=()), self.ask(pool=one), self.ask(reads=tuple(range(60, 80)) * 3),
        )  # fmt: skip

    @cached_property
    def _unread(self) -> int:
        """The newest article that is out: hardly anybody can have read it."""
        return int(np.flatnonzero(self.site.catalogue.published <= UNTIL)[-1])


def on_trial(kind: Any) -> OnTrial:
    """Return the arm on the practice site, trained there when it is a model.

    Raises
    ------
    ArmError
        The arm has a ``load`` and no ``trainer`` to make what it loads.
    """
    site = practice_site()
    if not hasattr(kind, "load"):
        return OnTrial(kind, site)
    if not hasattr(kind, "trainer"):
        raise ArmError(f"arm '{kind.name}' is loaded from a bundle, but no `trainer` says who makes it.", "Name the module of its Trainer.")
    arrays, about = fitted(kind, site, site.reads)
    return OnTrial(kind, site, arrays, about)


def fitted(kind: Any, site: Site, reads: Reads) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the arm's trainer learns from reads before :data:`recsys.practice.UNTIL`."""
    trainer = importlib.import_module(kind.trainer).Trainer(reads, replace(site, reads=reads), until=UNTIL, seed=0)
    made: tuple[dict[str, Any], dict[str, Any]] = trainer.fit(UNTIL)
    return made
