"""What people read for the short keys of a report."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from experiments.metric import built_in
from web.formatting import date, number, percent

__all__ = [
    "AUDIENCES",
    "BADGES",
    "KINDS",
    "VERDICTS",
    "arm_label",
    "badge_of",
    "capital",
    "decided",
    "headline_of",
    "margin_of",
    "metric_says",
    "sentence_after",
    "settled",
    "spoken",
    "unbroken",
]

VERDICTS = {
    "ship": ("✓", "Ready to decide", "Ship {arm}"),
    "keep": ("■", "Ready to decide", "Keep {arm}"),
    "equal": ("=", "Ready to decide", "No practical difference: take {arm}"),
    "wait": ("…", "Too early", "Keep running"),
    "do_not_use": ("✗", "Not trustworthy", "Do not use these numbers"),
}
KINDS = {"status_quo": "what the site does today", "heuristic": "a simple rule", "model": "a model"}
AUDIENCES = {"all": "all readers", "agreed": "readers who agreed to personal choice"}
BADGES = {
    "draft": ("Draft", ""),
    "running": ("Running", "accent"),
    "ready": ("Ready to decide", "good"),
    "stopped": ("Stopped", "warn"),
    "decided": ("Decided", ""),
    "not_trustworthy": ("Not trustworthy", "bad"),
}
WRITTEN = {"als": "ALS", "status_quo": "status quo", "front_personal": "front personal"}
NAMES = re.compile(r"\b(?:" + "|".join(WRITTEN) + r")\b", re.IGNORECASE)
LOSS = re.compile(r"-(?=[€$£]|[A-Z]{3} \d)")


def capital(text: str) -> str:
    """Return the text with a capital first letter.

    Examples
    --------
    >>> capital("status quo"), capital("")
    ('Status quo', '')
    """
    return text[:1].upper() + text[1:]


def arm_label(name: str) -> str:
    """Return an arm's name as people write it in a sentence.

    Examples
    --------
    >>> arm_label("status_quo"), arm_label("als")
    ('status quo', 'ALS')
    """
    return WRITTEN.get(name, name.replace("_", " "))


def spoken(text: str) -> str:
    """Return a stored sentence with arm names as people write them.

    Examples
    --------
    >>> spoken("Keep the heuristic: als does not beat front; als falls back.")
    'Keep the heuristic: ALS does not beat front; ALS falls back.'
    >>> spoken("status_quo fills no slot")
    'status quo fills no slot'
    """
    return NAMES.sub(lambda match: WRITTEN[match[0].lower()], text)


def unbroken(text: str) -> str:
    """Return a sentence of a page in which no line ends between a minus and its amount.

    Examples
    --------
    >>> unbroken("We expect -€87.60") == "We expect −\N{WORD JOINER}€87.60"
    True
    """
    return LOSS.sub("−\N{WORD JOINER}", text)


def metric_says(name: str) -> str:
    """Return what a metric measures, or its name when the metric is somebody's own."""
    known = built_in().get(name)
    return known.says if known else capital(name.replace("_", " "))


def margin_of(name: str, margin: float) -> str:
    """Return the harm that a guardrail allows; of a waiting time it is in the time's own unit.

    Examples
    --------
    >>> margin_of("bounce_rate", 0.05), margin_of("slot_latency_p95", 20.0)
    ('5.0%', '20 ms')
    """
    known = built_in().get(name)
    return f"{number(margin)} {known.unit}" if known and known.quantile is not None else percent(margin)


def headline_of(verdict: Mapping[str, Any]) -> str:
    """Return the decision in at most a few words.

    Examples
    --------
    >>> headline_of({"key": "keep", "arm": "status_quo"})
    'Keep status quo'
    """
    return VERDICTS[verdict["key"]][2].format(arm=arm_label(verdict.get("arm") or "the control"))


def decided(arm: str) -> str:
    """Return a decision in a few words.

    Examples
    --------
    >>> decided("als")
    'Decided: ALS'
    """
    return f"Decided: {arm_label(arm)}"


def settled(decision: Mapping[str, Any]) -> str:
    """Say who decided, when and why.

    Examples
    --------
    >>> settled({"who": "Ines", "at": "2026-11-27T09:00:00+00:00", "reason": "It pays."})
    'Ines decided on 27 November 2026: It pays.'
    """
    return f"{decision['who']} decided on {date(decision['at'])}: {decision['reason'].rstrip('.')}."


def sentence_after(headline: str, sentence: str) -> str:
    """Return what a verdict's sentence says beyond its headline.

    Examples
    --------
    >>> sentence_after("Ship ALS", "Ship als: it earns more.")
    'It earns more.'
    """
    same = sentence.lower().startswith(headline.lower())
    return capital(sentence[len(headline) :].lstrip(":. ")) if same else sentence


def badge_of(state: str, verdict: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return (words, tone): the state of an experiment as its verdict colours it."""
    key = verdict["key"] if verdict else ""
    if state in ("decided", "draft"):
        return BADGES[state]
    if key == "do_not_use":
        return BADGES["not_trustworthy"]
    return BADGES["ready"] if key in ("ship", "keep", "equal") else BADGES.get(state, (capital(state), ""))
