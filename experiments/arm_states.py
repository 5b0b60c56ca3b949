"""Where arms stand on their way to readers, as the append-only audit tells it: in a test, and since it was decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Engine

from experiments.decided import Decision, decisions
from experiments.errors import NotFoundError, nearest
from experiments.events.ids import SLOTS
from experiments.experiment import Arm
from experiments.lifecycle import Record, experiments, notes_of
from experiments.tables import AuditRow

__all__ = ["Ladder", "arms_of", "decided_arms", "ladder_in", "ladder_of", "ladders", "running_arms"]


ACTIONS = ("ship", "approve", "step", "trip", "resume", "rollback")
State = Literal["shadow", "live", "full", "held", "stopped", "ended", "decided"]


@dataclass(frozen=True, slots=True)
class Ladder:
    """The way of one arm into one experiment, or since it was decided to all readers, as the record tells it.

    Parameters
    ----------
    proposal : number of its entry in the record. author : who proposed it; somebody else approves. Of a decided arm, of the decision;
        of an arm beside, of the start of its test.
    shares : of the audience, rising; the last is the planned share. share : in force, 0 in shadow and when stopped.
    version : of the model that was proposed, empty for a rule; of a held arm, the earlier one that serves again.
    state : held means that a guardrail broke: an earlier version serves, and nothing moves until a person says so.
    since : of the present state. why : reason given for it.
    approver : who let the first readers see it, empty in shadow. entry : number of the newest entry in the record.
    phase : of the experiment, newest. counted_phase, counted_from : first phase, and its begin, that guardrails look at.
    decided : readers get it outside of tests since the experiment was decided, or got it until it was taken from them.
    beside : it was not shipped: its test was simply started, or another arm of it was shipped.
    code : sha256 of the arm's file when it was proposed; empty where the record does not say.
    """

    experiment: str
    arm: str
    proposal: int
    author: str
    shares: tuple[float, ...]
    share: float
    version: str
    state: State
    since: datetime
    why: str
    approver: str
    entry: int
    phase: int
    counted_phase: int
    counted_from: datetime
    decided: bool = False
    beside: bool = False
    code: str = ""

    @property
    def key(self) -> str:
        """What files about it are called."""
        return f"{self.proposal}.{self.arm}" if self.beside else str(self.proposal)

    @property
    def shown(self) -> bool:
        """Whether readers get the arm."""
        return self.share > 0

    @property
    def resumable(self) -> bool:
        """Whether a person may let it go on; in a running test an arm that was taken from its readers stays so, to keep days comparable."""
        return self.state == "held" or (self.decided and self.state == "stopped")


def ladders(engine: Engine) -> list[Ladder]:
    """Return the latest ladder of every experiment that has one, the newest experiment first."""
    return [found for record in experiments(engine) if (found := ladder_in(engine, record)) is not None]


def running_arms(engine: Engine) -> list[Ladder]:
    """Return every arm that readers of a running test get, or got: all that rank but the control, without which there is no test."""
    return [one for record in experiments(engine) if record.state == "running" for one in arms_of(engine, record)]


def arms_of(engine: Engine, record: Record) -> list[Ladder]:
    """Return the latest ladder of an experiment, and while it runs the arms beside that one."""
    shipped = ladder_in(engine, record)
    found = [] if shipped is None else [shipped]
    rows = notes_of(engine, record.experiment.name, ("start", *ACTIONS)) if record.state == "running" else []
    begun = next((row for row in reversed(rows) if row.action in ("start", "approve")), None)
    if begun is None:
        return found
    named = {record.experiment.control, *(one.arm for one in found)}
    others = [arm for arm in record.experiment.arms if arm.kind != "status_quo" and arm.name not in named]
    return found + [_beside(record, arm, begun, [r for r in rows if _moves(r, arm.name, since=begun)]) for arm in others]


def _moves(row: AuditRow, arm: str, *, since: AuditRow) -> bool:
    return row.action in ("trip", "resume", "rollback") and row.detail["arm"] == arm and (row.number or 0) > (since.number or 0)


def _beside(record: Record, arm: Arm, begun: AuditRow, moves: Sequence[AuditRow]) -> Ladder:
    last, counted = (moves or [begun])[-1], next((row for row in reversed(moves) if row.action != "rollback"), begun)
    share = record.phases[-1]["shares"].get(arm.name, 0.0)
    assert begun.number is not None
    assert last.number is not None
    state: State = "stopped" if not share else "held" if last.action == "trip" else "full" if share >= arm.share else "live"
    return Ladder(
        record.experiment.name, arm.name, begun.number, begun.actor, (arm.share,), share, last.detail.get("version") or "",
        state, last.at, last.reason, begun.actor, last.number, len(record.phases) - 1, len(counted.detail["phases"]) - 1, counted.at, beside=True,
    )  # fmt: skip


def decided_arms(engine: Engine) -> list[Ladder]:
    """Return the arm that readers get since a test was decided, after those that were taken back from them; none of a status quo."""
    found, taken_back = list[Ladder](), list[datetime]()
    for one in decisions(engine, experiments(engine)):
        plan = one.record.experiment
        if plan.slot in SLOTS:
            if plan.arm(one.made.detail["arm"]).kind != "status_quo":
                found.append(_decided(one, max([one.last.at, *taken_back])))  # before, readers got what was taken back
            taken_back.append(one.last.at)
    return found


def _decided(one: Decision, counted_from: datetime) -> Ladder:
    made, last, phase = one.made, one.last, len(one.record.phases) - 1
    assert made.number is not None
    assert last.number is not None
    share = float(last.detail.get("share", 1.0))
    state: State = "stopped" if one.taken_back else "held" if last.action == "trip" else "decided"
    return Ladder(
        one.record.experiment.name, made.detail["arm"], made.number, made.actor, (1.0,), share, last.detail.get("version", ""),
        state, last.at, last.reason, made.actor, last.number, phase, phase, counted_from, decided=True,
    )  # fmt: skip


def ladder_of(engine: Engine, arm: str) -> Ladder:
    """Return the latest ladder of an arm; raises :class:`NotFoundError` when it was never shipped."""
    found = sorted((one for one in ladders(engine) if one.arm == arm), key=lambda one: one.proposal)
    if not found:
        shipped = {one.arm for one in ladders(engine)}
        raise NotFoundError(
            f"arm '{arm}' was not shipped into any test as it is planned now; {nearest(arm, shipped)}",
            f"Say `presslab arm ship {arm} --experiment NAME`.",
        )
    return found[-1]


def ladder_in(engine: Engine, record: Record) -> Ladder | None:
    """Return the latest ladder of an experiment; None where no arm was shipped into it as it is planned now."""
    every = notes_of(engine, record.experiment.name, (*ACTIONS, "draft"))
    ship = next((row for row in reversed(every) if row.action in ("ship", "draft")), None)
    if ship is None or ship.action == "draft":  # what was proposed was another plan
        return None
    rows = [row for row in every[every.index(ship) :] if row.detail["arm"] == ship.detail["arm"]]
    last, shares = rows[-1], tuple(ship.detail["ladder"])
    assert ship.number is not None
    assert last.number is not None
    approval = next((row for row in rows if row.action == "approve"), None)
    begun = next((row for row in reversed(rows) if row.action in ("approve", "trip", "resume")), last)  # a step goes on counting
    state, share, since = _state(record, last.action, last.detail.get("share", 0.0), shares, last.at)
    return Ladder(
        record.experiment.name, ship.detail["arm"], ship.number, ship.actor, shares, share, last.detail.get("version") or ship.detail["version"],
        state, since, last.reason, approval.actor if approval else "", last.number, len(record.phases) - 1, len(begun.detail["phases"]) - 1, begun.at,
        code=ship.detail.get("code") or "",
    )  # fmt: skip


def _state(record: Record, action: str, share: float, shares: Sequence[float], at: datetime) -> tuple[State, float, datetime]:
    if record.state in ("stopped", "decided"):
        return "ended", 0.0, record.stopped_at or at
    if action == "ship" and record.state == "running" and record.started_at is not None:  # started whole, past the ladder
        return "full", shares[-1], record.started_at
    if action == "ship":
        return "shadow", 0.0, at
    if not share:
        return "stopped", 0.0, at
    if action == "trip":
        return "held", share, at
    return ("full" if share >= shares[-1] else "live"), share, at
