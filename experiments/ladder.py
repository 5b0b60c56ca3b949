"""How a new arm comes to its readers: proposed, asked in shadow, approved by somebody else, then share by share.

All arms of the experiment keep the proportions of the plan while it climbs, so that no step mixes readers of different
days unevenly. Everything is read from the append-only audit; nothing else is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from sqlalchemy import Engine

from experiments.arm_states import Ladder, arms_of, decided_arms, ladder_in, ladder_of, ladders, running_arms
from experiments.errors import ArmError, ExperimentError, NotFoundError
from experiments.experiment import Experiment
from experiments.lifecycle import Step, experiment_named, note, ramp, start

__all__ = ["LADDER", "Ladder", "approve", "check_unchanged", "climb", "decided_arms", "halt", "hold", "ladder_of", "ladders", "propose"]
__all__ += ["resume", "running_arms", "shares_at", "take_back"]

LADDER = (0.01, 0.05, 0.25)
MOST_TRIES = 20  # of taking an arm back while others move it


def propose(engine: Engine, name: str, arm: str, *, shares: Sequence[float], version: str, step: Step, code: str = "") -> Ladder:
    """Put an arm of a drafted experiment into shadow and ask for approval; proposing again replaces the earlier proposal.

    Parameters
    ----------
    shares : of the audience (0 to 1) before the planned one, rising; those the plan does not reach are left out. code : sha256 of the arm's file.

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
    note(engine, name, "ship", step, arm=arm, ladder=[*kept, planned], version=version, code=code)
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
    share, now = next(share for share in ladder.shares if share > ladder.share), _shares(engine, ladder)
    shares = {name: one if now.get(name) else 0.0 for name, one in shares_at(plan, ladder.arm, share).items()}  # who was stopped stays so
    return _moved(engine, ladder, step, "step", shares=shares, share=share)


def halt(engine: Engine, ladder: Ladder, step: Step, *, action: Literal["trip", "rollback"] = "rollback") -> Ladder:
    """Take the arm from all readers, for the rest of this experiment; the other arms keep their shares.

    Where it was decided for the same place, it is taken back there too: readers who leave the test would meet it again.
    """
    _needs_reason(ladder, step)
    if not ladder.shown:
        raise NotFoundError(f"no reader gets '{ladder.arm}' in experiment '{ladder.experiment}': it is {ladder.state}.")
    after = _moved(engine, ladder, step, action, shares={**_shares(engine, ladder), ladder.arm: 0.0}, share=0.0)
    for one in decided_arms(engine):
        if one.shown and one.arm == ladder.arm and _slot(engine, one) == _slot(engine, ladder):
            halt(engine, one, step, action=action)
    return after


def take_back(engine: Engine, arm: str, step: Step) -> list[tuple[Ladder, Ladder]]:
    """Take an arm from all readers, in tests and outside of them, also while others move it; returns how it stood where, and stands now."""
    taken = list[tuple[Ladder, Ladder]]()
    for left in reversed(range(MOST_TRIES)):
        shown = [one for one in (*decided_arms(engine), *running_arms(engine)) if one.arm == arm and one.shown]
        if not shown:
            break
        _needs_reason(shown[0], step)
        try:
            taken.append((shown[0], halt(engine, shown[0], step)))
        except ExperimentError:  # somebody took a step in between
            if not left:
                raise
    return taken


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
    else:
        ramp(engine, ladder.experiment, shares, step, after=ladder.phase, action=action, arm=ladder.arm, **more)
    after = _again(engine, ladder)
    assert after is not None
    return after


def check_unchanged(engine: Engine, ladder: Ladder) -> Ladder:
    """Return the same as it stands now; another arm of its test may have moved, which began another phase.

    Raises
    ------
    ExperimentError
        Somebody moved the arm, or ended its test, after ``ladder`` was read.
    """
    now = _again(engine, ladder)
    if now is None or replace(now, phase=ladder.phase) != ladder:
        raise ExperimentError(f"'{ladder.arm}' in experiment '{ladder.experiment}' was changed meanwhile.", "Look again.")
    return now


def _again(engine: Engine, ladder: Ladder) -> Ladder | None:
    """The same as it stands now; None when another proposal or decision has replaced it."""
    known = decided_arms(engine) if ladder.decided else arms_of(engine, experiment_named(engine, ladder.experiment))
    return next((one for one in known if one.key == ladder.key), None)


def _ladder_in(engine: Engine, name: str) -> Ladder:
    """The latest ladder of an experiment that has one."""
    found = ladder_in(engine, experiment_named(engine, name))
    assert found is not None
    return found


def _slot(engine: Engine, ladder: Ladder) -> str:
    return experiment_named(engine, ladder.experiment).experiment.slot


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


def _needs_reason(ladder: Ladder, step: Step) -> None:
    if not step.reason.strip():
        raise ExperimentError(f"a step of '{ladder.arm}' needs a reason.", "Say in one sentence why.")
