"""From a ranking to what the reader sees: one builder for every arm, offline, in shadow and online."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice

import numpy as np

from experiments.serving.mixing import Mix, cosines
from experiments.serving.recommender import Catalogue, Context, Ints, Ranking
from experiments.serving.signals import HOUR, Signals, Texts
from experiments.serving.slate_rows import Row, ascending, inside, newest, of_section, scored_rows

__all__ = ["Item", "Pin", "Slate", "SlateRules", "blank", "build_slate", "pool_at", "slate_seed"]

EXPLORES = int.from_bytes(b"explores")


@dataclass(frozen=True, slots=True)
class SlateRules:
    """Constants of the slate.

    Parameters
    ----------
    n : places.
    pool_h : articles older than this are left out (evergreens stay); shortened to ``busy_pool_h`` when ``busy_pool`` articles are that fresh.
    per_section : at most this many of one section (relaxed when the slate would be short).
    mixed_among : from this many of a ranking the next article is the one the arm wants and those chosen are unlike; 0 keeps the arm's order.
    explore_from, explore, explore_among : places from this one on (0-based) draw with this probability from that many next articles.
    """

    n: int = 6
    pool_h: float = 72.0
    busy_pool_h: float = 48.0
    busy_pool: int = 200
    per_section: int = 2
    mixed_among: int = 30
    explore_from: int = 3
    explore: float = 0.05
    explore_among: int = 20


@dataclass(frozen=True, slots=True)
class Pin:
    """An article the editors put on a place (0-based) from ``since`` until ``until`` (unix seconds), in every arm alike."""

    article: int
    place: int
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Item:
    """One place of a slate.

    ``propensity`` is the probability of this article here given those above; ``rung`` is 0 when the arm itself placed it,
    then 1 heat of the open article's section, 2 heat of the site, 3 editors' list, 4 newest of any age.
    """

    article: int
    source: str
    score: float
    propensity: float = 1.0
    pinned: bool = False
    explored: bool = False
    rung: int = 0


@dataclass(frozen=True, slots=True)
class Slate:
    """What is shown, with the fingerprint of the candidates it was chosen from."""

    items: tuple[Item, ...]
    candidates: str = ""


def blank() -> Slate:
    """The status quo: nothing."""
    return Slate(())


def slate_seed(salt: str, page_view: str) -> int:
    """Return the seed of a slate, from the experiment's salt and the page view.

    Examples
    --------
    >>> slate_seed("s", "p") == slate_seed("s", "p") != slate_seed("s", "q")
    True
    """
    return int.from_bytes(blake2b(f"{salt}:{page_view}".encode(), digest_size=8).digest(), "big")


def pool_at(catalogue: Catalogue, at: float, *, article: int | None = None, rules: SlateRules = SlateRules()) -> Ints:
    """Return the positions that may be shown at ``at`` (unix seconds): out, not withdrawn, fresh or evergreen, not the open one."""
    times = catalogue.published_in_order
    since = (int(times.searchsorted(at - hours * HOUR)) for hours in (rules.busy_pool_h, rules.pool_h))
    pool = catalogue.derived(_pool, rules.busy_pool, *since, int(times.searchsorted(at, side="right")))
    return pool if article is None else pool[pool != article]


def _pool(catalogue: Catalogue, enough: int, busy: int, since: int, until: int) -> Ints:
    """The same for all requests until an article comes or leaves; ``busy``, ``since``, ``until`` count articles in order of publication."""
    fresh = _published(catalogue, busy, until)
    if len(fresh) < enough:
        fresh = _published(catalogue, since, until)
    last = catalogue.published_in_order[until - 1] if until else -np.inf
    pool = ascending(np.concatenate([fresh, catalogue.lasting[catalogue.published[catalogue.lasting] <= last]]))
    pool.flags.writeable = False
    return pool


def _published(catalogue: Catalogue, since: int, until: int) -> Ints:
    found = catalogue.newest_last[since:until]
    return np.asarray(found[~catalogue.withdrawn[found]])


def build_slate(
    ranking: Ranking, context: Context, *, rules: SlateRules = SlateRules(), pins: Sequence[Pin] = (), editors: Sequence[int] = ()
) -> Slate:
    """Turn a ranking into at most ``context.n`` places: pins, no repeats, one article per story, a mix of sections, exploration.

    Parameters
    ----------
    ranking : of an arm; articles outside ``context.pool`` are ignored.
    editors : positions of the editors' list, a rung of the ladder.
    """
    signals: Signals = context.signals
    builder = _Builder(context, rules, [pin for pin in pins if pin.since <= context.at < pin.until])
    own = scored_rows(inside(ranking, context.pool), rung=0)
    builder.fill(builder.mixed(own), capped=True)
    if builder.missing:
        builder.fill(own, capped=False)
    if builder.missing:
        warmth, near, published = signals.warmth(context.pool, context.at), of_section(context), signals.catalogue.published[context.pool]
        here = Ranking.best_first(context.pool[near], warmth[near], "heat", published=published[near])
        anywhere = scored_rows(Ranking.best_first(context.pool, warmth, "heat", published=published), rung=2)
        builder.fill(builder.mixed(scored_rows(here, rung=1)), capped=True)
        builder.fill(builder.mixed(anywhere), capped=True)
        builder.fill(anywhere, capped=False)
    if builder.missing:
        builder.fill(((position, "editors", 0.0, 3) for position in editors if builder.showable(position)), capped=False)
    if builder.missing:
        builder.fill(newest(signals.catalogue, context.at), capped=False)
    if builder.missing and builder.offer_tired():
        builder.fill(newest(signals.catalogue, context.at), capped=False)
    fingerprint = blake2b(np.sort(ranking.articles).tobytes(), digest_size=8).hexdigest() if len(ranking.articles) else ""
    return Slate(tuple(builder.items()), fingerprint)


class _Builder:
    """Places articles one by one; ``spare`` keeps what exploration may draw besides."""

    def __init__(self, context: Context, rules: SlateRules, pins: Sequence[Pin]) -> None:
        self.context, self.rules = context, rules
        self.catalogue: Catalogue = context.signals.catalogue
        self.n = max(0, min(context.n, rules.n))
        self.pins: dict[int, int] = {}
        for place, article in sorted({pin.place: pin.article for pin in pins if self.showable(pin.article)}.items()):
            if 0 <= place < self.n and article not in self.pins.values():
                self.pins[place] = article
        self.taken = {*context.reads, *context.tired, *self.pins.values()} | ({context.article} if context.article is not None else set())
        self.texts: Texts = context.signals.texts
        self.told: dict[int, int] = {}  # number of an article's story, of many looked up together
        self.stories: set[str | int] = set()
        self.sections: dict[int, int] = {}
        for article in self.pins.values():
            self._count(article)
        self.chosen: list[Row] = []
        self.spare: list[Row] = []

    @property
    def missing(self) -> bool:
        return len(self.chosen) + len(self.pins) < self.n

    def offer_tired(self) -> bool:
        """Let what was shown again and again, but never opened, be shown once more; whether there is such an article."""
        again = {*self.context.tired} - {*self.context.reads, *self.pins.values(), self.context.article}
        self.taken -= again
        return bool(again)

    def showable(self, article: int) -> bool:
        """Whether an article that need not be of the pool may be shown."""
        out = self.catalogue.published.item(article) <= self.context.at and not self.catalogue.withdrawn.item(article)
        return out and article != self.context.article

    def _count(self, article: int) -> None:
        section = self.catalogue.section.item(article)
        self.sections[section] = self.sections.get(section, 0) + 1
        self.stories |= self._story(article)

    def _story(self, article: int) -> set[str | int]:
        """What an article shares with others: the name the editors gave a story, and the number of those that say the same."""
        named, number = self.catalogue.articles[article].story, self.told.get(article)
        if number is None:
            number = self.told[article] = int(self.texts.story(np.array([article], np.int32))[0])
        found: set[str | int] = {named} if named else set()
        return found if number < 0 else found | {number}

    def mixed(self, rows: list[Row]) -> Iterator[Row]:
        """Each next row is one the arm wants and those chosen before are unlike; once the slate is full, the arm's own order."""
        first = rows[: self.rules.mixed_among] if len(self.texts.rows) else []
        looked_at = [row[0] for row in rows[: self.rules.mixed_among + self.rules.explore_among]]
        self.told |= zip(looked_at, self.texts.story(np.array(looked_at, np.int32)).tolist(), strict=True)
        before = [*self.pins.values(), *(row[0] for row in self.chosen)]
        mix = Mix([row[2] for row in first], cosines(self.texts, np.array([*(row[0] for row in first), *before], np.int32)))
        for place in range(len(first), len(first) + len(before)):
            mix.chosen(place)
        seen: set[int] = set()
        while self.missing and (best := mix.next()) is not None:
            seen.add(best)
            yield first[best]
            if first[best][0] in self.taken:
                mix.chosen(best)
        yield from (row for place, row in enumerate(rows) if place not in seen)

    def fill(self, rows: Iterable[Row], *, capped: bool) -> None:
        missing = self.missing
        placed = self.sections if missing else self._never_drawn()
        for row in rows:
            if not missing and len(self.spare) >= self.rules.explore_among:
                return
            article = row[0]
            if article in self.taken or (capped and not self._room(article, placed)) or self._told_already(article):
                continue
            self.taken.add(article)
            if not missing:
                self.spare.append(row)
                continue
            self.chosen.append(row)
            self._count(article)
            missing = self.missing
            placed = self.sections if missing else self._never_drawn()

    def _never_drawn(self) -> Counter[int]:
        """Sections of the pins and of the first places: one that is full with these has no other article in any draw."""
        first = sum(place not in self.pins for place in range(self.rules.explore_from))
        fixed = [*self.pins.values(), *(row[0] for row in self.chosen[:first])]
        return Counter(map(self.catalogue.section.item, fixed))

    def _told_already(self, article: int) -> bool:
        return bool(self.stories and self._story(article) & self.stories)

    def _room(self, article: int, placed: Mapping[int, int]) -> bool:
        """Whether the section of ``article`` has fewer than its share, or than the arm's own slate has where the cap gave way."""
        section = self.catalogue.section.item(article)
        return placed.get(section, 0) < max(self.rules.per_section, self.sections.get(section, 0))

    def items(self) -> Iterator[Item]:
        """Pins on their places; on each other the next that may stand there given those above, or, from the fourth on, a drawn one."""
        rng = np.random.default_rng([self.context.seed, EXPLORES])  # an arm may draw from the seed itself
        rest = [*self.chosen, *self.spare]
        above = Counter(map(self.catalogue.section.item, self.pins.values()))
        for place in range(self.n):
            if place in self.pins:
                yield Item(self.pins[place], "editors", 0.0, pinned=True)
                continue
            epsilon = self.rules.explore if place >= self.rules.explore_from else 0.0
            among = list(islice((row for row in rest if self._room(row[0], above)), self.rules.explore_among if epsilon > 0 else 1))
            if not among:
                continue  # what is pinned below stands all the same
            pick = int(rng.integers(len(among))) if len(among) > 1 and rng.random() < epsilon else 0
            row = among[pick]
            propensity = (1 - epsilon) * (pick == 0) + epsilon / len(among)
            yield Item(row[0], row[1], row[2], propensity=propensity, explored=pick > 0, rung=row[3])
            above[self.catalogue.section.item(row[0])] += 1
            rest = self._without(row, rest)

    def _without(self, row: Row, rest: list[Row]) -> list[Row]:
        """What may stand below ``row``: neither that article nor its story; only spare articles share one."""
        if row is rest[0]:
            return rest[1:]
        story = self._story(row[0])
        return [other for other in rest if other is not row and not story & self._story(other[0])]
