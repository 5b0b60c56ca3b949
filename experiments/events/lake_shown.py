"""Counts of single events behind the trust checks: exposures by outcome, clicks and views, over one snapshot."""

from __future__ import annotations

from experiments.events.lake_tables import ONCE, query
from experiments.events.tail import Tail

__all__ = ["agreed_share", "article_views", "clicks_without_exposure", "exposure_groups", "first_exposure", "exposures_left_out"]


def exposure_groups(tail: Tail) -> list[tuple[str, str, str, int, int, int]]:
    """Return (arm, outcome, reason, bot, late, rows) of the experiment; a page with two rows is degraded, not both."""
    needs = {"exposure": ("arm", "outcome", "reason", "page_view", "reader")}
    return query(tail, f"SELECT arm, outcome, reason, bot, late, count(*) FROM {ONCE} GROUP BY ALL ORDER BY ALL", needs)


def exposures_left_out(tail: Tail) -> list[tuple[str, str, int, int, int]]:
    """Return (reader, arm, phase, bot, late), each once, of the experiment's exposures that bots caused or that came late."""
    needs = {"exposure": ("reader", "arm", "phase", "reason")}
    text = "SELECT DISTINCT reader, arm, phase, bot, late FROM all_exposure WHERE (bot = 1 OR late = 1) AND reason <> 'forced' ORDER BY ALL"
    return query(tail, text, needs)


def clicks_without_exposure(tail: Tail) -> int:
    """Return how many counted clicks of the experiment name a page view on which this reader had no exposure."""
    needs = {"click": ("page_view", "reader"), "exposure": ("page_view", "reader")}
    # clicks less those with an exposure: an anti-join would keep every exposure in memory, this keeps every click
    text = """SELECT (SELECT count(*) FROM click) - coalesce(sum(clicks), 0) FROM (SELECT DISTINCT page_view, reader, clicks FROM all_exposure
        JOIN (SELECT page_view, reader, count(*) AS clicks FROM click GROUP BY page_view, reader) USING (page_view, reader))"""
    return int(query(tail, text, needs)[0][0])


def article_views(tail: Tail, *, since_us: int) -> int:
    """Return the number of counted article views from ``since_us`` on."""
    needs = {"view": ("issued_at", "page_type", "prefetch")}
    text = f"SELECT count(*) FROM \"view\" WHERE page_type = 'article' AND prefetch = 0 AND issued_at >= {since_us}"
    return int(query(tail, text, needs)[0][0])


def agreed_share(tail: Tail, *, since_us: int) -> float:
    """Return the share of counted article views from ``since_us`` on that readers opened who agreed to personal choice; 0 where there is none.

    A page view says so itself; where it says nothing, a reader has agreed who was exposed in the snapshot's experiment, which
    must be one for readers who agreed.
    """
    needs = {"view": ("reader", "issued_at", "page_type", "prefetch", "agreed"), "exposure": ("reader", "reason")}
    text = f"""SELECT coalesce(avg(CASE WHEN agreed >= 0 THEN agreed ELSE (e.reader IS NOT NULL)::INT END), 0) FROM "view" v
        LEFT JOIN (SELECT DISTINCT reader FROM exposure WHERE reason <> 'forced') e ON v.agreed < 0 AND v.reader = e.reader
        WHERE page_type = 'article' AND prefetch = 0 AND issued_at >= {since_us}"""
    return float(query(tail, text, needs)[0][0])


def first_exposure(tail: Tail) -> int | None:
    """Return when the first reader met the experiment (UTC microseconds), None before that."""
    found = query(tail, "SELECT min(issued_at) FROM exposure", {"exposure": ("issued_at",)})[0][0]
    return None if found is None else int(found)
