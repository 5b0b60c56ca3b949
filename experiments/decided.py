"""What every reader gets since a test was decided, and what was taken back from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Engine

from experiments.lifecycle import Record, notes_of
from experiments.tables import AuditRow

__all__ = ["Decision", "decisions"]


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision and what became of it.

    Parameters
    ----------
    made : its entry in the record. last : the newest entry about its arm, of a guardrail or of a person who took it back or let it go on;
        ``made`` where there is none.
    """

    record: Record
    made: AuditRow
    last: AuditRow

    @property
    def taken_back(self) -> bool:
        """Whether a guardrail or a person took the arm from all readers."""
        return self.last.action in ("trip", "rollback") and not self.last.detail["share"]


def decisions(engine: Engine, known: Iterable[Record]) -> list[Decision]:
    """Return the decisions that say what slots show, the newest first.

    Of each slot these are the newest one and, while that is taken back, the one before; an arm that was taken back does not come back
    with an older decision for it. What the record has no entry of is no decision.
    """
    found, settled = list[Decision](), set[tuple[str, str | None]]()
    decided = [(record.decided_at, record) for record in known if record.decided_at is not None]
    for _, record in sorted(decided, key=lambda one: one[0], reverse=True):
        slot = record.experiment.slot
        if settled.isdisjoint({(slot, None), (slot, record.decided_arm)}):
            rows = notes_of(engine, record.experiment.name, ("decide", "trip", "rollback", "resume"))
            made = next((row for row in rows if row.action == "decide"), None)
            if made is None:
                continue
            decision = Decision(record, made, rows[-1])
            settled.add((slot, record.decided_arm if decision.taken_back else None))
            found.append(decision)
    return found
