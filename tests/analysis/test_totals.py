from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.moments import Moments, add_up
from analysis.totals import metrics_of
from experiments.errors import DataError, MetricError
from tests.analysis.tables import SESSIONS, VIEWS, moments, plan, row, totals_of

TABLES = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), min_size=2, max_size=20)


def test_three_readers_by_hand():
    m = moments([(1, 1), (2, 1), (6, 2)])
    assert m.n == 3
    assert m.mean.tolist() == [3.0, 4 / 3]
    _, covariance = m.pair(VIEWS, SESSIONS)
    assert covariance == pytest.approx(np.array([[7.0, 1.5], [1.5, 1 / 3]]), rel=1e-15)


def test_one_reader_has_no_variance():
    assert math.isnan(moments([(1, 1)]).pair(VIEWS, SESSIONS)[1][0, 0])


def test_an_offset_of_1e8_costs_no_digit():
    rng = np.random.default_rng(1)
    small = rng.integers(0, 2, size=1000)
    shifted = moments([(int(x) + 10**8, 1) for x in small])
    exact = moments([(int(x), 1) for x in small])
    assert shifted.cross[0, 0] == exact.cross[0, 0]


def test_a_thousand_million_readers_stay_exact():
    n = 10**9
    m = Moments.from_sums(n, ("x",), (10**17,), ((10**25 + 10**9,),))
    assert m.cross[0, 0] == 10**9


def test_rows_of_floats_are_centred_and_agree_with_exact_sums():
    table = [(3, 1), (5, 2), (10, 4), (1, 1)]
    exact, floats = moments(table), Moments.from_rows(np.array(table) + 1e8, (VIEWS, SESSIONS))
    assert floats.cross == pytest.approx(exact.cross, rel=1e-12)


def test_values_that_are_not_finite_are_refused_and_counted():
    with pytest.raises(DataError, match="2 of 3 readers"):
        Moments.from_rows([(1.0, 1.0), (math.nan, 1.0), (1.0, math.inf)], ("a", "b"))


def test_sums_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="do not fit"):
        Moments.from_sums(0, ("a",), (0,), ((0,),))


def test_unknown_columns_are_named():
    with pytest.raises(MetricError, match="no column 'clicks'"):
        moments([(1, 1)]).pair("clicks", SESSIONS)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(TABLES, TABLES, TABLES)
def test_merging_in_any_order_is_adding_up(a, b, c):
    parts = [moments(t) for t in (a, b, c)]
    whole = moments([*a, *b, *c])
    for order in itertools.permutations(parts):
        merged = order[0].merge(order[1]).merge(order[2])
        assert merged.mean == pytest.approx(whole.mean, rel=1e-12)
        assert merged.cross == pytest.approx(whole.cross, rel=1e-12, abs=1e-9)


def test_buckets_in_any_order_give_the_same_bits():
    rng = random.Random(3)
    rows = [row(arm, [(rng.randint(0, 9), 1 + rng.randint(0, 3)) for _ in range(4)], bucket=i) for i in range(20) for arm in "ab"]
    shuffled = rng.sample(rows, len(rows))
    first, second = add_up(rows), add_up(shuffled)
    assert list(first) == list(second)
    assert all(first[cell].cross.tobytes() == second[cell].cross.tobytes() for cell in first)


def test_whole_cells_win_over_their_buckets():
    whole, half = row("a", [(1, 1), (2, 1)]), row("a", [(1, 1)], bucket=0)
    assert add_up([half, whole])["a", 1].n == 2


def test_the_mean_is_correctly_rounded():
    values = [(10**15 + i, 1) for i in range(7)]
    exact = Fraction(sum(v for v, _ in values), 7)
    assert moments(values).mean[0] == float(exact)


def test_readers_are_added_over_phases():
    found = totals_of({("a", 1): [(1, 1)] * 3, ("a", 2): [(1, 1)] * 2, ("b", 2): [(1, 1)] * 4}, keys=(VIEWS, SESSIONS))
    assert found.readers() == {"a": 5, "b": 4}
    assert found.phases == (1, 2)


def test_every_metric_of_a_plan_is_asked_for_once():
    names = [m.name for m in metrics_of(plan(secondary=("bounce_rate", "views_per_session"), guardrails={"bounce_rate": 0.1}))]
    assert names == ["views_per_session", "bounce_rate"]
