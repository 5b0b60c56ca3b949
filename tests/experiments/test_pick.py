"""An arm may fail or sleep; the reader gets a slate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
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


class Hangs(Arm):
    """Never answers before it is let go."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.let_go = threading.Event()

    def rank(self, context: Context) -> Ranking:
        self.calls += 1
        self.let_go.wait()
        return Ranking.empty()


@pytest.fixture
def hanging() -> Iterator[Hangs]:
    arm = Hangs("hangs")
    yield arm
    arm.let_go.set()


def test_an_arm_whose_calls_never_end_is_asked_no_more(asked: Context, hanging: Hangs) -> None:
    picker = Picker(deadline_ms=1, threads=2)
    causes = [picker.pick(hanging, asked, rules=RULES).cause for _ in range(6)]  # type: ignore[arg-type]
    assert (hanging.calls, causes) == (2, ["late"] * 2 + ["stuck"] * 4)


def test_an_arm_that_hangs_for_many_readers_at_once_takes_no_thread_from_another(asked: Context, hanging: Hangs) -> None:
    """Sixteen at once took all threads of the process: no arm was served again before it was restarted."""
    picker = Picker(deadline_ms=20)
    with ThreadPoolExecutor(16) as readers:
        causes = list(readers.map(lambda _: picker.pick(hanging, asked, rules=RULES).cause, range(16)))  # type: ignore[arg-type]
    assert set(causes) <= {"late", "stuck", "resting"}
    picker.deadline_s = 10
    assert picker.pick(Arm("good"), asked, rules=RULES).outcome == "served"  # type: ignore[arg-type]


def test_the_version_before_is_served_although_calls_of_this_one_never_end(asked: Context, hanging: Hangs) -> None:
    picker, sound = Picker(deadline_ms=1, threads=1), Arm("hangs")
    hanging.version, sound.version = "2", "1"
    assert [picker.pick(hanging, asked, rules=RULES).cause for _ in range(2)] == ["late", "stuck"]  # type: ignore[arg-type]
    picker.deadline_s = 10
    assert picker.pick(sound, asked, rules=RULES).outcome == "served"  # type: ignore[arg-type]


def test_an_arm_that_keeps_the_interpreter_to_itself_is_late_however_it_ends(asked: Context) -> None:
    """It was counted as served: nobody could stop waiting before the answer was there."""
    now = [0.0]

    class Slow(Arm):
        def rank(self, context: Context) -> Ranking:
            now[0] += 6.0
            return super().rank(context)

    picked = Picker(deadline_ms=5_000, clock=lambda: now[0]).pick(Slow("slow"), asked, rules=RULES)  # type: ignore[arg-type]
    assert (picked.outcome, picked.cause) == ("fallback", "late")


class Answers(Arm):
    """Answers what ``change`` makes of a good ranking."""

    def __init__(self, change: Callable[[Any], Any]) -> None:
        super().__init__("answers")
        self.change = change

    def rank(self, context: Context) -> Ranking:
        answer: Ranking = self.change(super().rank(context))
        return answer


def raises(error: BaseException) -> Any:
    raise error


class Wordless(Exception):
    def __str__(self) -> str:
        return str(self.args[7])


JUNK: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda r: None,
    "lists": lambda r: replace(r, articles=r.articles.tolist()),
    "too few scores": lambda r: replace(r, scores=r.scores[:3]),
    "too few sources": lambda r: replace(r, sources=r.sources[:3]),
    "a source that is no word": lambda r: replace(r, sources=(3,) * len(r.sources)),
    "a source without letters": lambda r: replace(r, sources=("",) * len(r.sources)),
    "a source of half a character": lambda r: replace(r, sources=("\ud800",) * len(r.sources)),
    "a source as long as an article": lambda r: replace(r, sources=("x" * 20_000,) * len(r.sources)),
    "positions with a fraction": lambda r: replace(r, articles=r.articles + 0.5),
    "a table": lambda r: replace(r, articles=r.articles[:, None], scores=r.scores[:, None]),
    "scores that are words": lambda r: replace(r, scores=np.full(len(r.scores), "much", object)),
    "a score that is no number": lambda r: replace(r, scores=np.where(r.scores == 1, np.nan, r.scores)),
    "a score without end": lambda r: replace(r, scores=r.scores.astype(np.float64) * 1e300),
    "an error of half a character": lambda r: raises(ValueError("\ud800")),
    "an error without words": lambda r: raises(Wordless()),
    "the wish to end the process": lambda r: raises(SystemExit(3)),
    "a panic": lambda r: raises(BaseException("panic")),
}


@pytest.mark.parametrize("change", JUNK.values(), ids=JUNK)
def test_whatever_an_arm_answers_readers_get_a_slate_and_it_is_counted(asked: Context, change: Callable[[Any], Any]) -> None:
    """The page was an error that nobody counted, or its events were refused afterwards."""
    picked = Picker(deadline_ms=10_000).pick(Answers(change), asked, rules=RULES)  # type: ignore[arg-type]
    assert (picked.outcome, picked.cause, len(picked.slate.items)) == ("fallback", "failed", 6)
    assert picked.reason.encode()


def test_a_ranking_in_wider_numbers_is_served(asked: Context) -> None:
    wide = Answers(lambda r: replace(r, articles=r.articles.astype(np.int64), scores=r.scores.astype(np.float64)))
    assert Picker(deadline_ms=10_000).pick(wide, asked, rules=RULES).outcome == "served"  # type: ignore[arg-type]
