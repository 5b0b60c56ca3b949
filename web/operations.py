"""Every ten seconds: do readers of an arm of a running test, or of the decided one, meet errors, late lists, fallbacks, or a withdrawn article?

Part of the worker. A look reads only the events that came since the last one; while there is no such arm it reads nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from analysis.failing import COUNT_ALPHA, Met, alpha_of, apart_from_lateness, failing, part_of
from experiments.clock import Clock, moment, to_us
from experiments.content import content_version, withdrawn_articles
from experiments.errors import ArtefactError
from experiments.events.store import read_store, store_path
from experiments.files import read_json, replace_json
from experiments.ladder import Ladder, decided_arms, running_arms
from experiments.lifecycle import Step, experiment_named, publish_if_behind
from experiments.serving.artefacts import Pointer, current
from web.confirmed import serving_now
from web.met import FOLDER, MetCounts, Since, counts_of, forget, kept_counts, remove
from web.trip import ACTOR, trip

__all__ = ["Operations", "met_by"]

PUBLISHED_US = 5_000_000  # a web process that lives has taken a change over by then
WEEK_US = 7 * 86_400_000_000


class Operations:
    """Counts, and stops an arm; safe to use from several threads of the worker.

    Parameters
    ----------
    source : of the events that count, ``live`` or ``simulated``.
    """

    def __init__(self, home: Path, engine: Engine, clock: Clock, *, source: str) -> None:
        self.home, self.engine, self.clock, self.source = home, engine, clock, source
        self._turn = threading.Lock()
        self._counts: dict[str, MetCounts] = {}
        self._leaving: dict[str, int] = {}  # withdrawn article -> version of the articles from which it is
        self._gone: dict[str, int] = {}
        self._content = -1
        self._over = False

    def look(self) -> list[Ladder]:
        """Look at every arm that readers get; returns those that were stopped, as they stand now."""
        with self._turn:
            if self._over:  # another worker may have begun
                return []
            publish_if_behind(self.home, self.engine, at=moment(self.clock()))
            shown = [one for one in (*running_arms(self.engine), *decided_arms(self.engine)) if one.shown]
            self._keep_only({one.key for one in shown})
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
                if counts := self._counts.pop(ladder.key, None):
                    counts.close()
        if faults:
            raise faults[0]
        return stopped

    def _look_at(self, ladder: Ladder) -> Ladder | None:
        if ladder.key not in self._counts:
            self._counts[ladder.key] = counts_of(self.home, ladder.key)
        counts, pointer = self._counts[ladder.key], self._pointer(ladder)
        begun_us, part = _period(ladder, self.clock())
        with closing(read_store(store_path(self.home))) as store:
            test = "" if ladder.decided else ladder.experiment
            counts.catch_up(store, experiment=test, source=self.source, since=_since(begun_us, pointer), gone=self._gone)
        arm, others, share = self._beside(ladder)
        mine, theirs = counts.met([arm]), counts.met(others)
        self._tell(ladder, begun_us, mine, theirs)
        judged = apart_from_lateness if ladder.decided else (lambda met: met)
        why = failing(judged(mine), theirs, share, alpha=part * (alpha_of(0) if pointer or ladder.version else COUNT_ALPHA))
        if counts.version and pointer and not why:
            lately = judged(counts.met([arm], lately=True)), counts.met(others, lately=True)
            why = failing(*lately, share, alpha=part * alpha_of(counts.version))
            why = why and f"since version {pointer.version} serves, {why}"
        if not why or self._pointer(ladder) != pointer:  # going back from a newer version would lead to the one that failed
            return None
        return trip(self.home, self.engine, ladder, Step(ACTOR, moment(self.clock()), f"readers of '{ladder.arm}': {why}"))

    def _pointer(self, ladder: Ladder) -> Pointer | None:
        """The version of the arm's model in force; None of a rule, and when it cannot be read: then all versions are looked at together."""
        with suppress(ArtefactError):
            return current(self.home, ladder.arm)
        return None

    def _beside(self, ladder: Ladder) -> tuple[str, list[str], float]:
        """What events call the arm, the other arms that rank, and the arm's share among all of these; beside a decided arm there is none."""
        if ladder.decided:
            return "", [], 1.0
        plan = experiment_named(self.engine, ladder.experiment).experiment
        others = [one for one in plan.arms if one.kind != "status_quo" and one.name != ladder.arm]
        mine = plan.arm(ladder.arm).share
        return ladder.arm, [one.name for one in others], mine / (mine + sum(one.share for one in others))

    def _look_for_withdrawn(self) -> None:
        """Remember since when no page may show a withdrawn article: since every web process has said that it does not."""
        version = content_version(self.home)
        if version != self._content:
            known = withdrawn_articles(self.home)
            self._gone = {article: from_us for article, from_us in self._gone.items() if article in known}
            self._leaving = {article: self._leaving.get(article, version) for article in known - self._gone.keys()}
            self._content = version
        told = min((one.get("withdrawn", -1) for one in serving_now(self.home)), default=version)
        left = [article for article, since in self._leaving.items() if since <= told]
        self._gone |= dict.fromkeys(left, self.clock() + PUBLISHED_US)
        for article in left:
            del self._leaving[article]

    def _tell(self, ladder: Ladder, since_us: int, mine: Met, others: Met) -> None:
        """Keep the counts where pages find them."""
        path = self.home / FOLDER / f"{ladder.key}.json"
        told = {"arm": ladder.arm, "since_us": since_us, "met": asdict(mine), "others": asdict(others)}
        known = read_json(path) or {}
        if any(known.get(key) != value for key, value in told.items()):
            replace_json(path, {**told, "at_us": self.clock()})

    def _keep_only(self, keys: Collection[str]) -> None:
        """Remove the counts of arms that no reader gets any more."""
        for key, path in kept_counts(self.home):
            if key not in keys:
                if counts := self._counts.pop(key, None):
                    counts.close()
                remove(path)


def met_by(home: Path, ladder: Ladder) -> dict[str, Any] | None:
    """Return what readers of an arm met, as last counted: ``{met, others, at_us, ...}``; None before the first look."""
    told: dict[str, Any] | None = read_json(home / FOLDER / f"{ladder.key}.json")
    return told


def _period(ladder: Ladder, now_us: int) -> tuple[int, float]:
    """From when readers count, and which part of the chance of a false stop is for what is counted from then on.

    A version that was gone back to must not answer for pages of processes that served the other. A decided arm is counted anew
    every week: over months, more and more readers of a sound one would have met a failure once.
    """
    begun_us = to_us(ladder.counted_from) + PUBLISHED_US
    if not ladder.decided:
        return begun_us, 1.0
    week = max(0, now_us - begun_us) // WEEK_US
    return begun_us + week * WEEK_US, part_of(week)


def _since(begun_us: int, pointer: Pointer | None) -> Since:
    version_us = pointer.at + PUBLISHED_US if pointer else 0
    return Since(begun_us, version_us if version_us > begun_us else 0)
