"""What the worker and the editors published, as one web process sees it; replaced whole, never changed in place."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from experiments.assignment import Allocation, allocation
from experiments.content import content_version, load_catalogue, withdrawn_articles
from experiments.errors import ConfigError
from experiments.experiment import Experiment
from experiments.files import read_json
from experiments.serving.carried import carried
from experiments.serving.publish import current_signals, read_signals
from experiments.serving.recommender import Catalogue, Recommender, broken_arms, discover
from experiments.serving.signals import Signals
from experiments.serving.withdrawn import withdrawn_in
from web.desk import Desk, load_desk
from web.loading import Loading, told
from web.reasons import OF_IDS, prepare
from web.shadow import Asked

__all__ = ["Aside", "Live", "Published", "read_content", "refresh"]

AT_ONCE_S = 0.2
log = logging.getLogger("presslab.published")
BUILT = ("content", "model ", "heuristic ")  # faults that stay until these are built anew


@dataclass(frozen=True, slots=True)
class Live:
    """A running experiment, ready for the hot path."""

    experiment: Experiment
    allocation: Allocation


@dataclass(frozen=True, slots=True)
class Published:
    """One consistent view. ``faults`` holds in words what could not be taken over; the last good version stays in use.

    ``content`` is the version of the articles, ``withdrawn`` the one up to which none is shown that was withdrawn.
    """

    catalogue: Catalogue
    signals: Signals
    desk: Desk = field(default_factory=Desk)
    content: int = -1
    withdrawn: int = -1
    plan: str = ""
    signal_version: str = ""
    experiments: tuple[Live, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)
    shadow: tuple[Asked, ...] = ()
    classes: Mapping[str, Any] = field(default_factory=dict)
    arms: Mapping[str, Recommender] = field(default_factory=dict)
    bundles: Mapping[str, str] = field(default_factory=dict)
    given_up: frozenset[str] = frozenset()
    faults: Mapping[str, str] = field(default_factory=dict)


def read_content(home: Path) -> tuple[int, Catalogue]:
    """Return the articles and their version, while other threads answer requests."""
    version = content_version(home)  # first: what changes meanwhile is read once more
    catalogue = load_catalogue(home, gently=True)
    prepare(catalogue)
    return version, catalogue


class Aside:
    """Reads articles and builds arms on a thread of its own: what else is published, a stop above all, does not wait for either."""

    def __init__(self) -> None:
        self._going_on: Future[Published] | None = None

    def __call__(self, work: Callable[[], Published]) -> Published | None:
        """Return what has been built, or None while it goes on; where little changed it is there at once."""
        if self._going_on is None:
            self._going_on = Future()
            threading.Thread(target=self._work, args=(work, self._going_on), daemon=True, name="published aside").start()
            wait([self._going_on], timeout=AT_ONCE_S)
        if not self._going_on.done():
            return None
        done, self._going_on = self._going_on, None
        return done.result()

    @staticmethod
    def _work(work: Callable[[], Published], going_on: Future[Published]) -> None:
        try:
            going_on.set_result(work())
        except BaseException as error:  # whoever asks for the result is told
            going_on.set_exception(error)


def refresh(
    home: Path, before: Published | None, *, aside: Callable[[Callable[[], Published]], Published | None] = lambda work: work()
) -> Published:
    """Return what is published now; unchanged parts are the same objects as ``before``.

    Parameters
    ----------
    aside : does what may take long, and returns it, or None when it is to be asked again later.
    """
    now = before or _first(home)
    faults: dict[str, str] = {}
    parts: dict[str, Callable[[Path, Published], Published]] = {
        "desk": _desk,
        "content": partial(_content, aside=aside),
        "withdrawn articles": _withdrawn,
        "plan": _plan,
        "signals": _signals,
    }
    for name, part in parts.items():
        try:
            now = part(home, now)
        except Exception as error:  # whatever is wrong with one part, a stop in another one is taken over
            faults[name] = told(error)
            if now.faults.get(name) != faults[name]:
                log.error("%s not taken over, the last good version stays: %s", name, faults[name])
    faults.update({f"arm module {name}": reason for name, reason in broken_arms().items()})
    faults.update({name: reason for name, reason in now.faults.items() if name.startswith(BUILT) and name not in faults})
    faults.update(_not_loaded(now))
    return now if faults == now.faults else replace(now, faults=faults)


def _not_loaded(now: Published) -> dict[str, str]:
    """Name decided arms whose readers get the fallback from this process, and say what to do."""
    train = "no version of its model can be read. Train one: presslab model train {arm}"
    install = "no module registers it. Install it again and restart the site."
    return {
        f"decided for {slot}": f"'{arm}' is not loaded in this process, its readers get the fallback: "
        + (train if arm in now.classes else install).format(arm=arm)
        for slot, arm in now.defaults.items()
        if arm not in now.arms
    }


def _first(home: Path) -> Published:
    version, catalogue = read_content(home)
    return Published(catalogue, Signals.empty(catalogue, 0.0), content=version, withdrawn=version)


def _desk(home: Path, now: Published) -> Published:
    desk = load_desk(home)
    return now if desk == now.desk else replace(now, desk=desk)


def _content(home: Path, now: Published, *, aside: Callable[[Callable[[], Published]], Published | None]) -> Published:
    """Take over articles and the arms that are built over them, together: neither serves with another's positions."""
    if (built := aside(partial(_built, home, now))) is None:
        return now
    if built.content == now.content:  # of these some may have been withdrawn since
        built = replace(built, catalogue=now.catalogue, withdrawn=now.withdrawn)
    else:
        built = replace(built, withdrawn=built.content)
    parts = {name: getattr(built, name) for name in ("catalogue", "content", "withdrawn", "classes", "arms", "bundles", "given_up")}
    faults = {name: reason for name, reason in built.faults.items() if name.startswith(BUILT)}
    for name in faults.keys() - now.faults.keys():
        log.error("%s not taken over: %s", name, faults[name])
    faults |= {name: reason for name, reason in now.faults.items() if not name.startswith(BUILT)}
    if faults == now.faults and all(getattr(now, name) is part for name, part in parts.items()):
        return now
    signals = now.signals
    if built.catalogue.version != now.catalogue.version:
        signals = carried(signals, built.catalogue)
    elif built.catalogue is not now.catalogue:
        signals = replace(signals, catalogue=built.catalogue)
    return replace(now, signals=signals, faults=faults, **parts)


