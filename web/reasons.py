"""What readers are told: why an article is in the slot, and what is read most."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from experiments.serving.recommender import Catalogue, Context, Explainable
from experiments.serving.signals import HOUR, Signals
from experiments.serving.slate import Item, SlateRules, pool_at
from experiments.turns import in_turns
from web.identity import short_id
from web.site_protocol import MostRead

__all__ = ["OF_IDS", "because", "most_read", "positions_of", "prepare", "sentence"]

SENTENCES = {
    "editors": "Chosen by the editors",
    "co_read": "Also read by readers of this article",
    "als": "From what you have been reading",
    "ranked": "From what you have been reading",
    "newest": "One of the newest here",
    "section": "From a section you often read",
    "text": "On the same subject",
}
OTHERWISE = "Chosen by this site's rules"


def _short_ids(catalogue: Catalogue) -> dict[str, int]:
    """Return short article id -> position (see :func:`web.identity.short_id`)."""
    return {short_id(identity): position for position, identity in enumerate(in_turns(catalogue.ids))}


OF_IDS = (_short_ids,)  # derived of a catalogue from ids alone


def prepare(catalogue: Catalogue) -> None:
    """Work out what every request needs of a catalogue, before the first one asks for it."""
    catalogue.derived(_short_ids)


def positions_of(catalogue: Catalogue, articles: Sequence[str]) -> tuple[int, ...]:
    """Return the positions of short ids, in their order; unknown ones are dropped."""
    known = catalogue.derived(_short_ids) if articles else {}
    return tuple(known[a] for a in articles if a in known)


def sentence(item: Item, signals: Signals, *, at: float) -> str:
    """Return one sentence on what placed an article on a page of ``at`` (unix seconds)."""
    if item.pinned:
        return SENTENCES["editors"]
    if item.source not in ("heat", "newest"):
        return SENTENCES.get(item.source, OTHERWISE)
    window, new_h = _window(signals)
    period = "lately" if _stale(signals, at) else "in the last hour" if signals.busy else "today"
    reads = signals.reads_in[window].item(item.article)
    if reads and item.source == "heat":
        return f"{'Most read' if reads >= signals.most_read_from.item(window) else 'Read'} {period}"
    if at - signals.catalogue.published.item(item.article) < new_h * HOUR:
        return "Just published"  # new articles get heat on credit
    return SENTENCES.get(item.source, OTHERWISE)


def _window(signals: Signals) -> tuple[int, float]:
    """Row of ``Signals.reads_in`` that readers are told of, and its hours."""
    return (1, 1.0) if signals.busy else (3, 24.0)


def _stale(signals: Signals, at: float) -> bool:
    """Whether the counted reads ended so long ago that their period is not the last one: by a quarter of it."""
    window, hours = _window(signals)
    return bool(signals.site_reads[window]) and at - signals.at > hours * HOUR / 4


def most_read(signals: Signals, rules: SlateRules, *, at: float, n: int) -> MostRead:
    """Return the n most read articles that may be shown, with the period they were counted over."""
    window, said = _window(signals)[0], "hour" if signals.busy else "24 hours"
    period = f"the {said} until {datetime.fromtimestamp(signals.at, UTC):%-d %b, %H:%M} UTC" if _stale(signals, at) else f"the last {said}"
    pool = pool_at(signals.catalogue, at, rules=rules)
    reads = signals.reads_in[window][pool]
    best = pool[np.lexsort((-signals.catalogue.published[pool], -reads))][:n]
    return MostRead(tuple(signals.catalogue.articles[i] for i in best.tolist() if signals.reads_in[window][i] > 0), period)


BECAUSE_SHARE = 0.3  # of the positive part of a score: below it no single read is named


def because(arm: Explainable, context: Context, position: int, catalogue: Catalogue) -> str:
    """Return "Because you read ..." when one earlier read gives at least 30 % of what speaks for the article, else an empty string.

    The open article speaks for it, too, but is never named: nobody needs to be told what they are reading.
    """
    every = arm.explain(context, position)
    parts = [part for part in every if part[0] != context.article]
    positive = sum(max(value, 0.0) for _, value in every)
    if not parts or positive <= 0 or parts[0][1] < BECAUSE_SHARE * positive:
        return ""
    return f"Because you read “{catalogue.articles[parts[0][0]].title}”"
