"""Where every arm stands: what serves and how old it is, what the last training said, what the last gates said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.clock import moment
from experiments.errors import ArtefactError
from experiments.files import read_json
from experiments.serving.artefacts import MANIFEST, current, stays
from experiments.serving.publish import current_signals
from experiments.serving.recommender import discover
from web.climbing import climbing
from web.jobs import DAY, HOUR, MINUTE, ON_REQUEST, timetable
from web.stored import Stored

__all__ = ["LIMITS_S", "card_of", "last_gates", "standing"]

LIMITS_S = {"signals": 15 * MINUTE, "als": 3 * HOUR, "ranked": 3 * DAY}  # older than this, somebody should look
SAYS = {"signals": "Heat and co-reading", "als": "Article vectors", "ranked": "Ranker"}


def standing(stored: Stored) -> dict[str, Any]:
    """Return ``{refreshed, arms}``.

    ``refreshed`` has ``{name, says, until, age_s, limit_s, stale}`` of the signals and of every model in force: ``until`` is the moment
    up to which reads went in. Where the timetable itself is slower than the usual limit (a demo), twice its period is the limit; what
    it never refreshes by itself has none. ``arms`` has the same per arm, and ``{arm, kind, audience, owner, version, reason, compared,
    training, gates, recall, ladder, frozen}``: ``reason`` says why a version cannot be read, ``training``, ``gates`` and ``recall`` are what the last
    run of each stored (``recall``: of the articles opened next, which share was among the arm's candidates), ``ladder`` where it stands
    on its way to readers (:func:`web.climbing.climbing`), ``frozen`` why no newer version may follow.
    """
    pointer = current_signals(stored.home)
    signals = _aged(stored, "signals", round(pointer["at"] * 1e6) if pointer else None)
    rows = climbing(stored.home, stored.engine) if (stored.home / "control.db").exists() else []
    way = {row["arm"]: row for row in sorted(rows, key=lambda row: row["share"])}  # where most readers get it; else its newest
    arms = [{**_arm(stored, name, kind), "ladder": way.get(name)} for name, kind in discover().items()]
    ages = [{key: row[key] for key in signals} for row in arms if row["version"]]
    return {"refreshed": [signals, *ages], "arms": arms}


def card_of(stored: Stored, name: str) -> dict[str, Any]:
    """Return an arm's card with the version that serves and the last gates; empty fields are still to be filled in.

    The slices come from the last ``arm check``; every other field from the class and from the manifest in force.

    Raises
    ------
    ArmError
        The arm is unknown (the nearest names are in the message).
    """
    from experiments.serving.recommender import arm_class
    from recsys.card import model_card

    kind: Any = arm_class(name)
    version, until, manifest, reason = _version(stored, name)
    gates = last_gates(stored.home, name)
    card = model_card(kind, manifest, (gates or {}).get("card", {}).get("slices", ""))
    told = {"arm": name, "kind": kind.kind, "version": version, "trained_until": _iso(until), "reason": reason}
    return {**told, "card": card, "metrics": (manifest or {}).get("metrics", {}), "gates": gates}


def _arm(stored: Stored, name: str, kind: Any) -> dict[str, Any]:
    version, until, manifest, reason = _version(stored, name)
    training: dict[str, Any] | None = read_json(stored.home / "training" / f"{name}.json")
    metrics = (training or {}).get("metrics") or (manifest or {}).get("metrics") or {}  # also of a refused one
    return {
        **_aged(stored, name, until), "arm": name, "kind": kind.kind, "audience": kind.audience, "owner": getattr(kind, "card", {}).get("owner", ""),
        "version": version, "reason": reason, "compared": list(_compared(name, metrics)), "training": training, "gates": last_gates(stored.home, name),
        "recall": read_json(stored.home / "recall" / f"{name}.json"), "frozen": _frozen(stored, name),
    }  # fmt: skip


def _frozen(stored: Stored, name: str) -> str:
    try:
        return stays(stored.home, name)
    except ArtefactError:
        return ""  # ``reason`` says it


def _version(stored: Stored, name: str) -> tuple[str, int | None, dict[str, Any] | None, str]:
    """Version in force, until when it learned, its manifest, and why it cannot be read."""
    try:
        pointer = current(stored.home, name)
        manifest = read_json(stored.home / "models" / name / pointer.version / MANIFEST) if pointer else None
    except (ArtefactError, ValueError) as error:
        return "", None, None, str(error)
    return (pointer.version if pointer else ""), (manifest or {}).get("until"), manifest, ""


def _aged(stored: Stored, name: str, until_us: int | None) -> dict[str, Any]:
    age_s = None if until_us is None else max(0.0, (stored.clock() - until_us) / 1e6)
    limit_s = _limit_s(stored, name)
    stale = age_s is not None and limit_s is not None and age_s > limit_s
    return {"name": name, "says": SAYS.get(name, name), "until": _iso(until_us), "age_s": age_s, "limit_s": limit_s, "stale": stale}


def _limit_s(stored: Stored, name: str) -> int | None:
    every_s = next((job.every_s for job in timetable(stored.settings) if job.name == name), ON_REQUEST)
    return None if name not in LIMITS_S or every_s >= ON_REQUEST else max(LIMITS_S[name], 2 * every_s)


def last_gates(home: Path, name: str) -> dict[str, Any] | None:
    """Return the last run of an arm's gates, None when it was never checked."""
    runs = sorted((home / "gates" / name).glob("[0-9]*.json"))
    found: dict[str, Any] | None = read_json(runs[-1]) if runs else None
    return found


def _compared(name: str, metrics: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    """Hit rates on the same later page views: the arm's, its ablations', the heuristic's."""
    key = "hit_rate_at_10"
    for metric in sorted(metrics, key=lambda metric: metric != key):
        if metric.endswith(key):
            who = metric.removesuffix(key).rstrip("_") or name
            yield {"arm": who, "hit_rate": metrics[metric], "low": metrics.get(f"{metric}_low"), "high": metrics.get(f"{metric}_high")}


def _iso(at_us: int | None) -> str | None:
    return None if at_us is None else moment(at_us).isoformat(timespec="seconds")
