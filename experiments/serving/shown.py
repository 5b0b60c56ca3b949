"""What a reader had on screen again and again without opening it: such an article is left out for a while."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Shown"]

TIMES, WITHIN_H = 3, 72
KEPT, KEPT_PAGES = 48, 4


@dataclass(frozen=True, slots=True)
class Shown:
    """A reader's recent showings; a value, so that a cookie can hold it.

    Parameters
    ----------
    entries : (article, hour of the first showing, times shown since), the latest last; at most 48.
    pages : page views counted last; a page tells several times how far it was read, and counts once.

    Examples
    --------
    >>> shown = Shown()
    >>> for page in "abc":
    ...     shown = shown.with_page(page, ["x", "y"], hour=10)
    >>> shown.with_page("d", ["x"], hour=11).tired(hour=12)
    ('y', 'x')
    >>> shown.tired(hour=10 + 72)
    ()
    """

    entries: tuple[tuple[str, int, int], ...] = ()
    pages: tuple[str, ...] = ()

    def with_page(self, page: str, articles: Sequence[str], *, hour: int) -> Shown:
        """Return what is known after a page whose slot came on screen in that hour; the same page again changes nothing."""
        if page in self.pages or not articles:
            return self
        known = {article: (first, times) for article, first, times in self.entries if hour - first < WITHIN_H}
        for article in articles:
            first, times = known.pop(article, (hour, 0))
            known[article] = first, min(times + 1, TIMES)
        entries = tuple((article, first, times) for article, (first, times) in known.items())
        return Shown(entries[-KEPT:], (*self.pages, page)[-KEPT_PAGES:])

    def tired(self, *, hour: int) -> tuple[str, ...]:
        """Articles shown three times within 72 hours."""
        return tuple(article for article, first, times in self.entries if times >= TIMES and hour - first < WITHIN_H)
