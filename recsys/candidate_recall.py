"""How many of the articles readers opened next were among the ranker's candidates, hour by hour.

``python -m recsys.candidate_recall --home H --until US`` runs in a process of its own, prints one JSON line and keeps a week of
hours in ``home/recall/ranked.json``; it ends with 0, or with 3 when no version of the ranker is in force.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.clock import moment
from experiments.content import load_catalogue
from experiments.errors import DataError
from experiments.events import lake
from experiments.files import read_json, replace_json
from experiments.serving.artefacts import load_current
from experiments.serving.publish import current_signals, read_signals
from experiments.serving.recommender import Catalogue
from experiments.serving.signals import HOUR, WINDOWS_H, Reads, SignalRules, Texts
from experiments.serving.slate import SlateRules
from experiments.settings import load_settings
from recsys.arms.als import article_factors, folded
from recsys.candidates import candidates
from recsys.interactions import to_reads
from recsys.one_line import tell
from recsys.requests import Site, contexts, next_reads

__all__ = ["main", "measure"]

ARM = "ranked"
KEPT_HOURS, DAY_HOURS = 168, 24
MOST_REQUESTS = 1_000
REFRESH_S = 300.0  # signals are published every minute; computing sixty of them again would take a busy site half a minute


def measure(home: Path, *, until_us: int) -> dict[str, Any]:
    """Ask the page views of the last hour that led on to another article; writes and returns ``home/recall/ranked.json``.

    Candidates are those of the version in force, from signals at most five minutes old and reads of readers who agreed, before the
    page view. Page views before the moment the version learned up to are not asked: it knows what followed them.

    Returns
    -------
    ``{at, version, page_views, found, recall, day, hours}``: ``recall`` = found / page_views, None without a page view; ``day`` has the
    same three of the last 24 hours; ``hours`` has ``{at, version, page_views, found}``, the newest last, at most 168.

    Raises
    ------
    DataError
        No version of the ranker is in force.
    """
    loaded = load_current(home, ARM)
    if loaded is None:
        raise DataError(f"no version of '{ARM}' is in force.", f"Train it: presslab model train {ARM}")
    arrays, manifest = loaded
    catalogue, until = load_catalogue(home), until_us / 1e6
    since_us = round(until_us - (max(WINDOWS_H) + 1) * HOUR * 1e6)  # what the signals of an hour ago looked back to
    table = lake.reads(home, until_us=until_us, since_us=since_us, agreement=True)
    site, reads = _site(home, catalogue, to_reads(table, catalogue)), to_reads(table.filter(table["agreed"]), catalogue)
    factors, recent = article_factors(arrays, manifest, catalogue), float(manifest["parameters"]["recent_reads"])
    asked = next_reads(reads, since=max(until - HOUR, manifest["until"] / 1e6), until=until, most=MOST_REQUESTS, seed=0)
    found = 0
    for request, context in contexts(asked, site):
        found += request.target in candidates(context, folded(factors, context, recent)).articles
    hour = {"at": until_us, "version": str(manifest["version"]), "page_views": len(asked), "found": found}
    path = home / "recall" / f"{ARM}.json"
    earlier = [one for one in (read_json(path) or {}).get("hours", ()) if until_us - KEPT_HOURS * HOUR * 1e6 < one["at"] < until_us]
    hours = [*earlier, hour]
    state = {**hour, "recall": _share([hour]), "day": _day(hours, until_us), "hours": hours}
    replace_json(path, state)
    return state


def _site(home: Path, catalogue: Catalogue, everybody: Reads) -> Site:
    settings, pointer = load_settings(home), current_signals(home)
    rules = SignalRules(settings.half_life_hours, co_read_sessions=settings.co_read_sessions, fresh_h=settings.pool_hours)
    known = pointer is not None and pointer["catalogue"] == catalogue.version
    texts = read_signals(home, catalogue, pointer["version"]).texts if pointer and known else Texts.none()
    return Site(catalogue, everybody, rules, SlateRules(pool_h=settings.pool_hours), REFRESH_S, texts)


def _day(hours: Sequence[Mapping[str, Any]], until_us: int) -> dict[str, Any]:
    last = [one for one in hours if one["at"] > until_us - DAY_HOURS * HOUR * 1e6]
    return {"page_views": sum(one["page_views"] for one in last), "found": sum(one["found"] for one in last), "recall": _share(last)}


def _share(hours: Sequence[Mapping[str, Any]]) -> float | None:
    asked = sum(one["page_views"] for one in hours)
    return sum(one["found"] for one in hours) / asked if asked else None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="recsys.candidate_recall", description="Were the articles opened next among the candidates?")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--until", type=int, required=True, help="page views of the hour before this time, UTC microseconds")
    given = parser.parse_args(argv)

    def work() -> dict[str, Any]:
        state = measure(given.home, until_us=given.until)
        told = {key: value for key, value in state.items() if key != "hours"}
        hour = f"in the hour to {moment(given.until):%H:%M} UTC"
        if state["recall"] is None:
            return {"says": f"nobody went on to another article {hour}", **told}
        return {"says": f"{state['recall']:.1%} of {state['page_views']:,} articles opened next {hour} were candidates", **told}

    return tell(work)


if __name__ == "__main__":
    sys.exit(main())
