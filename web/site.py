"""The running site: one object per web process that routes readers, fills slots and makes events durable."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from flask import Request, Response

from experiments.assignment import Assignment, assign, reader_key
from experiments.clock import Clock, clock_of, moment
from experiments.errors import OutboxError, as_sentence
from experiments.events.ids import PageClaims, PageViews, TokenError
from experiments.events.outbox import Outbox
from experiments.experiment import Experiment
from experiments.serving.level_shares import levels_of
from experiments.serving.pick import Picked, Picker
from experiments.serving.recent import before_page, unread
from experiments.serving.recommender import Article, Catalogue, Context
from experiments.serving.slate import SlateRules, pool_at, slate_seed
from experiments.settings import Settings
from web import reasons
from web.arm_health import ArmHealth
from web.canary import Canary
from web.choosing import Choosing
from web.confirmed import Serving
from web.cookies import Cookies
from web.degraded import leave_degraded
from web.desk import Desk
from web.edge import Edge
from web.explaining import explain_slate
from web.health import health_of
from web.held import Held
from web.identity import Identity, identify, short_id
from web.keys import tokens_of
from web.objections import Objections
from web.published import Aside, Live, Published, refresh
from web.records import Visit, click, linked, page_events, referrer_of
from web.shadow import Asked, Shadow
from web.site_protocol import Choices, MostRead, PageView, SlotItem, SlotView
from web.standing import standing
from web.stored import Stored

__all__ = ["NewsSite", "OpenPage"]

log = logging.getLogger("presslab.site")
SLOT = "article.related"
IDENTITY = "presslab.identity"


@dataclass(frozen=True, slots=True)
class OpenPage(PageView):
    """A page view with the identity whose cookies :meth:`NewsSite.finish` sets."""

    identity: Identity | None = None


@dataclass(frozen=True, slots=True)
class _Slot:
    """What fills the slot of this request, and why."""

    picked: Picked
    assignment: Assignment | None = None
    experiment: Experiment | None = None


class NewsSite:
    """The site's state and everything a reader's request needs.

    Parameters
    ----------
    settings : see :class:`experiments.settings.Settings`.
    give_up : called when the outbox cannot commit any more; a web worker ends itself (status 70) and is replaced.
    """

    def __init__(self, settings: Settings, *, give_up: Callable[[], None] | None = None) -> None:
        self.settings, self.home = settings, Path(settings.home)
        self.clock: Clock = clock_of(self.home, settings.profile)
        self.tokens, self.rules = tokens_of(self.home), SlateRules(pool_h=settings.pool_hours)
        self.cookies, self.choosing = Cookies(self.tokens, settings.secure_cookies), Choosing(self)
        self.published: Published = refresh(self.home, None)
        self.picker = Picker(deadline_ms=settings.deadline_ms)
        self.page_views = PageViews()
        self.outbox = Outbox(self.home / "outbox", clock=self.clock, give_up=give_up)
        self.shadow = Shadow(self.outbox, self.page_views, self.clock)
        self.objections = Objections(self.outbox, self.page_views, self.clock)
        self.arm_health = ArmHealth(self.outbox, self.page_views, self.clock, opened=self.picker.opened)
        self.edge = Edge(self.outbox, self.page_views, self.clock)
        self.canary = Canary(self.outbox, self.page_views, self.clock)
        self.exporting = threading.Lock()  # what is held is collected for one reader at a time
        held, stored = Held(self), Stored(settings, self.clock)
        self.export, self.erase, self.why, self.choose = held.export, held.erase, held.why, self.choosing.choose
        self.report, self.reports, self.jobs, self.run_job = stored.report, stored.reports, stored.jobs, stored.run_job
        self.start, self.stop, self.decide, self.record = stored.start, stored.stop, stored.decide, stored.record
        self.models, self.drift, self.explanation = stored.models, stored.drift, stored.explanation
        self._stored, self.standing = stored, partial(standing, stored)
        self.serving, self._stop = Serving(self.home), threading.Event()
        self._watcher: threading.Thread | None = None

    def watch(self, every_s: float = 0.5) -> None:
        """Take over what is published, from a thread of this process; the first request starts it."""
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, args=(every_s,), daemon=True, name="published")
            self._watcher.start()

    def _watch(self, every_s: float) -> None:
        with suppress(OSError):  # each look says it again
            self.serving.tell(self.published.plan, self.published.bundles, withdrawn=self.published.withdrawn)
        aside = Aside()
        while not self._stop.wait(every_s):
            try:
                self.arm_health.tell(now=False)
                self.edge.tell(now=False)
                self.published = refresh(self.home, self.published, aside=aside)
                self.serving.tell(self.published.plan, self.published.bundles, withdrawn=self.published.withdrawn)
            except Exception as error:  # the health page names it; the next look that succeeds takes it away
                log.exception("looking for published changes failed; the last good state stays in use")
                self.published = replace(self.published, faults={**self.published.faults, "published": as_sentence(error)})

    def close(self) -> None:
        self._stop.set()
        for counts in (self.arm_health, self.edge, self.objections):
            counts.tell()
        self.outbox.close()
        self.serving.close()

    @property
    def catalogue(self) -> Catalogue:
        return self.published.catalogue

    @property
    def desk(self) -> Desk:
        return self.published.desk

    def now(self) -> datetime:
        return moment(self.clock())

    def identify(self, request: Request) -> Identity:
        """Return who asks; worked out once per request."""
        known: Identity | None = request.environ.get(IDENTITY)
        if known is None:
            known = identify(request, self.cookies, now_s=self.clock() // 1_000_000, regime=self.settings.regime)
            request.environ[IDENTITY] = known
        return known

    def open_page(self, request: Request, page_type: str, *, article: Article | None = None, section: str | None = None) -> OpenPage:
        """Route the reader, fill the slot, and return once every event of the page is on disk.

        When the events cannot be made durable in time the reader gets the page of the status quo, without a token.
        """
        self.watch()
        published, now = self.published, self.clock()
        who = self.identify(request)
        if not who.measured:
            return self._unmeasured(request, who, page_type, article.id if article else "")
        visit = Visit(
            self.page_views(now), now, who, page_type, referrer_of(request), published.plan,
            article.id if article else "", section or (article.section if article else ""),
        )  # fmt: skip
        slot = self._fill(published, visit) if page_type == "article" else None
        events = page_events(
            visit, published.catalogue,
            assignment=slot.assignment if slot else None, experiment=slot.experiment if slot else None, picked=slot.picked if slot else None,
        )  # fmt: skip
        events += self._click(request, visit, slot)
        if who.agreed:
            now_s = now // 1_000_000
            who = replace(who, recent=who.recent.with_read(short_id(article.id), now_s) if article else who.recent.with_page(now_s))
        try:
            self.outbox.append(events, timeout_s=self.settings.page_budget_ms / 1000)
        except OutboxError as error:
            log.error("page sent without recommendations: %s", error)
            if slot:
                leave_degraded(self.outbox, error, visit=visit, assignment=slot.assignment, experiment=slot.experiment)
            return OpenPage(None, SlotView() if slot else None, who.choices, not who.new, who)
        # places of the slot are of this catalogue, also when another is published meanwhile
        return OpenPage(self._token(visit, slot, published.catalogue), self._view(visit, slot, published), who.choices, not who.new, who)

    def _unmeasured(self, request: Request, who: Identity, page_type: str, article: str) -> OpenPage:
        """Bots, prefetches and readers who object: the status quo, no id, nothing enrolled."""
        try:
            if who.bot and not who.prefetch:
                now = self.clock()
                visit = Visit(self.page_views(now), now, who, page_type, referrer_of(request), self.published.plan, article)
                self.outbox.append(page_events(visit, self.published.catalogue), timeout_s=self.settings.page_budget_ms / 1000)
            elif not who.prefetch:
                self.objections.count()
        except OutboxError as error:
            log.error("a page that is not measured was not counted: %s", error)
        ask = who.choices.measured and who.choices.personal is None and not who.bot  # where nothing is stored before somebody agreed
        slot = SlotView(ask=ask) if page_type == "article" else None
        told = bool(who.withdrew) and self.choosing.take_back(who.withdrew, who.source)
        return OpenPage(None, slot, who.choices, True, who if told else None)

    def _fill(self, published: Published, visit: Visit) -> _Slot:
        live, assignment = self._assignment(published, visit.identity)
        name = assignment.arm if assignment else published.defaults.get(SLOT, "status_quo")
        arm = published.arms.get(name)
        if arm is not None and arm.audience == "agreed" and not visit.identity.agreed:
            arm = published.arms["status_quo"]
        salt = live.experiment.salt or live.experiment.name if live else "site"
        context = self.context_for(published, visit, salt=salt)
        pins, editors = published.desk.pins_at(published.catalogue), published.catalogue.known(published.desk.editors_order).tolist()
        picked = self.picker.pick(arm, context, rules=self.rules, pins=pins, editors=editors)
        self.arm_health.count(live.experiment.name if live and assignment else "", name, picked)
        asked = [Asked(live.experiment.name, shadow) for shadow in live.experiment.shadow] if live and assignment else []
        for one in (*asked, *published.shadow):
            self._shadow(one, published, context, agreed=visit.identity.agreed)
        return _Slot(picked, assignment, live.experiment if live and assignment else None)

    def _shadow(self, asked: Asked, published: Published, context: Context, *, agreed: bool) -> None:
        """Ask an arm that nobody is shown; one that looks at reads is asked for readers who agreed, as it will be."""
        arm = published.arms.get(asked.arm)
        if arm is not None and (agreed or arm.audience == "all"):
            self.shadow.offer(asked, arm, context, self.rules)

    def _assignment(self, published: Published, who: Identity) -> tuple[Live | None, Assignment | None]:
        live = next((x for x in published.experiments if x.experiment.slot == SLOT), None)
        if live is None or not who.choices.tests or (live.experiment.audience == "agreed" and not who.agreed):
            return live, None
        return live, assign(live.allocation, reader_key(who.reader))

    def context_for(self, published: Published, visit: Visit, *, salt: str = "site") -> Context:
        """Return what an arm may know about a page view."""
        catalogue, who, at = published.catalogue, visit.identity, visit.at_us / 1e6
        position = catalogue.position(visit.article)
        reads = before_page(reasons.positions_of(catalogue, who.recent.articles), position)
        return Context(
            at, position, reads, published.signals, unread(pool_at(catalogue, at, article=position, rules=self.rules), reads),
            n=self.rules.n, seed=slate_seed(salt, visit.page_view), session_position=who.recent.before(visit.at_us // 1_000_000),
            tired=reasons.positions_of(catalogue, who.shown.tired(hour=int(at // 3_600))),
            levels=levels_of(who.device, visit.referrer) if who.agreed else (),
        )  # fmt: skip

    def _click(self, request: Request, visit: Visit, slot: _Slot | None) -> list[Any]:
        """The click that led here, if the link carries a token of this reader and of the test they are in; else this is a view like any other."""
        token = request.args.get("via", "")
        if not token or not visit.article:
            return []
        experiment, arm = _test_of(slot)
        try:
            link = self.tokens.read_link(token, linked(visit.article, visit.identity.reader, experiment), now_us=visit.at_us)
        except TokenError:
            return []
        return [click(visit, page_view=link.page_view, slot=link.slot, position=link.position, experiment=experiment, arm=arm)]

    def _token(self, visit: Visit, slot: _Slot | None, catalogue: Catalogue) -> str:
        articles = tuple(catalogue.ids[i.article] for i in slot.picked.slate.items) if slot else ()
        experiment, arm = _test_of(slot)
        claims = PageClaims(
            visit.page_view, self.tokens.reader_hash(visit.identity.reader), visit.identity.source, visit.at_us,
            config=visit.config, experiment=experiment, arm=arm, articles=articles, article=visit.article,
        )  # fmt: skip
        return self.tokens.page(claims)

    def _view(self, visit: Visit, slot: _Slot | None, published: Published) -> SlotView | None:
        if slot is None:
            return None
        catalogue, items = published.catalogue, []
        for place, item in enumerate(slot.picked.slate.items):
            article = catalogue.articles[item.article]
            token = self.tokens.link(visit.page_view, SLOT, place, linked(article.id, visit.identity.reader, _test_of(slot)[0]))
            says = reasons.sentence(item, published.signals, at=visit.at_us / 1e6)
            items.append(SlotItem(article, f"/en/article/{article.id}?via={token}", says))
        return SlotView(tuple(items), ask=visit.identity.choices.personal is None, name=SLOT)

    def finish(self, response: Response, page: PageView) -> None:
        """Set the cookies of the page."""
        if isinstance(page, OpenPage) and page.identity is not None:
            self.choosing.finish(response, page.identity)

    def choices(self, request: Request) -> Choices:
        return self.identify(request).choices

    def most_read(self, n: int) -> MostRead:
        return reasons.most_read(self.published.signals, self.rules, at=self.clock() / 1e6, n=n)

    def explain(self, *, arm: str, article: str, reads: Sequence[str]) -> Mapping[str, Any]:
        """Return a slate with its reasons for somebody who read ``reads`` and has ``article`` open."""
        return explain_slate(self.published, arm=arm, article=article, reads=reads, at=self.clock() / 1e6, rules=self.rules)

    def health(self) -> dict[str, Any]:
        """Return what is well and what is not, worst first."""
        return health_of(self._stored, self.published, self.fault(), self.canary.missing)

    def fault(self) -> str:
        """Return in words why this process is not ready, or an empty string: a canary event must become durable."""
        return self.canary.fault()


def _test_of(slot: _Slot | None) -> tuple[str, str]:
    """Experiment and arm of a page, both empty outside of tests."""
    return (slot.assignment.experiment, slot.assignment.arm) if slot and slot.assignment else ("", "")
