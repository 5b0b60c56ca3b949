"""The events of one page view: what happened, as it goes into the outbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from flask import Request

from experiments.assignment import Assignment
from experiments.events.event import Event
from experiments.events.ids import event_id
from experiments.experiment import Experiment
from experiments.serving.pick import Picked
from experiments.serving.recommender import Catalogue
from web.identity import Identity

__all__ = ["Visit", "click", "degraded", "linked", "page_events", "referrer_of"]


@dataclass(frozen=True, slots=True)
class Visit:
    """One page view: who, what, when, under which plan."""

    page_view: str
    at_us: int
    identity: Identity
    page_type: str
    referrer: str
    config: str
    article: str = ""
    section: str = ""

    def event(self, kind: str, key: str, body: dict[str, Any], *, experiment: str = "", arm: str = "") -> Event:
        """Return an event of this page view, with its deterministic id."""
        who = self.identity
        return Event(
            event_id(self.page_view, kind, key), kind, self.page_view, who.reader, self.at_us, self.at_us, body, experiment, arm,
            source=who.source, device=who.device, bot=who.bot, config=self.config,
        )  # fmt: skip


def page_events(
    visit: Visit,
    catalogue: Catalogue,
    *,
    assignment: Assignment | None = None,
    experiment: Experiment | None = None,
    picked: Picked | None = None,
) -> list[Event]:
    """Return view, exposure and impression of a page.

    The exposure is logged in every arm, also where the slot stays empty; ``picked`` without an experiment is the site's
    own choice and leaves an impression alone.
    """
    body = {
        "page_type": visit.page_type,
        "article": visit.article,
        "section": visit.section,
        "referrer": visit.referrer,
        "prefetch": visit.identity.prefetch,
        "agreed": int(visit.identity.choices.personal is True),
    }
    events = [visit.event("view", "", body)]
    if picked is None or not visit.identity.measured:
        return events
    name, arm = (assignment.experiment, assignment.arm) if assignment else ("", "")
    slot = experiment.slot if experiment else "article.related"
    if assignment and experiment:
        exposure = _exposure(assignment, experiment, picked.outcome)
        events.append(visit.event("exposure", name, exposure, experiment=name, arm=arm))
    events.append(visit.event("impression", slot, _impression(slot, picked, catalogue), experiment=name, arm=arm))
    return events


def degraded(visit: Visit, assignment: Assignment, experiment: Experiment) -> Event:
    """Return the exposure that says: the arm was due, the page went out as in the status quo.

    Its id differs from the page's other exposure, which may be stored as well; where both are, this one counts.
    """
    name, exposure = assignment.experiment, _exposure(assignment, experiment, "degraded")
    return visit.event("exposure", f"{name}:degraded", exposure, experiment=name, arm=assignment.arm)


def _exposure(assignment: Assignment, experiment: Experiment, outcome: str) -> dict[str, Any]:
    return {
        "slot": experiment.slot,
        "phase": assignment.phase,
        "bucket": assignment.bucket,
        "audience": experiment.audience,
        "reason": "assigned",
        "outcome": outcome,
    }


def _impression(slot: str, picked: Picked, catalogue: Catalogue) -> dict[str, Any]:
    items = [
        {
            "article": catalogue.ids[item.article],
            "propensity": round(item.propensity, 9),
            "source": item.source,
            "score": float(f"{item.score:.6g}"),
            "pinned": item.pinned,
            "rung": item.rung,
            "explored": item.explored,
        }
        for item in picked.slate.items
    ]
    return {
        "slot": slot,
        "articles": [item["article"] for item in items],
        "items": items,
        "candidates": picked.slate.candidates,
        "artefact": picked.artefact,
        "signals_at": round(picked.signals_at * 1e6),
        "latency_us": picked.latency_us,
        "outcome": picked.outcome,
        "cause": picked.cause,
        "reason": picked.reason[:200],
        "own": sum(not item.rung and not item.pinned for item in picked.slate.items),
    }


def linked(article: str, reader: str, experiment: str) -> str:
    """Return what the token of a link covers: a click is one of this reader, in the test in which the link was shown.

    A tab may be open while one test ends and another begins, or while the reader agrees to be in one.
    """
    return f"{article}|{reader}|{experiment}"


def click(visit: Visit, *, page_view: str, slot: str, position: int, experiment: str, arm: str) -> Event:
    """Return the click that led to this page; it belongs to the page view that showed the link."""
    body = {"slot": slot, "article": visit.article, "position": position}
    who = visit.identity
    return Event(
        event_id(page_view, "click", f"{slot}:{visit.article}"), "click", page_view, who.reader, visit.at_us, visit.at_us, body, experiment, arm,
        source=who.source, device=who.device, bot=who.bot, config=visit.config,
    )  # fmt: skip


def referrer_of(request: Request) -> str:
    """Where the reader came from: slot, internal, external or direct."""
    if request.args.get("via"):
        return "slot"
    try:
        host = urlsplit(request.headers.get("Referer", "")).netloc
    except ValueError:  # "http://[" is no address
        return "direct"
    return "direct" if not host else "internal" if host == request.host else "external"
