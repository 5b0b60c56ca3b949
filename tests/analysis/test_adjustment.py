from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.adjustment import Adjustment, Columns, adjust, adjusted_contrast
from analysis.comparison import compare_all
from analysis.effect import arm_value, compare
from analysis.moments import Moments
from analysis.report import build_report
from analysis.totals import pre_columns, totals
from experiments.errors import MetricError
from experiments.events import lake
from experiments.experiment import Arm, Experiment
from experiments.metric import Measure, Metric, metric
from tests.analysis.tables import COLUMNS, START, Line, crowd, plan, totals_of
from tests.events import story as told
from tests.events.story import DAY, MINUTE, Story, send

KEYS = ("y", "one", "x")
MEAN = Columns("y", "one", ("x",))
ONE = {0: 1.0}


def cells_of(tables, keys=KEYS, phase=0):
    return {(arm, phase): Moments.from_rows(np.asarray(table, float), keys) for arm, table in tables.items()}


def pairs(y, x):
    """Rows (y, 1, x) of a mean with one covariate."""
    return np.column_stack([y, np.ones(len(y)), x])


def adjusted(cells, *, columns=MEAN, level=0.95, least=2, arms="tc", shares=ONE, **how):
    """(adjustment, adjusted contrast, unadjusted contrast) of arm t against arm c."""
    found = adjust(cells, arms, columns=columns, shares=shares, **how)
    plain = [arm_value(cells, arm, numerator=columns.numerator, denominator=columns.denominator, shares=shares) for arm in "tc"]
    contrast = compare(found.values["t"], found.values["c"], level=level, least=least, covariance=found.covariance("t", "c"))
    return found, contrast, compare(*plain, level=level, least=least)


def linear(rng, n, *, slope=2.0, effect=0.0, noise=1.0):
    x = rng.gamma(2.0, 2.0, n)
    return pairs(10 + effect + slope * x + noise * rng.normal(size=n), x)


# Reference cases

MILLION = 10**6
STAR = {  # (n, sum y, yy, x, xx, xy) of men without and with the offer: grades in the first year, and at school
    "c": (99, 183.739999, 432.766595, 7779.800034, 613303.045172, 14615.478010),
    "t": (58, 105.550000, 244.079300, 4589.499992, 364190.268878, 8431.833984),
}


def star(n, y, yy, x, xx, xy):
    """Published sums have six decimals: whole millionths are exact."""
    y, x = (round(value * MILLION) for value in (y, x))
    yy, xx, xy = (round(value * MILLION) * MILLION for value in (yy, xx, xy))
    return Moments.from_sums(n, KEYS, (y, n, x), ((yy, y, xy), (y, n, x), (xy, x, xx)))


def hc0(cells, found, columns):
    """The heteroscedasticity-robust standard error without small-sample factors and without the step between arms."""
    values = {arm: found.values[arm] for arm in "tc"}
    own = {arm: values[arm].variance - found.covariance("t", "c") for arm in "tc"}
    p = len(columns.covariates) if found.used else 0
    return math.sqrt(sum(own[arm] * (values[arm].n - 1 - p) / values[arm].n for arm in "tc"))


def test_case_9_star_men_of_lin():
    """Lin (2013), table 2: -.036 (.158), common slope -.083 (.146), slopes per arm -.081 (.146); published errors are HC0."""
    cells = {(arm, 0): star(*sums) for arm, sums in STAR.items()}
    common, change, plain = adjusted(cells)
    own, lin, _ = adjusted(cells, own_slopes_above=0)
    assert [round(c.absolute.estimate / MILLION, 3) for c in (plain, change, lin)] == [-0.036, -0.083, -0.081]
    assert [round(c.absolute.se / MILLION, 3) for c in (plain, change, lin)] == [0.159, 0.148, 0.148]  # with n - 1, not n
    before = Adjustment({arm: arm_value(cells, arm, numerator="y", denominator="one", shares=ONE) for arm in "tc"})
    assert [round(hc0(cells, found, MEAN) / MILLION, 3) for found in (before, common)] == [0.158, 0.146]
    assert own.slopes["t"] != own.slopes["c"]
    assert common.slopes["t"] == common.slopes["c"]


ORDERS = {
    # Sums and cross-products of (orders, sessions, orders before, sessions before) of tea-tasting 1.14.0,
    # make_users_data(rng=42, covariates=True); c is variant 0.
    "c": (2023, (1073, 4038, 1090, 4031), ((2073, 2648, 1691, 2692), (2648, 10098, 2715, 9932), (1691, 2715, 2720, 3701), (2692, 9932, 3701, 13779))),
    "t": (1977, (1133, 3920, 1006, 3941), ((2121, 2730, 1551, 2721), (2730, 9698, 2407, 9738), (1551, 2407, 2380, 3324), (2721, 9738, 3324, 13579))),
}  # fmt: skip


