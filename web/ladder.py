"""The ladder at work: looks at every live arm, stops what harms readers, and takes the next step when harm is excluded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine

from experiments.clock import moment, to_us
from experiments.ladder import Ladder, climb, ladders
from experiments.lifecycle import Step, experiment_named, publish_plan
from experiments.settings import Settings
from experiments.tables import control_engine
from web.climbing import keep_look
from web.job_entry import job_entry
from web.trip import ACTOR, trip

if TYPE_CHECKING:
    from analysis.harm import Change

__all__ = ["Looked", "advance", "look", "look_at_all"]

FIRST_HOUR = 1 / 24  # days; sessions that begin in it are counted, whole
STEPS = ((0.01, timedelta(hours=1), 0.20), (0.05, timedelta(hours=6), 0.10), (1.0, timedelta(hours=24), 0.05))  # OPERATIONS 3
PATIENCE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look at a live arm found.

    Parameters
    ----------
    stop : why the arm must go, empty when it may stay. missing : what the next step still waits for, empty when it may be taken.
    change : of views.
    """

    stop: str
    missing: str
    change: Change


def look(home: Path, engine: Engine, ladder: Ladder, *, at: datetime, source: str) -> Looked:
    """Look at an arm that readers get; changes nothing and may be repeated as often as one likes."""
    from analysis.harm import change_of  # heavy, and most of the time no arm is on its ladder
    from analysis.totals import totals

    plan = experiment_named(engine, ladder.experiment).experiment
    short = replace(plan, goal="views_per_session", window_days=FIRST_HOUR, secondary=(), guardrails={}, segments=())
    found = totals(home, short, until_us=to_us(at), source=source, session_of_exposure=True)
    counted = {(arm, phase): one for (arm, phase), one in found.moments.items() if phase >= ladder.counted_phase}
    change = change_of(short, replace(found, moments=counted), ladder.arm)
    return Looked(_stop(change), _missing(ladder, change, at), change)


def _stop(change: Change) -> str:
    if not change.harmful:
        return ""
    return f"views per session {change.estimate:+.1%} against the control, at best {change.high:+.1%} ({sum(change.readers):,} readers)"


def _missing(ladder: Ladder, change: Change, at: datetime) -> str:
    if ladder.state == "held":
        return "it is held: mend the cause, then say `presslab arm resume`."
    if ladder.state == "full":
        return ""
    _, least, harm = next(step for step in STEPS if ladder.share <= step[0])
    asks = " It has waited for 7 days: decide whether to go on or to roll back." if at - ladder.since > PATIENCE else ""
    if at - ladder.since < least:
        return f"at {ladder.share:.1%} since {ladder.since:%Y-%m-%d %H:%M} UTC, {least / timedelta(hours=1):g} h at least."
    if change.low is None:
        return f"a loss of {harm:.0%} of views is not excluded: {change.reason}.{asks}"
    if change.low <= -harm:
        return f"a loss of {harm:.0%} of views is not excluded: {change.estimate:+.1%}, at worst {change.low:+.1%}.{asks}"
    return ""


def advance(home: Path, engine: Engine, ladder: Ladder, *, step: Step, source: str) -> tuple[Ladder, Looked]:
    """Stop the arm when it harms, else take the next step when harm is excluded; returns where it stands then."""
    found = look(home, engine, ladder, at=step.at, source=source)
    keep_look(home, ladder, found.missing, at=step.at)
    if found.stop:
        return trip(home, engine, ladder, replace(step, reason=found.stop)), found
    if ladder.state == "live" and not found.missing:
        ladder = climb(engine, ladder, step)
        publish_plan(home, engine, at=step.at)
    return ladder, found


def look_at_all(settings: Settings, until_us: int) -> dict[str, Any]:
    """Advance every arm that readers get; what the job tells."""
    engine, at, told = control_engine(settings.home), moment(until_us), []
    for ladder in ladders(engine):
        if ladder.shown:
            step = Step(ACTOR, at, "harm is excluded at this step")
            now, found = advance(settings.home, engine, ladder, step=step, source=settings.source)
            told.append(f"{now.arm}, {now.state} at {now.share:.1%}: {found.stop or found.missing or 'no harm found'}")
    return {"says": "; ".join(told) or "no arm is on its ladder", "arms": told}


if __name__ == "__main__":
    raise SystemExit(job_entry(look_at_all))
