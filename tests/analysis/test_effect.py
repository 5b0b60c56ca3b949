from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import stdtrit

from analysis.effect import Contrast, Value, arm_value, compare, interval_at, phase_shares
from analysis.moments import Distinct, Moments
from analysis.skew import Skew, largest_shift, skew_of
from experiments.errors import DataError
from tests.analysis.tables import SESSIONS, VIEWS, crowd, distinct, moments

READERS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 6)), min_size=3, max_size=25)


def value(table, *, arm="a", numerator=VIEWS, denominator=SESSIONS) -> Value:
    return arm_value({(arm, 1): moments(table)}, arm, numerator=numerator, denominator=denominator, shares={1: 1.0})


def mean_value(total: float, squares: float, n: int) -> Value:
    """A mean from sum and sum of squares, as published."""
    cross = squares - total * total / n
    return Value(n, total / n, cross / (n - 1) / n, ((cross / (n - 1) / n, n - 1),))


def both(treated, control, **how):
    return compare(value(treated), value(control), **{"level": 0.95, "least": 2, **how})


def test_three_readers_by_hand():
    """theta = 9 / 4; influence (N - theta D) / (4/3) = (-0.9375, -0.1875, 1.125); variance = 1.08984375 ... / 3."""
    found = value([(1, 1), (2, 1), (6, 2)])
    psi = [(1 - 2.25) * 0.75, (2 - 2.25) * 0.75, (6 - 4.5) * 0.75]
    assert found.estimate == 2.25
    assert found.variance == pytest.approx(sum(p * p for p in psi) / 2 / 3, rel=1e-14)


def test_case_1_absolute_difference_of_gbstats():
    found = compare(mean_value(2422.7, 134698.29, 3461), mean_value(1396.87, 52377.9767, 3407), level=0.95).absolute
    assert (round(found.estimate, 5), round(found.se, 5), round(found.low, 5), round(found.high, 5), round(found.p, 5)) == (
        0.29,
        0.12478,
        0.04538,
        0.53462,
        0.02016,
    )


def test_case_2_the_published_relative_range_is_the_delta_method_ours_is_fieller():
    """gbstats prints .70732 (.37879), (-.03526, 1.44989), p .06191: a range with zero beside an absolute one without."""
    treated, control = mean_value(2422.7, 134698.29, 3461), mean_value(1396.87, 52377.9767, 3407)
    found = compare(treated, control, level=0.95)
    change = found.relative.estimate
    se = math.sqrt(treated.variance + control.variance * (1 + change) ** 2) / control.estimate
    c, p = stats.t.ppf(0.975, found.df), 2 * stats.t.sf(change / se, found.df)
    assert [round(float(x), 5) for x in (change, se, change - c * se, change + c * se, p)] == [0.70732, 0.37879, -0.03526, 1.44989, 0.06191]
    assert found.relative.low > 0
    assert found.absolute.low > 0


def test_case_3_fieller_with_the_normal_critical_value_and_the_log_ratio_beside_it():
    treated, control = mean_value(2422.7, 134698.29, 3461), mean_value(1396.87, 52377.9767, 3407)
    contrast, z = compare(treated, control, level=0.95), stats.norm.ppf(0.975)
    found = interval_at(contrast, treated, control, level=0.95, critical=z).relative
    assert (round(found.low, 5), round(found.high, 5)) == (0.09417, 1.70840)
    log, s = math.log1p(found.estimate), math.sqrt(contrast.change_log_variance)
    assert (round(math.expm1(log - z * s), 5), round(math.expm1(log + z * s), 5)) == (0.10525, 1.63734)


