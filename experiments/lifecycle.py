"""From draft to decision: draft -> running (phases) -> stopped -> decided, each step in an append-only audit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from experiments.audit import Step, append, audit_faults, note_about, notes_of, state_of, trail
from experiments.errors import ArtefactError, ExperimentError, NotFoundError, nearest
from experiments.experiment import Experiment
from experiments.files import locked_file, read_json, replace_json
from experiments.tables import ExperimentRow

__all__ = ["Record", "Step", "audit_faults", "decide", "draft", "experiment_named", "experiments", "looks_of", "publish_plan"]
__all__ += ["caps_of", "note", "note_about", "notes_of", "publish_if_behind", "ramp"]
__all__ += ["record_caps", "record_looks", "start", "stop", "trail", "unready"]


@dataclass(frozen=True, slots=True)
class Record:
    """An experiment as it stands: the plan, its state and its dates."""

    experiment: Experiment
    state: str
    phases: tuple[Mapping[str, Any], ...]
    started_at: datetime | None
    stopped_at: datetime | None
    decided_at: datetime | None
    decided_arm: str | None


def draft(engine: Engine, experiment: Experiment, step: Step) -> Record:
    """Store a plan as a draft; a running experiment of the same name cannot be overwritten."""
    with Session(engine) as session:
        row = session.get(ExperimentRow, experiment.name)
        if row is not None and row.state != "draft":
            raise ExperimentError(f"experiment '{experiment.name}' is {row.state}; its plan is frozen.", "Choose another name.")
        row = row or ExperimentRow(name=experiment.name, plan={}, state="draft", phases=[], created_at=step.at)
        row.plan = experiment.to_dict()
        return _saved(session, row, step, "draft")


def start(
    engine: Engine, name: str, step: Step, *, shares: Mapping[str, float] | None = None, action: str = "start", **more: Any
) -> Record:
    """Let readers in, at the planned shares or at smaller ones (phase 0)."""
    with Session(engine) as session:
        row = _row(session, name, "draft")
        experiment = Experiment.from_dict(row.plan)
        if faults := unready(experiment):
            raise ExperimentError(f"experiment '{name}' cannot start:", "Mend its arms, or plan it again.", faults=faults)
        for other in session.exec(select(ExperimentRow).where(ExperimentRow.state == "running")):
            for place in ("slot", "layer"):
                if other.plan[place] == getattr(experiment, place):
                    raise ExperimentError(
                        f"experiment '{name}' cannot start: '{other.name}' already runs in {place} '{other.plan[place]}'.", "Stop it first."
                    )
        row.state, row.started_at = "running", step.at
        row.phases = [{"number": 0, "at": step.at.isoformat(), "shares": _fitting(experiment, shares or experiment.shares)}]
        return _saved(session, row, step, action, **more)


def unready(experiment: Experiment) -> list[str]:
    """Return why arms of a plan cannot be shown as planned: unknown here, of another kind, or for other readers; empty when they can."""
    from experiments.serving.recommender import discover  # loads every arm

    known, faults = discover(), []
    for arm in experiment.arms:
        kind: Any = known.get(arm.name)
        if kind is None:
            faults.append(f"no arm is called '{arm.name}'; {nearest(arm.name, known)} Write a new one: presslab arm new {arm.name}")
        elif (arm.kind, arm.audience) != (kind.kind, kind.audience):
            says = f'kind = "{arm.kind}" and audience = "{arm.audience}" in the plan'
            faults.append(f'arm \'{arm.name}\' has {says}; the arm itself says "{kind.kind}" and "{kind.audience}".')
    return faults


def ramp(
    engine: Engine, name: str, shares: Mapping[str, float], step: Step, *, action: str = "ramp", after: int | None = None, **more: Any
) -> Record:
    """Begin a new phase with other shares, each at most the planned one; ``after`` names the phase it must follow."""
    with Session(engine) as session:
        row = _row(session, name, "running")
        if after is not None and row.phases[-1]["number"] != after:
            raise ExperimentError(f"experiment '{name}' was changed meanwhile, it is in phase {row.phases[-1]['number']}.", "Look again.")
        fitting = _fitting(Experiment.from_dict(row.plan), shares)
        row.phases = [*row.phases, {"number": len(row.phases), "at": step.at.isoformat(), "shares": fitting}]
        return _saved(session, row, step, action, **more)


def _fitting(experiment: Experiment, shares: Mapping[str, float]) -> dict[str, float]:
    from experiments.assignment import allocation

    allocation(experiment, shares)  # raises when the plan does not allow them
    return dict(shares)


def note(engine: Engine, name: str, action: str, step: Step, **detail: Any) -> None:
    """Add an entry to the record of an experiment; its state stays as it is."""
    with Session(engine) as session:
        _saved(session, _row(session, name), step, action, **detail)


def stop(engine: Engine, name: str, step: Step) -> Record:
    """Stop letting readers in; what was logged stays."""
    with Session(engine) as session:
        row = _row(session, name, "running")
        row.state, row.stopped_at = "stopped", step.at
        return _saved(session, row, step, "stop")


def decide(engine: Engine, name: str, arm: str, step: Step, *, advice: str = "") -> Record:
    """Record what was decided, by whom and why, and what the report advised then; a reason is required."""
    if not step.reason.strip():
        raise ExperimentError(f"experiment '{name}': a decision needs a reason.", "Say in one sentence why.")
    with Session(engine) as session:
        row = _row(session, name, "stopped")
        Experiment.from_dict(row.plan).arm(arm)
        if not row.phases[-1]["shares"].get(arm):
            raise ExperimentError(
                f"experiment '{name}': '{arm}' was taken from its readers while the test ran; all readers would get it now.",
                "Decide for another arm; mend this one, and show it in the next test.",
            )
        row.state, row.decided_at, row.decided_arm = "decided", step.at, arm
        return _saved(session, row, step, "decide", arm=arm, advice=advice)


def record_looks(engine: Engine, name: str, looks: Sequence[Mapping[str, Any]], step: Step) -> None:
    """Store what was looked at while the experiment runs: what has been seen cannot be unseen, so nothing is ever replaced."""
    with Session(engine) as session:
        _saved(session, _row(session, name, "running"), step, "look", looks=[dict(look) for look in looks])


def looks_of(engine: Engine, name: str) -> list[dict[str, Any]]:
    """Return every look that was taken at an experiment, the earliest first."""
    return [look for row in notes_of(engine, name, ("look",)) for look in row.detail["looks"]]


def record_caps(engine: Engine, name: str, caps: Mapping[str, int], step: Step) -> None:
    """Store the ceilings of readers' totals for good: one that could change with the data could favour an arm."""
    note(engine, name, "cap", step, caps=dict(caps))


