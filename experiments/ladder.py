"""How a new arm comes to its readers: proposed, asked in shadow, approved by somebody else, then share by share.

All arms of the experiment keep the proportions of the plan while it climbs, so that no step mixes readers of different
days unevenly. Everything is read from the append-only audit; nothing else is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Engine

from experiments.decided import Decision, decisions
from experiments.errors import ArmError, ExperimentError, NotFoundError, nearest
from experiments.events.ids import SLOTS
from experiments.experiment import Experiment
from experiments.lifecycle import Record, Step, experiment_named, experiments, note, notes_of, ramp, start

__all__ = [
    "LADDER",
    "Ladder",
    "approve",
    "check_unchanged",
    "climb",
    "decided_arms",
    "halt",
    "hold",
    "ladder_of",
    "ladders",
    "propose",
    "resume",
    "shares_at",
]

LADDER = (0.01, 0.05, 0.25)
ACTIONS = ("ship", "approve", "step", "trip", "resume", "rollback")
State = Literal["shadow", "live", "full", "held", "stopped", "ended", "decided"]


@dataclass(frozen=True, slots=True)
class Ladder:
    """The way of one arm into one experiment, or since it was decided to all readers, as the record tells it.

    Parameters
    ----------
    proposal : number of its entry in the record. author : who proposed it; somebody else approves. Of a decided arm, of the decision.
    shares : of the audience, rising; the last is the planned share. share : in force, 0 in shadow and when stopped.
    version : of the model that was proposed, empty for a rule; of a held arm, the earlier one that serves again.
    state : held means that a guardrail broke: an earlier version serves, and nothing moves until a person says so.
    since : of the present state. why : reason given for it.
    approver : who let the first readers see it, empty in shadow. entry : number of the newest entry in the record.
    phase : of the experiment, newest. counted_phase, counted_from : first phase, and its begin, that guardrails look at.
    decided : readers get it outside of tests since the experiment was decided, or got it until a guardrail took it from them.
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

    @property
    def shown(self) -> bool:
        """Whether readers get the arm."""
        return self.share > 0

    @property
    def resumable(self) -> bool:
        """Whether a person may let it go on; in a running test an arm that was taken from its readers stays so, to keep days comparable."""
        return self.state == "held" or (self.decided and self.state == "stopped")


def propose(engine: Engine, name: str, arm: str, *, shares: Sequence[float], version: str, step: Step) -> Ladder:
    """Put an arm of a drafted experiment into shadow and ask for approval; proposing again replaces the earlier proposal.

    Parameters
    ----------
    shares : of the audience (0 to 1) before the planned one, rising; those the plan does not reach are left out.

    Raises
    ------
    ExperimentError
        The experiment is no draft, the arm is its control or not in it, or the shares do not rise.
    """
    record = experiment_named(engine, name)
    planned = record.experiment.arm(arm).share
    where = f"experiment '{name}': "
    if record.state != "draft":
        raise ExperimentError(
            f"{where}it is {record.state}, its arms are frozen.", "Plan the next test with this arm, and ship into that draft."
        )
    if arm == record.experiment.control:
        raise ExperimentError(f"{where}'{arm}' is the control; a ladder is for what is compared with it.")
    if any(not 0 < share <= 1 for share in shares) or list(shares) != sorted(set(shares)):
        raise ExperimentError(
            f"{where}a ladder rises, in per cent above 0: {', '.join(f'{100 * s:g}' for s in shares)} does not.", "Say 1,5,25,full."
        )
    kept = [share for share in shares if share < planned]
    note(engine, name, "ship", step, arm=arm, ladder=[*kept, planned], version=version)
    return _ladder_in(engine, name)


def approve(engine: Engine, ladder: Ladder, step: Step, *, alone: bool = False) -> Ladder:
    """Start the experiment on the first step of the ladder.

    Parameters
    ----------
    alone : the author may approve, because nobody else is there; the record says so.

    Raises
    ------
    ArmError
        It is the author's own proposal (exit status 3).
    ExperimentError
        No reason is given, or the experiment cannot start (see :func:`experiments.lifecycle.start`).
    """
    _needs_reason(ladder, step)
    if ladder.state != "shadow":
        raise ExperimentError(f"proposal {ladder.proposal} for '{ladder.arm}' is not waiting: it is {ladder.state}.")
    if step.actor == ladder.author and not alone:
        raise ArmError(
            f"proposal {ladder.proposal} for '{ladder.arm}' is your own ({step.actor}).", "Somebody else approves it; where nobody else is there, say --alone."
        )  # fmt: skip
    plan = experiment_named(engine, ladder.experiment).experiment
    first = ladder.shares[0]
    start(engine, plan.name, step, shares=shares_at(plan, ladder.arm, first), action="approve", arm=ladder.arm, share=first, alone=alone)
    return _ladder_in(engine, plan.name)


def climb(engine: Engine, ladder: Ladder, step: Step) -> Ladder:
    """Begin the next step; raises :class:`ExperimentError` when there is none."""
    _needs_reason(ladder, step)
    if ladder.state != "live":
        raise ExperimentError(
            f"'{ladder.arm}' in experiment '{ladder.experiment}' is {ladder.state}; only a live arm below its full share steps."
        )
    plan = experiment_named(engine, ladder.experiment).experiment
    share = next(share for share in ladder.shares if share > ladder.share)
    return _moved(engine, ladder, step, "step", shares=shares_at(plan, ladder.arm, share), share=share)


