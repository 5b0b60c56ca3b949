"""What each arm is truly worth: the same readers, with the same luck, on the signals and models the demo really published."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from experiments.serving.artefacts import read_bundle
from experiments.serving.level_shares import levels_of
from experiments.serving.publish import read_signals, signal_versions
from experiments.serving.recent import before_page, unread
from experiments.serving.recommender import Catalogue, Context, Ranking, Recommender, arm_class
from experiments.serving.signals import Signals
from experiments.serving.slate import SlateRules, build_slate, pool_at, slate_seed
from fixtures.behaviour import Link
from fixtures.readers import Reader
from fixtures.truth import Known
from web.demo.archive import ARMS, archived
from web.demo.history import front_links
from web.desk import Desk

__all__ = ["Forced"]


class Forced:
    """The site's own slate code with one arm for everybody; signals and bundles are those in force at the time.

    Parameters
    ----------
    home : of a finished demo (all snapshots are kept there).
    salt : of the experiment; only feeds exploration.
    """

    def __init__(self, home: Path, catalogue: Catalogue, desk: Desk, *, rules: SlateRules, salt: str) -> None:
        self.home, self.catalogue, self.desk, self.rules, self.salt = home, catalogue, desk, rules, salt
        self.editors = catalogue.known(desk.editors_order).tolist()
        self.pins = desk.pins_at(catalogue)
        self.versions = signal_versions(home)
        self.times = [int(version) for version in self.versions]
        self.signals: Callable[[int], Signals] = lru_cache(maxsize=None)(self._signals)  # a few hundred: each reader crosses all of them
        self.front: Callable[[float], Sequence[Link]] = lru_cache(maxsize=64)(self._front)  # a reader comes at the same times in every arm
        self.arm: Callable[[str, Path | None], Recommender] = lru_cache(maxsize=64)(self._arm)
        self.bundles = {name: _bundles(home, name) for name in ARMS}

    def _signals(self, index: int) -> Signals:
        return read_signals(self.home, self.catalogue, self.versions[index])

    def _arm(self, name: str, bundle: Path | None) -> Recommender:
        if bundle is None:
            arm: Recommender = arm_class(name)()
            return arm
        arrays, manifest = read_bundle(bundle)
        loaded: Recommender = arm_class(name).load(arrays, manifest, self.catalogue)  # type: ignore[attr-defined]
        return loaded

    def signals_at(self, at: float) -> Signals:
        index = bisect_right(self.times, round(at * 1e6)) - 1
        return self.signals(index) if index >= 0 else Signals.empty(self.catalogue, at)

    def visit(self, arm: str, reader: Reader, article: str, at: float, known: Known) -> Sequence[str]:
        """Return the ids the slot would show (see :class:`fixtures.truth.Stage`)."""
        since = [folder for at_us, folder in self.bundles.get(arm, ()) if at_us <= round(at * 1e6)]
        bundle = since[-1] if since else None
        signals, position = self.signals_at(at), self.catalogue.positions[article]
        known_reads = before_page(self.catalogue.known(known.reads).tolist(), position)
        context = Context(
            at, position, known_reads, signals, unread(pool_at(self.catalogue, at, article=position, rules=self.rules), known_reads),
            n=self.rules.n, seed=slate_seed(self.salt, f"{reader.key}/{article}/{round(at * 1000)}"),
            tired=tuple(self.catalogue.known(known.tired).tolist()),
            levels=levels_of(reader.device, known.referrer), session_position=known.in_session,
        )  # fmt: skip
        if arm in self.bundles and bundle is None:
            return self._shown(Ranking.empty(), context)
        recommender = self.arm(arm, bundle)
        return () if recommender.kind == "status_quo" else self._shown(recommender.rank(context), context)

    def _shown(self, ranking: Ranking, context: Context) -> Sequence[str]:
        slate = build_slate(ranking, context, rules=self.rules, pins=self.pins, editors=self.editors)
        return tuple(self.catalogue.ids[item.article] for item in slate.items)

    def _front(self, at: float) -> Sequence[Link]:
        """Return the links of the front page."""
        return front_links(self.catalogue, self.desk, at, signals=self.signals_at(at), rules=self.rules)


def _bundles(home: Path, arm: str) -> list[tuple[int, Path]]:
    """(published at, folder) of every bundle the demo served, in order."""
    return sorted((int(folder.name.partition("-")[0]), folder) for folder in archived(home, arm).glob("*-*"))