def test_case_6_orders_per_session_of_tea_tasting():
    def cell(n, top, bottom, top2, bottom2, cross):
        return Moments.from_sums(n, (VIEWS, SESSIONS), (top, bottom), ((top2, cross), (cross, bottom2)))

    cells = {("t", 1): cell(1977, 1133, 3920, 2121, 9698, 2730), ("c", 1): cell(2023, 1073, 4038, 2073, 10098, 2648)}
    treated, control = (arm_value(cells, arm, numerator=VIEWS, denominator=SESSIONS, shares={1: 1.0}) for arm in "tc")
    found = compare(treated, control, level=0.95)
    assert (round(control.estimate, 3), round(treated.estimate, 3)) == (0.266, 0.289)
    assert round(found.relative.estimate, 3) == 0.088
    assert round(found.absolute.p, 4) == 0.0762
    s = math.sqrt(sum(found.log_variance))
    log = math.log1p(found.relative.estimate)
    assert (round(100 * math.expm1(log - 1.96 * s), 2), round(100 * math.expm1(log + 1.96 * s))) == (-0.89, 19)
    assert found.change_log_variance == s * s
    fieller = found.relative  # published: a log ratio; ours reaches zero together with the absolute range
    assert (round(100 * fieller.low, 2), round(100 * fieller.high)) == (-0.88, 19)


def test_case_13_pooled_t_from_our_moments_and_welch_against_scipy():
    one, two = Value(13, 15.0, 87.5 / 13, ((87.5 / 13, 12),)), Value(11, 12.0, 39.0 / 11, ((39.0 / 11, 10),))
    pooled = (12 * one.variance * 13 + 10 * two.variance * 11) / 22
    t = (one.estimate - two.estimate) / math.sqrt(pooled * (1 / 13 + 1 / 11))
    assert (round(t, 7), round(2 * stats.t.sf(t, 22), 7)) == (0.9051358, 0.3751997)
    welch = stats.ttest_ind_from_stats(15.0, math.sqrt(87.5), 13, 12.0, math.sqrt(39.0), 11, equal_var=False)
    assert compare(one, two, level=0.95, least=2).absolute.p == pytest.approx(welch.pvalue, rel=1e-12)


