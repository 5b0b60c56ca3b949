from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.effect import arm_value, compare, phase_shares
from analysis.influence import buckets_of, heavy_readers, jackknife, merge_cells, reader_average
from analysis.moments import Distinct, Moments
from analysis.skew import largest_shift
from experiments.errors import DataError, ExperimentError
from tests.analysis.tables import SESSIONS, VIEWS, crowd, distinct, moments, row

READERS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 6)), min_size=30, max_size=40)


def contrast(treated, control, *, level=0.95):
    found = [
        arm_value({(a, 1): moments(t)}, a, numerator=VIEWS, denominator=SESSIONS, shares={1: 1.0})
        for a, t in zip("tc", (treated, control), strict=True)
    ]
    return compare(*found, level=level)


def rows_of(treated, control):
    return [*distinct("t", treated), *distinct("c", control)]


def heavy(treated, control):
    return heavy_readers(rows_of(treated, control), ("t", "c"), contrast(treated, control), level=0.95)


def test_one_reader_of_forty_one_by_hand():
    """Means: leaving out the reader of 82 moves 3 = 123/41 to 41/40."""
    found = heavy([(1, 1)] * 39 + [(2, 1), (82, 1)], [(1, 1)] * 20 + [(2, 1)] * 20)
    assert found.shift == pytest.approx(123 / 41 - 41 / 40, rel=1e-12)
    assert found.in_se == pytest.approx(found.shift / contrast([(1, 1)] * 39 + [(2, 1), (82, 1)], [(1, 1), (2, 1)] * 20).absolute.se)
    assert found.flagged


def test_the_shift_of_a_mean_is_found_by_leaving_everyone_out_in_turn():
    rng = np.random.default_rng(1)
    tables = [[(int(x), 1) for x in rng.lognormal(2, 1, n)] for n in (50, 60)]
    means = [[x for x, _ in t] for t in tables]
    shifts = [max(abs(np.mean(m) - np.mean(m[:i] + m[i + 1 :])) for i in range(len(m))) for m in means]
    assert heavy(*tables).shift == pytest.approx(max(shifts), rel=1e-9)


