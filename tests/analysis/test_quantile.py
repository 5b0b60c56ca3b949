from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.quantile import quantile_contrast, quantile_value
from experiments.errors import DataError, MetricError

SPREAD = 0.85  # of readers' own speed, in standard deviations of one event
Z = stats.norm.ppf(0.975)
EVENTS = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 10**6)), min_size=20, max_size=35)


def crowd(rng, readers=300, *, spread=SPREAD):
    """Log waiting times: each reader has a speed of their own; how often they come does not depend on it."""
    often = 1 + rng.poisson(rng.gamma(1.5, 2.5, readers))
    who = np.repeat(np.arange(readers), often)
    own = rng.normal(0, spread, readers)
    return who, own[who] + rng.normal(0, 1, len(who))


def test_nine_readers_of_one_event_by_hand():
    """Median of 1 to 9 is 5; five of nine lie at or below it: s^2 = (20/81) / 8; ranks 9 (1/2 -+ 1.96 s) = 1.4, 7.6."""
    s = math.sqrt(5 / 9 * 4 / 9 / 8)
    assert (math.ceil(9 * (0.5 - Z * s)), math.ceil(9 * (0.5 + Z * s))) == (2, 8)
    found = quantile_value(range(9), [9, 1, 8, 2, 7, 3, 6, 4, 5], q=0.5)
    assert (found.estimate, found.low, found.high, found.readers, found.events) == (5, 2, 8, 9, 9)
    assert found.se == pytest.approx(math.hypot(6 / (2 * Z), 1 / 2))  # values are a step of 1 apart


@pytest.mark.parametrize("readers", [12, 200])
def test_the_spread_is_the_cluster_robust_one_of_statsmodels_and_the_ends_those_of_numpy(readers):
    rng = np.random.default_rng(3)
    who = np.repeat(np.arange(readers), 100)
    waited = np.round(np.exp(rng.normal(0, 0.5, readers)[who] + rng.normal(0, 1, len(who))) * 10**6).astype(int)
    for q in (0.5, 0.75):
        found = quantile_value(who, waited, q=q)
        under = (waited <= np.quantile(waited, q, method="inverted_cdf")).astype(float)
        fit = sm.OLS(under, np.ones(len(under))).fit(cov_type="cluster", cov_kwds={"groups": who, "use_correction": False})
        s = float(fit.bse[0]) * math.sqrt(readers / (readers - 1))
        ends = [np.quantile(waited, share, method="inverted_cdf") for share in (q - Z * s, q, q + Z * s)]
        assert [found.low, found.estimate, found.high] == ends
        assert found.value.parts == ((found.se**2, readers - 1),)


@pytest.mark.parametrize("q", [0.5, 0.9])
def test_readers_are_covered_as_promised_and_events_are_not(q):
    """300 readers; STATISTICS 3 measured coverage 0.949 to 0.955 and an i.i.d. error of 0.58 to 0.70 of the right one."""
    rng, runs, hits, naive, ratios, found = np.random.default_rng(17), 500, 0, 0, [], []
    truth = stats.norm.ppf(q) * math.hypot(1, SPREAD)
    for _ in range(runs):
        who, waited = crowd(rng)
        right, wrong = quantile_value(who, waited, q=q), quantile_value(np.arange(len(waited)), waited, q=q)
        hits += right.low <= truth <= right.high
        naive += wrong.low <= truth <= wrong.high
        ratios.append(wrong.se / right.se)
        found.append((right.estimate, right.se))
    assert abs(hits / runs - 0.95) < 3 * math.sqrt(0.95 * 0.05 / runs)
    assert 0.58 < np.mean(ratios) < 0.70
    assert naive / runs < 0.87
    estimates, errors = np.array(found).T
    assert np.mean(errors) / np.std(estimates) == pytest.approx(1, abs=3 / math.sqrt(2 * runs) + 0.02)  # 0.02: small-sample bias


def test_no_effect_is_called_one_five_times_in_a_hundred():
    rng, runs, alarms = np.random.default_rng(23), 500, 0
    for _ in range(runs):
        one, two = (quantile_value(*crowd(rng, 150), q=0.75) for _ in range(2))
        alarms += quantile_contrast(two, one, level=0.95).absolute.p < 0.05
    assert abs(alarms / runs - 0.05) < 3 * math.sqrt(0.05 * 0.95 / runs)


