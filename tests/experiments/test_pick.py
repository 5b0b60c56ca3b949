"""An arm may fail or sleep; the reader gets a slate."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from experiments.serving.pick import Breaker, Picker
from experiments.serving.recommender import Catalogue, Context, Ranking
from experiments.serving.signals import Signals
from experiments.serving.slate import SlateRules, pool_at
from tests.conftest import NOW

RULES = SlateRules()


class Arm:
    kind = "model"
    audience = "all"
    version = ""

    def __init__(self, name: str, *, sleeps_s: float = 0.0, raises: bool = False) -> None:
        self.name, self.sleeps_s, self.raises, self.calls = name, sleeps_s, raises, 0

    def rank(self, context: Context) -> Ranking:
        self.calls += 1
        time.sleep(self.sleeps_s)
        if self.raises:
            raise RuntimeError("no vectors")
        return Ranking.best_first(context.pool, np.arange(len(context.pool)), "als")


@pytest.fixture
def asked(catalogue: Catalogue) -> Context:
    at = NOW.timestamp()
    return Context(at, 0, (), Signals.empty(catalogue, at), pool_at(catalogue, at, article=0))


def test_a_good_arm_is_served(asked: Context) -> None:
    assert Picker(deadline_ms=10_000).pick(Arm("good"), asked, rules=RULES).outcome == "served"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arm", "deadline_ms", "words"),
    [(Arm("raises", raises=True), 10_000, "RuntimeError: no vectors"), (Arm("sleeps", sleeps_s=0.4), 20, "longer than 20 ms")],
)
def test_a_failing_or_late_arm_is_replaced_and_named(asked: Context, arm: Arm, deadline_ms: int, words: str) -> None:
    picked = Picker(deadline_ms=deadline_ms).pick(arm, asked, rules=RULES)  # type: ignore[arg-type]
    assert picked.outcome == "fallback"
    assert words in picked.reason
    assert len(picked.slate.items) == 6


@pytest.mark.parametrize(
    "shared", [lambda signals: signals.heat, lambda signals: signals.near.weights, lambda signals: signals.catalogue.withdrawn]
)
def test_an_arm_that_writes_to_what_all_requests_share_fails_alone(asked: Context, shared: Callable[[Signals], Any]) -> None:
    """It was served, and every later page of the process ranked by what it had written: a withdrawn article came back."""
    before = shared(asked.signals).tobytes()

    class Writes(Arm):
        def rank(self, context: Context) -> Ranking:
            shared(context.signals)[...] = 0
            return super().rank(context)

    picked = Picker(deadline_ms=10_000).pick(Writes("writes"), asked, rules=RULES)  # type: ignore[arg-type]
    assert (picked.outcome, "read-only" in picked.reason) == ("fallback", True)
    assert shared(asked.signals).tobytes() == before


def test_an_arm_without_a_model_is_replaced(asked: Context) -> None:
    picked = Picker(deadline_ms=20).pick(None, asked, rules=RULES)
    assert (picked.outcome, picked.reason) == ("fallback", "the arm is not loaded")


def test_a_version_does_not_rest_for_what_another_one_did(asked: Context) -> None:
    picker = Picker(deadline_ms=10_000, clock=lambda: 0.0)
    broken, sound = Arm("tide", raises=True), Arm("tide")
    broken.version, sound.version = "2", "1"
    assert [picker.pick(broken, asked, rules=RULES).cause for _ in range(6)] == ["failed"] * 5 + ["resting"]  # type: ignore[arg-type]
    assert picker.pick(sound, asked, rules=RULES).outcome == "served"  # type: ignore[arg-type]
    assert picker.opened("tide") == 1


def test_after_five_failures_the_arm_rests_and_is_tried_again_later(asked: Context) -> None:
    now = [0.0]
    picker, arm = Picker(deadline_ms=10_000, clock=lambda: now[0]), Arm("raises", raises=True)
    for _ in range(8):
        picker.pick(arm, asked, rules=RULES)  # type: ignore[arg-type]
    assert arm.calls == 5
    now[0] = 11.0
    picker.pick(arm, asked, rules=RULES)  # type: ignore[arg-type]
    assert arm.calls == 6


@pytest.mark.parametrize(("every", "rests"), [(50, False), (6, False), (4, True)])
def test_an_arm_rests_when_a_fifth_of_its_calls_fail_not_when_a_few_of_many_do(every: int, rests: bool) -> None:
    now = [0.0]
    breaker = Breaker(lambda: now[0])
    for number in range(3_000):  # a hundred a second
        now[0] = number / 100
        if breaker.closed():
            breaker.ended(failed=number % every == every - 1)
    assert (breaker.opened > 0) == rests


def test_what_failed_long_ago_does_not_count() -> None:
    now = [0.0]
    breaker = Breaker(lambda: now[0])
    for number in range(8):
        now[0] = 3.0 * number  # four in any 10 s
        breaker.ended(failed=True)
    assert not breaker.opened


def test_stuck_calls_do_not_take_every_thread(asked: Context) -> None:
    picker = Picker(deadline_ms=1, threads=4)
    picker.breakers["sleeps"] = Breaker(time.monotonic, failures=1_000)
    arm = Arm("sleeps", sleeps_s=0.5)
    for _ in range(6):
        picker.pick(arm, asked, rules=RULES)  # type: ignore[arg-type]
    assert arm.calls <= 2
    assert picker.pick(Arm("good"), asked, rules=RULES).outcome in ("served", "fallback")  # type: ignore[arg-type]
