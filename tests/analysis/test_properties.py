"""What must hold whatever the readers did: the list of the statistics charter, through every comparison of a plan.

Elsewhere: merging in any order (``test_totals.py``), readers without denominator and one effect alone (``test_effect.py``),
swapped arms when events are few (``test_small_counts.py``), scaled covariates (``test_adjustment.py``).
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.adjustment import Columns, adjust, adjusted_contrast
from analysis.bayes import Posterior, expected_gain
from analysis.comparison import Comparisons, Effect, compare_all
from analysis.effect import Contrast, arm_value, compare
from analysis.information import studies, unknowns
from analysis.moments import Totals
from analysis.own.data import analyse
from analysis.own.plan import wanted
from analysis.small_counts import small_count_contrast
from experiments.experiment import Arm, Experiment
from tests.analysis.tables import SESSIONS, VIEWS, moments, totals_of

TWO = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5))
PLAN = Experiment("related", "Does it pay?", "status_quo", TWO, window_days=1.0, planned_days=14.0)
KEYS = (VIEWS, SESSIONS, f"pre:{VIEWS}", f"pre:{SESSIONS}", "has_pre")
SEEDS = st.integers(0, 2**32 - 1)
few = settings(max_examples=12, deadline=None, derandomize=True)


def readers(rng: np.random.Generator, n: int, *, more: float = 0.0) -> np.ndarray:
    """Views, sessions, the same before, and whether there was anything before; integers, about one of six never seen before."""
    eager = rng.gamma(2.0, 1.0, n)
    before = rng.poisson(2 * eager) * (rng.random(n) < 0.85)
    sessions = 1 + rng.poisson(eager)
    views = sessions + rng.poisson(0.5 * sessions * math.exp(more) * eager)
    return np.column_stack([views, sessions, before * 2, before, before > 0]).astype(int)


def world(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(40, 400, 2) if seed % 2 else np.array([60, 700])
    return readers(rng, sizes[0], more=rng.normal(0, 0.1)), readers(rng, sizes[1])


def compared(treated: np.ndarray, control: np.ndarray, experiment: Experiment = PLAN) -> Comparisons:
    return compare_all(experiment, totals_of({("front", 1): treated, ("status_quo", 1): control}, keys=KEYS))


def goal(treated: np.ndarray, control: np.ndarray) -> Effect:
    return compared(treated, control).effects[0]


def contrasts(effect: Effect) -> list[Contrast]:
    adjusted = effect.adjusted.contrast if effect.adjusted else None
    return [contrast for contrast in (effect.contrast, adjusted) if contrast is not None and contrast.absolute is not None]


@few
@given(SEEDS)
def test_swapping_the_labels_negates_every_difference_and_leaves_every_p(seed):
    one, other = world(seed)
    there, back = goal(one, other), goal(other, one)
    assert there.contrast.status == back.contrast.status
    assert len(contrasts(there)) == len(contrasts(back))
    for a, b in zip(contrasts(there), contrasts(back), strict=True):
        assert (b.absolute.estimate, b.absolute.low, b.absolute.high) == pytest.approx(
            (-a.absolute.estimate, -a.absolute.high, -a.absolute.low), rel=1e-9
        )
        assert b.absolute.p == pytest.approx(a.absolute.p, rel=1e-9)
        assert (1 + a.relative.estimate) * (1 + b.relative.estimate) == pytest.approx(1, rel=1e-12)
    assert (there.family.low, there.family.high) == pytest.approx((-back.family.high, -back.family.low), rel=1e-9)


@few
@given(SEEDS, st.integers(2, 10**6))
def test_scaling_the_goal_leaves_everything_relative_and_every_p(seed, factor):
    def numbers(effect: Effect) -> list[float]:
        found = [
            x
            for c in contrasts(effect)
            for x in (c.relative.estimate, c.relative.low, c.relative.high, c.absolute.p, c.change_log_variance)
        ]
        belief = effect.shrunken
        return [*found, belief.mean, belief.low, belief.high, belief.p_better, belief.expected_loss]

    one, other = world(seed)
    scale = np.array([factor, 1, factor, 1, 1])
    small, large = goal(one, other), goal(one * scale, other * scale)
    assert large.contrast.status == small.contrast.status
    assert numbers(large) == pytest.approx(numbers(small), rel=1e-7, abs=1e-12)


@few
@given(SEEDS)
def test_the_order_of_readers_and_phases_changes_no_bit(seed):
    one, other = world(seed)
    rng = np.random.default_rng(seed)
    halves = {("front", 1): one[::2], ("front", 2): one[1::2], ("status_quo", 1): other[::2], ("status_quo", 2): other[1::2]}
    shuffled = {cell: rng.permutation(halves[cell]) for cell in reversed(halves)}
    first, second = (compare_all(PLAN, totals_of(cells, keys=KEYS)) for cells in (halves, shuffled))
    assert repr(first.effects) == repr(second.effects)


@few
@given(SEEDS, st.integers(1, 40))
def test_readers_who_never_come_back_move_nothing_but_their_number(seed, extra):
    """n grows, and the standard error by n / (n - 1) of the variance only."""
    one, other = world(seed)
    before = goal(one, other).contrast
    after = goal(np.vstack([one, np.zeros((extra, 5), int)]), other).contrast
    assert after.n == (before.n[0] + extra, before.n[1])
    assert after.values == pytest.approx(before.values, rel=1e-12)
    if before.status == after.status == "ok":
        n, m = before.n[0], after.n[0]
        treated, control = (side * value**2 for side, value in zip(before.log_variance, before.values, strict=True))
        assert after.absolute.se**2 == pytest.approx(treated * (n - 1) / n * m / (m - 1) + control, rel=1e-9)


@settings(max_examples=4, deadline=None, derandomize=True)
@given(SEEDS)
def test_splitting_the_rows_of_a_reader_changes_nothing(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    one, other = readers(rng, 60), readers(rng, 80)
    whole = [(f"{arm}{i}", arm, int(r[0]), int(r[1])) for arm, table in (("a", one), ("b", other)) for i, r in enumerate(table)]
    split = []
    for reader, arm, views, sessions in whole:
        first, began = int(rng.integers(0, views + 1)), int(rng.integers(0, sessions + 1))
        split += [(reader, arm, first, began), (reader, arm, views - first, sessions - began)]
    rng.shuffle(split)
    folder: Path = tmp_path_factory.mktemp("split")
    found = []
    for name, rows in (("whole", whole), ("split", split)):
        pd.DataFrame(rows, columns=["reader", "arm", "views", "sessions"]).to_csv(folder / f"{name}.csv", index=False)
        told = analyse(folder / f"{name}.csv", [wanted("goal=views/sessions")], reader="reader", arm="arm", control="a").to_dict()
        found.append(told["effects"])
    assert found[0] == found[1]


def opinions(contrast: Contrast) -> tuple[tuple[bool, bool], tuple[bool, bool], bool] | None:
    """What the two ranges say about zero, and whether one of them ends there (up to rounding)."""
    if contrast.absolute is None or contrast.relative is None:
        return None
    absolute, relative = contrast.absolute, contrast.relative
    edge = min(abs(absolute.low), abs(absolute.high)) < 1e-9 * absolute.se
    return (absolute.low > 0, absolute.high < 0), (relative.low > 0, relative.high < 0), edge


def plain_inputs(rng: np.random.Generator, count: int):
    for _ in range(count):
        sides = []
        for change in (rng.normal(0, 0.2), 0.0):
            n = int(rng.integers(30, 3000))
            mean, sd = np.array([3.0 * (1 + change), 1.5]), rng.uniform(0.1, 3, 2)
            tie = rng.uniform(-0.95, 0.95) * sd[0] * sd[1]
            cross = np.array([[sd[0] ** 2, tie], [tie, sd[1] ** 2]]) * (n - 1)
            cell = replace(moments([(1, 1), (2, 1)]), n=n, mean=mean + rng.normal(0, 0.01, 2), cross=cross)
            sides.append(arm_value({("x", 1): cell}, "x", numerator=VIEWS, denominator=SESSIONS, shares={1: 1.0}))
        yield compare(*sides, level=float(rng.choice([0.8, 0.95, 0.99])))


def adjusted_inputs(rng: np.random.Generator, count: int):
    columns = Columns(VIEWS, SESSIONS, KEYS[2:4])
    while count:
        tables = {("front", 1): readers(rng, 60, more=rng.normal(0, 0.4)), ("status_quo", 1): readers(rng, 60)}
        cells = totals_of(tables, keys=KEYS).moments
        found = adjust(cells, ("front", "status_quo"), columns=columns, shares={1: 1.0})
        plain = compare(
            *(arm_value(cells, a, numerator=VIEWS, denominator=SESSIONS, shares={1: 1.0}) for a in ("front", "status_quo")), level=0.95
        )
        for level in (0.5, 0.7, 0.8, 0.9, 0.95, 0.99):
            contrast = adjusted_contrast(found, ("front", "status_quo"), plain=plain, level=level).contrast
            if contrast is not None and count:
                count -= 1
                yield contrast


def small_inputs(rng: np.random.Generator, count: int):
    for _ in range(count):
        sides = [(int(rng.integers(0, min(n, 12) + 1)), n) for n in map(int, rng.integers(2, 300, 2))]
        yield small_count_contrast(sides[0], sides[1], level=float(rng.choice([0.8, 0.95, 0.99])))


@pytest.mark.parametrize("tenths", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_both_ranges_agree_about_zero_on_ten_thousand_inputs_adjusted_and_rare_ones_included(tenths):
    rng, judged, beyond = np.random.default_rng(17), 0, 0
    for inputs, count in ((plain_inputs, 700), (adjusted_inputs, 200), (small_inputs, 100)):
        for contrast in inputs(rng, tenths * count):
            said = opinions(contrast)
            if said is None or said[2]:
                continue
            assert said[0] == said[1], contrast
            judged, beyond = judged + 1, beyond + any(said[0])
    assert judged > 900 * tenths
    assert 200 * tenths < beyond < judged - 200 * tenths


# What it is worth to know more


def belief(rng: np.random.Generator) -> Posterior:
    root, noise = rng.normal(0, 0.03, (2, 2)), rng.normal(0, 0.05, (2, 2))
    return Posterior("status_quo", ("front", "als"), rng.normal(0, 0.03, 2), root @ root.T, noise @ noise.T + 1e-4 * np.eye(2))


@few
@given(SEEDS)
def test_a_test_is_worth_at_least_nothing_more_the_larger_it_is_and_never_more_than_knowing_everything(seed):
    rng = np.random.default_rng(seed)
    known, per_unit = belief(rng), 10_000.0
    costs = {"status_quo": (0.0, 0.0), "front": (float(rng.uniform(0, 200)), 0.1), "als": (float(rng.uniform(0, 400)), 1.0)}
    values = []
    for times in (0.1, 1.0, 10.0, 1e6):
        smaller = replace(known, sampling=known.sampling / times)
        (study,) = studies(smaller, per_unit, costs=costs, shares=dict.fromkeys(costs, 1 / 3), days=14, horizon=365)
        values.append(study.evsi * 365 / 351)
    draws = rng.multivariate_normal(known.mean, known.covariance, 40_000)
    benefit = np.column_stack([np.zeros(len(draws)), per_unit * np.expm1(draws) - [costs["front"][0], costs["als"][0]]])
    everything = benefit.max(axis=1).mean() - benefit.mean(axis=0).max()
    noise = 4 * benefit.std(axis=0).max() / math.sqrt(len(draws))
    assert values[0] >= 0
    assert all(later >= earlier - 1e-6 * per_unit - 0.02 * later for earlier, later in pairwise(values))
    assert values[-1] <= everything + noise


@few
@given(SEEDS)
def test_settling_one_thing_is_worth_at_least_nothing_and_never_more_than_settling_all(seed):
    rng = np.random.default_rng(seed)
    known = belief(rng)
    logs, value = rng.multivariate_normal(known.mean, known.covariance, 8_192), rng.lognormal(-4, 0.5, 8_192)
    benefit = np.column_stack([np.zeros(len(logs)), 1e6 * value[:, None] * np.expm1(logs) - rng.uniform(0, 500, 2)])
    found = unknowns(logs, value, benefit, names=("status_quo", "front", "als"), kinds={"front": "heuristic", "als": "model"})
    everything = benefit.max(axis=1).mean() - benefit.mean(axis=0).max()
    assert len(found) == 3
    assert all(0 <= unknown.evppi <= everything * 1.02 + 4 * benefit.std(axis=0).max() / math.sqrt(len(logs)) for unknown in found)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.floats(-3, 3), st.floats(0.01, 3))
def test_gain_and_loss_differ_by_the_mean(mean, sd):
    assert expected_gain(mean, sd) - expected_gain(-mean, sd) == pytest.approx(mean, abs=1e-12)
    assert expected_gain(mean, sd) >= max(0.0, mean)


def test_the_world_of_these_tests_meets_the_guard_and_the_plain_method():
    statuses = {goal(*world(seed)).contrast.status for seed in range(20)}
    assert statuses == {"ok", "guarded"}
    assert isinstance(totals_of({("front", 1): world(1)[0]}, keys=KEYS), Totals)
