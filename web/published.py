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
from experiments.errors import ConfigError, PresslabError
from experiments.experiment import Experiment
from experiments.files import read_json
from experiments.serving.artefacts import current, read_bundle
from experiments.serving.carried import carried
from experiments.serving.publish import current_signals, read_signals
from experiments.serving.recommender import Catalogue, Recommender, broken_arms, discover
from experiments.serving.signals import Signals
from experiments.serving.withdrawn import withdrawn_in
from web.desk import Desk, load_desk
from web.reasons import OF_IDS, prepare
from web.shadow import Asked

__all__ = ["Live", "Published", "ReadingAside", "read_content", "refresh"]

AT_ONCE_S = 0.2
log = logging.getLogger("presslab.published")
UNREADABLE = (PresslabError, OSError, ValueError, KeyError, TypeError, AttributeError)  # the last two: JSON of another shape


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
    faults: Mapping[str, str] = field(default_factory=dict)


def read_content(home: Path) -> tuple[int, Catalogue]:
    """Return the articles and their version, while other threads answer requests."""
    version = content_version(home)  # first: what changes meanwhile is read once more
    catalogue = load_catalogue(home, gently=True)
    prepare(catalogue)
    return version, catalogue


class ReadingAside:
    """Reads articles on a thread of its own: what else is published, a stop above all, does not wait for a long read."""

    def __init__(self) -> None:
        self._reading: Future[tuple[int, Catalogue]] | None = None

    def __call__(self, home: Path) -> tuple[int, Catalogue] | None:
        """Return what has been read, or None while it goes on; few articles are there at once."""
        if self._reading is None:
            self._reading = Future()
            threading.Thread(target=self._read, args=(home, self._reading), daemon=True, name="articles").start()
            wait([self._reading], timeout=AT_ONCE_S)
        if not self._reading.done():
            return None
        read, self._reading = self._reading, None
        return read.result()

    @staticmethod
    def _read(home: Path, reading: Future[tuple[int, Catalogue]]) -> None:
        try:
            reading.set_result(read_content(home))
        except BaseException as error:  # whoever asks for the result is told
            reading.set_exception(error)


def refresh(home: Path, before: Published | None, *, read: Callable[[Path], tuple[int, Catalogue] | None] = read_content) -> Published:
    """Return what is published now; unchanged parts are the same objects as ``before``.

    Parameters
    ----------
    read : returns the articles and their version, or None when they are to be asked for again later.
    """
    now = before or _first(home)
    faults: dict[str, str] = {}
    parts: dict[str, Callable[[Path, Published], Published]] = {
        "desk": _desk,
        "content": partial(_content, read=read),
        "withdrawn articles": _withdrawn,
        "plan": _plan,
        "signals": _signals,
        "arms": _arms,
    }
    for name, part in parts.items():
        try:
            now = part(home, now)
        except UNREADABLE as error:
            faults[name] = str(error)
            if now.faults.get(name) != str(error):
                log.error("%s not taken over, the last good version stays: %s", name, error)
    faults.update({f"arm module {name}": reason for name, reason in broken_arms().items()})
    faults.update({name: reason for name, reason in now.faults.items() if name.startswith("model ") and name not in faults})
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


def _content(home: Path, now: Published, *, read: Callable[[Path], tuple[int, Catalogue] | None]) -> Published:
    if content_version(home) == now.content or (found := read(home)) is None:
        return now
    version, catalogue = found
    if not version:
        raise ConfigError(f"{home / 'content.db'} holds no articles any more.", "Restore it from a backup or import the articles again.")
    now = replace(now, content=version, withdrawn=version)
    if catalogue.version == now.catalogue.version:
        return _over(now, catalogue)
    return replace(now, catalogue=catalogue, signals=carried(now.signals, catalogue), arms={}, bundles={})


def _withdrawn(home: Path, now: Published) -> Published:
    """Keep what is withdrawn from readers at once: many articles take seconds to be read, and none may be shown that long."""
    version = content_version(home)  # first: what is withdrawn meanwhile is looked for once more
    if version == now.withdrawn:
        return now
    return _over(replace(now, withdrawn=version), withdrawn_in(now.catalogue, withdrawn_articles(home), keep=OF_IDS))


def _over(now: Published, catalogue: Catalogue) -> Published:
    """Take a catalogue over that has the same articles in the same places."""
    return replace(now, catalogue=catalogue, signals=replace(now.signals, catalogue=catalogue))


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


def _arms(home: Path, now: Published) -> Published:
    """Build arms anew where the bundle changed; a damaged bundle leaves the arm as it was and is named."""
    arms, bundles = dict(now.arms), dict(now.bundles)
    faults = {name: reason for name, reason in now.faults.items() if not name.startswith("model ")}
    classes = now.classes or discover()
    for name, kind in classes.items():
        if not hasattr(kind, "load"):
            arms.setdefault(name, kind())
            continue
        try:
            pointer = current(home, name)
            if pointer is None or pointer.version == bundles.get(name):
                continue
            arrays, manifest = read_bundle(home / "models" / name / pointer.version, sha256=pointer.sha256)
            arms[name], bundles[name] = kind.load(arrays, manifest, now.catalogue), pointer.version
        except UNREADABLE as error:
            faults[f"model {name}"] = str(error)
    if classes is now.classes and arms.keys() == now.arms.keys() and bundles == now.bundles and faults == dict(now.faults):
        return now
    return replace(now, classes=classes, arms=arms, bundles=bundles, faults=faults)
