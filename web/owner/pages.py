"""What product owners read: the list of experiments, and one report as a decision memo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import quote

from flask import Response, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from experiments.errors import PresslabError
from web.console import answer, as_json, console, page_of
from web.formatting import date, money, number, percent, share, when
from web.operator import pages as operator_pages
from web.owner.form import Form, form_of, sent_form
from web.owner.memo import Memo, memo_of, number_rows
from web.owner.words import AUDIENCES, arm_label, badge_of, capital, decided, headline_of, margin_of, metric_says, sentence_after
from web.reader.privacy import as_csv
from web.scientist import pages as scientist_pages
from web.site_protocol import site

__all__ = ["Card", "card_of", "console", "operator_pages", "report_file", "scientist_pages"]


@dataclass(frozen=True, slots=True)
class Card:
    """One experiment in the list."""

    name: str
    question: str
    badge: tuple[str, str]
    headline: str
    sentence: str
    owner: str
    dates: str
    arms: str
    urgent: bool
    plan: tuple[tuple[str, str], ...] = ()
    way: str = ""


def card_of(summary: Mapping[str, Any]) -> Card:
    """Return the card of a summary; an experiment without a report says so."""
    verdict = summary.get("verdict")
    state = summary.get("state") or "draft"
    badge, way_state = badge_of(state, verdict), (summary.get("ladder") or {}).get("state")
    ends = summary.get("stopped_at") or summary.get("planned_end")
    headline, sentence = _told(summary, verdict, state)
    return Card(
        summary["name"],
        summary.get("question") or f"Experiment {summary['name']}",
        badge,
        headline,
        sentence,
        summary.get("owner") or "nobody",
        f"{date(summary['started_at'])}, {f'until {date(ends)}' if ends else 'no end yet'}" if summary.get("started_at") else "not started",
        ", ".join(capital(arm_label(arm["name"])) for arm in summary.get("arms") or ()),
        way_state in ("shadow", "held", "stopped") or (badge[1] in ("bad", "good") and state != "decided"),
        _plan(summary),
        _way(summary.get("ladder")),
    )


def _way(ladder: Mapping[str, Any] | None) -> str:
    """Where an arm is that comes to its readers step by step; empty when there is nothing to say any more."""
    if ladder is None:
        return ""
    arm, since = capital(arm_label(ladder["arm"])), when(ladder["since"])
    return {
        "shadow": f"{arm} is asked in shadow since {since} and shown to nobody. {ladder['needs']}",
        "live": f"{arm} comes to its readers step by step: {share(ladder['share'])} of the audience since {since}. {ladder['needs']}",
        "held": f"{arm} is held since {since}, an earlier version serves: {ladder['why']}. To go on it needs a person: presslab arm resume {ladder['arm']} --reason '...'",
        "stopped": f"{arm} was taken from all readers, {since}: {ladder['why']}.",
    }.get(ladder["state"], "")


def _plan(summary: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What a draft freezes when it starts, in words."""
    plan = summary.get("plan")
    if plan is None:
        return ()
    guardrails = [f"{capital(metric_says(name))} ({margin_of(name, margin)} allowed)" for name, margin in plan["guardrails"].items()]
    amount = partial(money, currency=plan["currency"])
    costs = [
        f"{capital(arm_label(arm))} {amount(build)} still to build, {amount(day)} a day"
        for arm, (build, day) in plan["costs"].items()
        if build or day
    ]
    shares = [f"{capital(arm_label(arm['name']))} {share(arm['planned_share'])}" for arm in summary["arms"]]
    return (
        ("Shares of readers", ", ".join(shares)),
        ("Control", capital(arm_label(plan["control"]))),
        ("Decides", metric_says(plan["goal"])),
        ("Worth having", f"a change of {percent(plan['smallest_uplift'])} and more"),
        ("Must not get worse", "; ".join(guardrails) or "nothing is named"),
        ("One view is worth", amount(plan["value_per_view"], missing="not stated, so the report will tell no amounts")),
        ("Costs", "; ".join(costs) or "none of the arms costs anything"),
        ("Length", f"{number(plan['planned_days'])} days"),
        ("Who", AUDIENCES.get(plan["audience"], plan["audience"])),
    )


def _told(summary: Mapping[str, Any], verdict: Mapping[str, Any] | None, state: str) -> tuple[str, str]:
    """Headline and sentence: what was decided, else the advice, else why there is none."""
    if verdict is None:
        return ("Not started" if state == "draft" else "No report yet"), _why_no_report(summary)
    advised = headline_of(verdict)
    rest = sentence_after(advised, verdict["sentence"])
    if state == "decided" and summary.get("decided_arm"):
        return decided(summary["decided_arm"]), f"The advice was: {advised}. {rest}"
    if state == "stopped" and verdict["key"] == "wait":
        return "Stopped", f"Its last report is from before the stop. {_why_no_report(summary)}"
    return advised, rest