def test_case_7_orders_per_session_with_both_covariates_of_tea_tasting():
    """Its guide prints +12 %, (4.2 %, 21 %), p .00229, by a log ratio and one covariate (a ratio); we use both columns."""
    keys = ("orders", "sessions", "orders_before", "sessions_before")
    cells = {(arm, 0): Moments.from_sums(n, keys, sums, products) for arm, (n, sums, products) in ORDERS.items()}
    found, contrast, plain = adjusted(cells, columns=Columns("orders", "sessions", keys[2:]))
    assert round(plain.absolute.p, 4) == 0.0762
    assert (round(contrast.relative.estimate, 2), round(contrast.absolute.p, 5)) == (0.12, 0.00229)
    log, s = math.log1p(contrast.relative.estimate), math.sqrt(contrast.change_log_variance)
    assert (round(100 * math.expm1(log - 1.96 * s), 1), round(100 * math.expm1(log + 1.96 * s))) == (4.2, 21)
    assert (round(contrast.relative.low, 3), round(contrast.relative.high, 3)) == (0.042, 0.208)  # ours: Fieller
    # what tea-tasting 1.14.0 returns, to three digits: 0.2615586, 0.2932928, difference 0.0317343
    assert found.values["c"].estimate == pytest.approx(0.2615586, rel=1e-3)
    assert contrast.absolute.estimate == pytest.approx(0.0317343, rel=1e-3)
    assert found.variance_removed == pytest.approx(1 - (contrast.absolute.se / plain.absolute.se) ** 2, rel=1e-12)


# Against statsmodels


def regression(tables, *, own=False, **how):
    """OLS of y on the arm and the covariate (with ``own``: and their product, centred)."""
    y = np.concatenate([tables["c"][:, 0], tables["t"][:, 0]])
    x = np.concatenate([tables["c"][:, 2:], tables["t"][:, 2:]])
    arm = np.repeat([0.0, 1.0], [len(tables["c"]), len(tables["t"])])
    x = x - x.mean(axis=0)
    design = np.column_stack([np.ones_like(arm), arm, x, *([arm[:, None] * x] if own else [])])
    return sm.OLS(y, design).fit(**how)


def test_the_common_slope_is_that_of_a_regression_on_arm_and_covariate():
    rng = np.random.default_rng(1)
    tables = {"t": linear(rng, 300, effect=0.5), "c": linear(rng, 400, slope=1.5)}
    found, contrast, _ = adjusted(cells_of(tables))
    fit = regression(tables, cov_type="HC2")
    assert contrast.absolute.estimate == pytest.approx(fit.params[1], rel=1e-10)
    assert found.slopes["t"][0] == pytest.approx(fit.params[2], rel=1e-10)
    assert contrast.absolute.se == pytest.approx(fit.bse[1], rel=0.01)  # HC2 knows each reader's leverage, moments do not
    groups = {"groups": np.arange(700), "use_correction": False}
    clustered = regression(tables, cov_type="cluster", cov_kwds=groups)
    assert contrast.absolute.se == pytest.approx(clustered.bse[1], rel=0.01)


def test_where_the_arms_have_the_same_covariates_the_robust_errors_agree_to_the_last_digit():
    """Then the covariate is orthogonal to the arm, and the robust variance is sum of RSS_z / n_z^2."""
    rng = np.random.default_rng(2)
    tables = {"t": linear(rng, 80), "c": linear(rng, 80, noise=3.0)}
    tables["t"][:, 2] = tables["c"][:, 2]
    found, _, _ = adjusted(cells_of(tables))
    groups = {"groups": np.arange(160), "use_correction": False}
    for how in ({"cov_type": "HC0"}, {"cov_type": "cluster", "cov_kwds": groups}):
        assert hc0(None, found, MEAN) == pytest.approx(regression(tables, **how).bse[1], rel=1e-10)


def test_slopes_per_arm_are_those_of_a_regression_with_products():
    rng = np.random.default_rng(3)
    tables = {"t": linear(rng, 300, slope=3.0), "c": linear(rng, 200)}
    found, contrast, _ = adjusted(cells_of(tables), own_slopes_above=199)
    fit = regression(tables, own=True, cov_type="HC2")
    assert contrast.absolute.estimate == pytest.approx(fit.params[1], rel=1e-10)
    assert (found.slopes["c"][0], found.slopes["t"][0]) == pytest.approx((fit.params[2], fit.params[2] + fit.params[3]), rel=1e-10)
    x = np.concatenate([tables["c"][:, 2], tables["t"][:, 2]])
    centred = [tables[arm][:, 2] - tables[arm][:, 2].mean() for arm in "ct"]
    spread = sum(float(c @ c) for c in centred) / 498
    gain = fit.params[3] ** 2 * spread / len(x)  # the common mean is estimated, which this regression does not know
    assert contrast.absolute.se**2 - gain == pytest.approx(fit.bse[1] ** 2, rel=0.02)


def test_slopes_per_arm_need_more_than_5000_readers_in_every_arm():
    rng = np.random.default_rng(4)
    tables = {"t": linear(rng, 5001, slope=3.0), "c": linear(rng, 5001)}
    assert len(set(adjust(cells_of(tables), "tc", columns=MEAN, shares=ONE).slopes.values())) == 2
    tables["c"] = tables["c"][:5000]
    assert len(set(adjust(cells_of(tables), "tc", columns=MEAN, shares=ONE).slopes.values())) == 1


