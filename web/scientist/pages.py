"""What data scientists read: jobs, models, drift, explanations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from experiments.errors import PresslabError
from web.charts.bars import draw_bars, draw_histograms, draw_spark
from web.console import answer, as_json, console
from web.formatting import duration, number, percent, when
from web.owner.words import capital
from web.reader.shelf import latest
from web.site_protocol import site

__all__ = ["drift", "explain", "jobs", "models"]

MOST_READS = 20
OFFERED = 100  # articles that the form offers by their title
MOST_FEATURES = 15


@console.route("/jobs")
def jobs() -> Response:
    """The timetable and the last runs."""
    rows = [{**row, "spark": _spark(row)} for row in site().jobs()]
    notice = request.args.get("notice", "")[:300]
    return answer("console/jobs.html", active="jobs", rows=rows, notice=notice, refused=request.args.get("refused") == "1")


@console.route("/jobs.json")
def jobs_json() -> Response:
    return as_json(site().jobs())


@console.route("/jobs/<name>/run", methods=["POST"])
def run_job(name: str) -> AnyResponse:
    """Start a job now and say what happened."""
    try:
        said, refused = site().run_job(name), None
    except PresslabError as error:
        said, refused = f"{error.what} {error.hint}".strip(), "1"
    return redirect(url_for("console.jobs", notice=said, refused=refused), 303)


def _spark(row: Mapping[str, Any]) -> str:
    durations = list(row.get("durations") or ())
    return draw_spark(durations, title=f"{row['name']}: last {len(durations)} runs, the last took {duration(row.get('last_seconds'))}")


@console.route("/models")
def models() -> Response:
    """How old what is served is, what the last training and the last gates of each arm said, every version of every model."""
    where = site().standing()
    shown = {row["arm"]: row for row in where["arms"] if row["training"] or row["gates"] or row["reason"] or row["ladder"]}
    versions = sorted(site().models(), key=lambda version: (version["arm"], not version.get("live"), -(version.get("until") or 0)))
    arms = {arm: [v for v in versions if v["arm"] == arm] for arm in sorted({*shown, *(v["arm"] for v in versions)})}
    standing = {row["arm"]: row for row in where["arms"]}
    return answer(
        "console/models.html",
        active="models",
        arms=arms,
        standing=standing,
        refreshed=where["refreshed"],
        plain=plain_facts,
        learned=learned_until,
    )


@console.route("/models.json")
def models_json() -> Response:
    return as_json(site().models())


@console.route("/arms.json")
def arms_json() -> Response:
    return as_json(site().standing())


def learned_until(version: Mapping[str, Any]) -> float | None:
    """Return the moment a version learned up to, in unix seconds; manifests count microseconds."""
    return version["until"] / 1e6 if isinstance(version.get("until"), int) else None


def plain_facts(version: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the single values of a model version as (name, words); nested ones one level deep.

    Examples
    --------
    >>> plain_facts({"arm": "als", "version": "v", "live": True, "seed": 1, "metrics": {"mrr": 0.25}})
    [('seed', '1'), ('metrics: mrr', '0.25')]
    """
    facts: list[tuple[str, str]] = []
    for key, value in version.items():
        if key in ("arm", "version", "live") or value == "":
            continue
        words = key.replace("_", " ")
        if isinstance(value, Mapping):
            facts += [
                (f"{words}: {inner.replace('_', ' ')}", _plain(inner, each))
                for inner, each in value.items()
                if not isinstance(each, (Mapping, list)) and each != ""
            ]
        elif not isinstance(value, list):
            facts.append((words, _plain(key, value)))
    return facts


def _plain(key: str, value: Any) -> str:
    if value is None:
        return "not recorded"
    if key in ("at", "until", "since", "began") or key.endswith(("_at", "_until")):
        return when(value / 1e6 if isinstance(value, int) else value)  # manifests count microseconds
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


@console.route("/drift")
def drift() -> Response:
    """Inputs now against the reference, the furthest first."""
    profile = site().drift()
    inputs = sorted(profile.get("inputs") or (), key=lambda row: -(row.get("divergence") or 0.0)) if profile else []
    drawn = [(row, _histogram(row)) for row in inputs]
    return answer("console/drift.html", active="drift", profile=profile, inputs=drawn)


@console.route("/drift.json")
def drift_json() -> Response:
    return as_json(site().drift())


def _histogram(row: Mapping[str, Any]) -> Any:
    if not row.get("reference") or not row.get("current"):
        return None
    bins = row.get("bins") or [str(i) for i in range(1, len(row["current"]) + 1)]
    return draw_histograms(row["reference"], row["current"], bins=bins, name=capital(row.get("says") or row["name"]), label=percent)


@console.route("/explain")
def explain() -> Response:
    """What the model weighs, and one slate explained for given reads."""
    summary = site().explanation()
    features = [(_feature(row), row["mean_abs"]) for row in (summary or {}).get("features") or ()][:MOST_FEATURES]
    bars = draw_bars(features, label=number, head=("Feature", "mean weight"))
    article, arm = request.args.get("article", "").strip()[:100], request.args.get("arm", "").strip()[:40]
    reads = [word for word in request.args.get("reads", "").replace(",", " ").split() if word][:MOST_READS]
    slate, refused = None, ""
    if article and arm:
        try:
            slate = site().explain(arm=arm, article=article, reads=reads)
        except PresslabError as error:
            refused = f"{error.what} {error.hint}".strip()
    return answer(
        "console/explain.html", active="explain", summary=summary, bars=bars, slate=slate, refused=refused, article=article, arm=arm, reads=reads,
        titles={a.id: a.title for a in site().catalogue.articles} if slate else {}, offered=latest(site().catalogue, site().now(), n=OFFERED),
        live=any(version.get("live") for version in site().models()),
    )  # fmt: skip


def _feature(row: Mapping[str, Any]) -> str:
    """What a feature means, and its name in the code."""
    return f"{capital(row['says'])} ({row['name']})" if row.get("says") else str(row["name"])


@console.route("/explain.json")
def explain_json() -> Response:
    return as_json(site().explanation())
