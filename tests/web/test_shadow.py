"""Arms in shadow: one that fails or hangs is counted and keeps no other from being asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.clock import system_clock
from experiments.events.ids import PageViews
from experiments.events.outbox import Outbox
from experiments.serving.recommender import Catalogue, Context, Ranking
from experiments.serving.signals import Signals
from experiments.serving.slate import SlateRules, pool_at
from tests.conftest import NOW
from web import shadow as module
from web.shadow import Asked, Shadow


class Arm:
    kind, audience = "heuristic", "all"

    def __init__(self, name: str, rank: Callable[[], Any]) -> None:
        self.name, self.answer = name, rank

    def rank(self, context: Context) -> Ranking:
        answer: Ranking = self.answer()
        return answer


def ends() -> Any:
    raise SystemExit(1)


@pytest.mark.parametrize("fault", ["hangs", "ends the process", "answers junk"])
def test_an_arm_at_fault_is_counted_and_keeps_no_other_from_being_asked(
    home: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """It ended or held the one thread: nobody was asked any more, nothing was told, and the gate never filled."""
    monkeypatch.setattr(module, "PATIENCE_MS", 5.0)
    let_go, at = threading.Event(), NOW.timestamp()
    bad = Arm("bad", {"hangs": let_go.wait, "ends the process": ends, "answers junk": lambda: None}[fault])
    sound = Arm("sound", lambda: Ranking(np.zeros(0, np.int32), np.zeros(0, np.float32), ()))
    asked = Context(at, 0, (), Signals.empty(catalogue, at), pool_at(catalogue, at, article=0))
    outbox = Outbox(home / "outbox", clock=system_clock)
    shadow = Shadow(outbox, PageViews(), system_clock)
    for _ in range(8):
        for arm in (bad, sound):
            shadow.offer(Asked("next", arm.name), arm, asked, SlateRules())  # type: ignore[arg-type]
        shadow.idle()
    let_go.set()
    outbox.close()
    told = {one.arm: (tally.calls, tally.errors, tally.dropped, bool(tally.last_error)) for one, tally in shadow.tallies.items()}
    assert told == {"bad": (8, 8, 0, True), "sound": (8, 0, 0, False)}
