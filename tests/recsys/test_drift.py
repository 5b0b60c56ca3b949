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
        assert told[name]["p"] == pytest.approx(fisher.sf(now / normal[name].mean(), 3 * nu, 14 * nu))
        assert told[name]["limit"] == pytest.approx(normal[name].mean() * fisher.isf(2e-4, 3 * nu, 14 * nu))


def test_where_days_differ_by_chance_alone_small_p_values_are_rare() -> None:
    """With nu the median over five inputs 17 of 1,000 lay below 1 in 100, and 2.2 below 1 in 1,000 (6,000 p-values)."""
    p = []
    for seed in range(300):
        told = moved({name: (table[:14], table[14:]) for name, table in days(17, reads=300, seed=seed).items()})
        p += [row["p"] for row in told.values()]
    assert np.mean(np.array(p) < 0.01) <= 0.012
    assert np.mean(np.array(p) < 0.001) <= 0.002


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
