from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.effect import arm_value, phase_shares
from analysis.moments import Distinct
from analysis.recompute import Recomputed, again, agreement
from tests.analysis.tables import SESSIONS, VIEWS, crowd, distinct, moments


def ours(tables, pair=("b", "a")):
    cells = {cell: moments(table) for cell, table in tables.items()}
    shares, _ = phase_shares(cells, sorted({arm for arm, _ in tables}))
    values = [arm_value(cells, arm, numerator=VIEWS, denominator=SESSIONS, shares=shares) for arm in pair]
    return Recomputed(*pair, values[0].estimate - values[1].estimate, math.sqrt(sum(v.variance for v in values))), shares


def rows_of(tables):
    return [d for (arm, phase), table in tables.items() for d in distinct(arm, table, phase=phase)]


def test_both_roads_agree_on_a_crowd():
    rng = np.random.default_rng(1)
    tables = {("a", 1): crowd(rng, 800)[:, :2].tolist(), ("b", 1): crowd(rng, 500, views=1.2)[:, :2].tolist()}
    mine, shares = ours(tables)
    found = agreement([mine], again(rows_of(tables), [("b", "a")], shares=shares))
    assert found.state == "ok"
    assert found.figure < 1e-12


def test_both_roads_agree_over_two_phases_of_unequal_shares():
    rng = np.random.default_rng(2)
    tables = {
        (arm, phase): crowd(rng, n, views=1 + 0.3 * phase)[:, :2].tolist()
        for arm, phase, n in (("a", 1, 300), ("b", 1, 40), ("a", 2, 200), ("b", 2, 210))
    }
    mine, shares = ours(tables)
    assert agreement([mine], again(rows_of(tables), [("b", "a")], shares=shares)).state == "ok"


def test_readers_without_sessions_are_part_of_both():
    tables = {("a", 1): [(2, 1), (3, 1), (0, 0)], ("b", 1): [(1, 1), (5, 2), (0, 0), (0, 0)]}
    mine, shares = ours(tables)
    assert agreement([mine], again(rows_of(tables), [("b", "a")], shares=shares)).state == "ok"


@pytest.mark.parametrize("what", ["estimate", "se"])
def test_a_gap_of_a_millionth_blocks(what):
    one = Recomputed("b", "a", 0.5, 0.1)
    assert agreement([one], [replace(one, **{what: getattr(one, what) * (1 + 1e-6)})]).state == "block"
    assert agreement([one], [replace(one, **{what: getattr(one, what) * (1 + 1e-12)})]).state == "ok"


def test_a_gap_that_is_not_a_number_blocks():
    assert agreement([Recomputed("b", "a", 0.5, 0.1)], [Recomputed("b", "a", math.nan, 0.1)]).state == "block"


def test_a_difference_of_nearly_zero_is_judged_by_its_standard_error():
    assert agreement([Recomputed("b", "a", 0.0, 1.0)], [Recomputed("b", "a", 1e-13, 1.0)]).state == "ok"


def test_nothing_to_compare_warns():
    assert agreement([], []).state == "warn"


def test_a_numerator_without_denominator_is_refused():
    with pytest.raises(ValueError, match="without a denominator"):
        again([Distinct("a", 1, 0, 1), Distinct("b", 1, 1, 2)], [("b", "a")])


def test_rows_without_phase_are_refused_when_phases_matter():
    with pytest.raises(ValueError, match="phase"):
        again([Distinct("a", 1, 1, 2)], [("b", "a")], shares={1: 0.5, 2: 0.5})


def test_arms_without_any_spread_agree_or_not_without_dividing_by_zero():
    ours = [Recomputed("a", "b", 1.0, 0.0)]
    assert agreement(ours, [Recomputed("a", "b", 1.0, 1e-16)]).state == "ok"
    assert agreement(ours, [Recomputed("a", "b", 1.0, 0.01)]).state == "block"
    assert agreement([Recomputed("a", "b", 0.0, 0.0)], [Recomputed("a", "b", 0.0, 0.0)]).state == "ok"