def test_the_variance_removed_is_r_squared():
    """Within arms of equal size, but for the degrees of freedom of the slopes."""
    rng = np.random.default_rng(5)
    tables = {arm: np.column_stack([linear(rng, 120), rng.normal(size=120)]) for arm in "tc"}
    columns = Columns("y", "one", ("x", "z"))
    found = adjust(cells_of(tables, ("y", "one", "x", "z")), "tc", columns=columns, shares=ONE)
    within = np.concatenate([table - table.mean(axis=0) for table in tables.values()])
    r2 = sm.OLS(within[:, 0], within[:, 2:]).fit().rsquared
    assert found.variance_removed == pytest.approx(1 - (1 - r2) * 119 / 117, rel=1e-10)
    assert found.variance_removed == pytest.approx(r2, abs=0.01)
    assert found.used == ("x", "z")


def test_phases_are_weighted_and_the_slope_is_taken_within_them():
    """As least squares on (arm, phase) cells and the covariate, cells weighted by the share of their phase."""
    rng = np.random.default_rng(6)
    sizes = {("t", 0): 60, ("c", 0): 240, ("t", 1): 150, ("c", 1): 150}
    tables = {cell: linear(rng, n) + cell[1] * np.array([20.0, 0.0, 3.0]) for cell, n in sizes.items()}
    cells = {cell: Moments.from_rows(table, KEYS) for cell, table in tables.items()}
    shares = {0: 0.5, 1: 0.5}
    found, contrast, _ = adjusted(cells, shares=shares)
    rows = np.concatenate(list(tables.values()))
    dummies = np.repeat(np.eye(4), list(sizes.values()), axis=0)
    fit = sm.OLS(rows[:, 0], np.column_stack([dummies, rows[:, 2]])).fit(cov_type="HC2")
    weights = np.array([0.5, -0.5, 0.5, -0.5, 0.0])
    assert found.slopes["t"][0] == pytest.approx(fit.params[4], rel=1e-10)
    assert contrast.absolute.estimate == pytest.approx(weights @ fit.params, rel=1e-10)
    assert contrast.absolute.se == pytest.approx(math.sqrt(weights @ fit.cov_params() @ weights), rel=0.02)
    for value in found.values.values():
        assert math.fsum(part for part, _ in value.parts) == pytest.approx(value.variance, rel=1e-14)
    spread = [sum(float(np.var(tables[arm, p][:, 2])) * sizes[arm, p] for arm in "tc") / 298 for p in (0, 1)]  # 300 readers, 2 arms
    assert found.covariance("t", "c") == pytest.approx(sum(0.25 * fit.params[4] ** 2 * s / 300 for s in spread), rel=1e-10)


# By simulation


def skewed(rng, runs, n, *, ratio=1.0):
    """(runs, n, 4): articles and sessions after, and before, of readers who differ in habit and appetite."""
    habit, appetite = rng.gamma(0.7, 1.0, (runs, n)), rng.gamma(2.0, 0.5, (runs, n))
    columns = []
    for least, factor in ((1, ratio), (0, 1.0)):
        sessions = least + rng.poisson(habit)
        columns += [sessions + rng.poisson(sessions * appetite * (2.5 * factor - 1.0)), sessions]
    return np.stack(columns, axis=-1).astype(float)


def test_ranges_hold_the_truth_with_three_hundred_skewed_readers_per_arm():
    """STATISTICS 3 measured 0.948 for the common slope at (300, 300); here with an effect of 20 %."""
    rng, runs, names = np.random.default_rng(8), 1500, ("n", "d", "pn", "pd")
    columns, truth = Columns("n", "d", ("pn", "pd")), 2.5 * 0.2
    held, relative, changes, variances = 0, 0, [], []
    for treated, control in zip(skewed(rng, runs, 300, ratio=1.2), skewed(rng, runs, 300), strict=True):
        _, contrast, _ = adjusted(cells_of({"t": treated, "c": control}, names), columns=columns)
        held += contrast.absolute.low <= truth <= contrast.absolute.high
        relative += contrast.relative.low <= 0.2 <= contrast.relative.high
        changes.append(contrast.absolute.estimate)
        variances.append(contrast.absolute.se**2)
    error = math.sqrt(0.948 * 0.052 / runs)
    assert abs(held / runs - 0.948) < 3 * error
    assert abs(relative / runs - 0.948) < 3 * error
    assert abs(math.sqrt(np.mean(variances)) / np.std(changes, ddof=1) - 1) < 3 / math.sqrt(2 * runs)
    assert abs(np.mean(changes) - truth) < 3 * np.std(changes) / math.sqrt(runs)


