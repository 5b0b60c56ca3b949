"""The box on top of a report: what to do, or what was decided; sentences, reasons, next step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from web.charts.bars import draw_bar
from web.formatting import date, number
from web.owner.words import VERDICTS, arm_label, decided, headline_of, sentence_after, settled, unbroken

__all__ = ["VerdictBox", "box_of", "sentences_of"]

GUESS = "Our best guess:"
MONEY = ("In ", "We expect", "If we ")


@dataclass(frozen=True, slots=True)
class VerdictBox:
    """The decision: its key (colour), icon, word, headline, sentences, at most four reasons, next step and command.

    ``advice`` is what the report advised, where the headline is a decision that was taken; ``arm`` what a form offers first.
    """

    key: str
    icon: str
    word: str
    headline: str
    sentence: str
    money: str
    reasons: tuple[str, ...]
    next: str
    command: str
    arm: str
    progress: str = ""
    advice: str = ""


def sentences_of(report: Mapping[str, Any]) -> list[str]:
    """Return the sentences of a report but the verdict and the next study, which stand elsewhere on the page."""
    following = ((report.get("roi") or {}).get("next") or "").strip()
    return [s for s in report.get("sentences") or () if s not in (following, report["verdict"]["sentence"])]


def box_of(report: Mapping[str, Any], sentences: Sequence[str]) -> VerdictBox:
    """Return the box of a stored report as its experiment stands now."""
    verdict = report["verdict"]
    icon, word, _ = VERDICTS[verdict["key"]]
    headline = headline_of(verdict)
    rest = sentence_after(headline, verdict["sentence"])
    told = [s for s in sentences if not s.startswith(GUESS)]
    money = [s for s in told if s.startswith(MONEY)]
    ranges = [s for s in told if s not in money]
    following, command = _next(report, verdict)
    reasons = [reason for reason in verdict.get("reasons") or () if reason.casefold() != rest.rstrip(".").casefold()]
    says, advice = " ".join([rest, *ranges]).strip(), ""
    decision = report.get("decision")
    if decision:
        icon, word, advice = "✓", "Decided", f"{headline}. {says}"
        headline, says = decided(decision["arm"]), settled(decision)
    elif _before_the_stop(report):
        word, headline, says = "Stopped", "Stopped: the last report is still to come", "This page shows the report from before the stop."
        reasons = []
    return VerdictBox(
        verdict["key"], icon, word, headline, says, unbroken(" ".join(money)), tuple(reasons)[:4], following, command,
        verdict.get("arm") or report["control"], _progress(report) if verdict["key"] == "wait" and not decision else "", advice,
    )  # fmt: skip


def _before_the_stop(report: Mapping[str, Any]) -> bool:
    """A test that was stopped is always judged; a report that waits is older than that."""
    return report.get("state") == "stopped" and report["verdict"]["key"] == "wait"


def _progress(report: Mapping[str, Any]) -> str:
    dates = report.get("dates") or {}
    days, planned = dates.get("days"), dates.get("planned_days")
    if not planned or days is None:
        return ""
    return draw_bar(days / planned, title=f"{number(days)} of {number(planned)} planned days", kind="heuristic")


def _next(report: Mapping[str, Any], verdict: Mapping[str, Any]) -> tuple[str, str]:
    name, state = report["experiment"], report.get("state")
    if state == "decided":
        decision, other = report.get("decision") or {}, report.get("meanwhile")
        arm = arm_label(decision.get("arm") or verdict.get("arm") or report["control"])
        if other and other["arm"]:
            return f"The later test {other['test']} was decided for {arm_label(other['arm'])}: readers get that now.", ""
        if decision.get("guardrail"):
            return decision["guardrail"], ""
        if other:
            return f"The test {other['test']} runs in this place: its readers get its arms, all others get {arm}.", ""
        return f"Readers get {arm} until a new test begins in this place.", ""
    if _before_the_stop(report):
        return "The worker writes the last report; or write it now:", f"presslab experiment report {name}"
    if verdict["key"] == "wait":
        end = date((report.get("dates") or {}).get("planned_end"), missing="its planned end")
        return f"Let it run until {end}. Look at this page whenever you like: nothing here can mislead you early.", ""
    if verdict["key"] == "do_not_use":
        if state == "running":
            return "Repair the failed check below, then start again with fresh readers.", f"presslab experiment stop {name}"
        return (
            "Repair the failed check below. Record that nothing is decided from these numbers, and plan the test again under a new name: "
            "it gets fresh readers.",
            f'presslab experiment decide {name} {report["control"]} --reason "..."',
        )
    if state == "running":
        return "Stop the test, then record the decision with its reason:", f"presslab experiment stop {name}"
    return (
        "Record the decision, with its reason:",
        f'presslab experiment decide {name} {verdict.get("arm") or report["control"]} --reason "..."',
    )
