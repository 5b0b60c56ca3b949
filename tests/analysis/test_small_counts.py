from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from analysis.effect import Contrast
from analysis.moments import Moments
from analysis.score_test import difference_interval, fisher_mid_p, ratio_interval, score_p
from analysis.small_counts import SCORE, binary_counts, is_small, share_contrast, small_count_contrast
from experiments.errors import DataError, ExperimentError

SIDE = st.integers(2, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
SIZES = [(9, 9), (12, 6), (5, 11)]


@cache
def contrast(treated, control, level=0.95):
    return small_count_contrast(treated, control, level=level)


def tables(n1, n0):
    return [((x1, n1), (x0, n0)) for x1 in range(n1 + 1) for x0 in range(n0 + 1)]


def likeliest(treated, control, difference):
    """The constrained rate of the control as the only admissible root of the published cubic."""
    (x1, n1), (x0, n0) = treated, control
    n, x, d = n1 + n0, x1 + x0, difference
    l2, l1 = (n1 + 2 * n0) * d - n - x, (n0 * d - n - 2 * x0) * d + x
    roots = np.roots([n, l2, l1, x0 * d * (1 - d)])
    inner = [r.real for r in roots if abs(r.imag) < 1e-7 and max(0, -d) - 1e-9 <= r.real <= min(1, 1 - d) + 1e-9]
    rates = [(p, min(1.0, max(0.0, p + d))) for p in np.clip(inner, max(0, -d), min(1, 1 - d))]
    return max(rates, key=lambda pq: stats.binom.logpmf(x0, n0, pq[0]) + stats.binom.logpmf(x1, n1, pq[1]))


def test_eight_against_two_of_ten_by_hand():
    """Pooled rate 1/2: variance 1/4 * (1/10 + 1/10) * 20/19 = 1/19; z = 0.6 * sqrt(19)."""
    found = contrast((8, 10), (2, 10))
    assert found.absolute.se == pytest.approx(math.sqrt(1 / 19), rel=1e-14)
    assert score_p((8, 10), (2, 10)) == pytest.approx(2 * stats.norm.sf(0.6 * math.sqrt(19)), rel=1e-13)
    assert found.absolute.p == score_p((8, 10), (2, 10))


def test_no_event_in_either_arm_by_hand():
    """p0 = 0, p1 = d: d^2 = c d (1 - d) / n1 with c = z^2 N / (N - 1), so the high end is c / (n1 + c)."""
    c = stats.norm.ppf(0.975) ** 2 * 30 / 29
    low, high = difference_interval((0, 20), (0, 10), level=0.95)
    assert (low, high) == pytest.approx((-c / (10 + c), c / (20 + c)), rel=1e-12)
    assert difference_interval((20, 20), (10, 10), level=0.95) == pytest.approx((-c / (20 + c), c / (10 + c)), rel=1e-9)


def test_one_reader_per_arm_by_hand():
    """Nothing of 1 against 1 of 1: at difference d the rates are (1 + d)/2 and (1 - d)/2, mirrored; N / (N - 1) = 2."""
    z2 = 2 * stats.norm.ppf(0.975) ** 2
    low, high = difference_interval((0, 1), (1, 1), level=0.95)
    assert low == -1.0
    # (1 + d)^2 = z2 (1 - d^2) / 2  ->  1 + d = z2 (1 - d) / 2
    assert high == pytest.approx((z2 / 2 - 1) / (z2 / 2 + 1), rel=1e-12)


def test_case_10_seven_against_one_of_34():
    """PropCIs' `diffscoreci` (its `z2stat` has N / (N - 1)); without the factor Fagerland et al. (2015) print .028, .34."""
    found = contrast((7, 34), (1, 34))
    assert (round(found.absolute.low, 7), round(found.absolute.high, 7)) == (0.0270416, 0.3452912)
    mee = difference_interval((7, 34), (1, 34), level=0.95, corrected=False)
    assert (round(mee[0], 3), round(mee[1], 2)) == (0.028, 0.34)


def test_case_11_newcombe_1998():
    """The paper's first example: Mee .0533 .3377, Miettinen-Nurminen .0528 .3382, Newcombe .0524 .3339."""
    found = contrast((56, 70), (48, 80)).absolute
    assert (round(found.low, 4), round(found.high, 4)) == (0.0528, 0.3382)
    mee = difference_interval((56, 70), (48, 80), level=0.95, corrected=False)
    assert [round(end, 4) for end in mee] == [0.0533, 0.3377]
    newcombe = confint_proportions_2indep(56, 70, 48, 80, method="newcomb")
    assert [round(float(end), 4) for end in newcombe] == [0.0524, 0.3339]
    assert (found.low, found.high) == pytest.approx(newcombe, abs=0.005)


def test_case_12_wilson_and_the_limit_of_a_known_control():
    """Against a control so large that its rate is known, the range is Wilson's interval less that rate."""
    wilson = proportion_confint(81, 263, method="wilson")
    assert [round(end, 4) for end in wilson] == [0.2553, 0.3662]
    found = difference_interval((81, 263), (3 * 10**9, 10**10), level=0.95)
    assert found == pytest.approx([end - 0.3 for end in wilson], abs=1e-6)


@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("table", [((7, 34), (1, 34)), ((3, 40), (9, 25)), ((2, 9), (8, 12)), ((40, 41), (30, 45)), ((1, 30), (5, 30))])
def test_the_ratio_is_that_of_statsmodels(table, corrected):
    """Fagerland et al. (2015) print 1.21, 43 for 7/34 against 1/34: the factor is in it."""
    (x1, n1), (x0, n0) = table
    theirs = confint_proportions_2indep(x1, n1, x0, n0, compare="ratio", method="score", correction=corrected)
    assert ratio_interval(*table, level=0.95, corrected=corrected) == pytest.approx(theirs, rel=1e-7)
    if corrected and table[0] == (7, 34):
        assert (round(theirs[0], 2), round(theirs[1])) == (1.21, 43)


@pytest.mark.parametrize("table", [((11, 11), (5, 9)), ((0, 9), (4, 12)), ((7, 34), (1, 34)), ((5, 5), (8, 8))])
def test_at_both_ends_of_the_ratio_the_likeliest_rates_found_by_search_give_the_level(table):
    """Also where everyone in an arm has an event; there statsmodels 0.15 stops at the kink, 1.25 instead of 1.177."""
    (x1, n1), (x0, n0) = table
    for end in ratio_interval(*table, level=0.95):
        if end == 0:
            continue

        def unlikely(p, end=end):
            return -stats.binom.logpmf(x1, n1, min(1.0, end * p)) - stats.binom.logpmf(x0, n0, p)

        p = optimize.minimize_scalar(unlikely, bounds=(0, min(1.0, 1 / end)), method="bounded", options={"xatol": 1e-12}).x
        variance = (end * p * (1 - end * p) / n1 + end**2 * p * (1 - p) / n0) * (n1 + n0) / (n1 + n0 - 1)
        z = (x1 / n1 - end * x0 / n0) / math.sqrt(variance)
        assert 2 * stats.norm.sf(abs(z)) == pytest.approx(0.05, rel=1e-4)  # the search is the less exact of the two


@pytest.mark.parametrize("table", [((7, 34), (1, 34)), ((0, 9), (4, 12)), ((12, 12), (5, 7)), ((2, 300), (9, 40)), ((6, 6), (0, 6))])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
def test_at_both_ends_the_test_with_the_published_cubic_has_exactly_its_level(table, level):
    (x1, n1), (x0, n0) = table
    for end in difference_interval(*table, level=level):
        if abs(end) == 1:
            assert x1 / n1 - x0 / n0 == end
            continue
        p, q = likeliest(*table, end)
        variance = (p * (1 - p) / n0 + q * (1 - q) / n1) * (n1 + n0) / (n1 + n0 - 1)
        z = (x1 / n1 - x0 / n0 - end) / math.sqrt(variance)
        assert 2 * stats.norm.sf(abs(z)) == pytest.approx(1 - level, rel=1e-6)


@pytest.mark.parametrize("sizes", SIZES)
def test_mid_p_is_fishers_less_half_of_the_table(sizes):
    for (x1, n1), (x0, n0) in tables(*sizes):
        exact = stats.fisher_exact([[x1, n1 - x1], [x0, n0 - x0]]).pvalue
        own = stats.hypergeom.pmf(x1, n1 + n0, x1 + x0, n1)
        assert fisher_mid_p((x1, n1), (x0, n0)) == pytest.approx(min(1, exact - own / 2), rel=1e-9)


@pytest.mark.parametrize("sizes", SIZES)
def test_difference_ratio_and_p_make_one_decision_in_every_table(sizes):
    for table in tables(*sizes):
        found = contrast(*table)
        if found.absolute is None:
            continue
        a, r = found.absolute, found.relative
        assert -1 <= a.low <= a.estimate <= a.high <= 1
        assert (a.low > 0 or a.high < 0) == (a.p < 0.05)
        if r is not None:
            assert -1 <= r.low <= r.estimate <= r.high < math.inf
            assert (r.low > 0, r.high < 0) == (a.low > 0, a.high < 0)


def test_each_of_the_two_tests_excludes_zero_where_the_other_does_not():
    """Why both are asked: tables of 12 and 40 readers in which they part ways at 0.05; then nobody claims an effect."""
    only = {"score": [], "exact": []}
    for table in tables(12, 40):
        score, exact = score_p(*table), fisher_mid_p(*table)
        least = min(table[0][0] + table[1][0], 52 - table[0][0] - table[1][0]) * 12 / 52
        if least < 5 and (score < 0.05) != (exact < 0.05):
            only["score" if score < 0.05 else "exact"].append(table)
    assert (len(only["score"]), len(only["exact"])) == (4, 2)
    for table in (*only["score"], *only["exact"]):
        found = contrast(*table)
        assert found.absolute.p >= 0.05
        assert found.absolute.low <= 0 <= found.absolute.high
        assert found.relative is None or found.relative.low <= 0 <= found.relative.high
    widened = next(contrast(*table) for table in only["score"] if contrast(*table).relative)
    assert 0.0 in (widened.absolute.low, widened.absolute.high)
    assert "the range reaches it" in widened.reason


@pytest.mark.parametrize(("sizes", "most"), [((10, 10), 0.045), ((30, 30), 0.0525), ((12, 40), 0.05)])
def test_false_alarms_by_enumeration(sizes, most):
    """All tables, 199 common rates; the score test alone reaches 0.0554 at 30 against 30 readers."""
    n1, n0 = sizes
    alarm, alone = np.zeros((n1 + 1, n0 + 1)), np.zeros((n1 + 1, n0 + 1))
    for treated, control in tables(n1, n0):
        x = treated[0] + control[0]
        few = min(x, n1 + n0 - x) * min(sizes) / (n1 + n0) < 5
        alone[treated[0], control[0]] = score_p(treated, control) < 0.05
        alarm[treated[0], control[0]] = alone[treated[0], control[0]] and (not few or fisher_mid_p(treated, control) < 0.05)
        if treated[0] % 5 == 0 and control[0] % 7 == 0 and x not in (0, n1 + n0):
            assert (contrast(treated, control).absolute.p < 0.05) == alarm[treated[0], control[0]]
    rates = np.linspace(0.005, 0.995, 199)
    one, two = (stats.binom.pmf(np.arange(n + 1)[:, None], n, rates) for n in sizes)
    assert np.einsum("ir,ij,jr->r", one, alarm, two).max() <= most
    if sizes == (30, 30):
        assert np.einsum("ir,ij,jr->r", one, alone, two).max() > 0.055


@pytest.mark.parametrize("sizes", SIZES)
def test_coverage_by_enumeration(sizes):
    """All tables, 21 x 21 pairs of rates: as often as promised on average, and nowhere far below."""
    n1, n0 = sizes
    rates = np.linspace(0.02, 0.98, 21)
    one, two = (stats.binom.pmf(np.arange(n + 1)[:, None], n, rates) for n in sizes)
    truth = rates[:, None] - rates[None, :]
    covered = np.zeros_like(truth)
    for treated, control in tables(n1, n0):
        found = contrast(treated, control).absolute
        low, high = (found.low, found.high) if found else difference_interval(treated, control, level=0.95)
        covered += np.outer(one[treated[0]], two[control[0]]) * ((low <= truth + 1e-12) & (truth - 1e-12 <= high))
    assert 0.95 <= covered.mean() < 0.98
    assert covered.min() > 0.90


@settings(max_examples=40, deadline=None, derandomize=True)
@given(SIDE, SIDE)
def test_swapping_the_arms_negates_the_difference_and_inverts_the_ratio(treated, control):
    there, back = contrast(treated, control), contrast(control, treated)
    assume(there.absolute is not None)
    assert back.absolute.estimate == -there.absolute.estimate
    assert (back.absolute.low, back.absolute.high) == pytest.approx((-there.absolute.high, -there.absolute.low), abs=1e-12)
    assert (back.absolute.p, back.absolute.se) == pytest.approx((there.absolute.p, there.absolute.se), rel=1e-9)
    low, high = ratio_interval(treated, control, level=0.95)
    inverse = ratio_interval(control, treated, level=0.95)
    assert inverse[1] is None if low == 0 else inverse[1] == pytest.approx(1 / low, rel=1e-9)
    assert inverse[0] == 0 if high is None else inverse[0] == pytest.approx(1 / high, rel=1e-9)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(SIDE, SIDE)
def test_exchanging_events_and_non_events_negates_the_difference(treated, control):
    other = [(n - x, n) for x, n in (treated, control)]
    there, back = difference_interval(treated, control, level=0.9), difference_interval(*other, level=0.9)
    assert back == pytest.approx((-there[1], -there[0]), abs=1e-12)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(SIDE, SIDE)
def test_a_higher_level_is_never_a_narrower_range(treated, control):
    found = [contrast(treated, control, level) for level in (0.5, 0.9, 0.95, 0.99)]
    assume(found[0].absolute is not None)
    for narrow, wide in pairwise(found):
        assert wide.absolute.low <= narrow.absolute.low <= narrow.absolute.high <= wide.absolute.high
        if narrow.relative is not None:
            assert wide.relative.low <= narrow.relative.low <= narrow.relative.high <= wide.relative.high


def test_the_logarithm_has_the_delta_variance_where_it_exists():
    assert contrast((8, 10), (2, 10)).log_variance == pytest.approx((0.2 / 8, 0.8 / 2))
    assert contrast((10, 10), (2, 10)).log_variance is None
    assert contrast((0, 10), (5, 10)).log_variance is None


def test_no_event_in_the_control_has_a_difference_and_no_ratio():
    """0 of 1000 against 30 of 1000: other tools say 0, (0, 0), p = 1."""
    found = contrast((30, 1000), (0, 1000))
    assert (found.status, found.relative, found.values) == ("not_estimable", None, (0.03, 0.0))
    assert found.absolute.low > 0.02
    assert found.absolute.p < 1e-7
    low, high = ratio_interval((30, 1000), (0, 1000), level=0.95)
    assert high is None
    assert low > 5


def test_no_event_in_the_treated_arm_is_a_fall_of_all_of_it():
    found = contrast((0, 40), (5, 40))
    assert found.status == "ok"
    assert (found.relative.estimate, found.relative.low) == (-1, -1)
    assert -1 < found.relative.high < 0


@pytest.mark.parametrize(
    ("treated", "control", "status", "values"),
    [
        ((0, 0), (3, 9), "insufficient", (None, 3 / 9)),
        ((1, 1), (3, 9), "insufficient", (1.0, 3 / 9)),
        ((0, 50), (0, 40), "no_variation", (0.0, 0.0)),
        ((50, 50), (40, 40), "no_variation", (1.0, 1.0)),
    ],
)
def test_what_cannot_be_computed_has_no_number_and_a_reason(treated, control, status, values):
    found = contrast(treated, control)
    assert (found.status, found.absolute, found.relative, found.values) == (status, None, None, values)
    assert found.reason


def test_a_house_rule_for_the_least_number_of_readers_can_be_stricter():
    found = small_count_contrast((3, 29), (8, 40), level=0.95, least=30)
    assert (found.status, found.reason) == ("insufficient", "an arm has 29 readers, at least 30 are needed")


@pytest.mark.parametrize("table", [((1, 1), (0, 1)), ((1, 1), (1, 1)), ((0, 1), (0, 7)), ((5, 5), (0, 5)), ((0, 2), (2, 2))])
def test_ranges_exist_on_every_border(table):
    low, high = difference_interval(*table, level=0.95)
    assert -1 <= low <= table[0][0] / table[0][1] - table[1][0] / table[1][1] <= high <= 1
    assert low < high
    ends = ratio_interval(*table, level=0.95)
    assert all(end is None or (end >= 0 and math.isfinite(end)) for end in ends)


def test_a_thousand_million_readers_keep_their_digits():
    """Three against nine events in 10^9 readers each: the same ratio as in 10^6; mirrored, the same difference."""
    many, fewer = (ratio_interval((3, n), (9, n), level=0.95) for n in (10**9, 10**6))
    assert many == pytest.approx(fewer, rel=1e-4)
    n = 10**9
    there, back = difference_interval((3, n), (9, n), level=0.95), difference_interval((n - 3, n), (n - 9, n), level=0.95)
    assert back == pytest.approx((-there[1], -there[0]), rel=1e-6)


def test_impossible_counts_and_levels_are_refused():
    for wrong in ((5, 4), (-1, 4)):
        with pytest.raises(DataError, match=f"{wrong[0]} of 4 readers"):
            small_count_contrast(wrong, (1, 4), level=0.95)
    with pytest.raises(ExperimentError, match="between 0 and 1"):
        small_count_contrast((1, 4), (1, 4), level=95)


def test_plenty_of_events_keep_what_looks_and_belief_are_built_on():
    plain = Contrast((70, 80), (0.8, 0.6), log_variance=(0.1, 0.2), df=140.0)
    found, alone = share_contrast((56, 70), (48, 80), plain=plain, level=0.95), small_count_contrast((56, 70), (48, 80), level=0.95)
    assert (found.absolute, found.relative, found.reason) == (alone.absolute, alone.relative, SCORE)
    assert (found.df, found.log_variance) == (140.0, (0.1, 0.2))


def test_nothing_is_built_on_the_delta_method_where_events_are_few_or_arms_too_unequal():
    few, guarded = Contrast((34, 34), (0.2, 0.03), df=66.0), Contrast((70, 80), (0.8, 0.6), df=148.0, status="guarded")
    assert share_contrast((7, 34), (1, 34), plain=few, level=0.95) == small_count_contrast((7, 34), (1, 34), level=0.95)
    assert math.isnan(share_contrast((56, 70), (48, 80), plain=guarded, level=0.95).df)


def test_where_ten_to_fifty_readers_convert_the_score_test_misses_alike_in_both_tails_and_the_delta_method_does_not():
    """All tables of 200 against 800 readers, 6 in 100 each: chance of a range that lies above or below zero."""
    one, two = (stats.binom.pmf(np.arange(n + 1), n, 0.06) for n in (200, 800))
    misses = {"score": [0.0, 0.0], "delta": [0.0, 0.0]}
    for x, y in ((x, y) for x in range(1, 36) for y in range(10, 90)):
        p, q, chance = x / 200, y / 800, one[x] * two[y]
        a, b = p * (1 - p) / 199, q * (1 - q) / 799
        t = stats.t.isf(0.025, (a + b) ** 2 / (a * a / 199 + b * b / 799))
        misses["delta"][p > q] += chance * (abs(p - q) > t * math.sqrt(a + b))
        misses["score"][p > q] += chance * (score_p((x, 200), (y, 800)) < 0.05)
    assert abs(misses["score"][0] - misses["score"][1]) < 0.012
    assert max(misses["score"]) < 0.032 < 0.04 < max(misses["delta"])


def test_small_means_any_of_four_cells_below_ten():
    assert not is_small((10, 20), (10, 20))
    assert is_small((9, 20), (10, 20))
    assert is_small((10, 20), (11, 20))


def cells(*readers, arm="a"):
    rows = [[*map(int, r)] for r in readers]
    sums = [sum(r[i] for r in rows) for i in (0, 1)]
    products = [[sum(r[i] * r[j] for r in rows) for j in (0, 1)] for i in (0, 1)]
    return {(arm, 1): Moments.from_sums(len(rows), ("returned", "reader"), sums, products)}


def test_counts_are_read_off_the_moments_of_a_yes_or_no_metric_only():
    def read(found):
        return binary_counts(found, "a", numerator="returned", denominator="reader")

    assert read(cells((1, 1), (0, 1), (0, 1))) == (1, 3)
    assert read(cells((2, 1), (0, 1), (0, 1))) is None
    assert read(cells((1, 1), (1, 2), (0, 0))) is None
    assert read(cells((2, 1), (-1, 1), (0, 1))) is None
    assert read(cells((1, 1))) is None
    assert read({}) is None
    ramped = cells((1, 1), (0, 1))
    assert read({**ramped, ("a", 2): ramped["a", 1]}) is None
    n, x = 10**9, 7
    assert read({("a", 1): Moments.from_sums(n, ("returned", "reader"), (x, n), ((x, x), (x, n)))}) == (x, n)