def test_k_is_the_covariance_the_adjusted_values_really_have():
    """The covariate explains 97 %: the values hang together by the mean they share; without K Fieller would be far off."""
    rng, runs, n = np.random.default_rng(20), 1000, 60
    estimates, variances, shared, held = [], [], [], 0
    for _ in range(runs):
        found, contrast, _ = adjusted(cells_of({"t": linear(rng, n, effect=3.6), "c": linear(rng, n)}))
        estimates.append((found.values["t"].estimate, found.values["c"].estimate))
        variances.append((found.values["t"].variance, found.values["c"].variance))
        shared.append(found.covariance("t", "c"))
        held += contrast.relative.low <= 0.2 <= contrast.relative.high  # the control's mean is 10 + 2 * 4
    true = np.cov(np.array(estimates).T)
    error = 3 * math.sqrt(2 / runs)  # of a variance, relative
    assert np.mean(variances, axis=0) / np.diag(true) == pytest.approx([1, 1], abs=error)
    assert np.mean(shared) / true[0, 1] == pytest.approx(1, abs=error)
    assert np.mean(shared) > 0.9 * np.mean(variances)
    assert abs(held / runs - 0.95) < 3 * math.sqrt(0.95 * 0.05 / runs)


# At the edges


def both_arms(rng, n=60, *extra):
    """Two arms with the covariate x and further columns made from (rng, x)."""
    out = {}
    for arm in "tc":
        table = linear(rng, n)
        out[arm] = np.column_stack([table, *(make(rng, table[:, 2]) for make in extra)])
    return out


def test_by_hand_the_arm_with_keener_readers_is_moved_down():
    """y = 2 x + 1 or - 1, means 2 and 4, covariate means 1 and 2: both move to x = 1.5, where y = 3."""
    tables = {"c": pairs([1, -1, 5, 3], [0, 0, 2, 2]), "t": pairs([3, 1, 7, 5], [1, 1, 3, 3])}
    found, contrast, plain = adjusted(cells_of(tables))
    assert [found.values[arm].estimate for arm in "ct"] == pytest.approx([3.0, 3.0])
    assert plain.absolute.estimate == pytest.approx(2.0)
    assert contrast.absolute.estimate == pytest.approx(0.0, abs=1e-12)
    # residuals are +-1: sigma^2 = 4 / 3 * 3 / 2 = 2; S_xx = (4 + 4) / 6, K = 2 * 4/3 * 2 / 8 = 2/3
    assert found.covariance("t", "c") == pytest.approx(2 / 3)
    assert found.values["t"].variance == pytest.approx(2 / 4 + 2 / 3)
    assert contrast.absolute.se == pytest.approx(1.0)
    assert contrast.df == pytest.approx(1.0 / (2 * 0.25 / 3))


def test_a_constant_covariate_is_dropped_and_said_so():
    tables = both_arms(np.random.default_rng(9), 60, lambda rng, x: np.full(len(x), 0.1))
    columns = Columns("y", "one", ("flat", "x"))
    found = adjust(cells_of(tables, ("y", "one", "x", "flat")), "tc", columns=columns, shares=ONE)
    alone = adjust(cells_of(tables, ("y", "one", "x", "flat")), "tc", columns=Columns("y", "one", ("flat",)), shares=ONE)
    assert (found.used, dict(found.dropped)) == (("x",), {"flat": "the same for every reader"})
    assert (alone.used, alone.variance_removed, alone.reason) == ((), 0.0, "no covariate tells readers apart in every arm")


def test_of_a_collinear_pair_one_is_dropped():
    rng = np.random.default_rng(10)
    tables = both_arms(rng, 60, lambda rng, x: 3 * x - 7, lambda rng, x: rng.normal(size=len(x)))
    keys = ("y", "one", "x", "twin", "z")
    one = adjust(cells_of(tables, keys), "tc", columns=Columns("y", "one", ("x", "z")), shares=ONE)
    two = adjust(cells_of(tables, keys), "tc", columns=Columns("y", "one", ("x", "twin", "z")), shares=ONE)
    assert len(two.used) == 2
    assert list(two.dropped.values()) == ["a combination of the others"]
    for arm in "tc":
        assert two.values[arm].estimate == pytest.approx(one.values[arm].estimate, rel=1e-12)
        assert two.values[arm].variance == pytest.approx(one.values[arm].variance, rel=1e-9)


def test_a_covariate_that_differs_from_another_only_by_rounding_is_dropped():
    tables = both_arms(np.random.default_rng(21), 60, lambda rng, x: x + 1e-7 * rng.normal(size=len(x)))
    columns = Columns("y", "one", ("x", "almost"))
    assert len(adjust(cells_of(tables, ("y", "one", "x", "almost")), "tc", columns=columns, shares=ONE).used) == 1


def test_a_sum_of_two_covariates_beside_them_is_dropped():
    rng = np.random.default_rng(11)
    tables = both_arms(rng, 60, lambda rng, x: rng.normal(size=len(x)))
    tables = {arm: np.column_stack([table, table[:, 2] + table[:, 3]]) for arm, table in tables.items()}
    columns = Columns("y", "one", ("x", "z", "sum"))
    assert len(adjust(cells_of(tables, ("y", "one", "x", "z", "sum")), "tc", columns=columns, shares=ONE).used) == 2


