"""The same reader gets the same arm, everywhere, always."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from experiments.assignment import allocation, assign, assign_many, reader_key
from experiments.errors import ExperimentError
from experiments.experiment import Arm, Experiment

ARMS = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.3), Arm("als", "model", 0.2))
PLAN = Experiment("related", "?", "status_quo", ARMS)


def arms_of(shares: dict[str, float] | None = None, salt: str = "", n: int = 4_000) -> list[str | None]:
    plan = allocation(Experiment("related", "?", "status_quo", ARMS, salt=salt), shares)
    found = (assign(plan, reader_key(f"reader {i}")) for i in range(n))
    return [a.arm if a else None for a in found]


def test_same_reader_same_arm_across_processes() -> None:
    assert [assign(allocation(PLAN), reader_key(r)).arm for r in ("a", "b", "c", "d")] == ["status_quo", "front", "status_quo", "als"]  # type: ignore[union-attr]


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=50), st.text(max_size=8))
def test_scalar_and_vectorised_agree_bit_for_bit(keys: list[int], salt: str) -> None:
    plan = allocation(Experiment("related", "?", "status_quo", ARMS, salt=salt), {"status_quo": 0.25, "front": 0.3, "als": 0.01})
    many = assign_many(plan, np.array(keys, np.uint64)).tolist()
    one = [assign(plan, key) for key in keys]
    assert [plan.ranges[i][2] if i >= 0 else None for i in many] == [a.arm if a else None for a in one]


@given(st.integers(0, 2**64 - 1), st.floats(0, 0.5), st.floats(0, 0.3), st.integers(0, 9))
def test_an_assignment_is_the_range_its_point_lies_in(key: int, one: float, other: float, phase: int) -> None:
    plan = allocation(PLAN, {"status_quo": one, "front": other}, phase=phase)
    bare = replace(plan, whole=(None,) * 200)  # without the buckets that were looked at before
    assert assign(plan, key) == assign(bare, key)


def test_buckets_are_looked_at_before_unless_an_arm_ends_in_them() -> None:
    divided = [bucket for bucket, found in enumerate(allocation(PLAN, {"status_quo": 0.5, "front": 0.102}).whole) if found is None]
    assert divided == [100 + 20, *range(121, 200)]  # a fifth of 2**53 / 200 is in the arm `front`; nobody is enrolled behind it


def test_readers_are_split_as_planned() -> None:
    names = arms_of(n=60_000)
    counts = [names.count(arm.name) for arm in ARMS]
    assert chisquare(counts, [60_000 * arm.share for arm in ARMS]).pvalue > 1e-4


def test_a_ramp_never_moves_a_reader_to_another_arm() -> None:
    small, full = arms_of({"status_quo": 0.05, "front": 0.3, "als": 0.02}), arms_of()
    moved = [(s, f) for s, f in zip(small, full, strict=True) if s is not None and s != f]
    assert not moved
    assert small.count("als") < full.count("als")


def test_a_fresh_salt_splits_readers_anew() -> None:
    one, other = arms_of(salt="1"), arms_of(salt="2")
    same = sum(a == b for a, b in zip(one, other, strict=True)) / len(one)
    assert 0.33 < same < 0.43  # 0.38 if independent: 0.5² + 0.3² + 0.2²


def test_a_share_above_the_plan_is_refused() -> None:
    with pytest.raises(ExperimentError, match=r"arm 'als' cannot take 0\.4"):
        allocation(PLAN, {"als": 0.4})


def test_an_unknown_arm_in_the_shares_is_refused() -> None:
    with pytest.raises(ExperimentError, match="unknown arm alz"):
        allocation(PLAN, {"alz": 0.1})
