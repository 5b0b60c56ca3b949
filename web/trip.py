"""Stopping an arm that a guardrail tripped: its readers get the version before, or the arm no more."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from sqlalchemy import Engine

from experiments.clock import to_us
from experiments.errors import ArtefactError, NotFoundError
from experiments.ladder import Ladder, halt, hold
from experiments.lifecycle import Step, publish_plan
from experiments.serving.artefacts import current, rollback

__all__ = ["ACTOR", "trip"]

ACTOR = "timetable"


def trip(home: Path, engine: Engine, ladder: Ladder, step: Step) -> Ladder:
    """Point readers of a model to the version before, once; of a rule, or when that trips too, take the arm from them.

    The pointer moves first: readers come before the record. Whoever is killed in between finds it frozen, and takes the arm away.

    Parameters
    ----------
    step : whose reason is the cause, which goes into the record and, of a model, beside the version.
    """
    earlier = _earlier(home, ladder.arm, step)
    after = hold(engine, ladder, step, version=earlier) if earlier else halt(engine, ladder, step, action="trip")
    publish_plan(home, engine, at=step.at)
    return after


def _earlier(home: Path, arm: str, step: Step) -> str:
    """Put the version before in force and freeze it; empty where there is none that can be read, or one was gone back to already."""
    with suppress(NotFoundError, ArtefactError):
        pointer = current(home, arm)
        if pointer is not None and not pointer.frozen:
            return rollback(home, arm, at_us=to_us(step.at), frozen=step.reason).version
    return ""
