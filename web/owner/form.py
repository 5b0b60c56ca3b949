"""The form of an experiment's page: start a draft, stop a running test, decide a stopped one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from web.owner.words import arm_label, capital

__all__ = ["Form", "form_of", "sent_form"]

MOST = {"who": 80, "reason": 1_000}  # characters
ASKS = {"arm": "Choose an arm of this test.", "who": "Say who you are.", "reason": "Say in one sentence why."}
RESTS_ON = {"start": ("question", "plan", "arms"), "decide": ("verdict",)}
CHANGED = {
    "start": "The plan was changed since you opened this page. Read it again.",
    "decide": "The report advises something else since you opened this page. Read it again.",
}


@dataclass(frozen=True, slots=True)
class Form:
    """What may be done now (``start``, ``stop`` or ``decide``), what was typed, and what is wrong with it: (field, words).

    ``seen`` is a mark of what the page shows that the step rests on: the plan, or the advice. ``step`` is empty once it cannot be taken.
    """

    step: str
    arms: tuple[tuple[str, str], ...]
    arm: str
    seen: str
    who: str = ""
    reason: str = ""
    faults: tuple[tuple[str, str], ...] = ()


def form_of(report: Mapping[str, Any]) -> Form | None:
    """Return the empty form of a report or a summary; None when nothing may be done here.

    A draft with a proposed arm waits for its approval, one with an arm that cannot be shown as planned for a new plan, and a stopped test for the report written after the stop.

    Examples
    --------
    >>> report = {"state": "stopped", "control": "front", "arms": [{"name": "front"}, {"name": "als"}], "verdict": {"key": "ship", "arm": "als"}}
    >>> form_of(report).arm, form_of(report | {"state": "decided"})
    ('als', None)
    """
    state, verdict = report.get("state"), report.get("verdict")
    judged = verdict is not None and verdict["key"] != "wait"
    step = {"draft": "start", "running": "stop", "stopped": "decide" if judged else ""}.get(state or "", "")
    if not step or (step == "start" and (report.get("proposed") or report.get("unready"))):
        return None
    return Form(step, _arms(report), (verdict or {}).get("arm") or report.get("control") or "", _seen(report, step))


def sent_form(report: Mapping[str, Any], step: str, typed: Mapping[str, str]) -> Form:
    """Return the form as it was sent, with its faults; one from a page that shows something else than ``report`` has one.

    Examples
    --------
    >>> report = {"arms": [{"name": "front"}, {"name": "als"}]}
    >>> sent_form(report, "decide", {"arm": "als", "who": " "}).faults
    (('who', 'Say who you are.'), ('reason', 'Say in one sentence why.'))
    """
    arms, arm = _arms(report), typed.get("arm", "")
    who, reason, seen = typed.get("who", ""), typed.get("reason", ""), _seen(report, step)
    missing = {"who": not any(map(str.isalnum, who))}
    if step == "decide":
        missing = {"arm": arm not in dict(arms), **missing}
    if step != "stop":
        missing |= {"reason": not any(map(str.isalnum, reason))}
    faults = [(field, ASKS[field]) for field, is_missing in missing.items() if is_missing]
    faults += [(field, f"Use at most {most:,} characters.") for field, most in MOST.items() if len(typed.get(field, "")) > most]
    if typed.get("seen", seen) != seen:
        faults.append(("", CHANGED[step]))
    return Form(step, arms, arm, seen, who, reason, tuple(faults))


def _seen(report: Mapping[str, Any], step: str) -> str:
    shown = [report.get(key) for key in RESTS_ON.get(step, ())]
    return blake2b(json.dumps(shown, sort_keys=True, default=str).encode(), digest_size=8).hexdigest() if shown else ""


def _arms(report: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((arm["name"], capital(arm_label(arm["name"]))) for arm in report["arms"])
