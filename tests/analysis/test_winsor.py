from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.moments import Distinct
from analysis.skew import skew_of
from analysis.winsor import both_ways, cap_of, capped, decomposition, moments_of
from experiments.errors import DataError, MetricError

MONEY = st.lists(st.tuples(st.sampled_from([0, 0, 100, 250, 999, 5000]), st.integers(1, 30)), min_size=4, max_size=12)


def rows_of(arm, cents, *, phase=None):
    values, counts = np.unique(np.asarray(cents), return_counts=True)
    return [Distinct(arm, int(v), 1, int(n), phase) for v, n in zip(values, counts, strict=True)]


def shop(rng, n, *, pays=0.25):
    """Cents per reader: most pay nothing, a few pay very much."""
    return np.where(rng.random(n) < pays, np.round(np.exp(rng.normal(6, 1.4, n))), 0).astype(int)


def test_the_ceiling_lets_one_in_a_thousand_payers_through_by_hand():
    """1,000 readers with a total: the 999th smallest of these, whatever the 5,000 without one do."""
    rows = [Distinct("a", 0, 1, 5000), *(Distinct("a" if i % 2 else "b", i, 1, 1) for i in range(1, 1001))]
    assert cap_of(rows) == 999
    assert cap_of(rows, share=0.5) == 500
    assert cap_of(rows, share=1) == 1000


@settings(max_examples=40, deadline=None, derandomize=True)
@given(MONEY, st.randoms(use_true_random=False))
def test_the_ceiling_is_blind_to_arm_phase_and_order(money, random):
    rows = [Distinct("a", cents, 1, n, 1) for cents, n in money]
    other = [Distinct(random.choice("abc"), cents, 1, n, random.choice([1, 2])) for cents, n in money]
    random.shuffle(other)
    assert cap_of(other) == cap_of(rows)


def test_the_ceiling_is_the_quantile_of_numpy():
    cents = shop(np.random.default_rng(1), 40_000)
    assert cap_of(rows_of("a", cents)) == np.quantile(cents[cents > 0], 0.999, method="inverted_cdf")


def test_nobody_with_a_total_means_no_ceiling():
    assert cap_of([Distinct("a", 0, 1, 50)]) is None
    assert cap_of([]) is None


def test_capping_moves_readers_and_loses_none():
    rows = rows_of("a", [0, 0, -300, 5, 6, 7, 900], phase=2)
    found = capped(rows, 6)
    assert sum(r.count for r in found) == 7
    assert {r.numerator: r.count for r in found} == {-300: 1, 0: 2, 5: 1, 6: 3}
    assert {r.phase for r in found} == {2}


def test_raw_and_capped_by_hand():
    """Arm a has one reader of 90,000 cents beside 20 of 0 and 20 of 500."""
    crowd = [Distinct(arm, cents, 1, 20) for arm in "ab" for cents in (0, 500)]
    found = both_ways([*crowd, Distinct("a", 90_000, 1, 1)], ("a", "b"), cap=500, level=0.95)
    assert found.raw.values == pytest.approx((100_000 / 41, 250))
    assert found.capped.values == pytest.approx((10_500 / 41, 250))
    assert found.above == (1, 0)
    assert found.capped.absolute.se < found.raw.absolute.se / 10


def test_without_a_reader_above_it_the_ceiling_changes_nothing():
    rng = np.random.default_rng(2)
    rows = [*rows_of("a", shop(rng, 200)), *rows_of("b", shop(rng, 200))]
    found = both_ways(rows, ("a", "b"), cap=10**9, level=0.95)
    assert found.capped == found.raw
    assert found.above == (0, 0)


def test_the_difference_is_that_of_scipy_on_capped_totals():
    rng = np.random.default_rng(3)
    one, two = shop(rng, 400), shop(rng, 500)
    rows = [*rows_of("a", one), *rows_of("b", two)]
    cap = cap_of(rows)
    found = both_ways(rows, ("a", "b"), cap=cap, level=0.95).capped
    welch = stats.ttest_ind(np.minimum(one, cap), np.minimum(two, cap), equal_var=False)
    assert found.status == "ok"
    assert found.absolute.p == pytest.approx(welch.pvalue, rel=1e-9)


def test_one_ceiling_for_all_keeps_false_alarms_where_they_were_promised():
    """Equal arms of 300 and 250 readers, a ceiling that bites (95th percentile of payers, found anew each time)."""
    rng, runs, alarms, narrower = np.random.default_rng(5), 400, 0, 0
    for _ in range(runs):
        rows = [*rows_of("a", shop(rng, 300)), *rows_of("b", shop(rng, 250))]
        found = both_ways(rows, ("a", "b"), cap=cap_of(rows, share=0.95), level=0.95)
        alarms += found.capped.absolute.p < 0.05
        narrower += found.capped.absolute.se < found.raw.absolute.se
    assert abs(alarms / runs - 0.05) < 3 * math.sqrt(0.05 * 0.95 / runs)
    assert narrower == runs


