"""What product owners read: the list of experiments, and one report as a decision memo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Response, abort, render_template

from web.console import answer, as_json, console
from web.formatting import date
from web.operator import pages as operator_pages
from web.owner.memo import Memo, memo_of, number_rows
from web.owner.words import arm_label, badge_of, capital, headline_of, sentence_after
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


def card_of(summary: Mapping[str, Any]) -> Card:
    """Return the card of a summary; an experiment without a report says so."""
    verdict = summary.get("verdict")
    state = summary.get("state") or "draft"
    badge = badge_of(state, verdict)
    end = f"until {date(summary.get('planned_end'))}" if summary.get("planned_end") else "no end yet"
    headline = headline_of(verdict) if verdict else "No report yet" if state != "draft" else "Not started"
    return Card(
        summary["name"],
        summary.get("question") or f"Experiment {summary['name']}",
        badge,
        headline,
        sentence_after(headline, verdict["sentence"]) if verdict else _why_no_report(summary["name"], state),
        summary.get("owner") or "nobody",
        f"{date(summary['started_at'])}, {end}" if summary.get("started_at") else "not started",
        ", ".join(capital(arm_label(arm["name"])) for arm in summary.get("arms") or ()),
        badge[1] in ("bad", "good") and state != "decided",
    )


def _why_no_report(name: str, state: str) -> str:
    if state == "draft":
        return f"The plan is ready. Start it: presslab experiment start {name}"
    return f"The job writes the first report within the hour; now: presslab jobs run report, or presslab experiment report {name}"


@console.route("/")
def experiments() -> Response:
    """All experiments, those that need somebody first."""
    cards = sorted((card_of(summary) for summary in site().reports()), key=lambda card: not card.urgent)
    return answer("console/experiments.html", active="experiments", cards=cards)


@console.route("/experiments.json")
def experiments_json() -> Response:
    return as_json(site().reports())


@console.route("/experiment/<name>")
def report(name: str) -> Response:
    """The decision memo."""
    stored = site().report(name)
    if stored is None:
        summary = next((s for s in site().reports() if s["name"] == name), None) or abort(404)
        return answer("console/no_report.html", active="experiments", card=card_of(summary))
    return answer("console/report.html", active="experiments", memo=memo_of(stored), numbers=number_rows(stored), saved=False)


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
    return render_template("console/report.html", active="", memo=memo, numbers=number_rows(stored), saved=True, now=None)


def _attached(text: str, mimetype: str, name: str) -> Response:
    response = Response(text, mimetype=mimetype)
    response.headers["Content-Disposition"] = f"attachment; filename={name}"
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