@pytest.mark.parametrize(("readers", "arms"), [(300, 120), (1000, 60)])
@pytest.mark.parametrize("step", [0.001, 1, 5, 20])
def test_no_effect_is_called_one_however_coarse_the_clock_is(step, readers, arms):
    """95 of 100 events take up to some 72 ms: with steps of 20 ms it is 60 or 80. All pairs of arms are compared."""
    rng, found = np.random.default_rng(29), []
    for _ in range(arms):
        who = np.repeat(np.arange(readers), 1 + rng.poisson(rng.gamma(0.7, 3, readers)))
        waited = rng.lognormal(3, 0.5, len(who)) * rng.lognormal(0, 0.6, readers)[who]
        found.append(quantile_value(who, np.round(waited / step) * step, q=0.95))
    pairs = itertools.combinations([one for one in found if one.status == "ok"], 2)
    p = [c.absolute.p for pair in pairs if (c := quantile_contrast(*pair, level=0.95)).absolute]
    assert np.mean(np.array(p) < 0.05) <= 0.06


def test_a_fine_clock_widens_nothing():
    who, waited = crowd(np.random.default_rng(31))
    found = quantile_value(who, np.exp(waited) * 100, q=0.5)
    assert 1 <= found.se * 2 * Z / (found.high - found.low) < 1.001


def test_a_value_between_two_is_half_a_step_unsure():
    """Of 100 readers 50 waited 10, 50 waited 20: the median is one or the other, and 5 off at least."""
    found = quantile_value(range(100), [10] * 50 + [20] * 50, q=0.5)
    assert (found.low, found.high) == (10, 20)
    assert found.se == pytest.approx(math.hypot(10 / (2 * Z), 5))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(EVENTS, st.randoms(use_true_random=False))
def test_order_grouping_and_empty_rows_change_nothing(events, random):
    who, waited = zip(*events, strict=True)
    plain = quantile_value(who, waited, q=0.5)
    shuffled = list(events)
    random.shuffle(shuffled)
    pairs = sorted(set(events))
    counts = [events.count(pair) for pair in pairs]
    grouped = [*pairs, (99, 5)], [*counts, 0]
    assert quantile_value(*zip(*shuffled, strict=True), q=0.5) == plain
    assert quantile_value(*zip(*grouped[0], strict=True), q=0.5, count=grouped[1]) == plain
    assert quantile_value([f"reader {i}" for i in who], waited, q=0.5) == plain


@settings(max_examples=40, deadline=None, derandomize=True)
@given(EVENTS, st.sampled_from([0.25, 0.5, 0.75]))
def test_the_range_holds_the_estimate_and_grows_with_the_level(events, q):
    who, waited = zip(*events, strict=True)
    found = [quantile_value(who, waited, q=q, level=level) for level in (0.8, 0.95)]
    assume(all(f.status == "ok" for f in found))
    narrow, wide = found
    assert wide.low <= narrow.low <= narrow.high <= wide.high
    assert wide.low <= wide.estimate <= wide.high or sum(v <= wide.estimate for v in waited) > q * len(waited) + 1  # ties


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(-1, 1))
def test_swapping_the_arms_negates_the_difference_and_both_ranges_agree_about_zero(a, b, slower):
    tables = [crowd(np.random.default_rng(seed), 40) for seed in (a, b)]
    one, two = (quantile_value(who, np.exp(log + slow) * 100, q=0.5) for (who, log), slow in zip(tables, (slower, 0), strict=True))
    assume(one.se is not None and two.se is not None)
    there, back = quantile_contrast(one, two, level=0.95), quantile_contrast(two, one, level=0.95)
    assert back.absolute.estimate == -there.absolute.estimate
    assert back.absolute.p == pytest.approx(there.absolute.p, rel=1e-12)
    assume(there.relative is not None and min(abs(there.absolute.low), abs(there.absolute.high)) > 1e-6)
    assert (there.relative.low > 0, there.relative.high < 0) == (there.absolute.low > 0, there.absolute.high < 0)


def test_whole_shares_mean_what_they_say():
    """0.07 of 100 events is the 7th; as a float product it would be the 8th."""
    assert 0.07 * 100 > 7
    assert quantile_value(range(100), range(1, 101), q=0.07).estimate == 7


