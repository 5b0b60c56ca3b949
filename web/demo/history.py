"""The weeks before the experiment: the same readers on the site as it was, appended through the outbox with their own times."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from heapq import heappop, heappush
from pathlib import Path

from msgspec import structs

from experiments.clock import moment
from experiments.events.event import Event
from experiments.events.ids import PageViews
from experiments.events.outbox import Outbox
from experiments.serving.recommender import Catalogue
from experiments.serving.shown import Shown
from experiments.serving.signals import Signals
from experiments.serving.slate import SlateRules
from fixtures.behaviour import Action, Beacon, Link, Memory, Open, Seen, session, session_key
from fixtures.library import Library
from fixtures.readers import Reader, visits
from fixtures.worlds import World
from web import reasons
from web.desk import Desk
from web.identity import Identity, Recent
from web.reader.shelf import LEAD_AGE, front_page, section_page
from web.records import Visit, page_events
from web.site_protocol import Choices

__all__ = ["Pages", "Past", "front_links", "live_past", "section_links"]

BATCH = 5_000


@dataclass(slots=True)
class Past:
    """What readers did before: articles read (oldest first), when they were last here, and how much was written."""

    reads: dict[str, list[str]] = field(default_factory=dict)
    last_s: dict[str, int] = field(default_factory=dict)
    events: int = 0
    views: int = 0


def front_links(catalogue: Catalogue, desk: Desk, at: float, *, signals: Signals, rules: SlateRules) -> tuple[Link, ...]:
    """Return the links of the front page in reading order, as the page itself lays them out."""
    front = front_page(catalogue, desk, moment(round(at * 1e6)))
    lead = (Link(front.lead.id, "", "lead"),) if front.lead else ()
    read = tuple(Link(a.id, "", "most_read") for a in reasons.most_read(signals, rules, at=at, n=5).articles)
    return (*lead, *read, *(Link(a.id, "", "front") for shelf in front.shelves for a in shelf.articles))


def section_links(catalogue: Catalogue, at: float, section: str) -> tuple[Link, ...]:
    """Return the links of the first page of a section."""
    articles, _ = section_page(catalogue, moment(round(at * 1e6)), section=section, page=1)
    return tuple(Link(a.id, "", "section") for a in articles)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of time in unix seconds, and the seed of what happens in it."""

    start: float
    days: float
    seed: int


def live_past(
    readers: Sequence[Reader],
    world: World,
    catalogue: Catalogue,
    stretch: Stretch,
    *,
    home: Path,
    desk: Desk,
    reader_id: Callable[[Reader], str],
) -> Past:
    """Let readers live on the site without recommendations and append every event durably, in order of time."""
    library = Library.of(catalogue.articles)
    past = Past()
    waiting: list[tuple[float, str]] = []
    outbox = Outbox(home / "outbox", clock=lambda: round(stretch.start * 1e6))
    page_views = PageViews()
    people = [r for r in readers if not r.bot and not r.objects]
    for reader in people:
        for start in visits(reader, start=stretch.start, days=stretch.days, seed=stretch.seed):
            heappush(waiting, (start, reader.key))
    memories = {reader.key: Memory(chosen=True) for reader in people}
    by_key = {reader.key: reader for reader in people}
    pages = Pages(Signals.empty(catalogue, stretch.start), desk)  # the site as it was counts no reads
    batch: list[Event] = []
    while waiting:
        start, key = heappop(waiting)
        reader = by_key[key]
        acts = session(reader, world, library, memories[key], start=start, rng_key=session_key(reader, start, seed=stretch.seed))
        for event in _events(acts, reader, catalogue, pages=pages, page_views=page_views, identity=reader_id(reader)):
            batch.append(event)
            past.events += 1
            if event.kind == "view" and event.body["page_type"] == "article":
                past.views += 1
                past.last_s[key] = event.issued_at // 1_000_000
    batch.sort(key=lambda event: (event.received_at, event.page_view))
    for first in range(0, len(batch), BATCH):
        outbox.append(batch[first : first + BATCH], timeout_s=60)
    outbox.close()
    past.reads = {key: list(memory.read) for key, memory in memories.items() if memory.read}
    return past


def _events(
    acts: Iterator[Action], reader: Reader, catalogue: Catalogue, *, pages: Pages, page_views: PageViews, identity: str
) -> Iterator[Event]:
    """Play one session against the pages of the status quo and yield what the site would have logged."""
    who = Identity(identity, False, 0, "simulated", Choices(personal=reader.agrees), Recent(), Shown(), False, False, reader.device)
    answer: Seen | None = None
    shown: Visit | None = None
    while True:
        try:
            act = acts.send(answer)  # type: ignore[attr-defined]
        except StopIteration:
            return
        answer = None
        if isinstance(act, Open):
            at_us = round(act.at * 1e6)
            section = (
                act.target
                if act.page == "section"
                else catalogue.articles[catalogue.positions[act.target]].section
                if act.page == "article"
                else ""
            )
            shown = Visit(page_views(at_us), at_us, who, act.page, act.referrer, "", act.target if act.page == "article" else "", section)
            answer = Seen(pages.links(act))
            yield from page_events(shown, catalogue)
        elif isinstance(act, Beacon) and shown is not None:
            body = {"active_ms": act.active_ms, "depth_percent": act.depth_percent}
            event = shown.event("dwell", f"{act.active_ms}:{act.depth_percent}", body)
            yield structs.replace(event, received_at=round(act.at * 1e6))


class Pages:
    """What readers saw on the pages of the site as it was; laid out again only when an article appears or grows too old to lead."""

    def __init__(self, unread: Signals, desk: Desk) -> None:
        self._unread, self._desk = unread, desk
        published = {article.published_at for article in unread.catalogue.articles}
        self._changes = sorted(published | {at + LEAD_AGE + timedelta(microseconds=1) for at in published})
        self._known: dict[tuple[str, str, int], tuple[Link, ...]] = {}

    def links(self, act: Open) -> tuple[Link, ...]:
        """Return the links of a page somebody opens."""
        if act.page not in ("front", "section"):
            return ()
        key = (act.page, act.target if act.page == "section" else "", bisect_right(self._changes, moment(round(act.at * 1e6))))
        if key not in self._known:
            self._known[key] = (
                front_links(self._unread.catalogue, self._desk, act.at, signals=self._unread, rules=SlateRules())
                if act.page == "front"
                else section_links(self._unread.catalogue, act.at, act.target)
            )
        return self._known[key]
