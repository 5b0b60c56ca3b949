"""Every ten seconds: do readers of an arm on its ladder meet errors, late lists, fallbacks, or a withdrawn article?

Part of the worker. A look reads only the events that came since the last one; while no arm is on its ladder it reads nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from analysis.failing import COUNT_ALPHA, Met, alpha_of, failing
from experiments.clock import Clock, moment, to_us
from experiments.content import content_version, withdrawn_articles
from experiments.errors import ArtefactError
from experiments.events.store import read_store, store_path
from experiments.experiment import Experiment
from experiments.files import read_json, replace_json
from experiments.ladder import Ladder, ladders
from experiments.lifecycle import Step, experiment_named, publish_if_behind
from experiments.serving.artefacts import Pointer, current
from web.met import FOLDER, MetCounts, Since, counts_of, forget, kept_counts, remove
from web.trip import ACTOR, trip

__all__ = ["Operations", "met_by"]

PUBLISHED_US = 5_000_000  # a web process that lives has taken a change over by then


class Operations:
    """Counts, and stops an arm; safe to use from several threads of the worker.

    Parameters
    ----------
    source : of the events that count, ``live`` or ``simulated``.
    """

    def __init__(self, home: Path, engine: Engine, clock: Clock, *, source: str) -> None:
        self.home, self.engine, self.clock, self.source = home, engine, clock, source
        self._turn = threading.Lock()
        self._counts: dict[int, MetCounts] = {}
        self._gone: dict[str, int] = {}
        self._content = -1
        self._over = False

    def look(self) -> list[Ladder]:
        """Look at every arm that readers get; returns those that were stopped, as they stand now."""
        with self._turn:
            if self._over:  # another worker may have begun
                return []
            publish_if_behind(self.home, self.engine, at=moment(self.clock()))
            shown = [one for one in ladders(self.engine) if one.shown]
            self._keep_only({one.proposal for one in shown})
            if not shown or not store_path(self.home).exists():
                return []
            self._look_for_withdrawn()
            return self._look_at_each(shown)

    def forget(self, reader: str) -> None:
        """Remove an erased reader."""
        with self._turn:
            self._close_counts()  # also those that were not looked at yet hold readers
            forget(self.home, reader)

    def close(self) -> None:
        with self._turn:
            self._over = True
            self._close_counts()

    def _close_counts(self) -> None:
        while self._counts:
            self._counts.popitem()[1].close()

    def _look_at_each(self, shown: Sequence[Ladder]) -> list[Ladder]:
        """A look that fails must not keep other arms from being looked at."""
        stopped, faults = list[Ladder](), list[Exception]()
        for ladder in shown:
            try:
                stopped += filter(None, [self._look_at(ladder)])
            except Exception as error:  # raised below; counts are opened anew, in case it was they
                faults.append(error)
                if counts := self._counts.pop(ladder.proposal, None):
                    counts.close()
        if faults:
            raise faults[0]
        return stopped

    def _look_at(self, ladder: Ladder) -> Ladder | None:
        plan = experiment_named(self.engine, ladder.experiment).experiment
        if ladder.proposal not in self._counts:
            self._counts[ladder.proposal] = counts_of(self.home, ladder.proposal)
        counts, pointer = self._counts[ladder.proposal], self._pointer(ladder)
        with closing(read_store(store_path(self.home))) as store:
            counts.catch_up(store, experiment=plan.name, source=self.source, since=_since(ladder, pointer), gone=self._gone)
        others, share = _beside(plan, ladder.arm)
        mine, theirs = counts.met([ladder.arm]), counts.met(others)
        self._tell(ladder, mine, theirs)
        why = failing(mine, theirs, share, alpha=alpha_of(0) if pointer or ladder.version else COUNT_ALPHA)
        if counts.version and pointer and not why:
            lately = counts.met([ladder.arm], lately=True), counts.met(others, lately=True)
            why = failing(*lately, share, alpha=alpha_of(counts.version))
            why = why and f"since version {pointer.version} serves, {why}"
        if not why or self._pointer(ladder) != pointer:  # going back from a newer version would lead to the one that failed
            return None
        return trip(self.home, self.engine, ladder, Step(ACTOR, moment(self.clock()), f"readers of '{ladder.arm}': {why}"))

    def _pointer(self, ladder: Ladder) -> Pointer | None:
        """The version of the arm's model in force; None of a rule, and when it cannot be read: then all versions are looked at together."""
        with suppress(ArtefactError):
            return current(self.home, ladder.arm)
        return None

    def _look_for_withdrawn(self) -> None:
        """Remember since when an article is known to be withdrawn."""
        version = content_version(self.home)
        if version != self._content:
            from_us = self.clock() + PUBLISHED_US
            self._gone = {article: self._gone.get(article, from_us) for article in withdrawn_articles(self.home)}
            self._content = version

    def _tell(self, ladder: Ladder, mine: Met, others: Met) -> None:
        """Keep the counts where pages find them."""
        path = self.home / FOLDER / f"{ladder.proposal}.json"
        told = {"arm": ladder.arm, "since_us": _counted_us(ladder), "met": asdict(mine), "others": asdict(others)}
        known = read_json(path) or {}
        if any(known.get(key) != value for key, value in told.items()):
            replace_json(path, {**told, "at_us": self.clock()})

    def _keep_only(self, proposals: Collection[int]) -> None:
        """Remove the counts of arms that no reader gets any more."""
        for proposal, path in kept_counts(self.home):
            if proposal not in proposals:
                if counts := self._counts.pop(proposal, None):
                    counts.close()
                remove(path)


def met_by(home: Path, ladder: Ladder) -> dict[str, Any] | None:
    """Return what readers of an arm met, as last counted: ``{met, others, at_us, ...}``; None before the first look."""
    told: dict[str, Any] | None = read_json(home / FOLDER / f"{ladder.proposal}.json")
    return told


def _counted_us(ladder: Ladder) -> int:
    """From when readers count; a version that was gone back to must not answer for pages of processes that served the other."""
    return to_us(ladder.counted_from) + PUBLISHED_US


def _since(ladder: Ladder, pointer: Pointer | None) -> Since:
    begun_us, version_us = _counted_us(ladder), pointer.at + PUBLISHED_US if pointer else 0
    return Since(begun_us, version_us if version_us > begun_us else 0)


def _beside(plan: Experiment, arm: str) -> tuple[list[str], float]:
    """The other arms that rank, and the arm's share among all of these."""
    others = [one for one in plan.arms if one.kind != "status_quo" and one.name != arm]
    mine = plan.arm(arm).share
    return [one.name for one in others], mine / (mine + sum(one.share for one in others))