def test_counts_beyond_any_float_keep_their_digits():
    """Ten readers with 10^12 events each, one part in 10^6 of them moved: the sums of squares pass 2^64."""
    n, extra = 10**12, 10**6
    reader = [r for r in range(10) for _ in "ab"]
    counts = [c for r in range(10) for c in ((n + extra, n) if r % 2 else (n, n + extra))]
    found = quantile_value(reader, [1, 2] * 10, q=0.5, count=counts)
    assert (found.estimate, found.events) == (1, 10 * (2 * n + extra))
    shares = np.array([(n + extra if r % 2 else n) / (2 * n + extra) for r in range(10)])
    assert found.status == "ok"
    s = math.sqrt(shares.var(ddof=1) / 10)
    assert s < 1e-6
    assert (found.low, found.high) == (1, 2)


@pytest.mark.parametrize(
    ("reader", "value", "q", "status", "says"),
    [
        ([], [], 0.5, "insufficient", "0 readers with an event"),
        ([1, 1, 1], [1, 2, 3], 0.5, "insufficient", "1 reader with an event"),
        (range(50), [7] * 40 + [8] * 10, 0.5, "not_estimable", "fall on one value"),
        (range(50), range(50), 0.97, "not_estimable", "lies beyond all events"),
        (range(50), range(50), 0.01, "not_estimable", "lies beyond all events"),
    ],
)
def test_what_cannot_be_computed_has_no_range_and_a_reason(reader, value, q, status, says):
    found = quantile_value(reader, value, q=q)
    assert (found.status, found.low, found.high, found.se) == (status, None, None, None)
    assert says in found.reason
    good = quantile_value(range(50), range(50), q=0.5)
    both = quantile_contrast(found, quantile_value(range(50), range(50), q=q) if q != 0.5 else good, level=0.95)
    assert (both.status, both.absolute, both.relative, both.reason) == (status, None, None, found.reason)


def test_an_arm_whose_events_all_take_the_same_time_is_known_exactly():
    blank, busy = quantile_value(range(50), [0] * 50, q=0.9), quantile_value(range(60), range(60), q=0.9)
    found = quantile_contrast(busy, blank, level=0.95)
    assert (blank.estimate, blank.se) == (0.0, 0.0)
    assert (found.absolute.estimate, found.absolute.se) == (busy.estimate, pytest.approx(busy.se))
    assert found.relative is None
    assert quantile_contrast(blank, blank, level=0.95).status == "no_variation"


def test_weights_count_events_as_often_as_they_say():
    reader, value, weight = [r for r in range(40) for _ in "ab"], list(range(80)), [1 + r % 3 for r in range(80)]
    weighted = quantile_value(reader, value, q=0.5, weight=weight)
    repeated = quantile_value(reader, value, q=0.5, count=weight)
    assert (weighted.estimate, weighted.se, weighted.events) == (repeated.estimate, repeated.se, 80)
    assert weighted.estimate != quantile_value(reader, value, q=0.5).estimate


def test_thirty_readers_an_arm_are_needed_as_for_any_mean():
    one, two = quantile_value(range(40), range(40), q=0.5), quantile_value(range(20), range(20), q=0.5)
    assert quantile_contrast(two, one, level=0.95).status == "insufficient"


def test_faulty_input_is_refused_with_its_numbers():
    with pytest.raises(DataError, match="2 of 3 values are not finite"):
        quantile_value([1, 2, 3], [1.0, math.nan, math.inf], q=0.5)
    with pytest.raises(DataError, match="do not fit"):
        quantile_value([1, 2, 3], [1.0, 2.0], q=0.5)
    for counts in ([1, -1], [1, 1.5]):
        with pytest.raises(DataError, match="whole and at least 0"):
            quantile_value([1, 2], [1.0, 2.0], q=0.5, count=counts)
    with pytest.raises(MetricError, match="between 0 and 1"):
        quantile_value([1, 2], [1.0, 2.0], q=95)
    with pytest.raises(MetricError, match=r"0\.5 cannot be compared with quantile 0\.9"):
        quantile_contrast(*(quantile_value(range(50), range(50), q=q) for q in (0.5, 0.9)), level=0.95)
