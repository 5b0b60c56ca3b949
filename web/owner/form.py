"""The form of an experiment's page: start a draft, stop a running test, decide a stopped one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from web.owner.words import arm_label, capital

__all__ = ["Form", "form_of", "sent_form"]

MOST_NAME, MOST_REASON = 80, 1_000
ASKS = {"arm": "Choose an arm of this test.", "who": "Say who you are.", "reason": "Say in one sentence why."}


@dataclass(frozen=True, slots=True)
class Form:
    """What may be done now (``start``, ``stop`` or ``decide``), what was typed, and what is wrong with it: (field, words)."""

    step: str
    arms: tuple[tuple[str, str], ...]
    arm: str
    who: str = ""
    reason: str = ""
    faults: tuple[tuple[str, str], ...] = ()


def form_of(report: Mapping[str, Any]) -> Form | None:
    """Return the empty form of a report or a summary; None when nothing may be done here.

    A draft with a proposed arm waits for its approval, and a stopped test for the report written after the stop.

    Examples
    --------
    >>> report = {"state": "stopped", "control": "front", "arms": [{"name": "front"}, {"name": "als"}], "verdict": {"key": "ship", "arm": "als"}}
    >>> form_of(report).arm, form_of(report | {"state": "decided"})
    ('als', None)
    """
    state, verdict = report.get("state"), report.get("verdict")
    judged = verdict is not None and verdict["key"] != "wait"
    step = {"draft": "start", "running": "stop", "stopped": "decide" if judged else ""}.get(state or "", "")
    if not step or (step == "start" and report.get("proposed")):
        return None
    return Form(step, _arms(report), (verdict or {}).get("arm") or report.get("control") or "")


def sent_form(report: Mapping[str, Any], step: str, typed: Mapping[str, str]) -> Form:
    """Return the form as it was sent, with its faults.

    Examples
    --------
    >>> report = {"arms": [{"name": "front"}, {"name": "als"}]}
    >>> sent_form(report, "decide", {"arm": "als", "who": " "}).faults
    (('who', 'Say who you are.'), ('reason', 'Say in one sentence why.'))
    """
    arms, arm = _arms(report), typed.get("arm", "")
    who, reason = typed.get("who", "")[:MOST_NAME], typed.get("reason", "")[:MOST_REASON]
    missing = {"who": not who.strip()}
    if step == "decide":
        missing = {"arm": arm not in dict(arms), **missing}
    if step != "stop":
        missing |= {"reason": not reason.strip()}
    return Form(step, arms, arm, who, reason, tuple((field, ASKS[field]) for field, is_missing in missing.items() if is_missing))


def _arms(report: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((arm["name"], capital(arm_label(arm["name"]))) for arm in report["arms"])