def test_one_reader_with_a_third_of_all_views_is_flagged_and_a_plain_crowd_is_not():
    rng = np.random.default_rng(2)
    plain = [[tuple(r) for r in crowd(rng, 2000)[:, :2].tolist()] for _ in range(2)]
    assert not heavy(*plain).flagged
    views = sum(v for v, _ in plain[0])
    assert heavy([*plain[0], (views // 2, 1)], plain[1]).flagged


def test_the_shift_is_that_of_skew_and_the_limit_that_of_the_check():
    rng = np.random.default_rng(3)
    tables = [[tuple(r) for r in crowd(rng, 40)[:, :2].tolist()] for _ in range(2)]
    found = heavy(*tables)
    assert found.shift == max(largest_shift(rows_of(*tables)).values())
    assert found.flagged == (found.in_se > 0.5)


def test_a_heavy_reader_can_turn_the_sign_that_the_average_reader_has():
    """Per session arm t loses because of one reader of 500 sessions without a view; per reader it wins."""
    treated, control = [(3, 1), (4, 1)] * 20 + [(0, 500)], [(2, 1), (3, 1)] * 20
    found = heavy(treated, control)
    assert contrast(treated, control).absolute.estimate < 0
    assert found.averaged.values == pytest.approx((140 / 41, 2.5))
    assert found.averaged.absolute.estimate > 0
    assert found.sign_change
    assert not heavy([(3, 1), (4, 1)] * 20, control).sign_change


@settings(max_examples=30, deadline=None, derandomize=True)
@given(READERS, READERS)
def test_swapping_the_arms_negates_the_average_and_moves_no_shift(a, b):
    there, back = (reader_average(rows_of(a, b), pair, level=0.95) for pair in (("t", "c"), ("c", "t")))
    assert back.values == there.values[::-1]
    one, two = heavy(a, b), heavy_readers(rows_of(a, b), ("c", "t"), contrast(b, a), level=0.95)
    assert (one is None) == (two is None)
    if one is not None:
        assert (two.shift, two.sign_change) == (one.shift, one.sign_change)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(READERS, READERS, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_no_bit(a, b, random):
    rows = rows_of(a, b)
    shuffled = random.sample(rows, len(rows))
    assert reader_average(shuffled, ("t", "c"), level=0.95) == reader_average(rows, ("t", "c"), level=0.95)


def test_with_one_session_each_the_average_reader_is_the_ratio_itself():
    a, b = [(1, 1), (4, 1)] * 20, [(2, 1), (3, 1)] * 25
    ours, theirs = reader_average(rows_of(a, b), ("t", "c"), level=0.95), contrast(a, b)
    assert ours.absolute.p == pytest.approx(theirs.absolute.p, rel=1e-12)
    assert (ours.relative.low, ours.relative.high) == pytest.approx((theirs.relative.low, theirs.relative.high), rel=1e-12)


def test_readers_without_a_session_have_no_ratio_of_their_own():
    found = reader_average(rows_of([(2, 1), (4, 1), (0, 0)], [(3, 1), (3, 3)]), ("t", "c"), level=0.95, least=2)
    assert (found.n, found.values) == ((2, 2), (3.0, 2.0))


def test_phases_are_weighted_in_the_average_too():
    quiet, busy = [(2, 1), (4, 1)] * 20, [(8, 1), (10, 1)] * 20
    rows = [*distinct("c", quiet * 9, phase=1), *distinct("t", quiet, phase=1)]
    rows += [*distinct("c", busy, phase=2), *distinct("t", busy * 9, phase=2)]
    assert reader_average(rows, ("t", "c"), level=0.95).absolute.estimate == pytest.approx(0, abs=1e-12)


def test_no_difference_and_no_arm_mean_no_figure():
    same = [(2, 1)] * 40
    assert heavy(same, same) is None
    rows = distinct("t", [(1, 1), (2, 1)] * 20)
    assert heavy_readers(rows, ("t", "c"), contrast([(1, 1), (2, 1)] * 20, [(1, 1), (3, 1)] * 20), level=0.95) is None
    assert reader_average(rows, ("t", "c"), level=0.95).status == "insufficient"


def test_one_reader_per_bucket_is_the_standard_error_of_a_mean():
    values = np.random.default_rng(4).lognormal(0, 1, 200)
    buckets = [{("a", 1): Moments.from_rows([[v]], ["x"])} for v in values]
    found = jackknife(buckets, lambda cells: float(cells["a", 1].mean[0]), level=0.95)
    assert found.estimate == pytest.approx(values.mean(), rel=1e-12)
    assert found.se == pytest.approx(values.std(ddof=1) / math.sqrt(200), rel=1e-9)
    assert found.df == 199
    assert found.high - found.estimate == pytest.approx(1.971957 * found.se, rel=1e-6)  # t of 199 at 0.975


def bucketed(rng, n, *, arms="tc", buckets=200):
    tables = {arm: crowd(rng, n)[:, :2] for arm in arms}
    where = {arm: rng.integers(0, buckets, n) for arm in arms}
    return tables, [
        row(arm, tables[arm][where[arm] == b].tolist(), bucket=b) for arm in arms for b in range(buckets) if (where[arm] == b).any()
    ]


def ratio_of(cells, arm):
    mean, _ = cells[arm, 1].pair(VIEWS, SESSIONS)
    return float(mean[0] / mean[1])


def test_a_difference_of_ratios_agrees_with_the_delta_method():
    rng = np.random.default_rng(6)
    tables, rows = bucketed(rng, 3000)
    found = jackknife(buckets_of(rows), lambda cells: ratio_of(cells, "t") - ratio_of(cells, "c"), level=0.95)
    plain = contrast(*(tables[arm].tolist() for arm in "tc")).absolute
    assert found.estimate == pytest.approx(plain.estimate, rel=1e-9)
    assert found.se == pytest.approx(plain.se, rel=4 / math.sqrt(2 * 199))
    assert found.df == 199


def test_a_concentration_of_articles_is_covered_as_promised():
    """Share of all views that the three largest of eight articles have; no formula, a reader has up to 30 views."""
    rng, runs, hits = np.random.default_rng(8), 400, 0
    tastes = rng.dirichlet(np.full(8, 0.5), 400)
    truth = np.sort(tastes.mean(axis=0))[-3:].sum()
    for _ in range(runs):
        chosen = tastes[rng.integers(0, 400, 1200)]
        views = rng.multinomial(rng.integers(1, 30, 1200), chosen)
        counts = np.add.reduceat(views, np.arange(0, 1200, 6))
        found = jackknife(list(counts), lambda c: float(np.sort(c)[-3:].sum() / c.sum()), level=0.95, merge=np.add)
        hits += found.low <= truth <= found.high
    assert found.df == 199
    assert abs(hits / runs - 0.95) < 3 * math.sqrt(0.95 * 0.05 / runs)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=12), st.randoms(use_true_random=False))
def test_every_bucket_is_left_out_once_in_any_order(values, random):
    def run(order):
        pairs = [np.array([1.0, v]) for v in order]
        return jackknife(pairs, lambda s: float(s[1] / s[0]) ** 2, level=0.9, merge=np.add)

    found, again = run(values), run(random.sample(values, len(values)))
    left = [((sum(values) - v) / (len(values) - 1)) ** 2 for v in values]
    by_hand = math.sqrt((len(left) - 1) * np.var(left))
    assert (found.se or 0.0) == pytest.approx(by_hand, rel=1e-9, abs=1e-9)
    assert (again.se or 0.0) == pytest.approx(by_hand, rel=1e-9, abs=1e-9)


def test_buckets_keep_cells_apart_and_add_up_to_the_whole():
    rng = np.random.default_rng(9)
    tables, rows = bucketed(rng, 150, buckets=20)
    found = buckets_of(rows)
    assert len(found) == 20
    whole = found[0]
    for bucket in found[1:]:
        whole = merge_cells(whole, bucket)
    shares, _ = phase_shares(whole, ["t", "c"])
    assert shares == {1: 1.0}
    for arm in "tc":
        assert whole[arm, 1].n == 150
        assert whole[arm, 1].cross == pytest.approx(moments(tables[arm].tolist()).cross, rel=1e-9)


def test_a_cell_that_only_one_bucket_has_is_left_out_with_it():
    two, one = moments([(1, 1), (2, 1)]), moments([(4, 1)])
    buckets = [{("a", 1): two, ("b", 1): one}, {("a", 1): two}]

    def statistic(cells):
        return float(cells["b", 1].mean[0]) if ("b", 1) in cells else math.nan

    found = jackknife(buckets, statistic, level=0.95)
    assert (found.status, found.estimate, found.se) == ("not_estimable", 4.0, None)


@pytest.mark.parametrize(
    ("buckets", "statistic", "status", "estimate"),
    [
        ([], float, "insufficient", None),
        ([np.array([2.0])], float, "insufficient", None),
        ([np.array([2.0])] * 3, lambda s: 7.0, "no_variation", 7.0),
        ([np.array([2.0])] * 3, lambda s: math.inf, "not_estimable", None),
    ],
)
def test_what_cannot_be_computed_has_no_range_and_a_reason(buckets, statistic, status, estimate):
    found = jackknife(buckets, statistic, level=0.95, merge=np.add)
    assert (found.status, found.estimate, found.se, found.low, found.high) == (status, estimate, None, None, None)
    assert found.reason


def test_whole_cells_and_impossible_levels_are_refused():
    with pytest.raises(DataError, match="not split into buckets"):
        buckets_of([row("a", [(1, 1)])])
    with pytest.raises(ExperimentError, match="between 0 and 1"):
        jackknife([np.array([1.0])] * 2, float, level=95, merge=np.add)


def test_a_distinct_row_counts_as_many_readers_as_it_says():
    rows = [Distinct("t", 4, 2, 30), Distinct("t", 9, 3, 10), Distinct("c", 2, 1, 40)]
    assert reader_average(rows, ("t", "c"), level=0.95).values == (2.25, 2.0)
