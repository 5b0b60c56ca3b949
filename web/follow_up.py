"""What happened to an experiment since its report was written: its state, its decision, its record, the report's age."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from experiments.lifecycle import Record
from experiments.tables import AuditRow
from web.jobs import Job

__all__ = ["followed", "told"]

DONE = {
    "draft": "planned", "start": "started", "ramp": "changed the shares", "stop": "stopped", "decide": "decided: {arm}", "cap": "fixed a ceiling",
    "ship": "proposed {arm}", "approve": "approved {arm}, started", "step": "more readers for {arm}", "trip": "stopped {arm}", "resume": "let {arm} go on", "rollback": "rolled {arm} back", "look": "looked",
    "grant": "made a token for another server", "revoke": "ended a token",
}  # fmt: skip


def followed(
    report: Mapping[str, Any], record: Record, trail: Sequence[AuditRow], *, now: datetime, job: Job, silent: str = ""
) -> dict[str, Any]:
    """Return a stored report as the experiment stands now; its numbers are those of the snapshot.

    ``state`` is today's, ``decision`` is ``{arm, who, at, reason, guardrail}`` once there is one (``guardrail``: what one, or a person, did to the
    arm since, and why, empty while nothing holds it), ``log`` the record without looks (they stand
    under "How it settled"), ``next_refresh`` when the job writes the report anew, and ``stale`` says why it did not.

    Parameters
    ----------
    trail : the record of this experiment. job : that writes reports. silent : that the worker does not report, in words.
    """
    about = [told(row) for row in trail]
    last = next((entry for entry in reversed(about) if entry["action"] == "decide"), None)
    decision = None if last is None or record.decided_arm is None else {**last, "arm": record.decided_arm, "guardrail": _guardrail(about)}
    renewed = record.state in ("running", "stopped") and job.schedule() != "on request"
    written = datetime.fromisoformat(report["computed_at"]) if report.get("computed_at") else None
    return {
        **report,
        "state": record.state,
        "decision": decision,
        "log": [entry for entry in about if entry["action"] != "look"],
        "next_refresh": job.next_due(now).isoformat() if renewed else None,
        "stale": _stale(written, now, job, silent) if renewed and written else "",
    }


def told(row: AuditRow) -> dict[str, Any]:
    """Return an entry of the record as pages show it: ``{at, who, experiment, action, did, reason, advice}``."""
    did = DONE.get(row.action, row.action)
    if row.action == "trip" and row.detail.get("share"):  # of a model, whose version before serves again
        did = "held {arm} at the version before"
    elif row.action == "trip" and row.detail["state"] == "decided":
        did = "took {arm} back from all readers"
    model = row.subject.removeprefix("model ")
    did = did.format(arm=row.detail.get("arm") or (model if model != row.subject else "an arm"))
    entry = {"at": row.at.isoformat(timespec="seconds"), "who": row.actor, "experiment": row.subject, "action": row.action}
    return {**entry, "did": did, "reason": row.reason, "advice": row.detail.get("advice") or ""}


def _guardrail(about: Sequence[Mapping[str, Any]]) -> str:
    last = next(entry for entry in reversed(about) if entry["action"] in ("decide", "trip", "rollback", "resume"))
    who = {"trip": "A guardrail", "rollback": "A person"}.get(last["action"], "")
    return f"{who} {last['did']}: {last['reason'].rstrip('.')}." if who else ""


def _stale(written: datetime, now: datetime, job: Job, silent: str) -> str:
    """Say that two due times of the job passed without a new report, and why as far as is known."""
    if now - written <= timedelta(seconds=2 * job.every_s):
        return ""
    return f"This report should be written {job.schedule()} and was not. {silent or 'The page Jobs says how the job ended.'}"
