"""Pairs of sessions: quick, and exactly what a loop over the reads counts."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from experiments.serving.pair_rows import PairRules, pair_rows

AT, ARTICLES = 100 * 3_600.0, 12


def counted(session: list[int], article: list[int], at: list[float], rules: PairRules) -> dict[tuple[int, int], float]:
    """The definition, read by read; sorted by time as they come."""
    weights: dict[tuple[int, int], float] = defaultdict(float)
    sessions: dict[frozenset[int], set[int]] = defaultdict(set)
    for one in set(session):
        rows = [i for i in range(len(session)) if session[i] == one]
        for place, later in enumerate(rows):
            for steps, earlier in enumerate(reversed(rows[max(0, place - rules.steps) : place])):
                source, target = article[earlier], article[later]
                if source != target:
                    weight = 0.5 ** ((AT - at[later]) / 3_600 / rules.half_life_h) * rules.step_decay**steps
                    sessions[frozenset((source, target))].add(one)
                    weights[source, target] += weight
                    weights[target, source] += rules.backwards * weight
    return {pair: w for pair, w in weights.items() if w and len(sessions[frozenset(pair)]) >= rules.least_sessions}


@pytest.mark.parametrize("least", [1, 2, 6])
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("reads", [0, 1, 2, 400])
def test_pairs_are_those_a_loop_over_the_reads_counts(least: int, steps: int, reads: int) -> None:
    rng = np.random.default_rng(reads + steps)
    session, article = rng.integers(50, 110, reads), rng.integers(0, ARTICLES, reads).astype(np.int32)
    at = np.sort(AT - np.round(rng.random(reads) * 20) * 3_600.0)  # many at the same moment
    rules = PairRules(5.0, 0.3 if steps > 1 else 0.0, steps, 0.7, least)
    order = np.argsort(session, kind="stable")
    found = pair_rows((session[order], article[order], at[order]), ARTICLES, at=AT, rules=rules)
    expected = counted(session.tolist(), article.tolist(), at.tolist(), rules)
    rows = {(i, int(j)): w for i in range(ARTICLES) for j, w in zip(*found.of(i), strict=True)}
    assert rows == pytest.approx(expected, rel=1e-6)  # float32
    np.testing.assert_allclose(found.total, [sum(w for (i, _), w in expected.items() if i == j) for j in range(ARTICLES)], rtol=1e-6)
    assert reads < 400 or rows
