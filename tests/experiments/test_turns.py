"""Pauses of long work."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from experiments.turns import AT_ONCE, in_turns


@pytest.mark.parametrize(("threads", "pauses"), [(1, 0), (2, 3)])
def test_long_work_pauses_only_where_somebody_else_could_run(monkeypatch: pytest.MonkeyPatch, threads: int, pauses: int) -> None:
    slept: list[float] = []
    monkeypatch.setattr("experiments.turns.time", SimpleNamespace(sleep=slept.append))
    monkeypatch.setattr(threading, "active_count", lambda: threads)
    assert list(in_turns(range(3 * AT_ONCE + 1))) == list(range(3 * AT_ONCE + 1))
    assert len(slept) == pauses
