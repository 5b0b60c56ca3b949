"""What the worker and the editors published, as one web process sees it; replaced whole, never changed in place."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from experiments.assignment import Allocation, allocation
from experiments.content import content_version, load_catalogue
from experiments.errors import ConfigError, PresslabError
from experiments.experiment import Experiment
from experiments.files import read_json
from experiments.serving.artefacts import current, read_bundle
from experiments.serving.carried import carried
from experiments.serving.publish import current_signals, read_signals
from experiments.serving.recommender import Catalogue, Recommender, broken_arms, discover
from experiments.serving.signals import Signals
from web.reasons import prepare
from web.shadow import Asked

__all__ = ["Live", "Published", "refresh"]

log = logging.getLogger("presslab.published")
UNREADABLE = (PresslabError, OSError, ValueError, KeyError, TypeError, AttributeError)  # the last two: JSON of another shape


@dataclass(frozen=True, slots=True)
class Live:
    """A running experiment, ready for the hot path."""

    experiment: Experiment
    allocation: Allocation


@dataclass(frozen=True, slots=True)
class Published:
    """One consistent view. ``faults`` holds in words what could not be taken over; the last good version stays in use."""

    catalogue: Catalogue
    signals: Signals
    content: int = -1
    plan: str = ""
    signal_version: str = ""
    experiments: tuple[Live, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)
    shadow: tuple[Asked, ...] = ()
    classes: Mapping[str, Any] = field(default_factory=dict)
    arms: Mapping[str, Recommender] = field(default_factory=dict)
    bundles: Mapping[str, str] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)


def refresh(home: Path, before: Published | None) -> Published:
    """Return what is published now; unchanged parts are the same objects as ``before``."""
    now = before or _first(home)
    faults: dict[str, str] = {}
    for part in (_content, _plan, _signals, _arms):
        try:
            now = part(home, now)
        except UNREADABLE as error:
            faults[part.__name__.strip("_")] = str(error)
            if now.faults.get(part.__name__.strip("_")) != str(error):
                log.error("%s not taken over, the last good version stays: %s", part.__name__.strip("_"), error)
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
    catalogue = load_catalogue(home)
    prepare(catalogue)
    return Published(catalogue, Signals.empty(catalogue, 0.0), content=content_version(home))


def _content(home: Path, now: Published) -> Published:
    version = content_version(home)
    if version == now.content:
        return now
    if not version:
        raise ConfigError(f"{home / 'content.db'} holds no articles any more.", "Restore it from a backup or import the articles again.")
    catalogue = load_catalogue(home, gently=True)
    prepare(catalogue)
    if catalogue.version == now.catalogue.version:
        return replace(now, catalogue=catalogue, signals=replace(now.signals, catalogue=catalogue), content=version)
    return replace(now, catalogue=catalogue, signals=carried(now.signals, catalogue), content=version, arms={}, bundles={})


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