def _withdrawn(home: Path, now: Published) -> Published:
    """Keep what is withdrawn from readers at once: many articles take seconds to be read, and none may be shown that long."""
    version = content_version(home)  # first: what is withdrawn meanwhile is looked for once more
    if version == now.withdrawn:
        return now
    catalogue = withdrawn_in(now.catalogue, withdrawn_articles(home), keep=OF_IDS)
    return replace(now, catalogue=catalogue, signals=replace(now.signals, catalogue=catalogue), withdrawn=version)


def _built(home: Path, now: Published) -> Published:
    """``now`` with the articles of today and every arm over them that can be built; faults of nothing else are in it."""
    content, catalogue, faults = now.content, now.catalogue, dict[str, str]()
    try:
        if content_version(home) != now.content:
            content, catalogue = read_content(home)
            if not content:
                raise ConfigError(
                    f"{home / 'content.db'} holds no articles any more.", "Restore it from a backup or import the articles again."
                )
    except Exception as error:  # arms need not wait until articles can be read
        content, catalogue, faults["content"] = now.content, now.catalogue, told(error)
    kept = now if catalogue.version == now.catalogue.version else replace(now, arms={}, bundles={})
    classes = now.classes or discover()
    loading = Loading(home, catalogue, dict(kept.arms), dict(kept.bundles), now.given_up, faults)
    loading.build(classes, served=now.bundles)
    same = kept is now and loading.arms == now.arms and loading.bundles == now.bundles
    arms, bundles = (now.arms, now.bundles) if same else (loading.arms, loading.bundles)
    return replace(
        now,
        content=content,
        catalogue=catalogue,
        classes=classes,
        arms=arms,
        bundles=bundles,
        given_up=loading.given_up,
        faults=loading.faults,
    )


def _plan(home: Path, now: Published) -> Published:
    stored = read_json(home / "plan" / "current.json")
    if stored is None or stored["version"] == now.plan:
        return now
    if sha256(json.dumps(stored["body"], sort_keys=True).encode()).hexdigest() != stored["sha256"]:
        raise ConfigError(f"{home / 'plan' / 'current.json'}: the content does not match its checksum.", "Publish the plan again.")
    live = []
    for entry in stored["body"]["experiments"]:
        experiment = Experiment.from_dict(entry["plan"])
        live.append(Live(experiment, allocation(experiment, entry["shares"], phase=entry["phase"])))
    shadow = tuple(Asked(**asked) for asked in stored["body"].get("shadow", ()))
    return replace(now, plan=stored["version"], experiments=tuple(live), defaults=stored["body"].get("defaults", {}), shadow=shadow)


def _signals(home: Path, now: Published) -> Published:
    pointer = current_signals(home)
    if pointer is None or pointer["version"] == now.signal_version or pointer["catalogue"] != now.catalogue.version:
        return now
    signals = read_signals(home, now.catalogue, pointer["version"], digest=pointer["sha256"])
    return replace(now, signals=signals, signal_version=pointer["version"])
