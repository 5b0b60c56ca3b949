from __future__ import annotations

import numpy as np
import pytest

from analysis.bayes import Prior
from analysis.moments import Moments
from analysis.novelty import Halves, change_of, faded, late_belief, novelty
from tests.analysis.tables import ARMS, plan

KEYS = ("early:v", "early:s", "late:v", "late:s")
PLAN = plan(ARMS[:2] if sum(a.share for a in ARMS[:2]) == 1 else [ARMS[0].__class__(a.name, a.kind, 0.5) for a in ARMS[:2]])


def readers(rng, n, *, early=1.0, late=1.0):
    """A reader keeps their appetite through both halves."""
    appetite = rng.gamma(3.0, 1.0, n)
    sessions = [1 + rng.poisson(1.0, n), 1 + rng.poisson(1.0, n)]
    views = [rng.poisson(s * appetite * lift) for s, lift in zip(sessions, (early, late), strict=True)]
    return np.column_stack([views[0], sessions[0], views[1], sessions[1]])


def halves(**tables):
    return Halves({(arm, 0): Moments.from_rows(t, KEYS) for arm, t in tables.items()}, KEYS[:2], KEYS[2:])


def test_the_variance_of_late_minus_early_is_that_of_the_jackknife():
    table = readers(np.random.default_rng(1), 400).astype(float)
    found = change_of(halves(front=table), "front", {0: 1.0})
    whole = table.sum(axis=0)
    left = whole - table
    each = left[:, 2] / left[:, 3] - left[:, 0] / left[:, 1]
    assert found.estimate == pytest.approx(whole[2] / whole[3] - whole[0] / whole[1], rel=1e-12)
    assert found.variance == pytest.approx(
        (len(each) - 1) ** 2 / len(each) * each.var(ddof=1), rel=0.02
    )  # the jackknife is of second order


def test_phases_are_weighted_alike_in_both_arms():
    rng = np.random.default_rng(2)
    one, two = readers(rng, 300), readers(rng, 100)
    both = Halves({("front", 0): Moments.from_rows(one, KEYS), ("front", 1): Moments.from_rows(two, KEYS)}, KEYS[:2], KEYS[2:])
    pooled = change_of(halves(front=np.vstack([one, two])), "front", {0: 1.0})
    assert change_of(both, "front", {0: 0.75, 1: 0.25}).estimate == pytest.approx(pooled.estimate, rel=1e-12)
    assert len(change_of(both, "front", {0: 0.75, 1: 0.25}).parts) == 2


def test_without_a_change_it_warns_as_rarely_as_the_level_says():
    rng, runs = np.random.default_rng(3), 400
    warned = sum(
        novelty(PLAN, halves(status_quo=readers(rng, 150), front=readers(rng, 150, early=1.3, late=1.3))).state == "warn"
        for _ in range(runs)
    )
    assert warned / runs <= 0.09  # the effect itself is larger among heavy readers; 0.05 plus three Monte Carlo errors


def test_an_effect_that_fades_is_certain_and_told_with_both_halves():
    rng = np.random.default_rng(4)
    found = halves(status_quo=readers(rng, 900), front=readers(rng, 900, early=1.5))
    line = novelty(PLAN, found)
    assert line.state == "warn"
    assert line.figure is not None
    assert line.figure < 0
    assert "in the first half of a reader's 1 day," in line.says
    (told,) = faded(PLAN, found)
    assert told.early.relative is not None
    assert told.late.relative is not None
    assert told.early.relative.estimate == pytest.approx(0.5, abs=0.1)
    assert told.late.relative.estimate == pytest.approx(0.0, abs=0.1)


def test_money_is_reckoned_with_the_second_half_only_when_the_change_is_certain():
    rng = np.random.default_rng(5)
    steady = halves(status_quo=readers(rng, 900), front=readers(rng, 900, early=1.2, late=1.2))
    fading = halves(status_quo=readers(rng, 900), front=readers(rng, 900, early=1.5))
    assert late_belief(PLAN, steady, prior=Prior()) is None
    belief = late_belief(PLAN, fading, prior=Prior())
    assert belief is not None
    assert abs(belief.contrast("front", "status_quo")[0]) < 0.05


def test_swapping_the_arms_turns_the_sign():
    rng = np.random.default_rng(6)
    one, other = readers(rng, 200), readers(rng, 200, early=1.5)
    a, b = novelty(PLAN, halves(status_quo=one, front=other)), novelty(PLAN, halves(status_quo=other, front=one))
    assert a.figure == pytest.approx(-b.figure, rel=1e-12)
    assert a.p == pytest.approx(b.p, rel=1e-12)


def test_before_the_end_and_with_few_readers_nothing_is_told():
    rng = np.random.default_rng(7)
    assert "planned end" in novelty(PLAN, None, ended=False).says
    assert "cannot be told for this goal" in novelty(PLAN, None).says
    few = novelty(PLAN, halves(status_quo=readers(rng, 9), front=readers(rng, 9)))
    assert (few.state, few.figure, few.says[:15]) == ("ok", None, "Too few readers")