def test_ratio_variance_is_the_cluster_robust_one_of_statsmodels():
    rng = np.random.default_rng(5)
    tables = {arm: crowd(rng, 60)[:, :2] for arm in "ab"}
    arm, reader, views = [], [], []
    for code, name in enumerate("ab"):
        for i, (opened, sessions) in enumerate(tables[name]):
            shares = np.full(sessions, opened // sessions) + (np.arange(sessions) < opened % sessions)
            arm += [code] * sessions
            reader += [code * 1000 + i] * sessions
            views += shares.tolist()
    fit = sm.OLS(views, sm.add_constant(np.array(arm, float))).fit(cov_type="cluster", cov_kwds={"groups": reader, "use_correction": False})
    values = {name: value(tables[name]) for name in "ab"}
    se = math.sqrt(sum(v.variance * (v.n - 1) / v.n for v in values.values()))
    assert values["b"].estimate - values["a"].estimate == pytest.approx(fit.params[1], rel=1e-12)
    assert se == pytest.approx(fit.bse[1], rel=1e-12)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(READERS, READERS)
def test_swapping_the_arms_negates_the_difference(a, b):
    there, back = both(a, b), both(b, a)
    assume(there.absolute is not None)
    assert back.absolute.estimate == -there.absolute.estimate
    assert (back.absolute.low, back.absolute.high) == pytest.approx((-there.absolute.high, -there.absolute.low), rel=1e-12)
    assert back.absolute.p == pytest.approx(there.absolute.p, rel=1e-12)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(READERS, READERS, st.sampled_from([0.8, 0.95, 0.99]))
def test_relative_and_absolute_range_never_disagree_about_zero(a, b, level):
    found = both(a, b, level=level)
    assume(found.absolute is not None and found.relative is not None)
    assume(min(abs(found.absolute.low), abs(found.absolute.high)) > 1e-9)
    assert (found.absolute.low > 0, found.absolute.high < 0) == (found.relative.low > 0, found.relative.high < 0)
    assert found.relative.low <= found.relative.estimate <= found.relative.high


@settings(max_examples=60, deadline=None, derandomize=True)
@given(READERS, READERS, st.integers(2, 10**6))
def test_scaling_a_metric_changes_no_relative_number_and_no_p(a, b, factor):
    small, large = both(a, b), both([(n * factor, d) for n, d in a], [(n * factor, d) for n, d in b])
    assume(small.relative is not None)
    assert large.absolute.p == pytest.approx(small.absolute.p, rel=1e-9)
    assert (large.relative.low, large.relative.high) == pytest.approx((small.relative.low, small.relative.high), rel=1e-8, abs=1e-9)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(READERS, st.integers(1, 30))
def test_readers_without_denominator_move_only_n(table, extra):
    """They leave the ratio alone and change its variance by n / (n - 1) only."""
    before, after = value(table), value([*table, *[(0, 0)] * extra])
    assert after.n == before.n + extra
    assert after.estimate == pytest.approx(before.estimate, rel=1e-12)
    one, two = before.n, after.n
    assert after.variance * (two - 1) / two == pytest.approx(before.variance * (one - 1) / one, rel=1e-9, abs=1e-15)


def test_fieller_holds_the_truth_nineteen_times_of_twenty_with_skewed_readers():
    """50 skewed readers per arm (STATISTICS 3 measured 0.947)."""
    rng, hits, runs = np.random.default_rng(7), 0, 800
    for _ in range(runs):
        found = both(crowd(rng, 50)[:, :2].tolist(), crowd(rng, 50)[:, :2].tolist()).relative
        hits += found.low <= 0 <= found.high
    assert abs(hits / runs - 0.95) < 3 * math.sqrt(0.95 * 0.05 / runs)


def test_a_ramp_does_not_lend_its_busy_days_to_an_arm():
    """Simpson: no effect in either phase, but the second phase is busier and holds most of arm t."""
    quiet, busy = [(2, 1), (4, 1)] * 50, [(8, 1), (10, 1)] * 50
    cells = {("c", 1): moments(quiet * 9), ("t", 1): moments(quiet), ("c", 2): moments(busy), ("t", 2): moments(busy)}
    shares, dropped = phase_shares(cells, ["c", "t"])
    found = {arm: arm_value(cells, arm, numerator=VIEWS, denominator=SESSIONS, shares=shares) for arm in "ct"}
    assert not dropped
    assert found["t"].estimate - found["c"].estimate == pytest.approx(0, abs=1e-12)
    pooled = {arm: cells[arm, 1].merge(cells[arm, 2]).mean[0] for arm in "ct"}
    assert pooled["t"] - pooled["c"] > 2


def test_phase_weights_by_hand():
    """Phase 1 holds 4 of 6 readers, phase 2 holds 2; variance = w1^2 S1 / n1 + w2^2 S2 / n2."""
    cells = {("a", 1): moments([(1, 1), (3, 1)]), ("b", 1): moments([(2, 1), (2, 1)])}
    cells |= {("a", 2): moments([(4, 1), (8, 1)]), ("b", 2): moments([(5, 1), (7, 1)])}
    shares, _ = phase_shares(cells, ["a", "b"])
    assert shares == {1: 0.5, 2: 0.5}
    found = arm_value(cells, "a", numerator=VIEWS, denominator=SESSIONS, shares=shares)
    assert found.estimate == 4.0
    assert found.variance == pytest.approx(0.25 * 2 / 2 + 0.25 * 8 / 2)


def test_a_phase_with_one_reader_of_an_arm_is_dropped_from_every_arm():
    two = moments([(1, 1), (2, 1)])
    cells = {("a", 1): two, ("b", 1): two, ("a", 2): two, ("b", 2): moments([(9, 1)])}
    assert phase_shares(cells, ["a", "b"]) == ({1: 1.0}, (2,))


def test_an_arm_nobody_saw_does_not_drop_the_phases_of_the_others():
    two = moments([(1, 1), (2, 1)])
    assert phase_shares({("a", 1): two, ("b", 1): two}, ["a", "b", "c"]) == ({1: 1.0}, ())


@pytest.mark.parametrize(
    ("treated", "control", "status"),
    [
        ([(1, 1)], [(1, 1), (2, 1)], "insufficient"),
        ([(0, 0), (0, 0)], [(1, 1), (2, 1)], "undefined_denominator"),
        ([(2, 1), (2, 1)], [(2, 1), (2, 1)], "no_variation"),
        ([(0, 1), (0, 1)], [(0, 1), (0, 1)], "no_variation"),
    ],
)
def test_what_cannot_be_computed_has_no_number_and_a_reason(treated, control, status):
    found = both(treated, control)
    assert (found.status, found.absolute, found.relative) == (status, None, None)
    assert found.reason


def test_below_thirty_readers_an_arm_prints_only_counts():
    found = both([(1, 1), (2, 1)] * 20, [(1, 1), (3, 1)] * 10, least=30)
    assert (found.status, found.absolute, found.n) == ("insufficient", None, (40, 20))
    assert "20 readers" in found.reason


def test_a_control_of_zero_has_an_absolute_but_no_relative_range():
    """0 of 1000 against 30 of 1000: other tools say 0, (0, 0), p = 1."""
    found = both([(1, 1)] * 30 + [(0, 1)] * 970, [(0, 1)] * 1000)
    assert found.status == "not_estimable"
    assert found.relative is None
    assert found.absolute.low > 0
    assert found.absolute.p < 1e-6


def test_a_control_that_may_be_zero_has_no_relative_range():
    found = both([(1, 1), (2, 1)] * 20, [(1, 1)] * 2 + [(0, 1)] * 38)
    assert (found.status, found.relative) == ("not_estimable", None)
    assert "told from zero" in found.reason


def test_skew_by_hand():
    """Two readers of influence -1/2 and one of 1: cv2 = (1/4 + 1/4 + 1) / 2, third moment = (1 - 1/4) / 3."""
    found = skew_of([Distinct("a", 1, 1, 2), Distinct("a", 4, 1, 1)])
    assert (found.cv2, found.third) == pytest.approx((0.75, 0.25))


def test_arms_of_equal_size_are_never_guarded():
    assert Skew(1.0, 50.0).of_difference((500, 500)) == 0


def test_the_guard_repairs_the_range_of_a_small_skewed_arm():
    """1500 against 40 lognormal readers: the plain range holds the truth too rarely, the guarded one often enough."""
    rng, plain, guarded, runs = np.random.default_rng(11), 0, 0, 150
    statuses = Counter()
    for _ in range(runs):
        tables = [[(int(x), 1) for x in 1 + 10 * rng.lognormal(0, 1.2, n)] for n in (40, 1500)]
        skew = skew_of([*distinct("t", tables[0]), *distinct("c", tables[1])])
        without, with_guard = both(*tables), both(*tables, skew=skew)
        plain += without.relative.low <= 0 <= without.relative.high
        statuses[with_guard.status] += 1
        if with_guard.relative is None:
            continue
        guarded += with_guard.relative.low <= 0 <= with_guard.relative.high
        assert (with_guard.absolute.low > 0) == (with_guard.relative.low > 0)
    assert statuses["guarded"] > 100
    assert statuses["not_estimable"] < 5
    assert plain / runs < 0.91
    assert guarded / (runs - statuses["not_estimable"]) > 0.93


def payers(rng, n, share):
    return [(round(x), 1) for x in np.where(rng.random(n) < share, rng.lognormal(3, 1, n), 0.0)]


@pytest.mark.parametrize(("n_1", "n_0"), [(100, 9_900), (9_900, 100), (200, 1_800)])
def test_an_arm_of_few_payers_beside_a_large_one_is_never_called_different(n_1, n_0):
    """Nobody differs; the spread of an arm whose few payers are missing is 0, or far too small."""
    rng, different = np.random.default_rng(3), 0
    for _ in range(60):
        tables = payers(rng, n_1, 0.01), payers(rng, n_0, 0.01)
        skew = skew_of([*distinct("t", tables[0]), *distinct("c", tables[1])])
        plain, shown = both(*tables), both(*tables, skew=skew)
        different += plain.absolute is not None and plain.absolute.p < 0.05
        assert (shown.status, shown.absolute) == ("not_estimable", None)
        assert shown.reason.endswith(("has no event", "cannot be told from zero"))
    assert different > 5


def test_an_arm_without_an_event_does_not_lift_the_guard_of_the_others():
    rng = np.random.default_rng(5)
    two = [*distinct("t", payers(rng, 500, 0.05)), *distinct("c", payers(rng, 4_500, 0.05))]
    assert skew_of([*two, *distinct("u", [(0, 1)] * 60)]) == skew_of(two)
    assert skew_of(distinct("u", [(0, 1)] * 60)) is None


@pytest.mark.parametrize(("informative", "readers"), [(1, 500), (5, 500), (20, 500), (29, 36)])
def test_readers_with_nothing_in_the_denominator_do_not_make_a_sample(informative, readers):
    """Of all readers of an arm a few had a session: their number counts, not that of all."""
    tables = [[(i % 3, 1) for i in range(informative)] + [(0, 0)] * (readers - informative)] * 2
    found = both(*tables, least=30)
    assert found.status == "insufficient"
    assert "have anything in the denominator, at least 30 are needed" in found.reason
    assert (found.n, found.values) == ((readers, readers), (value(tables[0]).estimate,) * 2)


def test_readers_of_all_phases_together_make_a_sample():
    tables = [[(i % 3, 1) for i in range(20)] + [(0, 0)] * 80] * 2
    cells = {(arm, phase): moments(table) for arm, table in zip("tc", tables, strict=True) for phase in (1, 2)}
    sides = [arm_value(cells, arm, numerator=VIEWS, denominator=SESSIONS, shares={1: 0.5, 2: 0.5}) for arm in "tc"]
    assert [side.telling for side in sides] == [40.0, 40.0]
    assert compare(*sides, level=0.95).status == "ok"


def test_of_readers_with_and_without_a_session_those_with_one_give_the_degrees_of_freedom():
    tables = [[(i % 3, 1) for i in range(40)] + [(0, 0)] * 460] * 2
    assert both(*tables).df == pytest.approx(2 * 39)
    everybody = [[(i % 3, 1) for i in range(500)]] * 2
    assert both(*everybody).df == pytest.approx(2 * 499)


def test_the_largest_shift_names_what_one_reader_moves():
    assert largest_shift([Distinct("a", 1, 1, 9), Distinct("a", 11, 1, 1), Distinct("b", 2, 1, 5)]) == {"a": 1.0, "b": 0.0}


# Two values that share a covariate: K


def scattered(rng, count):
    """(treated, control, K) with correlations from -0.99 to 0.999, both signs of the change, small and large spreads."""
    for _ in range(count):
        control, change = rng.lognormal(0, 2), rng.normal(0, 0.3)
        v1, v0 = (control * rng.lognormal(-3, 1, 2)) ** 2
        k = rng.uniform(-0.99, 0.999) * math.sqrt(v1 * v0)
        n1, n0 = rng.integers(30, 5000, 2).tolist()
        yield Value(n1, control * (1 + change), v1, ((v1, n1 - 1),)), Value(n0, control, v0, ((v0, n0 - 1),)), k


def test_relative_and_absolute_never_disagree_about_zero_whatever_they_share():
    rng, judged, outside = np.random.default_rng(21), 0, 0
    for treated, control, k in scattered(rng, 10_000):
        found = compare(treated, control, level=0.95, covariance=k)
        if found.relative is None or min(abs(found.absolute.low), abs(found.absolute.high)) < 1e-9 * found.absolute.se:
            continue
        assert (found.absolute.low > 0, found.absolute.high < 0) == (found.relative.low > 0, found.relative.high < 0)
        assert found.relative.low <= found.relative.high
        judged, outside = judged + 1, outside + (found.absolute.low > 0 or found.absolute.high < 0)
    assert judged > 9_000
    assert 1_000 < outside < judged - 1_000


def test_with_k_the_relative_range_solves_fiellers_quadratic():
    """(theta_1 - r theta_0)^2 = c^2 (V_1 - 2 r K + r^2 V_0)."""
    c = 1.7
    for treated, control, k in scattered(np.random.default_rng(22), 300):
        found = interval_at(Contrast((9, 9), (None, None)), treated, control, level=0.95, critical=c, covariance=k).relative
        if found is None:
            continue
        one, zero = treated.estimate, control.estimate
        square = [zero**2 - c * c * control.variance, -2 * (one * zero - c * c * k), one**2 - c * c * treated.variance]
        assert (found.low + 1, found.high + 1) == pytest.approx(sorted(np.roots(square)), rel=1e-6)


def test_with_k_variance_and_degrees_of_freedom_by_hand():
    """V = 3 + 2 - 2 * 1 = 3; nu = 9 / (2^2 / 40 + 1^2 / 50) = 75."""
    one, two = Value(41, 7.0, 3.0, ((3.0, 40),)), Value(51, 4.0, 2.0, ((0.5, 50), (1.5, 50)))
    two_of_one_phase = Value(51, 4.0, 2.0, ((2.0, 50),))
    found = compare(one, two_of_one_phase, level=0.95, covariance=1.0)
    assert found.absolute.se == pytest.approx(math.sqrt(3), rel=1e-15)
    assert found.df == pytest.approx(75, rel=1e-14)
    # phases keep their proportions: (1/4)^2 / 50 + (3/4)^2 / 50
    assert compare(one, two, level=0.95, covariance=1.0).df == pytest.approx(9 / (4 / 40 + 0.625 / 50), rel=1e-14)


def test_with_k_the_variance_of_the_log_by_hand():
    """3 / 49 + 2 / 16 - 2 / 28."""
    one, two = Value(41, 7.0, 3.0, ((3.0, 40),)), Value(51, 4.0, 2.0, ((2.0, 50),))
    contrast = compare(one, two, level=0.95, covariance=1.0)
    assert contrast.log_variance == (3 / 49, 2 / 16)
    assert contrast.change_log_variance == pytest.approx(3 / 49 + 2 / 16 - 2 / 28, rel=1e-14)
    assert compare(one, replace(two, estimate=-4.0), level=0.95).change_log_variance is None


def test_a_contrast_keeps_its_k_at_another_level():
    one, two = Value(41, 7.0, 3.0, ((3.0, 40),)), Value(51, 4.0, 2.0, ((2.0, 50),))
    found = compare(one, two, level=0.95, covariance=1.0)
    wider = interval_at(found, one, two, level=0.99)
    assert wider.absolute.se == found.absolute.se
    assert wider == compare(one, two, level=0.99, covariance=1.0)


def without_k(treated, control, *, level=0.95):
    """The formulas for independent arms, in the order of operations of every report so far."""
    variance = treated.variance + control.variance
    df = variance**2 / math.fsum(part * part / free for part, free in (*treated.parts, *control.parts))
    c = float(-stdtrit(df, (1 - level) / 2))
    change, se = treated.estimate - control.estimate, math.sqrt(variance)
    ratio, v1, v0 = treated.estimate / control.estimate, treated.variance, control.variance
    g = c * c * v0 / control.estimate**2
    range_ = None
    if g < 1:
        half = c / control.estimate * math.sqrt(max(0.0, v1 + ratio * ratio * v0 - g * v1))
        range_ = (ratio - 1, (ratio - half) / (1 - g) - 1, (ratio + half) / (1 - g) - 1)
    return (change, se, change - c * se, change + c * se), df, range_


def test_without_k_every_bit_stays_as_it_was():
    for treated, control, _ in scattered(np.random.default_rng(23), 3_000):
        found = compare(treated, control, level=0.95)
        absolute, df, relative = without_k(treated, control)
        assert found == compare(treated, control, level=0.95, covariance=0.0)
        assert (found.absolute.estimate, found.absolute.se, found.absolute.low, found.absolute.high) == absolute
        assert found.df == df
        assert relative == (found.relative and (found.relative.estimate, found.relative.low, found.relative.high))


def test_a_covariance_that_cannot_be_is_refused():
    one, two = Value(41, 7.0, 3.0, ((3.0, 40),)), Value(51, 4.0, 2.0, ((2.0, 50),))
    with pytest.raises(DataError, match="does not fit"):
        compare(one, two, level=0.95, covariance=2.5)


def test_values_that_share_everything_do_not_vary():
    one, two = Value(41, 7.0, 2.0, ((2.0, 40),)), Value(51, 4.0, 2.0, ((2.0, 50),))
    assert compare(one, two, level=0.95, covariance=2.0).status == "no_variation"


# The guard, by hand: cv2 = 4; log ratio ln 2; variance 4 / 40 + 4 / 160 = 1 / 8; 198 degrees of freedom

ONE, ZERO = Value(40, 6.0, 0.9, ((0.9, 39),)), Value(160, 3.0, 0.02, ((0.02, 159),))
SKEWED = Skew(4.0, 500.0)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_guarded_ranges_by_hand(level):
    found = compare(ONE, ZERO, level=level, skew=SKEWED)
    s, half = math.sqrt(1 / 8), stats.t(198).ppf((1 + level) / 2) * math.sqrt(1 / 8)
    scale = 3 / math.log(2)  # from log units to the metric's unit
    assert (found.status, found.n, found.values, found.df) == ("guarded", (40, 160), (6.0, 3.0), 198)
    assert found.log_variance == (4 / 40, 4 / 160)
    assert (found.relative.estimate, found.relative.low, found.relative.high) == pytest.approx(
        (1.0, 2 * math.exp(-half) - 1, 2 * math.exp(half) - 1), rel=1e-12
    )
    assert (found.absolute.estimate, found.absolute.se) == pytest.approx((3.0, scale * s), rel=1e-12)
    assert (found.absolute.low, found.absolute.high) == pytest.approx((3 - half * scale, 3 + half * scale), rel=1e-12)
    assert found.absolute.p == pytest.approx(2 * stats.t(198).sf(math.log(2) / s), rel=1e-10)
    assert found.reason == "the arms are unequal in size and readers differ much: the spread is taken from all arms together"


def test_a_guarded_comparison_stays_guarded_at_another_level_but_not_at_a_critical_value_of_its_own():
    found = compare(ONE, ZERO, level=0.95, skew=SKEWED)
    assert interval_at(found, ONE, ZERO, level=0.8) == compare(ONE, ZERO, level=0.8, skew=SKEWED)
    assert (
        interval_at(found, ONE, ZERO, level=0.8, critical=3.0).absolute
        == interval_at(Contrast((40, 160), (6.0, 3.0)), ONE, ZERO, level=0.8, critical=3.0).absolute
    )


def test_equal_values_of_unequal_arms_are_guarded_around_zero():
    found = compare(replace(ONE, estimate=3.0), ZERO, level=0.95, skew=SKEWED)
    assert (found.absolute.estimate, found.relative.estimate, found.absolute.p) == (0.0, 0.0, 1.0)
    assert found.absolute.se == pytest.approx(3 * math.sqrt(1 / 8), rel=1e-12)
    assert found.absolute.low == -found.absolute.high


def test_the_guard_takes_over_above_a_skewness_of_a_fifth():
    """Of the difference: third * (1 / 40^2 - 1 / 160^2) / (1 / 8)^1.5 at cv2 = 4."""
    edge = 0.2 * (1 / 8) ** 1.5 / (1 / 40**2 - 1 / 160**2)
    statuses = [compare(ONE, ZERO, level=0.95, skew=Skew(4.0, sign * edge * near)).status for sign in (1, -1) for near in (0.999, 1.001)]
    assert statuses == ["ok", "guarded", "ok", "guarded"]


@pytest.mark.parametrize("treated", [0.0, -1.0])
def test_an_unequal_arm_without_an_event_is_not_judged(treated):
    found = compare(replace(ONE, estimate=treated), ZERO, level=0.95, skew=SKEWED)
    assert (found.n, found.values, found.absolute, found.relative, found.status) == ((40, 160), (treated, 3.0), None, None, "not_estimable")
    assert found.reason == "the arms are so unequal in size that only the logarithm of the ratio can be judged, and an arm has no event"
    assert compare(replace(ONE, estimate=0.5), ZERO, level=0.95, skew=SKEWED).status == "guarded"


def test_an_unequal_arm_with_hardly_an_event_is_not_judged_and_says_so():
    found = compare(replace(ONE, estimate=0.5), ZERO, level=0.95, skew=replace(SKEWED, cv2=40.0, third=SKEWED.third * 1e3))
    assert found.status == "not_estimable"
    assert found.reason.endswith("and an arm has so few events that its value cannot be told from zero")


# What is said where there is no number


def test_a_value_that_cannot_be_computed_says_why_and_keeps_its_readers():
    one = Moments.from_sums(1, (VIEWS, SESSIONS), (1, 1), ((1, 1), (1, 1)))
    none = value([(0, 0)] * 5)
    nobody = arm_value({}, "als", numerator=VIEWS, denominator=SESSIONS, shares={1: 1.0})
    alone = arm_value({("als", 1): one}, "als", numerator=VIEWS, denominator=SESSIONS, shares={1: 1.0})
    assert (nobody.n, nobody.status, nobody.reason) == (0, "insufficient", "als has 0 readers whose window has ended")
    assert (alone.n, alone.status, alone.reason) == (1, "insufficient", "als has 1 reader whose window has ended")
    assert (none.n, none.status, none.reason) == (5, "undefined_denominator", "the denominator of a adds up to zero")
    shown = compare(alone, value([(1, 1), (3, 1)] * 20), level=0.95)
    assert (shown.n, shown.values, shown.reason) == ((1, 40), (None, 2.0), alone.reason)


def test_readers_who_do_not_differ_show_counts_and_values():
    found = both([(2, 1)] * 40, [(2, 1)] * 50)
    assert (found.n, found.values, found.status) == ((40, 50), (2.0, 2.0), "no_variation")
    assert found.reason == "no reader differs from another in either arm"


def test_why_there_is_no_relative_range_is_said_in_full():
    nothing, may_be_nothing = both([(1, 1), (3, 1)] * 20, [(0, 1)] * 40), both([(1, 1), (2, 1)] * 20, [(1, 1)] * 2 + [(0, 1)] * 38)
    assert nothing.reason == "a relative change cannot be estimated: the control's value is not above zero"
    assert may_be_nothing.reason == "a relative change cannot be estimated: the control's value cannot be told from zero"
    assert both([(1, 1), (2, 1)] * 20, [(1, 1), (3, 1)] * 20).reason == ""


def test_a_control_exactly_at_the_edge_has_no_relative_range():
    """g = c^2 V_0 / theta_0^2 = 4 * 1 / 4."""
    found = interval_at(
        Contrast((40, 40), (6.0, 2.0)), Value(40, 6.0, 1.0, ((1.0, 39),)), Value(40, 2.0, 1.0, ((1.0, 39),)), level=0.95, critical=2.0
    )
    assert (found.status, found.relative) == ("not_estimable", None)


def test_a_treated_arm_at_zero_has_no_logarithm():
    found = compare(Value(40, 0.0, 0.01, ((0.01, 39),)), Value(40, 2.0, 0.01, ((0.01, 39),)), level=0.95)
    assert found.relative.estimate == -1.0
    assert found.log_variance is None


def test_the_hint_of_an_impossible_covariance():
    with pytest.raises(DataError) as error:
        compare(Value(41, 7.0, 3.0, ((3.0, 40),)), Value(51, 4.0, 2.0, ((2.0, 50),)), level=0.95, covariance=2.5)
    assert error.value.hint == "Its square may not exceed their product."


# Degrees of freedom, rounding


def test_degrees_of_freedom_are_readers_less_one_per_phase():
    cells = {("a", 1): moments([(1, 1), (3, 1), (4, 1)]), ("a", 2): moments([(4, 1), (8, 1)])}
    found = arm_value(cells, "a", numerator=VIEWS, denominator=SESSIONS, shares={1: 0.5, 2: 0.5})
    assert [free for _, free in found.parts] == [2, 1]


def test_a_phase_without_a_cell_counts_as_nobody():
    two = moments([(1, 1), (2, 1)])
    cells = {("a", 1): two, ("b", 1): two, ("a", 2): moments([(9, 1)])}
    assert phase_shares(cells, ["a", "b"]) == ({1: 1.0}, (2,))


def test_what_rounding_leaves_of_a_constant_ratio_is_no_variation():
    """Every reader has views = 3 * sessions: the three terms of the spread cancel to the last digits."""
    rng = np.random.default_rng(1)
    sessions = rng.integers(1, 10_000_000, 500)
    found = value([(3 * int(d), int(d)) for d in sessions])
    assert found.variance == 0
    almost = value([(3 * int(d) + (i == 0) * 50, int(d)) for i, d in enumerate(sessions)])
    assert almost.variance > 0


def test_a_billion_readers_are_judged_by_the_normal_distribution():
    one, two = Value(2 * 10**9, 1.002, 1e-6, ((1e-6, 2 * 10**9),)), Value(2 * 10**9, 1.0, 1e-6, ((1e-6, 2 * 10**9),))
    found = compare(one, two, level=0.95)
    half = stats.norm.ppf(0.975) * math.sqrt(2e-6)
    assert (found.absolute.low, found.absolute.high) == pytest.approx((0.002 - half, 0.002 + half), rel=1e-12)
    assert found.absolute.p == pytest.approx(2 * stats.norm.sf(0.002 / math.sqrt(2e-6)), rel=1e-6)
