"""Rankings: best first, whatever the scores are; arms that cannot be found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


def test_an_arm_whose_module_cannot_be_imported_is_told_with_the_cause(tmp_path: Path) -> None:
    (tmp_path / "oops.py").write_text("import nothing_of_this_name\n")
    code = f"import recsys.arms; recsys.arms.__path__.append({str(tmp_path)!r}); from experiments.serving.recommender import arm_class; arm_class('oops')"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    ).stderr  # a process knows its arms for good
    assert "no arm is called 'oops'" in told
    assert "recsys.arms.oops could not be loaded: ModuleNotFoundError: No module named 'nothing_of_this_name'" in told


def test_a_module_that_ends_the_process_when_it_is_imported_leaves_the_other_arms_alone(tmp_path: Path) -> None:
    """``arm list`` printed nothing and exited with 0."""
    (tmp_path / "script.py").write_text("import sys\nsys.exit(0)\n")
    code = f"import recsys.arms; recsys.arms.__path__.append({str(tmp_path)!r}); from experiments.serving.recommender import *; print(len(discover()) > 3, broken_arms())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout
    assert told == "True {'recsys.arms.script': 'SystemExit: 0'}\n"
