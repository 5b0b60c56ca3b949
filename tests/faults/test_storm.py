"""Faults of every kind, one after the other, on a site that is read all the while: what was acknowledged is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.errors import ConfigError
from experiments.events.power import small_disk
from tests.faults.harness import strace
from tests.faults.storm import weather

pytestmark = pytest.mark.skipif(bool(strace()), reason=strace() or "available")


@pytest.mark.long
def test_a_storm_of_half_a_minute_takes_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    check(tmp_path, minutes=0.5, at_least=500)


@pytest.mark.slow
def test_a_storm_of_ten_minutes_takes_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    check(tmp_path, minutes=10.0, at_least=20_000)


def check(folder: Path, *, minutes: float, at_least: int) -> None:
    try:
        with small_disk(folder / "trial"):
            pass
    except ConfigError as error:
        pytest.skip(str(error))
    found, statuses, kept = weather(folder, minutes=minutes, seed=3)
    assert (found.lost, found.exact, found.integrity) == (0, True, "ok")
    assert kept > at_least
    assert set(statuses) <= {0, 200, 202, 503}  # 0: no answer
