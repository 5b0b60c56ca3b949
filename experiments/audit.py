"""The append-only record of who did what, when and why: every entry's hash follows from the one before.

How far it goes is told in a file beside the database, so that entries which are removed from its end are missed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from experiments.errors import ArtefactError
from experiments.files import read_json, replace_json
from experiments.tables import AuditRow, ExperimentRow

__all__ = ["Step", "append", "audit_faults", "note_about", "notes_of", "state_of", "trail"]

HEAD = Path("record", "current.json")  # a backup copies files of this name before databases: it never tells of more than the copy holds


@dataclass(frozen=True, slots=True)
class Step:
    """Who does something, when and why; goes into the audit with the change itself."""

    actor: str
    at: datetime
    reason: str = ""


def append(session: Session, subject: str, action: str, step: Step, detail: Mapping[str, Any]) -> None:
    """Commit what a session holds, with an entry about it."""
    last = session.exec(select(AuditRow).order_by(col(AuditRow.number).desc()).limit(1)).first()
    row = AuditRow(at=step.at, actor=step.actor, action=action, subject=subject, reason=step.reason, detail=dict(detail), hash="")
    row.hash = _hash(last.hash if last else "", row)
    session.add(row)
    session.flush()
    head = {"number": row.number, "hash": row.hash}
    session.commit()
    with suppress(OSError):  # the step is taken; the next one tells it
        replace_json(_head(session.get_bind()), head)


def state_of(row: ExperimentRow) -> dict[str, Any]:
    """Return what every entry about an experiment says of its state."""
    return {"state": row.state, "phases": row.phases, "plan_sha256": sha256(json.dumps(row.plan, sort_keys=True).encode()).hexdigest()}


def note_about(engine: Engine, subject: str, action: str, step: Step, **detail: Any) -> None:
    """Add an entry to the record about something that is no experiment, such as ``model als``."""
    with Session(engine) as session:
        append(session, subject, action, step, detail)


def notes_of(engine: Engine, name: str, actions: Sequence[str]) -> list[AuditRow]:
    """Return the entries about an experiment of these actions, the earliest first."""
    with Session(engine, expire_on_commit=False) as session:
        query = select(AuditRow).where(AuditRow.subject == name, col(AuditRow.action).in_(actions)).order_by(col(AuditRow.number))
        return list(session.exec(query))


def trail(engine: Engine, name: str = "") -> list[AuditRow]:
    """Return every entry of the record, or those about one experiment, the earliest first."""
    query = select(AuditRow).order_by(col(AuditRow.number))
    with Session(engine, expire_on_commit=False) as session:
        return list(session.exec(query.where(AuditRow.subject == name) if name else query))


def audit_faults(engine: Engine) -> list[str]:
    """Return one line per entry that was altered or is missing, and per experiment that is not as its last entry says; empty when all is well."""
    try:
        head = read_json(_head(engine))  # first: what is written meanwhile lies behind it
    except ArtefactError as error:
        return [str(error)]
    faults, before = [], ""
    with Session(engine, expire_on_commit=False) as session:
        rows = list(session.exec(select(AuditRow).order_by(col(AuditRow.number))))
        known = {row.name: row for row in session.exec(select(ExperimentRow))}
    for row in rows:
        if row.hash != _hash(before, row):
            faults.append(f"audit row {row.number} ({row.action} {row.subject}) was altered or a row before it is missing.")
        before = row.hash
    if head and not any((row.number, row.hash) == (head["number"], head["hash"]) for row in rows):
        faults.append(
            f"audit row {head['number']} was written and is not there as it was: the record ends at row {rows[-1].number if rows else 0}."
        )
    return [*faults, *_departures(rows, known)]


def _departures(rows: Sequence[AuditRow], known: Mapping[str, ExperimentRow]) -> Iterator[str]:
    """Say which experiments are not as the record has them."""
    last = {row.subject: row for row in rows if "state" in row.detail}
    decided = {row.subject: row.detail["arm"] for row in rows if row.action == "decide"}
    for name in sorted({*known, *last}):
        if name not in known:
            yield f"experiment '{name}' is in the record and not there any more."
        elif name not in last:
            yield f"experiment '{name}' is {known[name].state}, and the record has no entry about it."
        else:
            now = {**state_of(known[name]), "decided_arm": known[name].decided_arm}
            told = {**last[name].detail, "decided_arm": decided.get(name)}
            if differs := [key for key in now if now[key] != told[key]]:
                yield f"experiment '{name}' is not as row {last[name].number} of the record left it: {', '.join(differs)}."


def _hash(before: str, row: AuditRow) -> str:
    parts = [before, row.at.isoformat(), row.actor, row.action, row.subject, row.reason, json.dumps(row.detail, sort_keys=True)]
    return sha256("\x1f".join(parts).encode()).hexdigest()


def _head(bind: Any) -> Path:
    return Path(bind.engine.url.database).parent / HEAD
