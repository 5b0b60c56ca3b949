"""What the pages need from the running site, and the plain values they are given.

Pages never reach behind this protocol: a test, a preview and the real application each hand them an object of this shape
(as ``current_app.extensions["presslab"]``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from flask import Request, Response, current_app

from experiments.serving.recommender import Article, Catalogue

__all__ = ["AuthorLike", "Choices", "Desk", "MostRead", "PageView", "SectionLike", "Site", "SlotItem", "SlotView", "WhyView", "site"]


class SectionLike(Protocol):
    """A section of the newspaper: ``slug`` for addresses, ``name`` for people."""

    @property
    def slug(self) -> str: ...
    @property
    def name(self) -> str: ...


class AuthorLike(Protocol):
    """An author: ``slug`` as articles give it, ``name`` and ``beat`` for people."""

    @property
    def slug(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def beat(self) -> str: ...


class Desk(Protocol):
    """The newspaper itself. ``editors_order`` holds article ids, most important first."""

    @property
    def name(self) -> str: ...
    @property
    def motto(self) -> str: ...
    @property
    def sections(self) -> Sequence[SectionLike]: ...
    @property
    def authors(self) -> Sequence[AuthorLike]: ...
    @property
    def editors_order(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class SlotItem:
    """One place of a slot: the article, the link that carries the token, and why it is here (a sentence for readers)."""

    article: Article
    href: str
    reason: str


@dataclass(frozen=True, slots=True)
class SlotView:
    """A filled slot; ``items`` is empty where the site shows nothing. ``ask`` offers the choice "use my reading"."""

    items: tuple[SlotItem, ...] = ()
    ask: bool = False
    name: str = "article.related"


@dataclass(frozen=True, slots=True)
class Choices:
    """What this reader allows; ``personal`` is None until they have been asked."""

    measured: bool = True
    tests: bool = True
    personal: bool | None = None


@dataclass(frozen=True, slots=True)
class PageView:
    """One opened page.

    Parameters
    ----------
    token : signed page token for the beacon; None when nothing is measured.
    slot : what the slot shows on this page, or None when the page has none.
    choices : of this reader.
    reader_known : False on the first visit (the page then says in one line what is counted).
    """

    token: str | None = None
    slot: SlotView | None = None
    choices: Choices = Choices()
    reader_known: bool = True


@dataclass(frozen=True, slots=True)
class MostRead:
    """The most read articles and the period they were counted over ("the last 24 hours"); empty before any read."""

    articles: tuple[Article, ...] = ()
    period: str = "the last 24 hours"


@dataclass(frozen=True, slots=True)
class WhyView:
    """Why a slate was shown.

    Parameters
    ----------
    items : the slate, each with its reason.
    signal : one sentence: what the order was made from.
    own_reading : whether the order came from this reader's own reading.
    left_out : whether it said what is not shown again.
    experiment, group : question of the test and the plain name of the group; empty when no test ran.
    criteria : (words, weight 0 to 1), most important first.
    """

    items: tuple[SlotItem, ...]
    signal: str
    own_reading: bool
    experiment: str = ""
    group: str = ""
    criteria: tuple[tuple[str, float], ...] = ()
    left_out: bool = False


class Site(Protocol):
    """What the pages ask of the site. Console methods return stored results as plain JSON values; None means "none yet"."""

    @property
    def catalogue(self) -> Catalogue: ...
    @property
    def desk(self) -> Desk: ...
    def now(self) -> datetime: ...

    def open_page(self, request: Request, page_type: str, *, article: Article | None = None, section: str | None = None) -> PageView:
        """Record the view; ``page_type`` is front, section, article, search or other."""
        ...

    def finish(self, response: Response, page: PageView) -> None:
        """Set the cookies that belong to the page."""
        ...

    def choices(self, request: Request) -> Choices: ...
    def most_read(self, n: int) -> MostRead: ...
    def why(self, token: str) -> WhyView | None: ...

    def choose(
        self, request: Request, response: Response, *, measured: bool | None = None, tests: bool | None = None, personal: bool | None = None
    ) -> None:
        """Store the choices that are not None (cookies go into ``response``); effective from the next page."""
        ...

    def export(self, request: Request) -> dict[str, Any]:
        """Everything held about this device: reader, first_seen, expires, groups [{experiment, group}], events [{at, kind, ...}]."""
        ...

    def erase(self, request: Request, response: Response) -> bool:
        """Have everything held about this device erased, forget its cookie; False when nothing is held."""
        ...

    def report(self, name: str) -> dict[str, Any] | None:
        """The last report of an experiment as it stands now (:mod:`web.follow_up`)."""
        ...

    def start(self, name: str, *, who: str, reason: str) -> None:
        """Start a draft. Raises PresslabError when it cannot start, or ``who`` is empty."""
        ...

    def stop(self, name: str, *, who: str, reason: str) -> None:
        """Stop an experiment. Raises PresslabError when it does not run, or ``who`` is empty."""
        ...

    def decide(self, name: str, arm: str, *, who: str, reason: str) -> None:
        """Record a decision. Raises PresslabError when the experiment is not stopped, or a field is empty."""
        ...

    def record(self) -> dict[str, Any]:
        """Every step anybody took, the newest first: ``{faults, rows: [{at, who, experiment, did, reason, advice}]}``."""
        ...

    def reports(self) -> list[dict[str, Any]]: ...
    def jobs(self) -> list[dict[str, Any]]: ...
    def run_job(self, name: str) -> str:
        """Start a job now; returns a sentence that says what happened. Raises PresslabError when it cannot."""
        ...

    def models(self) -> list[dict[str, Any]]: ...
    def standing(self) -> dict[str, Any]:
        """Return ``{refreshed, arms}``: how old what is served is, and where every arm stands (:mod:`web.standing`)."""
        ...

    def drift(self) -> dict[str, Any] | None: ...
    def explanation(self) -> dict[str, Any] | None: ...
    def explain(self, *, arm: str, article: str, reads: Sequence[str]) -> Mapping[str, Any]:
        """A slate with reasons for somebody who read ``reads`` and has ``article`` open: {items: [{article, score, source, reasons}], note}."""
        ...

    def health(self) -> dict[str, Any]: ...


def site() -> Site:
    """Return the site of the running application."""
    return current_app.extensions["presslab"]  # type: ignore[no-any-return]