@settings(max_examples=40, deadline=None, derandomize=True)
@given(MONEY, MONEY)
def test_the_logarithms_add_up_and_swapping_the_arms_negates_them(a, b):
    rows = [Distinct(arm, cents, 1, n) for arm, money in (("a", a), ("b", b)) for cents, n in [*money, (100, 30)]]
    there, back = (decomposition(rows, pair, level=0.95) for pair in (("a", "b"), ("b", "a")))
    assert there.revenue.change == pytest.approx(there.payer_rate.change + there.per_payer.change, abs=1e-12)
    assert back.revenue.change == pytest.approx(-there.revenue.change, abs=1e-12)
    assert back.per_payer.change == pytest.approx(-there.per_payer.change, abs=1e-12)


def test_twice_the_payers_with_the_same_purses_by_hand():
    purses = {90: 20, 110: 20}
    rows = [Distinct("b", 0, 1, 60), *(Distinct("b", c, 1, n) for c, n in purses.items())]
    rows += [Distinct("a", 0, 1, 20), *(Distinct("a", c, 1, 2 * n) for c, n in purses.items())]
    found = decomposition(rows, ("a", "b"), level=0.95)
    changes = [part.change for part in (found.revenue, found.payer_rate, found.per_payer)]
    assert changes == pytest.approx([math.log(2), math.log(2), 0], abs=1e-12)
    assert [part.causal for part in (found.revenue, found.payer_rate, found.per_payer)] == [True, True, False]
    assert found.payer_rate.contrast.values == pytest.approx((0.8, 0.4))
    assert found.per_payer.contrast.values == pytest.approx((100, 100))


def test_the_revenue_part_is_the_comparison_itself():
    rng = np.random.default_rng(7)
    rows = [*rows_of("a", shop(rng, 300)), *rows_of("b", shop(rng, 300))]
    found = decomposition(rows, ("a", "b"), level=0.9)
    assert found.revenue.contrast == both_ways(rows, ("a", "b"), cap=1, level=0.9).raw
    assert found.revenue.change == pytest.approx(math.log1p(found.revenue.contrast.relative.estimate), rel=1e-12)


def test_more_small_payers_lower_revenue_per_payer_though_nobody_pays_less():
    """Why that part is no effect: 30 readers who paid nothing now pay 10 cents; the others pay what they paid."""
    before = [Distinct("b", 0, 1, 70), Distinct("b", 400, 1, 15), Distinct("b", 600, 1, 15)]
    after = [Distinct("a", 0, 1, 40), Distinct("a", 10, 1, 30), Distinct("a", 400, 1, 15), Distinct("a", 600, 1, 15)]
    found = decomposition([*before, *after], ("a", "b"), level=0.95)
    assert found.revenue.change > 0 > found.per_payer.change
    assert not found.per_payer.causal


def test_phases_are_weighted_by_all_arms():
    """No effect within a phase; the second pays more and holds most of arm a."""
    quiet, busy = [0, 100] * 40, [300, 500] * 40
    rows = [
        *rows_of("a", quiet, phase=1),
        *rows_of("b", quiet * 5, phase=1),
        *rows_of("a", busy * 5, phase=2),
        *rows_of("b", busy, phase=2),
    ]
    found = both_ways(rows, ("a", "b"), cap=10**6, level=0.95).raw
    assert found.absolute.estimate == pytest.approx(0, abs=1e-9)
    parts = decomposition(rows, ("a", "b"), level=0.95)
    assert [p.change for p in (parts.revenue, parts.payer_rate, parts.per_payer)] == pytest.approx([0, 0, 0], abs=1e-12)


def test_too_few_payers_or_no_revenue_have_a_reason_and_no_parts():
    some = [Distinct("a", 0, 1, 99), Distinct("a", 5, 1, 29), Distinct("b", 5, 1, 40)]
    found = decomposition(some, ("a", "b"), level=0.95)
    assert (found.status, found.revenue, found.reason) == ("insufficient", None, "a has 29 payers, at least 30 are needed")
    refunds = [Distinct("a", -5, 1, 40), Distinct("b", 5, 1, 40)]
    assert decomposition(refunds, ("a", "b"), level=0.95).status == "not_estimable"


def test_faulty_input_is_refused():
    with pytest.raises(MetricError, match="ceiling"):
        cap_of([Distinct("a", 1, 1, 1)], share=99.9)
    with pytest.raises(MetricError, match="must be above 0"):
        capped([Distinct("a", 1, 1, 1)], 0)
    with pytest.raises(DataError, match="denominator 1"):
        decomposition([Distinct("a", 1, 2, 40)], ("a", "b"), level=0.95)


def test_cents_of_a_thousand_million_readers_add_up_exactly():
    big = 10**9
    found = moments_of([Distinct("a", big, 1, big), Distinct("a", big + 1, 1, big)], {"total": lambda r: r.numerator})["a", 0]
    assert found.mean[0] == big + 0.5
    assert found.cross[0, 0] == big / 2


def test_a_skewed_small_arm_is_guarded_as_elsewhere():
    rng = np.random.default_rng(11)
    rows = [*rows_of("a", shop(rng, 600)), *rows_of("b", shop(rng, 9000))]
    found = both_ways(rows, ("a", "b"), cap=cap_of(rows), level=0.95)
    assert abs(skew_of(rows).of_difference((600, 9000))) > 0.2
    assert found.raw.status == "guarded"
