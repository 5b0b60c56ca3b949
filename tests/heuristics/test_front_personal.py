"""The front rule with a leaning: nothing for a stranger, at most a fifth for a regular."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from experiments.serving.recommender import Catalogue, Context, Ranking
from experiments.serving.signals import HOUR, Reads, Signals, build_signals
from experiments.serving.slate import Item, pool_at
from heuristics.front import Front
from heuristics.front_personal import FrontPersonal
from tests.conftest import NOW, article
from web.reasons import sentence

AT = NOW.timestamp()
ON_READING = ("From a section you often read", "Also read by readers of this article")


@pytest.fixture
def asked() -> Context:
    """Forty articles in four sections (number modulo 4); each but 0 was read once an hour ago, so the site likes all sections alike."""
    catalogue = Catalogue([article(i, published_at=NOW - timedelta(hours=30)) for i in range(40)])
    codes = np.arange(1, 40)
    reads = Reads(codes, codes, codes.astype(np.int32), np.full(39, AT - HOUR))
    return Context(AT, 0, (), build_signals(reads, catalogue, at=AT), pool_at(catalogue, AT, article=0))


def scores(ranking: Ranking) -> dict[int, float]:
    return dict(zip(ranking.articles.tolist(), ranking.scores.tolist(), strict=True))


def test_a_reader_without_reads_gets_what_the_front_rule_gives(asked: Context) -> None:
    mine, rule = FrontPersonal().rank(asked), Front().rank(asked)
    assert (mine.articles.tolist(), mine.scores.tolist(), mine.sources) == (rule.articles.tolist(), rule.scores.tolist(), rule.sources)


def test_a_reader_of_one_section_sees_it_first(asked: Context) -> None:
    best = FrontPersonal().rank(replace(asked, reads=(3, 7, 11))).articles[:5]
    assert {int(a) % 4 for a in best} == {3}


def test_the_score_is_the_documented_one(asked: Context) -> None:
    """Three reads of section 3: w = 0.6 / 13, A_3 = (3 + 10 p) / 13, the others 10 p / 13, with each section's own p."""
    found, rule = scores(FrontPersonal().rank(replace(asked, reads=(3, 7, 11)))), scores(Front().rank(asked))
    usual = {code: (9 if code == 0 else 10) / 39 for code in range(4)}
    affinity = {code: ((3 if code == 3 else 0) + 10 * usual[code]) / 13 for code in range(4)}
    weight, highest = 0.2 * 3 / 13, max(rule.values())
    expected = {a: (1 - weight) * rule[a] / highest + weight * affinity[a % 4] / affinity[3] for a in rule}
    assert found == pytest.approx(expected, abs=1e-6)


def test_sections_never_weigh_more_than_a_fifth(asked: Context) -> None:
    found, rule = scores(FrontPersonal().rank(replace(asked, reads=(3, 7, 11) * 50))), scores(Front().rank(asked))
    highest = max(rule.values())
    assert all(abs(found[a] - rule[a] / highest) <= 0.2 for a in rule)


def test_only_the_last_twenty_reads_count(asked: Context) -> None:
    recent = (3, 7) * 10
    assert scores(FrontPersonal().rank(replace(asked, reads=(4,) * 500 + recent))) == scores(
        FrontPersonal().rank(replace(asked, reads=recent))
    )


def test_only_readers_who_agreed_are_its_audience() -> None:
    assert FrontPersonal.audience == "agreed"


def test_every_recommendation_has_one_sentence(asked: Context) -> None:
    cold = replace(asked, signals=Signals.empty(asked.signals.catalogue, AT))
    for context in (replace(asked, reads=(3, 7, 11)), asked, replace(cold, reads=(3, 7))):
        ranking = FrontPersonal().rank(context)
        told = [sentence(Item(a, s, 0.0), context.signals, at=AT) for a, s in zip(ranking.articles.tolist(), ranking.sources, strict=True)]
        assert len(told) == len(context.pool)
        assert set(told) <= {*ON_READING, "Read today" if context.signals is asked.signals else "Chosen by this site's rules"}
    assert "From a section you often read" in told


def test_a_section_is_called_often_read_from_two_reads_on(asked: Context) -> None:
    """Also where nothing else speaks for its articles."""
    cold = replace(asked, signals=Signals.empty(asked.signals.catalogue, AT))
    for reads, often in (((3, 7, 10), {3}), ((3, 2, 1), set()), ((3, 7, 2, 6), {2, 3})):
        ranking = FrontPersonal().rank(replace(cold, reads=reads))
        told = zip(ranking.articles.tolist(), ranking.sources, strict=True)
        assert {article % 4 for article, word in told if word == "section"} == often
