"""Archives of finished tests: naive peeking calls more series than one look at the end, the anytime rule does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.archive import peeking
from analysis.summary_files import WIDE
from experiments.errors import DataError


def archive(path: Path, *, series: int, effect: float = 0.0, seed: int = 1) -> Path:
    """Series of 14 looks on the same growing readers; every reader has variance 1 around 1."""
    rng = np.random.default_rng(seed)
    lines = [",".join(WIDE)]
    for number in range(series):
        control, treated = rng.normal(1, 1, 14 * 200), rng.normal(1 + effect, 1, 14 * 200)
        for day in range(1, 15):
            c, t = control[: day * 200], treated[: day * 200]
            cells = (f"e{number}", 1, 1, day, len(c), len(t), c.mean(), t.mean(), c.var(ddof=1), t.var(ddof=1))
            lines.append(",".join(map(str, cells)))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_without_any_effect_peeking_naively_calls_four_times_too_many_and_the_anytime_rule_nearly_none(tmp_path: Path) -> None:
    found = peeking(archive(tmp_path / "a.csv", series=400))
    assert found.series == 400
    assert found.naive > 0.15
    assert found.end < 0.09
    assert found.anytime < 0.05
    assert found.passed


def test_a_large_effect_is_called_by_every_rule(tmp_path: Path) -> None:
    found = peeking(archive(tmp_path / "a.csv", series=20, effect=0.3))
    assert (found.naive, found.end, found.anytime) == (1.0, 1.0, 1.0)


def test_series_without_a_variance_count_and_are_called_by_no_rule(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.csv", series=1, effect=0.3)
    with path.open("a") as file:
        file.write("e9,1,1,1,100,100,1.0,2.0,,\n")
    assert peeking(path).end == 0.5


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="not an archive of looks"):
        peeking(tmp_path / "b.csv")
