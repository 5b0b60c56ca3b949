"""A/A splits of a log: the report's comparison errs as promised, the naive one does not, and both can be seen failing."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.splits import METRICS, naive_alarms, reader_figures, split_alarms
from experiments.assignment import allocation, assign_many, reader_key
from experiments.errors import DataError
from experiments.experiment import Arm, Experiment


def log(readers: int = 3_000, *, seed: int = 1) -> tuple[list[int], list[int]]:
    """Readers with very different numbers of sessions, and an appetite of their own."""
    rng = np.random.default_rng(seed)
    who, which, session = [], [], 0
    for reader in range(readers):
        appetite = rng.gamma(1.0, 3.0)
        for _ in range(1 + rng.poisson(rng.gamma(0.5, 6.0))):
            views = 1 + rng.poisson(appetite)
            who += [reader] * views
            which += [session] * views
            session += 1
    return who, which


def test_figures_count_views_sessions_long_sessions_and_squares_per_reader() -> None:
    figures = reader_figures([7, 7, 7, 7, 7, 8], [1, 1, 1, 1, 2, 3])
    rows = sorted(
        zip(*(x.tolist() for x in (figures.views, figures.sessions, figures.long, figures.squares, figures.readers)), strict=True)
    )
    assert rows == [(1, 1, 0, 1, 1), (5, 2, 1, 17, 1)]


def test_the_reports_comparison_errs_as_promised_on_every_metric_and_tail() -> None:
    rows = split_alarms(reader_figures(*log()), splits=2_000, seed=3)
    assert [row.metric for row in rows] == list(METRICS)
    assert all(row.passed for row in rows), rows


def test_taking_sessions_for_independent_errs_several_times_as_often() -> None:
    assert naive_alarms(reader_figures(*log()), splits=2_000, seed=3) > 0.15


def test_binomial_halves_are_distributed_as_hashed_assignments() -> None:
    who, which = log(400)
    figures = reader_figures(who, which)
    views = np.bincount(who)
    rng = np.random.default_rng(1)
    keys = np.array([reader_key(str(i)) for i in range(400)], dtype=np.uint64)
    arms = (Arm("a", "status_quo", 0.5), Arm("b", "heuristic", 0.5))
    plans = [allocation(Experiment("aa", "Is it the same?", "a", arms, salt=f"salt {i}")) for i in range(400)]
    hashed = [float(views[assign_many(plan, keys) == 1].sum()) for plan in plans]
    drawn = rng.binomial(figures.readers, 0.5, (4_000, len(figures.readers))) @ figures.views
    assert np.mean(hashed) == pytest.approx(drawn.mean(), abs=4 * float(np.std(hashed)) / 20)
    assert np.std(hashed) == pytest.approx(drawn.std(), rel=0.15)


def test_a_log_without_a_view_is_refused() -> None:
    with pytest.raises(DataError, match="no view"):
        reader_figures([], [])
