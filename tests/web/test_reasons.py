"""What readers are told is true of the article, and of what placed it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from experiments.serving.recommender import Article, Catalogue, Context
from experiments.serving.signals import HOUR, Reads, SignalRules, Signals, build_signals
from experiments.serving.slate import Item, SlateRules
from web.reasons import because, most_read, sentence

START = datetime(2026, 1, 5, tzinfo=UTC)
NOW = START.timestamp() + 48 * HOUR
AGES_H = [40.0] * 29 + [2.0]  # the last is new
CATALOGUE = Catalogue(
    [Article(f"a{i:02d}", f"Title {i}", "", "", "city", "x", START + timedelta(hours=48 - age)) for i, age in enumerate(AGES_H)]
)


def read(times: dict[int, int], *, busy: bool = False, ago_h: float = 0.5) -> Signals:
    """Signals of a site on which article i was read ``times[i]`` times, by as many readers; a busy one had other reads before."""
    article = np.repeat(np.array(list(times), np.int32), list(times.values()))
    before = np.zeros(48_000 if busy else 0, np.int32) + 28
    n = np.arange(len(before) + len(article))
    at = np.r_[np.full(len(before), NOW - 20 * HOUR), np.full(len(article), NOW - ago_h * HOUR)]
    return build_signals(Reads(n, n, np.r_[before, article], at), CATALOGUE, at=NOW, rules=SignalRules(half_life_h=4.0))


def heat_of(signals: Signals, article: int) -> str:
    return sentence(Item(article, "heat", 0.1), signals, at=NOW)


@pytest.mark.parametrize(("busy", "period"), [(False, "today"), (True, "in the last hour")])
def test_only_the_ten_most_read_are_called_most_read(busy: bool, period: str) -> None:
    signals = read({i: 30 - i for i in range(25)}, busy=busy)
    told = [heat_of(signals, i) for i in range(25)]
    assert told == [f"Most read {period}"] * 10 + [f"Read {period}"] * 15


@pytest.mark.parametrize(
    ("reads", "called"),
    [
        ([9] * 9 + [5] * 8, 9),  # the tenth place is shared by eight: none of them has it
        ([9] * 9 + [5] + [4] * 8, 10),
        ([1] * 17, 0),
        ([1] * 10, 10),
    ],
)
def test_articles_that_share_the_tenth_place_with_an_eleventh_are_not_called_most_read(reads: list[int], called: int) -> None:
    signals = read(dict(enumerate(reads)))
    told = [heat_of(signals, i) for i in range(len(reads))]
    assert told == ["Most read today"] * called + ["Read today"] * (len(reads) - called)


def test_what_nobody_read_is_not_called_read() -> None:
    signals = read({0: 3, 1: 3})
    assert heat_of(signals, 1) == "Most read today"
    assert heat_of(signals, 5) == "Chosen by this site's rules"
    assert heat_of(signals, 29) == "Just published"
    yesterday = read(dict.fromkeys(range(10), 5), ago_h=30.0)
    assert yesterday.heat[3] > 0
    assert heat_of(yesterday, 3) == "Chosen by this site's rules"


@pytest.mark.parametrize("source", ["newest", "heat"])
def test_an_article_is_just_published_by_the_clock_of_the_page_whatever_placed_it(source: str) -> None:
    """Before the first reads are counted the signals are of no moment at all."""
    signals = Signals.empty(CATALOGUE, 0.0)
    later = sentence(Item(29, source, 0.0), signals, at=NOW + 90 * 24 * HOUR)
    assert sentence(Item(29, source, 0.0), signals, at=NOW) == "Just published"
    assert later == {"newest": "One of the newest here", "heat": "Chosen by this site's rules"}[source]


@dataclass(frozen=True)
class Told:
    """An arm that says what it is given: (read article, contribution), largest first."""

    parts: tuple[tuple[int, float], ...]

    def explain(self, context: Context, article: int) -> list[tuple[int, float]]:
        return list(self.parts)


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        (((1, 0.9), (2, 0.1)), "Because you read “Title 1”"),
        (((1, 0.3), (2, 0.29), (3, 0.21), (4, 0.2)), "Because you read “Title 1”"),
        (((1, 0.29), (2, 0.29), (3, 0.21), (4, 0.21)), ""),
        (((7, 0.9), (1, 0.05), (2, 0.05)), ""),  # the open article speaks for it, not what was read before
        (((7, 0.6), (1, 0.4)), "Because you read “Title 1”"),
        (((7, 1.0),), ""),
        (((1, -0.1), (2, -0.2)), ""),
        (((1, 0.5), (2, -5.0)), "Because you read “Title 1”"),
        ((), ""),
    ],
)
def test_a_read_is_named_when_it_gives_30_percent_of_all_that_speaks_for_the_article(
    parts: tuple[tuple[int, float], ...], told: str
) -> None:
    context = Context(NOW, 7, (1, 2, 3, 4), Signals.empty(CATALOGUE, NOW), np.arange(8, 30, dtype=np.int32))
    assert because(Told(parts), context, 20, CATALOGUE) == told
    elsewhere = replace(context, article=None)
    assert bool(because(Told(parts), elsewhere, 20, CATALOGUE)) == (told != "" or bool(parts and parts[0][0] == 7))


def test_in_the_list_of_the_most_read_the_newest_comes_first_of_those_that_were_read_alike() -> None:
    signals = read({0: 2, 1: 2, 29: 2, 5: 3})
    told = most_read(signals, SlateRules(), at=NOW, n=3)
    assert [found.id for found in told.articles] == ["a05", "a29", "a00"]


@pytest.mark.parametrize(
    ("busy", "age_h", "told", "period"),
    [
        (True, 0.25, "Most read in the last hour", "the last hour"),
        (True, 0.3, "Most read lately", "the hour until 7 Jan, 00:00 UTC"),
        (False, 6.0, "Most read today", "the last 24 hours"),
        (False, 6.1, "Most read lately", "the 24 hours until 7 Jan, 00:00 UTC"),
    ],
)
def test_what_was_read_before_the_signals_stopped_is_not_called_of_the_last_hour(busy: bool, age_h: float, told: str, period: str) -> None:
    signals, at = read({0: 3, 1: 2}, busy=busy), NOW + age_h * HOUR
    assert sentence(Item(0, "heat", 0.1), signals, at=at) == told
    assert most_read(signals, SlateRules(), at=at, n=3).period == period


def test_before_the_first_signals_the_list_of_the_most_read_names_no_moment() -> None:
    assert most_read(Signals.empty(CATALOGUE, 0.0), SlateRules(), at=NOW, n=3).period == "the last 24 hours"
