"""Drift is told from the scatter of normal days, and seldom where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import f as fisher

from recsys.drift import divergence, moved


def days(n: int, *, reads: int, seed: int, inputs: int = 5) -> dict[str, np.ndarray]:
    """Days that differ by chance alone: the same shares of eight bins every day, per input."""
    rng = np.random.default_rng(seed)
    return {f"i{i}": rng.multinomial(reads, rng.dirichlet(np.full(8, 3.0)), size=n).astype(float) for i in range(inputs)}


def test_p_and_limit_follow_from_the_divergences_of_normal_days() -> None:
    tables = days(17, reads=500, seed=1, inputs=2)
    told = moved({name: (table[:14], table[14:]) for name, table in tables.items()})
    normal = {name: np.array([divergence(day, table[:14].sum(axis=0) - day) for day in table[:14]]) for name, table in tables.items()}
    scatter = np.mean([values.var(ddof=1) / values.mean() ** 2 for values in normal.values()])
    nu = 11 / 14 * 2 / scatter
    for name, table in tables.items():
        now = np.mean([divergence(day, table[:14].sum(axis=0)) for day in table[14:]])
        # a reference day is compared with one day fewer than a recent one: chance takes it a little farther
        assert told[name]["p"] == pytest.approx(fisher.sf(now / normal[name].mean(), 3 * nu, 14 * nu), rel=0.01)
        assert told[name]["limit"] == pytest.approx(normal[name].mean() * fisher.isf(1e-4, 3 * nu, 14 * nu), rel=0.01)


def test_where_days_differ_by_chance_alone_small_p_values_are_rare() -> None:
    """With nu the median over five inputs 17 of 1,000 lay below 1 in 100, and 2.2 below 1 in 1,000 (6,000 p-values)."""
    p = []
    for seed in range(300):
        told = moved({name: (table[:14], table[14:]) for name, table in days(17, reads=300, seed=seed).items()})
        p += [row["p"] for row in told.values()]
    assert np.mean(np.array(p) < 0.01) <= 0.012
    assert np.mean(np.array(p) < 0.001) <= 0.002


def traffic(world: int, *, before: int, after: int, shift: float = 0.0) -> dict[str, np.ndarray]:
    """28 normal days and 3 recent ones of other traffic, which differ beyond chance as days of a site do; two of five inputs shift."""
    rng = np.random.default_rng([7, world])
    tables = {}
    for i, bins in enumerate((8, 8, 9, 5, 6)):
        shares = rng.dirichlet(np.full(bins, 3.0))
        moved_ = shares * np.exp(np.linspace(-shift, shift, bins) * (i < 2))
        each = [rng.dirichlet(800 * p / p.sum()) for p in [shares] * 28 + [moved_] * 3]
        tables[f"i{i}"] = np.array([rng.multinomial(before if day < 28 else after, p) for day, p in enumerate(each)], float)
    return tables


def notes(worlds: int, **kind: float) -> int:
    """In how many worlds anything is said to have moved."""
    found = [traffic(world, **kind) for world in range(worlds)]  # type: ignore[arg-type]
    return sum(
        any(row["moved"] for row in moved({name: (table[:28], table[28:]) for name, table in tables.items()}).values()) for tables in found
    )


@pytest.mark.parametrize(("before", "after"), [(2_000, 200), (200, 2_000), (2_000, 60)])
def test_more_or_fewer_readers_are_no_drift(before: int, after: int) -> None:
    """When traffic fell to a tenth, chance alone was told as drift in every world."""
    assert notes(40, before=before, after=after) == 0


@pytest.mark.parametrize(("before", "after"), [(200, 2_000), (2_000, 2_000)])
def test_a_shift_is_told_also_after_traffic_rose(before: int, after: int) -> None:
    """Three days of many reads were compared with the scatter of small days: a shift this large was found in no world."""
    assert notes(40, before=before, after=after, shift=0.4) >= 30


def test_a_plain_shift_is_told_and_one_of_an_input_that_never_varied_too() -> None:
    """An input that was the same on all normal days had no limit: when all its reads changed, nothing was said to have moved."""
    tables = days(17, reads=2_000, seed=2)
    tables["i0"][14:] = tables["i0"][14:, ::-1]
    for name, elsewhere in (("always", 0), ("stray", 4), ("turned", 500)):
        tables[name] = np.array([[500.0, 0.0]] * 14 + [[500.0 - elsewhere, elsewhere]] * 3)
    tables["single"] = np.full((17, 1), 500.0)
    told = moved({name: (table[:14], table[14:]) for name, table in tables.items()})
    assert told["i0"]["moved"]
    assert not any(told[f"i{i}"]["moved"] for i in range(1, 5))
    assert [told[name]["moved"] for name in ("always", "stray", "turned")] == [False, False, True]
    assert (told["always"]["p"], told["single"]["p"], told["single"]["moved"]) == (1.0, None, False)
    alone = moved({"turned": (tables["turned"][:14], tables["turned"][14:])})
    assert alone["turned"]["moved"]