def halt(engine: Engine, ladder: Ladder, step: Step, *, action: Literal["trip", "rollback"] = "rollback") -> Ladder:
    """Take the arm from all readers, for the rest of this experiment; the other arms keep their shares."""
    _needs_reason(ladder, step)
    if not ladder.shown:
        raise NotFoundError(f"no reader gets '{ladder.arm}' in experiment '{ladder.experiment}': it is {ladder.state}.")
    return _moved(engine, ladder, step, action, shares={**_shares(engine, ladder), ladder.arm: 0.0}, share=0.0)


def hold(engine: Engine, ladder: Ladder, step: Step, *, version: str) -> Ladder:
    """Record that an earlier version of the model serves again because a guardrail broke; the share stays, and nothing moves."""
    return _moved(engine, ladder, step, "trip", shares=_shares(engine, ladder), share=ladder.share, version=version)


def resume(engine: Engine, ladder: Ladder, step: Step) -> Ladder:
    """Let a held arm go on from the share it has, or a decided one that was taken back; what guardrails count begins anew."""
    _needs_reason(ladder, step)
    if not ladder.resumable:
        raise ExperimentError(f"'{ladder.arm}' in experiment '{ladder.experiment}' is {ladder.state}; only a held arm is resumed.")
    return _moved(engine, ladder, step, "resume", shares=_shares(engine, ladder), share=ladder.share or 1.0)


def _moved(engine: Engine, ladder: Ladder, step: Step, action: str, *, shares: Mapping[str, float], **more: Any) -> Ladder:
    """Begin the next phase; whoever looked before somebody else moved the arm is refused. A decided arm has no phases any more."""
    if ladder.decided:
        check_unchanged(engine, ladder)
        note(engine, ladder.experiment, action, step, arm=ladder.arm, **more)
        return next(one for one in decided_arms(engine) if one.proposal == ladder.proposal)
    ramp(engine, ladder.experiment, shares, step, after=ladder.phase, action=action, arm=ladder.arm, **more)
    return _ladder_in(engine, ladder.experiment)


def check_unchanged(engine: Engine, ladder: Ladder) -> None:
    """Raise :class:`ExperimentError` when somebody moved the arm, or ended its test, after ``ladder`` was read."""
    if _again(engine, ladder) != ladder:
        raise ExperimentError(f"'{ladder.arm}' in experiment '{ladder.experiment}' was changed meanwhile.", "Look again.")


def _again(engine: Engine, ladder: Ladder) -> Ladder | None:
    """The same as it stands now; None of a decided arm that another decision has replaced."""
    if ladder.decided:
        return next((one for one in decided_arms(engine) if one.proposal == ladder.proposal), None)
    return _ladder_in(engine, ladder.experiment)


def _ladder_in(engine: Engine, name: str) -> Ladder:
    """The latest ladder of an experiment that has one."""
    found = _ladder(engine, experiment_named(engine, name))
    assert found is not None
    return found


def _shares(engine: Engine, ladder: Ladder) -> dict[str, float]:
    return dict(experiment_named(engine, ladder.experiment).phases[-1]["shares"])


def shares_at(plan: Experiment, arm: str, share: float) -> dict[str, float]:
    """Return the shares of all arms when ``arm`` has ``share``, in the proportions of the plan.

    Examples
    --------
    >>> from experiments.experiment import Arm
    >>> arms = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.25), Arm("tide", "heuristic", 0.25))
    >>> shares_at(Experiment("related", "Does it pay?", "status_quo", arms), "tide", 0.01)
    {'status_quo': 0.02, 'front': 0.01, 'tide': 0.01}
    """
    planned = plan.arm(arm).share
    return {name: one * share / planned for name, one in plan.shares.items()}


def ladders(engine: Engine) -> list[Ladder]:
    """Return the latest ladder of every experiment that has one, the newest experiment first."""
    return [found for record in experiments(engine) if (found := _ladder(engine, record)) is not None]


def decided_arms(engine: Engine) -> list[Ladder]:
    """Return the arm that readers get since a test was decided, after those a guardrail took back from them; none of a status quo."""
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


def _ladder(engine: Engine, record: Record) -> Ladder | None:
    every = notes_of(engine, record.experiment.name, (*ACTIONS, "draft"))
    ship = next((row for row in reversed(every) if row.action in ("ship", "draft")), None)
    if ship is None or ship.action == "draft":  # what was proposed was another plan
        return None
    rows = every[every.index(ship) :]
    last, shares = rows[-1], tuple(ship.detail["ladder"])
    assert ship.number is not None
    assert last.number is not None
    approval = next((row for row in rows if row.action == "approve"), None)
    begun = next((row for row in reversed(rows) if row.action in ("approve", "trip", "resume")), last)  # a step goes on counting
    state, share, since = _state(record, last.action, last.detail.get("share", 0.0), shares, last.at)
    return Ladder(
        record.experiment.name, ship.detail["arm"], ship.number, ship.actor, shares, share, last.detail.get("version") or ship.detail["version"],
        state, since, last.reason, approval.actor if approval else "", last.number, len(record.phases) - 1, len(begun.detail["phases"]) - 1, begun.at,
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


def _needs_reason(ladder: Ladder, step: Step) -> None:
    if not step.reason.strip():
        raise ExperimentError(f"a step of '{ladder.arm}' needs a reason.", "Say in one sentence why.")