def test_no_reader_with_anything_before_leaves_the_values_as_they_are():
    rng = np.random.default_rng(12)
    cells = cells_of({arm: pairs(rng.normal(5, 1, 50), np.zeros(50)) for arm in "tc"})
    found, contrast, plain = adjusted(cells)
    assert found.reason
    assert contrast == plain


def test_an_arm_without_anything_before_is_not_compared_by_it():
    """Its readers differ from the others by a fault, not by chance; the difference must not be explained away."""
    rng = np.random.default_rng(13)
    tables = {"t": linear(rng, 60), "c": linear(rng, 60)}
    tables["c"][:, 2] = 0
    found, contrast, plain = adjusted(cells_of(tables))
    assert dict(found.dropped) == {"x": "the same for every reader of c"}
    assert contrast == plain


def test_a_negative_slope_helps_as_much():
    rng = np.random.default_rng(14)
    tables = {"t": linear(rng, 200), "c": linear(rng, 200)}
    up = adjust(cells_of(tables), "tc", columns=MEAN, shares=ONE)
    mirrored = {arm: table * [1, 1, -1] for arm, table in tables.items()}
    down = adjust(cells_of(mirrored), "tc", columns=MEAN, shares=ONE)
    assert down.slopes["t"][0] < 0 < up.slopes["t"][0]
    assert down.variance_removed == pytest.approx(up.variance_removed, rel=1e-12)
    assert down.covariance("t", "c") == pytest.approx(up.covariance("t", "c"), rel=1e-12)
    assert down.covariance("t", "c") > 0


def test_a_covariate_that_explains_nothing_leaves_the_values_as_they_are():
    x = np.array([0.0, 0.0, 1.0, 1.0] * 10)
    cells = cells_of({arm: pairs(shift + np.tile([1.0, 2.0, 1.0, 2.0], 10), x) for arm, shift in (("t", 0.3), ("c", 0.0))})
    found, contrast, plain = adjusted(cells)
    assert found.reason == "the covariates explain no part of the variance"
    assert (found.variance_removed, found.covariance("t", "c")) == (0.0, 0.0)
    assert contrast == plain


@pytest.mark.parametrize("seed", range(5))
def test_a_covariate_that_explains_everything_leaves_nothing_to_vary(seed):
    """What is left is rounding, not a spread to judge a difference by."""
    rng = np.random.default_rng(seed)
    cells = cells_of({arm: pairs(x / 3 + 0.1, x) for arm in "tc" for x in [rng.gamma(2.0, 2.0, 40)]})
    found, contrast, _ = adjusted(cells)
    assert found.variance_removed == pytest.approx(1.0)
    assert contrast.status == "no_variation"


def test_arms_with_as_few_readers_as_slopes_are_left_alone():
    rng = np.random.default_rng(15)
    found = adjust(cells_of({"t": linear(rng, 2), "c": linear(rng, 50)}), "tc", columns=MEAN, shares=ONE)
    assert found.reason == "an arm has too few readers for a slope"


def test_an_arm_without_a_value_stays_out_and_does_not_disturb_the_others():
    rng = np.random.default_rng(16)
    tables = {"t": linear(rng, 60), "c": linear(rng, 60)}
    two = adjust(cells_of(tables), "tc", columns=MEAN, shares=ONE)
    three = adjust(cells_of(tables), "tcn", columns=MEAN, shares=ONE)
    assert (three.values["t"], three.values["c"]) == (two.values["t"], two.values["c"])
    assert three.values["n"].status == "insufficient"
    assert adjust(cells_of({"t": tables["t"]}), "tn", columns=MEAN, shares=ONE).reason == "fewer than two arms have a value"


def test_a_column_the_moments_do_not_have_is_named():
    cells = cells_of({arm: linear(np.random.default_rng(17), 20) for arm in "tc"})
    with pytest.raises(MetricError, match="no column 'before'"):
        adjust(cells, "tc", columns=Columns("y", "one", ("before",)), shares=ONE)


READERS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 4), st.integers(0, 30)), min_size=8, max_size=25)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(READERS, READERS, st.integers(-(10**6), 10**6), st.sampled_from([-1000, -3, -1, 2, 7, 10**6]))
def test_constants_shifts_and_scales_of_covariates_change_nothing(treated, control, shift, scale):
    """Whole numbers, as the lake gives them: the sums are exact."""

    def found(change):
        cells = {}
        for arm, rows in (("t", treated), ("c", control)):
            wide = [(n, d, *change(x)) for n, d, x in rows]
            k = range(4)
            sums = [sum(r[i] for r in wide) for i in k]
            products = [[sum(r[i] * r[j] for r in wide) for j in k] for i in k]
            cells[arm, 0] = Moments.from_sums(len(wide), ("n", "d", "x", "flat"), sums, products)
        return adjust(cells, "tc", columns=Columns("n", "d", ("x", "flat")), shares=ONE)

    first = found(lambda x: (x, 0))
    for other in (found(lambda x: (x, 5)), found(lambda x: (x + shift, 0)), found(lambda x: (scale * x, 0))):
        assert (other.used, bool(other.reason)) == (first.used, bool(first.reason)) or min(first.variance_removed, 1) < 1e-9
        for arm in "tc":
            assert other.values[arm].estimate == pytest.approx(first.values[arm].estimate, rel=1e-8, abs=1e-9)
            assert other.values[arm].variance == pytest.approx(first.values[arm].variance, rel=1e-7, abs=1e-12)
        assert other.covariance("t", "c") == pytest.approx(first.covariance("t", "c"), rel=1e-7, abs=1e-12)


