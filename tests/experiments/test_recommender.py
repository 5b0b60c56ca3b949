"""Rankings: best first, whatever the scores are."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.serving.recommender import Ranking


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("most", [1, 7, 150])
def test_the_best_are_those_of_a_full_sort_ties_by_position_and_missing_scores_last(seed: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    articles = rng.permutation(1_000)[: int(rng.integers(0, 400))]
    scores = rng.integers(0, int(rng.integers(2, 200)), len(articles)).astype(np.float32)
    scores[rng.random(len(scores)) < rng.choice([0.0, 0.2, 0.9])] = rng.choice([np.nan, -np.inf])
    order = np.lexsort((articles, -scores))[:most]
    found = Ranking.best_first(articles, scores, [f"s{i}" for i in range(len(articles))], most=most)
    np.testing.assert_array_equal(found.articles, articles[order])
    np.testing.assert_array_equal(found.scores, scores[order])
    assert found.sources == tuple(f"s{i}" for i in order)
