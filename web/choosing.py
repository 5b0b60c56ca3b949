"""What a reader allows: kept in their browser, and told to the events when an agreement is taken back."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flask import Request, Response, request

from experiments.errors import OutboxError
from experiments.events.event import Event
from experiments.events.ids import event_id
from web.cookies import CHOICE, HELD, ID, READS, SHOWN
from web.identity import DAY_S, ID_DAYS, Identity, Source, choices_text, known_reader, read_choices, remember
from web.site_protocol import Choices

if TYPE_CHECKING:
    from web.site import NewsSite

__all__ = ["Choosing"]

log = logging.getLogger("presslab.choosing")

ASK_DAYS = 183  # a No is not asked again for six months


@dataclass(frozen=True, slots=True)
class Choosing:
    """Keeps and reads the choices of the device that asks."""

    site: NewsSite

    def choose(
        self, asked: Request, response: Response, *, measured: bool | None = None, tests: bool | None = None, personal: bool | None = None
    ) -> None:
        """Store the choices that are not None; effective from the next page."""
        before = self.kept(asked)
        given = {"measured": measured, "tests": tests, "personal": personal}
        chosen = replace(before, **{name: value for name, value in given.items() if value is not None})
        reader, _, source = self._known(asked, ID)
        if reader and before.personal and not (chosen.personal and chosen.measured):
            self.take_back(reader, source)
        self.keep(asked, response, chosen)

    def kept(self, asked: Request) -> Choices:
        """What this reader chose, whatever the browser signals."""
        return read_choices(self.site.cookies.text(asked, CHOICE))

    def keep(self, asked: Request, response: Response, chosen: Choices) -> None:
        """Set the cookies of these choices: who is not counted keeps their id for the privacy page alone, and has it again when they are."""
        cookies = self.site.cookies
        objects = not (chosen.measured and chosen.tests)
        cookies.keep(response, CHOICE, choices_text(chosen), (ASK_DAYS if chosen.personal is False and not objects else ID_DAYS) * DAY_S)
        if not (chosen.personal and chosen.measured):
            cookies.forget(response, READS, SHOWN)
        counted = chosen.measured and (self.site.settings.regime != "strict" or chosen.personal is True)
        old, new = (HELD, ID) if counted else (ID, HELD)
        reader, issued_s, _ = self._known(asked, old)
        if reader and not (counted and self._known(asked, ID)[0]):
            cookies.keep_signed(response, new, cookies.given(asked, old), issued_s + ID_DAYS * DAY_S - self._now_s())
            cookies.forget(response, old)

    def finish(self, response: Response, who: Identity) -> None:
        """Set the cookies of a page."""
        if who.withdrew:
            self.keep(request, response, replace(self.kept(request), personal=False))
        remember(response, who, self.site.cookies, now_s=self._now_s())

    def take_back(self, reader: str, source: Source) -> bool:
        """Have models learn from this reader no more: the latest word of theirs among the events is a No. False when it could not be kept.

        It stands in a page view that nobody saw, so that no analysis counts it.
        """
        site, now = self.site, self.site.clock()
        page_view = site.page_views(now)
        body = {"page_type": "other", "article": "", "section": "", "referrer": "direct", "prefetch": True, "agreed": 0}
        told = Event(event_id(page_view, "view", ""), "view", page_view, reader, now, now, body, source=source, config=site.published.plan)
        try:
            site.outbox.append([told], timeout_s=site.settings.page_budget_ms / 1000)
        except OutboxError as error:
            log.error("that a reader took back an agreement was not kept: %s", error)
            return False
        return True

    def readers(self, asked: Request) -> list[tuple[str, int]]:
        """The ids of this device and when each was given (unix seconds), also where nothing is counted any more."""
        found = (self._known(asked, name) for name in (ID, HELD))
        return [(reader, issued_s) for reader, issued_s, _ in found if reader]

    def _known(self, asked: Request, name: str) -> tuple[str, int, Source]:
        return known_reader(self.site.tokens, self.site.cookies.given(asked, name), self._now_s())

    def _now_s(self) -> int:
        return self.site.clock() // 1_000_000