# In the report

GOAL = metric("views_per_session")
WIDE = (*COLUMNS, *pre_columns(GOAL))


def with_past(rng, n, *, views=1.0):
    """Readers of a plausible site whose past resembles what they do; one in three is new."""
    table = crowd(rng, n, views=views)
    known = rng.random(n) > 1 / 3
    past = np.column_stack([rng.poisson(table[:, 0] / views * 1.5), rng.poisson(table[:, 1] * 1.0)]) * known[:, None]
    return np.column_stack([table, past, past.sum(axis=1) > 0]).astype(int)


def world(*, n=(500, 400, 400), keys=WIDE, views=(1.0, 1.3, 1.5)):
    rng = np.random.default_rng(18)
    tables = {(arm, 1): with_past(rng, k, views=v) for arm, k, v in zip(("status_quo", "front", "als"), n, views, strict=True)}
    return {cell: table[:, : len(keys)] for cell, table in tables.items()}


def report(tables, *, keys=WIDE, days=14.0, state="stopped"):
    found = build_report(
        plan(), totals_of(tables, keys=keys), (Line(),), start=START, until=START + timedelta(days=days), state=state, snapshot="1"
    )
    return found.to_dict()


def test_the_report_shows_the_adjusted_goal_beside_the_unadjusted_one():
    effects = report(world())["effects"]
    goal = [effect for effect in effects if effect["role"] == "goal"]
    assert len(goal) == 3
    for effect in goal:
        found, plain = effect["adjusted"], effect["absolute"]
        assert {"estimate", "low", "high", "p", "variance_removed"} <= set(found)
        assert 0 < found["variance_removed"] < 1
        assert found["high"] - found["low"] < plain["high"] - plain["low"]
        assert found["low"] < found["estimate"] < found["high"]
        assert (found["low"] > 0) == (found["relative"]["low"] > 0)
        assert effect["adjusted_reason"] == ""
    assert all(effect["adjusted"] is None and effect["adjusted_reason"] for effect in effects if effect["role"] != "goal")


def test_the_adjusted_goal_decides_nothing():
    there, without = report(world()), report(world(keys=COLUMNS), keys=COLUMNS)
    for effect in without["effects"]:
        assert effect["adjusted"] is None
    assert "before their first exposure" in without["effects"][0]["adjusted_reason"]
    for found in (there, without):
        for effect in found["effects"]:
            del effect["adjusted"], effect["adjusted_reason"]
        found["checks"] = [check for check in found["checks"] if check["name"] != "before"]
    assert there == without


def test_before_the_planned_end_nothing_is_adjusted():
    effects = report(world(), days=3.0, state="running")["effects"]
    assert {(effect["adjusted"], effect["adjusted_reason"]) for effect in effects} == {(None, "before the planned end")}


def test_adjusted_reports_are_the_same_bytes_in_any_order():
    tables, texts = world(), set()
    for seed in range(3):
        order = random.Random(seed)
        shuffled = {cell: np.array(order.sample(tables[cell].tolist(), len(tables[cell]))) for cell in order.sample(list(tables), 3)}
        texts.add(json.dumps(report(shuffled), sort_keys=True))
    assert len(texts) == 1
    assert '"variance_removed"' in texts.pop()


def test_three_arms_share_one_slope_and_their_differences_add_up():
    found = totals_of(world(), keys=WIDE)
    goal = {(e.arm, e.against): e.adjusted.contrast for e in compare_all(plan(), found).effects if e.role == "goal"}
    changes = {pair: contrast.absolute.estimate for pair, contrast in goal.items()}
    assert changes["als", "front"] + changes["front", "status_quo"] == pytest.approx(changes["als", "status_quo"], rel=1e-12)
    columns = Columns(GOAL.numerator.key, GOAL.denominator.key, pre_columns(GOAL))
    common = adjust(found.moments, ["status_quo", "front", "als"], columns=columns, shares={1: 1.0}, own_slopes_above=math.inf)
    assert len({*common.slopes.values()}) == 1
    for (arm, against), contrast in goal.items():
        assert contrast.values == (common.values[arm].estimate, common.values[against].estimate)


def test_a_guarded_comparison_is_not_adjusted():
    cells = cells_of({arm: linear(np.random.default_rng(19), 50) for arm in "tc"})
    found, _, plain = adjusted(cells)
    assert adjusted_contrast(found, ("t", "c"), plain=plain, level=0.95).contrast is not None
    guarded = adjusted_contrast(found, ("t", "c"), plain=replace(plain, status="guarded"), level=0.95)
    assert guarded.contrast is None
    assert "unequal" in guarded.reason


# In the lake