def caps_of(engine: Engine, name: str) -> dict[str, int]:
    """Return metric -> ceiling as first stored; nothing later replaces it."""
    return {metric: cap for row in reversed(notes_of(engine, name, ("cap",))) for metric, cap in row.detail["caps"].items()}


def experiments(engine: Engine) -> list[Record]:
    """Return all experiments, the newest first."""
    with Session(engine) as session:
        return [_record(row) for row in session.exec(select(ExperimentRow).order_by(col(ExperimentRow.created_at).desc()))]


def experiment_named(engine: Engine, name: str) -> Record:
    """Return one experiment; raises :class:`NotFoundError` with the nearest names."""
    with Session(engine) as session:
        return _record(_row(session, name))


def publish_plan(home: Path, engine: Engine, *, at: datetime, shares: Mapping[str, Mapping[str, float]] | None = None) -> str:
    """Write the running experiments to ``plan/current.json``, which is all that pages read; returns its version.

    Parameters
    ----------
    shares : experiment -> arm -> share actually served, where it departs from the plan (a fault the split check must find).
    """
    with locked_file(home / "plan" / "lock"):  # whoever read before another's step must not write after it
        body = _plan_body(engine, at, shares or {})
        version = sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        replace_json(home / "plan" / "current.json", {"version": version[:16], "sha256": version, "body": body})
    return version[:16]


def _plan_body(engine: Engine, at: datetime, shares: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    known = experiments(engine)
    running = [record for record in known if record.state == "running"]
    drafts = {r.experiment.name for r in known if r.state == "draft"}
    return {
        "at": at.isoformat(),
        "shadow": _shadow(engine, drafts),
        "defaults": _defaults(engine, known),
        "experiments": [
            {
                "plan": r.experiment.to_dict(),
                "phase": r.phases[-1]["number"],
                "shares": shares.get(r.experiment.name, r.phases[-1]["shares"]),
            }
            for r in sorted(running, key=lambda r: r.experiment.name)
        ],
    }


def publish_if_behind(home: Path, engine: Engine, *, at: datetime) -> None:
    """Publish the plan when pages follow another one than the record: whoever changed that was killed before pages were told."""
    known = experiments(engine)
    recorded = {r.experiment.name: r.phases[-1]["number"] for r in known if r.state == "running"}, _defaults(engine, known)
    try:
        body = (read_json(home / "plan" / "current.json") or {"body": {"experiments": [], "defaults": {}}})["body"]
        behind = ({one["plan"]["name"]: one["phase"] for one in body["experiments"]}, body["defaults"]) != recorded
    except (ArtefactError, KeyError, TypeError):
        behind = True
    if behind:
        publish_plan(home, engine, at=at)


def _defaults(engine: Engine, known: Iterable[Record]) -> dict[str, str | None]:
    """Slot -> arm of the newest decision that no guardrail took back."""
    from experiments.decided import decisions

    return {one.record.experiment.slot: one.record.decided_arm for one in decisions(engine, known) if not one.taken_back}


def _shadow(engine: Engine, drafts: Iterable[str]) -> list[dict[str, Any]]:
    """Arms that are proposed for a draft: asked on real requests, shown to nobody."""
    latest = {name: rows[-1] for name in sorted(drafts) if (rows := notes_of(engine, name, ("ship", "draft")))}
    return [{"experiment": name, "arm": row.detail["arm"], "proposal": row.number} for name, row in latest.items() if row.action == "ship"]


def _row(session: Session, name: str, state: str = "") -> ExperimentRow:
    row = session.get(ExperimentRow, name)
    if row is None:
        raise NotFoundError(f"no experiment is called '{name}'; {nearest(name, session.exec(select(ExperimentRow.name)).all())}")
    if state and row.state != state:
        raise ExperimentError(f"experiment '{name}' is {row.state}; this step needs it to be {state}.")
    return row


def _saved(session: Session, row: ExperimentRow, step: Step, action: str, **more: Any) -> Record:
    session.add(row)
    append(session, row.name, action, step, state_of(row) | more)
    session.refresh(row)
    return _record(row)


def _record(row: ExperimentRow) -> Record:
    return Record(
        Experiment.from_dict(row.plan), row.state, tuple(row.phases), row.started_at, row.stopped_at, row.decided_at, row.decided_arm
    )
