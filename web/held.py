"""What is held about one device, why it saw what it saw, and how it is forgotten."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from flask import Request, Response, request
from werkzeug.exceptions import ServiceUnavailable

from experiments.assignment import assign, reader_key
from experiments.clock import moment
from experiments.events.export import export_reader
from experiments.events.ids import PageClaims, TokenError
from experiments.files import replace_json
from experiments.serving.recommender import Context, Explainable, discover
from experiments.serving.slate import Item, build_slate
from web import reasons
from web.cookies import CHOICE, HELD, ID
from web.identity import ID_DAYS, Identity, short_id
from web.records import Visit
from web.site_protocol import Choices, SlotItem, WhyView

if TYPE_CHECKING:
    from web.site import NewsSite

__all__ = ["Held"]

DAY_US = 86_400_000_000
PATIENCE_S = 1.0  # a reader who asks why waits longer than one who reads
GROUPS = {
    "status_quo": "nothing is recommended",
    "front": "what is read now and read with it",
    "newest": "the newest",
    "most_read": "most read",
    "front_personal": "what is read now, with more of the sections you read",
}
SIGNALS = {
    "status_quo": "In this group nothing is recommended below an article.",
    "heuristic": "The order comes from what is read now and from what else readers of this article read.",
    "front_personal": "The order comes from what is read now, from what else readers of this article read, and from which sections you read here.",
    "model": "The order comes from a model that compares what you read here with what others read.",
}


@dataclass(frozen=True, slots=True)
class Held:
    """Answers questions about the device that asks."""

    site: NewsSite

    def export(self, asked: Request) -> dict[str, Any]:
        """Return id, dates, groups and every event; only the id's absence when nothing is held.

        Raises
        ------
        ServiceUnavailable
            Another reader of this process is being told: every event that is not sealed is gone through, which must not take all threads.
        """
        if not (known := self.site.choosing.readers(asked)):
            return {"reader": None}
        reader, issued_s = known[0]
        if not self.site.exporting.acquire(blocking=False):
            raise ServiceUnavailable
        try:
            rows = [row for one, _ in known for row in export_reader(self.site.home, one)]
        finally:
            self.site.exporting.release()
        events = [
            {
                "at": moment(row["issued_at"]).isoformat(timespec="seconds"),
                "kind": row["kind"],
                "article": row["body"].get("article") or None,
                **row,
            }
            for row in sorted(rows, key=lambda row: row["issued_at"])
        ]
        return {
            "reader": reader,
            "first_seen": moment(issued_s * 1_000_000).isoformat(timespec="seconds"),
            "expires": moment(issued_s * 1_000_000 + ID_DAYS * DAY_US).isoformat(timespec="seconds"),
            "groups": self._groups(self.site.identify(asked)),
            "events": events,
        }

    def _groups(self, who: Identity) -> list[dict[str, str]]:
        found = []
        for live in self.site.published.experiments:
            if who.measured and who.choices.tests and (live.experiment.audience == "all" or who.agreed):
                assignment = assign(live.allocation, reader_key(who.reader))
                if assignment:
                    found.append({"experiment": live.experiment.question, "group": GROUPS.get(assignment.arm, assignment.arm)})
        return found

    def erase(self, asked: Request, response: Response) -> bool:
        """Ask the worker to erase this device and forget its cookies now; what it objects to stays. False when it has no id."""
        known = self.site.choosing.readers(asked)
        for reader, _ in known:
            replace_json(self.site.home / "erase" / f"{uuid4().hex}.json", {"reader": reader, "asked_us": self.site.clock()})
        if known:
            chosen = self.site.choosing.kept(asked)
            objects = replace(chosen, personal=False if chosen.personal is False else None)
            self.site.choosing.keep(asked, response, objects)
            self.site.cookies.forget(response, ID, HELD, *(() if objects != Choices() else (CHOICE,)))
        return bool(known)

    def why(self, token: str) -> WhyView | None:
        """Explain the slate a page token speaks of; None for a token that is not this device's."""
        who = self.site.identify(request)
        try:
            claims = self.site.tokens.read_page(token, reader=who.reader, now_us=self.site.clock())
        except TokenError:
            return None
        name = claims.arm or self.site.published.defaults.get("article.related", "status_quo")
        arm = self.site.published.arms.get(name)
        live = next((x for x in self.site.published.experiments if x.experiment.name == claims.experiment), None)
        context = self._context(claims, who)
        items = self._items(claims, context, arm)
        counted = Counter(item.reason for item in items)
        return WhyView(
            tuple(items),
            SIGNALS.get(name) or SIGNALS[_kind(name)],
            bool(arm and arm.audience == "agreed"),
            live.experiment.question if live else "",
            GROUPS.get(claims.arm, claims.arm),
            tuple((words, n / len(items)) for words, n in counted.most_common()),
            left_out=bool(items) and who.agreed and bool(context.reads or context.tired),
        )

    def _context(self, claims: PageClaims, who: Identity) -> Context:
        published = self.site.published
        then = replace(who, recent=who.recent.before_read(short_id(claims.article)))
        visit = Visit(claims.page_view, claims.issued_at, then, "article", "", claims.config, claims.article)
        live = next((x.experiment for x in published.experiments if x.experiment.name == claims.experiment), None)
        return self.site.context_for(published, visit, salt=live.salt or live.name if live else "site")

    def _items(self, claims: PageClaims, context: Context, arm: Any) -> list[SlotItem]:
        published, picker = self.site.published, self.site.picker
        ranking, cause, _ = picker.rank(arm, context, deadline_s=PATIENCE_S)
        explains = isinstance(arm, Explainable) and not cause
        pins, editors = published.desk.pins_at(published.catalogue), published.catalogue.known(published.desk.editors_order).tolist()
        slate = build_slate(ranking, context, rules=self.site.rules, pins=pins, editors=editors)
        placed = {item.article: item for item in slate.items}
        source = dict(zip(ranking.articles.tolist(), ranking.sources, strict=True))  # for what was explored, or has moved since
        found = []
        for identity in claims.articles:
            position = published.catalogue.position(identity)
            if position is None:
                continue
            article = published.catalogue.articles[position]
            if article.withdrawn:
                continue
            item = placed.get(position) or Item(position, source.get(position, ""), 0.0)
            words = reasons.sentence(item, published.signals, at=claims.issued_at / 1e6)
            told = partial(reasons.because, arm, context, position, published.catalogue)
            by_arm = explains and item.rung == 0 and not item.pinned
            because = picker.aside(arm, told, otherwise="", deadline_s=PATIENCE_S) if by_arm else ""
            found.append(SlotItem(article, f"/en/article/{identity}", because or words))
        return found


def _kind(name: str) -> str:
    """The kind of an arm, also of one whose model is not loaded."""
    known = discover().get(name)
    return str(getattr(known, "kind", "status_quo"))