ARMS = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5))
PLAN = Experiment("related", "Does it pay?", "status_quo", ARMS, window_days=1.0)
E = 20 * 1440  # minutes: when anna is first exposed
LATER = told.START + 60 * DAY
VIEWS, SESSIONS, HAS = pre_columns(GOAL)


def before(home, *, goal=GOAL):
    """The columns about the time before the first exposure, per reader."""
    rows = lake.reader_rows(home, replace(PLAN, goal=goal.name), [goal], until_us=LATER, source="live")
    assert rows.keys[-1] == "has_pre"
    return {row["reader"]: {key: row[key] for key in pre_columns(goal)} for row in rows.table.to_pylist()}


def past(tmp_path, *pages, goal=GOAL):
    """Anna's columns when she opened articles at these minutes before her first exposure (negative: after)."""
    story = Story()
    for minute in pages:
        story.page("anna", E - minute)
    story.exposed("anna", E, "front")
    home = tmp_path / "-".join(map(str, pages))
    send(home, story.events)
    return tuple(before(home, goal=goal)["anna"].values())


def test_sessions_before_the_first_exposure_become_covariates(tmp_path):
    story = Story()
    for minute in (E - 5000, E - 4990, E - 3000):  # two sessions, three articles and a front page
        story.page("anna", minute)
    story.page("anna", E - 2999, "front")
    story.exposed("anna", E, "front")
    story.page("anna", E + 500)
    story.exposed("ben", E + 3, "status_quo")
    story.page("cleo", E - 100, bot=True)
    story.page("cleo", E - 100, body={"prefetch": True})
    story.exposed("cleo", E, "front")
    send(tmp_path, story.events)
    assert before(tmp_path) == {
        "anna": {VIEWS: 3, SESSIONS: 2, HAS: 1},
        "ben": {VIEWS: 0, SESSIONS: 0, HAS: 0},
        "cleo": {VIEWS: 0, SESSIONS: 0, HAS: 0},
    }


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        ((14 * 1440,), (1, 1, 1)),  # fourteen days before, to the microsecond
        ((14 * 1440 + 0.01,), (0, 0, 0)),
        ((14 * 1440 + 5, 14 * 1440 - 5), (0, 0, 0)),  # the session started too early
        ((29.99,), (0, 0, 0)),  # still the session of the exposure
        ((30,), (1, 1, 1)),
        ((50, 25), (0, 0, 0)),  # overlaps e
        ((80, 40), (2, 2, 1)),
        ((60, 45, 30), (3, 1, 1)),
        ((0.01,), (0, 0, 0)),
        ((-1, -60), (0, 0, 0)),
    ],
)
def test_only_sessions_of_the_last_fourteen_days_that_were_over_count(tmp_path, pages, expected):
    assert past(tmp_path, *pages) == expected


def test_a_session_still_open_at_the_exposure_does_not_count_even_if_its_next_page_is_never_seen(tmp_path):
    """The page of the exposure arrived too late to be counted: what it would have continued stays out all the same."""
    story = Story()
    story.page("anna", E - 20)
    page = story.page("anna", E, late_minutes=2000)
    story.expose(page, "anna", E, "front")
    send(tmp_path, story.events)
    assert before(tmp_path)["anna"] == {VIEWS: 0, SESSIONS: 0, HAS: 0}


DWELLING = metric("dwell_per_view")
PAID = Metric("paid", "Paid per reader", Measure(sum="conversion.value"), Measure(count="reader"))


def order(story, reader, minute, value):
    at = told.START + int(minute * MINUTE)
    identity = bytes(8) + at.to_bytes(8, "big")
    story.events.append(told.Event(identity, "conversion", "", reader, at, at, {"value": value, "currency": "EUR"}))


def heartbeat(story, page_view, reader, minute, *, after, active_ms):
    """Visible time of a page of ``minute``, told ``after`` minutes later."""
    body = {"active_ms": active_ms, "depth_percent": 95}
    story.add("dwell", page_view, reader, minute, key=f"{active_ms}", body=body, late_minutes=after)


def test_visible_time_counts_where_it_must_have_been_told_before(tmp_path):
    story = Story()
    for minute, active_ms in ((E - 3000, 700), (E - 1440, 70), (E - 1000, 7)):
        heartbeat(story, story.page("anna", minute), "anna", minute, after=1, active_ms=active_ms)
    story.exposed("anna", E, "front")
    send(tmp_path, story.events)
    assert tuple(before(tmp_path, goal=DWELLING)["anna"].values()) == (700, 3, 1)


def test_orders_before_the_first_exposure_count_and_later_ones_do_not(tmp_path):
    story = Story()
    story.exposed("anna", E, "front")
    for minute, value in ((E - 14 * 1440 - 1, 1000), (E - 100, 30), (E - 0.01, 4), (E, 500)):
        order(story, "anna", minute, value)
    story.page("anna", E - 300)
    send(tmp_path, story.events)
    assert tuple(before(tmp_path, goal=PAID)["anna"].values()) == (34, 1, 1)


