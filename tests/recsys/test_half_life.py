"""The half-life follows the site: short where news is read at once, and never changed without a clear difference."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from experiments.errors import DataError
from recsys.half_life import CHOICES_H, propose_half_life
from recsys.next_click import Clicks, clicks


def site(*, fashion_h: float, hours: int = 60, per_hour: int = 30, seed: int = 0) -> Clicks:
    """Sessions of two clicks; of 200 articles, those in fashion are read and the fashion changes every ``fashion_h`` hours."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, str, str, int]] = []
    for number in range(hours * per_hour):
        at = number / per_hour
        liked = np.random.default_rng(int(at // fashion_h)).permutation(200)[:15]
        for step, article in enumerate(rng.choice(liked, 2, replace=False)):
            rows.append((f"r{number % 400}", f"s{number}", f"a{article}", round((at + step / 1e3) * 3.6e9)))
    columns = list(zip(*rows, strict=True))
    return clicks(pa.table(dict(zip(("reader", "session", "article", "at"), columns, strict=True))))


def test_where_fashion_changes_quickly_a_short_half_life_is_proposed() -> None:
    found = propose_half_life(site(fashion_h=4.0), current=24.0)
    assert found.proposed <= 4.0
    assert found.low > 0
    assert found.hit_rates[found.proposed] == max(found.hit_rates.values())
    assert set(found.hit_rates) == set(CHOICES_H)


def test_without_a_clear_difference_the_current_one_stays() -> None:
    found = propose_half_life(site(fashion_h=1e9), current=24.0)
    assert found.low <= 0
    assert found.proposed == 24.0


def test_a_log_without_a_second_click_says_so() -> None:
    lonely = clicks(pa.table({"reader": ["r"], "session": ["s"], "article": ["a"], "at": [0]}))
    with pytest.raises(DataError, match="has an earlier one in its session"):
        propose_half_life(lonely, current=1.0)
