"""Somebody's own file with a goal that every reader reached or not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.own.data import Analysis, analyse
from analysis.own.plan import wanted
from analysis.own.price import Price
from analysis.small_counts import small_count_contrast


def table(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One row per reader: arm -> column -> values."""
    sizes = {arm: len(columns["did"]) for arm, columns in arms.items()}
    named = {"uid": np.arange(sum(sizes.values())), "arm": np.repeat(list(sizes), list(sizes.values()))}
    return named | {name: np.concatenate([columns[name] for columns in arms.values()]) for name in next(iter(arms.values()))}


def run(folder: Path, arms: Mapping[str, Mapping[str, Any]], metric: str = "did=did", **options: Any) -> Analysis:
    path = folder / "readers.parquet"
    pq.write_table(pa.table(table(arms)), path)
    return analyse(path, [wanted(metric)], reader="uid", arm="arm", control="control", **options)


def took_part(rng: np.random.Generator, n: int, rate: float, *, slope: float) -> dict[str, Any]:
    """Readers of whom ``rate`` did it, ``slope`` more per standard deviation of keenness."""
    keen = np.clip(rng.normal(0, 1, n), -2, 2)
    return {"did": (rng.random(n) < rate + slope * keen).astype(int), "keen": np.round(keen * 100).astype(int)}


@pytest.mark.parametrize("rates", [(0.1, 0.2), (0.2, 0.1)])
@pytest.mark.parametrize("slope", [0.0, 0.05])
def test_a_covariate_removes_what_it_explains_however_unequal_arms_and_shares_are(
    tmp_path: Path, rates: tuple[float, float], slope: float
) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        arms = {arm: took_part(rng, n, rate, slope=slope) for arm, n, rate in zip(("control", "new"), (4500, 500), rates, strict=True)}
        y, x = ([arm[name] - arm[name].mean() for arm in arms.values()] for name in ("did", "keen"))
        b = np.concatenate(x) @ np.concatenate(y) / (np.concatenate(x) ** 2).sum()
        before, after = (sum(r.var() / len(r) for r in rest) for rest in (y, [one - b * other for one, other in zip(y, x, strict=True)]))
        found = run(tmp_path, arms, "did=did:pre=keen").effects[0].adjusted
        assert found is not None
        assert found.variance_removed == pytest.approx(max(0.0, 1 - after / before), abs=3e-3)  # degrees of freedom are left out


def first(n: int, events: int) -> dict[str, Any]:
    """So many readers, of whom the first did it."""
    return {"did": (np.arange(n) < events).astype(int)}


def test_an_arm_whose_readers_all_did_it_says_why_it_has_no_price(tmp_path: Path) -> None:
    arms = {"control": first(400, 200), "a": first(400, 210), "b": first(400, 400)}
    found = run(tmp_path, arms, price=Price(0.01, 100_000))
    assert found.roi is not None
    says = "too few readers of an arm did it or did not, or arms are too unequal in size, to put a price on it."
    assert found.verdict.sentence == f"Keep control: b improves the goal, but {says}"
    assert f"B improves the goal, but costs cannot be weighed: {says}" in found.verdict.reasons


def test_a_reader_who_did_it_twice_takes_the_score_test_from_its_own_arm_only(tmp_path: Path) -> None:
    arms = {"control": first(100, 20), "once": first(100, 35), "twice": first(100, 30)}
    alone = run(tmp_path, {arm: arms[arm] for arm in ("control", "once")}).effects[0].contrast
    arms["twice"]["did"][0] = 2
    once, twice = run(tmp_path, arms).effects
    assert once.contrast == alone
    assert alone.absolute == small_count_contrast((35, 100), (20, 100), level=0.95).absolute
    assert "score test" not in twice.contrast.reason
    assert (once.contrast.values[1], twice.contrast.values[1]) == (0.2, 0.2)


def test_a_control_with_a_reader_who_did_it_twice_leaves_no_score_test(tmp_path: Path) -> None:
    arms = {"control": first(100, 20), "once": first(100, 35)}
    arms["control"]["did"][0] = 2
    assert "score test" not in run(tmp_path, arms).effects[0].contrast.reason