def history(seed):
    """Thirty readers' first twenty days, then their first exposure; and every page with its minute."""
    chance, story, pages = random.Random(seed), Story(), []
    for number in range(30):
        reader, minute = f"r{number:02d}", E - chance.uniform(0, 16 * 1440)
        if number % 3 == 0:
            pages.append((reader, E - 20, story.page(reader, E - 20)))  # the exposure falls into this session
        while minute < E - 1 and chance.random() < 0.95:
            page = story.page(reader, minute, chance.choice(["article", "front"]))
            pages.append((reader, minute, page))
            heartbeat(story, page, reader, minute, after=chance.uniform(0, 20), active_ms=chance.randrange(60_000))
            minute += chance.choice([1, 10, 29.9, 30, 31, 200, 900, 2000])
        story.exposed(reader, E, chance.choice(["front", "status_quo"]))
    return story, pages


@pytest.fixture(scope="module")
def until_and_after(tmp_path_factory):
    """A home that ends with every reader's first exposure, and one that goes on: pages, exposures, clicks, orders, heartbeats of old pages."""
    until, after = (tmp_path_factory.mktemp(name) for name in ("until", "after"))
    chance = random.Random(5)
    story, pages = history(4)
    send(until, story.events)
    for reader, minute, page in pages:
        for wait in (E - minute, E - minute + chance.uniform(0, 2000)):  # at e, and after it
            heartbeat(story, page, reader, minute, after=wait + 0.01, active_ms=10**6 + chance.randrange(10**6))
        body = {"slot": "article.related", "article": "a1"}
        story.add("click", page, reader, minute, arm="front", body=body, late_minutes=E - minute + 1)
    for number in range(30):
        reader = f"r{number:02d}"
        for minute in (E, E + 0.01, E + 20, E + 29.9, E + 60, E + 2000):
            story.page(reader, minute)
            story.exposed(reader, minute + 0.001, "front")
        order(story, reader, E + number / 10**5, 900)
    send(after, story.events)
    return until, after


@pytest.mark.parametrize("goal", [GOAL, DWELLING, PAID, metric("bounce_rate"), metric("click_through")], ids=lambda m: m.name)
def test_nothing_at_or_after_the_first_exposure_changes_a_covariate(until_and_after, goal):
    first, second = (before(home, goal=goal) for home in until_and_after)
    assert first == second
    assert len(first) == 30
    if goal.name != "click_through":
        assert len({tuple(row.values()) for row in first.values()}) > 1


def test_goals_of_other_plans_have_no_covariates(tmp_path):
    send(tmp_path, history(1)[0].events)
    rows = lake.reader_rows(tmp_path, PLAN, [metric("bounce_rate")], until_us=LATER, source="live")
    assert rows.keys == ("count_bounce", "count_session")


def test_from_events_to_an_adjusted_effect(tmp_path):
    """Readers with a long past open more: the adjusted range is narrower, and the arms were split by a coin."""
    chance, story = random.Random(7), Story()
    for number in range(120):
        reader, keen, start = f"r{number:03d}", chance.randrange(6), E + chance.uniform(0, 1000)
        for i in range(keen):
            story.page(reader, start - 3000 + i)
        story.exposed(reader, start, ("front", "status_quo")[number % 2])
        for i in range(keen + chance.randrange(2)):
            story.page(reader, start + 1 + i)
    send(tmp_path, story.events)
    compared = compare_all(PLAN, totals(tmp_path, PLAN, until_us=LATER, source="live"))
    effect = compared.of("views_per_session", "front", "status_quo")
    assert effect.adjusted.variance_removed > 0.7
    assert effect.adjusted.contrast.absolute.se < 0.6 * effect.contrast.absolute.se
    assert effect.adjusted.used[0] == VIEWS


def test_arms_that_differed_before_anything_was_shown_block_the_verdict():
    tables = world(views=(1.0, 1.0, 1.0))
    alike = report(tables)
    assert {check["name"]: check["state"] for check in alike["checks"]}["before"] == "ok"
    goal_before = list(WIDE).index(pre_columns(metric("views_per_session"))[0])
    tables["als", 1][:, goal_before] *= 2
    differing = report(tables)
    check = next(check for check in differing["checks"] if check["name"] == "before")
    assert (check["state"], differing["verdict"]["key"]) == ("block", "do_not_use")
    assert "articles opened per session, als against status quo" in check["says"]


def test_an_arm_with_more_readers_who_had_been_here_before_blocks_too():
    tables = world(views=(1.0, 1.0, 1.0))
    rows = tables["front", 1]
    tables["front", 1] = np.concatenate([rows, rows[rows[:, -1] == 1], rows[rows[:, -1] == 1]])[:400]
    tables["front", 1][:, -1] = 1
    check = next(check for check in report(tables)["checks"] if check["name"] == "before")
    assert check["state"] == "block"
    assert "how many had been here before, front" in check["says"]


def test_nothing_known_about_the_past_is_said_and_blocks_nothing():
    check = next(check for check in report(world(keys=COLUMNS), keys=COLUMNS)["checks"] if check["name"] == "before")
    assert (check["state"], check["p"]) == ("ok", None)
