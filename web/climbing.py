"""Where every arm stands on its way to readers, and what it waits for, in words for pages and commands."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from experiments.errors import StoreDownError
from experiments.files import read_json, replace_json
from experiments.ladder import Ladder, decided_arms, ladders, running_arms
from web.met import FOLDER
from web.operations import met_by
from web.shadow import ENOUGH, LEAST_MINUTES, Asked, shadow_result

__all__ = ["climbing", "keep_look", "shadow_faults"]


def climbing(home: Path, engine: Engine) -> list[dict[str, Any]]:
    """Return the latest ladder of every experiment that has one, decided arms as guardrails left them, and what was stopped or is held of the
    other arms of running tests, in the order of the record.

    Each has ``{arm, experiment, state, share, shares, proposal, author, approver, version, since, why, decided, needs, met, others}``: ``needs`` says
    what it waits for, ``met`` and ``others`` how many readers of the arm, and of the other arms that rank, met what (:class:`analysis.failing.Met`),
    None before the first look.
    """
    beside = [one for one in running_arms(engine) if one.beside and one.state in ("held", "stopped")]
    return [_told(home, one) for one in sorted((*ladders(engine), *decided_arms(engine), *beside), key=lambda one: one.proposal)]


def _told(home: Path, ladder: Ladder) -> dict[str, Any]:
    counted = met_by(home, ladder) if ladder.approver else None
    return {
        **{key: getattr(ladder, key) for key in ("arm", "experiment", "state", "share", "shares", "proposal", "author", "approver", "version", "why", "decided")},
        "since": ladder.since.isoformat(timespec="seconds"), "needs": _needs(home, ladder),
        "met": counted and counted["met"], "others": counted and counted["others"],
    }  # fmt: skip


def _needs(home: Path, ladder: Ladder) -> str:
    if ladder.state == "shadow":
        try:
            faults = shadow_faults(home, ladder)
        except StoreDownError as error:  # the page goes on without the database
            return f"What the shadow found cannot be read: {error.what}"
        approve = f"presslab arm step {ladder.arm} --approve {ladder.proposal} --reason '...'"
        return faults[0] if faults else f"Its shadow is passed. Now somebody else than {ladder.author}: {approve}"
    if ladder.state == "live":
        known = read_json(_path(home, ladder)) or {}
        return str(known.get("missing") or "The next look, within five minutes.")
    if ladder.resumable:
        return f"A person, who has mended the cause: presslab arm resume {ladder.arm} --reason '...'"
    return {
        "decided": "Nothing: it is looked at as long as readers get it.",
        "full": "Nothing: it has its planned share, and is looked at until the test ends.",
        "stopped": "The next test: mend the cause, check the arm, plan a test with it and ship it there.",
    }.get(ladder.state, "")


def shadow_faults(home: Path, ladder: Ladder) -> tuple[str, str] | None:
    """Return why the shadow of an arm is not passed, and what to do; None when it is."""
    found = shadow_result(home, Asked(ladder.experiment, ladder.arm, ladder.proposal))
    if found["errors"]:
        return (
            f"'{ladder.arm}' failed on {found['errors']:,} of {found['calls']:,} requests in shadow, last with {found['last_error']}.",
            "Mend it, restart the site, check it and ship it again.",
        )
    busy = f" ({found['dropped']:,} requests left out while it was busy)" if found["dropped"] else ""
    if found["calls"] < ENOUGH or found["minutes"] < LEAST_MINUTES:
        return (
            f"'{ladder.arm}' was asked {found['calls']:,} times in shadow in {found['minutes']:g} min{busy}; {ENOUGH:,} over {LEAST_MINUTES} min are needed.",
            "Wait for readers; a site that was running before the arm was written must be restarted to know it.",
        )  # fmt: skip
    return None


def keep_look(home: Path, ladder: Ladder, missing: str, *, at: datetime) -> None:
    """Keep what the last look at a live arm found missing for its next step."""
    replace_json(_path(home, ladder), {"at": at.isoformat(timespec="seconds"), "missing": missing[:1].upper() + missing[1:]})


def _path(home: Path, ladder: Ladder) -> Path:
    return home / FOLDER / f"{ladder.key}-look.json"