def _why_no_report(summary: Mapping[str, Any]) -> str:
    name = summary["name"]
    if summary.get("state") != "draft":
        return f"The job writes one when it is due; now: presslab experiment report {name}"
    if waits := summary.get("proposed"):
        return f"{capital(arm_label(waits['arm']))} waits for approval by somebody else: presslab arm step {waits['arm']} --approve {waits['proposal']}"
    if faults := summary.get("unready"):
        return (
            f"It cannot start as it is planned: {' '.join(capital(fault) for fault in faults)} Plan it again: presslab experiment plan FILE"
        )
    return f"The plan is ready. Start it on its page, or with: presslab experiment start {name}"


@console.route("/")
def experiments() -> Response:
    """All experiments, those that need somebody first, fifty a page; ``q`` are words of name, question, owner or arms, ``state`` a badge."""
    known = sorted((card_of(summary) for summary in site().reports()), key=lambda card: not card.urgent)
    words, state = request.args.get("q", "")[:200], request.args.get("state", "")
    found = [card for card in known if _holds(card, words) and state in ("", card.badge[0])]
    page = page_of(found, request.args.get("page", 1, type=int))
    states = sorted({card.badge[0] for card in known})
    return answer("console/experiments.html", active="experiments", page=page, total=len(known), words=words, state=state, states=states)


def _holds(card: Card, words: str) -> bool:
    text = " ".join((card.name, card.question, card.owner, card.arms)).casefold()
    return all(word in text for word in words.casefold().split())


@console.route("/experiments.json")
def experiments_json() -> Response:
    return as_json(site().reports())


@console.route("/experiment/<name>")
def report(name: str) -> Response:
    """The decision memo."""
    known = _known(name)
    return _page(known, form_of(known))


def _known(name: str) -> Mapping[str, Any]:
    """The report of an experiment, or its summary while there is none."""
    found: Mapping[str, Any] | None = site().report(name) or next((s for s in site().reports() if s["name"] == name), None)
    return found or abort(404)


def _page(known: Mapping[str, Any], form: Form | None) -> Response:
    if "checks" not in known:
        return answer("console/no_report.html", active="experiments", card=card_of(known), form=form)
    return answer("console/report.html", active="experiments", memo=memo_of(known), numbers=number_rows(known), saved=False, form=form)


@console.route("/experiment/<name>/start", methods=["POST"])
def start(name: str) -> AnyResponse:
    """Start a draft."""
    form = sent_form(_known(name), "start", request.form)
    return _done(name, form, lambda: site().start(name, who=form.who, reason=form.reason))


@console.route("/experiment/<name>/stop", methods=["POST"])
def stop(name: str) -> AnyResponse:
    """Stop a test."""
    form = sent_form(_known(name), "stop", request.form)
    return _done(name, form, lambda: site().stop(name, who=form.who, reason=form.reason))


@console.route("/experiment/<name>/decide", methods=["POST"])
def decide(name: str) -> AnyResponse:
    """Record a decision."""
    form = sent_form(_known(name), "decide", request.form)
    return _done(name, form, lambda: site().decide(name, form.arm, who=form.who, reason=form.reason))


def _done(name: str, form: Form, take: Callable[[], None]) -> AnyResponse:
    """Take a step that a form asks for; a refusal shows the page again, with what was typed and what is missing."""
    if not form.faults:
        try:
            take()
            return redirect(url_for("console.report", name=name), 303)
        except PresslabError as error:
            form = replace(form, faults=tuple(("", says) for says in (f"{error.what} {error.hint}".strip(), *error.faults)))
    known = _known(name)
    now = form_of(known)
    response = _page(known, form if now and now.step == form.step else replace(form, step=""))
    response.status_code = 422
    return response


@console.route("/experiment/<name>.json")
def report_json(name: str) -> Response:
    return as_json(site().report(name) or abort(404))


@console.route("/experiment/<name>.csv")
def report_csv(name: str) -> Response:
    """Every comparison as a row, numbers in full."""
    stored = site().report(name) or abort(404)
    return _attached(as_csv([_flat(effect) for effect in stored["effects"]]), "text/csv", f"{name}.csv")


@console.route("/experiment/<name>.html")
def report_html(name: str) -> Response:
    """The report as one file to send around."""
    return _attached(report_file(site().report(name) or abort(404)), "text/html", f"{name}.html")


def report_file(stored: Mapping[str, Any]) -> str:
    """Return the report as one HTML document that needs no other file."""
    memo: Memo = memo_of(stored)
    return render_template("console/report.html", active="", memo=memo, numbers=number_rows(stored), saved=True, now=None, form=None)


def _attached(text: str, mimetype: str, name: str) -> Response:
    response = Response(text, mimetype=mimetype)
    response.headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(name)}"
    response.headers["Cache-Control"] = "no-store"
    return response


def _flat(effect: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, value in effect.items():
        if isinstance(value, Mapping):
            row |= {f"{key}.{inner}": each for inner, each in value.items()} if key not in ("n", "values", "beside") else {}
        else:
            row[key] = value
    for key in ("n", "values"):
        found = effect.get(key) or {}
        row |= {f"{key}.arm": found.get(effect["arm"]), f"{key}.against": found.get(effect["against"])}
    return row
