"""What a model says about an article adds up to the score the article was served with, for every item served."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

from experiments.serving.recommender import Context, Ranking, arm_class
from experiments.serving.signals import HOUR
from recsys.explanation import contributions
from recsys.practice import UNTIL, OnTrial, on_trial
from recsys.requests import contexts, next_reads

LIMIT = 1e-6


@cache
def trial(name: str) -> OnTrial:
    return on_trial(arm_class(name))


def served(name: str, items: int) -> Iterator[tuple[Context, Ranking]]:
    """Requests of past page views and what the arm served, until so many items are seen."""
    tried, seen = trial(name), 0
    arm = tried.arm()
    asked = next_reads(tried.site.reads, since=UNTIL - 72 * HOUR, until=UNTIL, most=1_000, seed=0)
    for _, context in contexts(asked, tried.site):
        ranking = arm.rank(context)
        yield context, ranking
        seen += len(ranking.articles)
        if seen >= items:
            return
    raise AssertionError(f"only {seen} items were served")


def largest_als_gap(items: int) -> float:
    arm: Any = trial("als").arm()
    gaps = [
        abs(sum(value for _, value in arm.explain(context, article)) - score)
        for context, ranking in served("als", items)
        for article, score in zip(ranking.articles.tolist(), ranking.scores.tolist(), strict=True)
    ]
    assert len(gaps) >= items
    return max(gaps)


def largest_ranked_gap(items: int) -> float:
    """Base value and SHAP contributions against the score readers were served, not against a score computed anew."""
    arm: Any = trial("ranked").arm()
    features, scores = [], []
    for context, ranking in served("ranked", items):
        union, matrix = arm.inputs(context)
        place = {int(article): row for row, article in enumerate(union.articles)}
        features.append(matrix[[place[int(article)] for article in ranking.articles]])
        scores.append(ranking.scores)
    base, values, _ = contributions(arm.trees, np.concatenate(features))
    gaps = np.abs(base + values.sum(axis=1) - np.concatenate(scores))
    assert len(gaps) >= items
    return float(gaps.max())


def test_als_reasons_add_up_for_a_sample_of_served_items() -> None:
    assert largest_als_gap(500) <= LIMIT


def test_the_rankers_contributions_add_up_for_a_sample_of_served_items() -> None:
    assert largest_ranked_gap(500) <= LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("gap", [largest_als_gap, largest_ranked_gap])
def test_explanations_add_up_for_ten_thousand_served_items(gap: Any) -> None:
    assert gap(10_000) <= LIMIT
