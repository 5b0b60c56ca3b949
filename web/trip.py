"""Stopping an arm that a guardrail tripped: its readers get the version before, or the arm no more."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from sqlite3 import DatabaseError

from sqlalchemy import Engine

from experiments.clock import to_us
from experiments.errors import ArtefactError, NotFoundError, PresslabError
from experiments.ladder import Ladder, check_unchanged, halt, hold
from experiments.lifecycle import Step, publish_plan
from experiments.serving.artefacts import current, rollback
from web.why_failed import why_failed

__all__ = ["ACTOR", "trip"]

ACTOR = "timetable"


def trip(home: Path, engine: Engine, ladder: Ladder, step: Step) -> Ladder:
    """Point readers of a model to the version before, once; of a rule, or when that trips too, take the arm from them.

    The pointer moves first: readers come before the record. Whoever is killed in between finds it moved since readers were counted
    from, as after a person went back, and holds the arm there: what the version before did is not held against the one in force.

    Parameters
    ----------
    step : whose reason is the cause, which goes into the record and, of a model, beside the version.

    Raises
    ------
    ExperimentError
        The arm was moved, or its test ended, after ``ladder`` was read; no version moves.
    """
    ladder = check_unchanged(engine, ladder)
    step = replace(step, reason=f"{step.reason}{_most_often(home, ladder)}")
    earlier = _earlier(home, ladder, step)
    after = hold(engine, ladder, step, version=earlier) if earlier else halt(engine, ladder, step, action="trip")
    publish_plan(home, engine, at=step.at)
    return after


def _most_often(home: Path, ladder: Ladder) -> str:
    """The errors that most readers of the arm met, for whoever mends it; an arm is stopped also where they cannot be read."""
    with suppress(PresslabError, OSError, ValueError, DatabaseError):
        words = why_failed(home, since_us=to_us(ladder.counted_from)).get("" if ladder.decided else ladder.arm, "")
        return f". Most often {words}" if words else ""
    return ""


def _earlier(home: Path, ladder: Ladder, step: Step) -> str:
    """Put the version before in force and freeze it; empty where there is none that can be read, or it has been judged already."""
    with suppress(NotFoundError, ArtefactError):
        pointer = current(home, ladder.arm)
        if pointer is not None and pointer.frozen:
            return pointer.version if pointer.at > to_us(ladder.counted_from) else ""
        return rollback(home, ladder.arm, at_us=to_us(step.at), frozen=step.reason).version
    return ""
