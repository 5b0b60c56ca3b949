"""Asking an arm within its deadline: a late or failing arm is replaced, counted and, if it goes on, left alone for a while."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Literal, TypeVar

from experiments.serving.answers import contained, said, sound, timed_out
from experiments.serving.recommender import Context, Ranking, Recommender
from experiments.serving.slate import Pin, Slate, SlateRules, blank, build_slate

__all__ = ["Breaker", "NoAnswerError", "Picked", "Picker"]

log = logging.getLogger("presslab.pick")
T = TypeVar("T")

Outcome = Literal["served", "fallback", "empty"]
Cause = Literal["", "missing", "stuck", "resting", "late", "failed"]


class NoAnswerError(Exception):
    """An arm gave no answer; ``cause`` says in a word, the text in words, why."""

    def __init__(self, cause: Cause, reason: str) -> None:
        super().__init__(reason)
        self.cause: Cause = cause


@dataclass(frozen=True, slots=True)
class Picked:
    """A slate and how it came about; ``cause`` says in a word, ``reason`` in words, why the arm was replaced.

    ``artefact`` is the version of the model that ranked (empty for a rule and when the arm was replaced), ``signals_at`` the moment
    (unix seconds) up to which reads are in the signals.
    """

    slate: Slate
    outcome: Outcome
    latency_us: int
    reason: str = ""
    cause: Cause = ""
    artefact: str = ""
    signals_at: float = 0.0


@dataclass(slots=True)
class Breaker:
    """Opens for ``open_s`` seconds when, within ``within_s`` seconds, ``failures`` calls failed and they were ``share`` of all calls.

    On a busy site five late calls in 10 s are less than one in a hundred: resting then costs more slates than it saves.
    """

    clock: Callable[[], float]
    failures: int = 5
    within_s: float = 10.0
    open_s: float = 10.0
    share: float = 0.2
    calls: deque[tuple[float, bool]] = field(default_factory=deque)
    failed: int = 0
    open_until: float = 0.0
    opened: int = 0
    lock: Lock = field(default_factory=Lock)

    def closed(self) -> bool:
        return self.clock() >= self.open_until

    def ended(self, *, failed: bool) -> None:
        """Count a call, and open when too many failed."""
        with self.lock:
            now = self.clock()
            self.calls.append((now, failed))
            self.failed += failed
            while self.calls[0][0] < now - self.within_s:
                self.failed -= self.calls.popleft()[1]
            if failed and self.failed >= max(self.failures, self.share * len(self.calls)):
                self.open_until, self.opened, self.failed = now + self.open_s, self.opened + 1, 0
                self.calls.clear()


@dataclass(slots=True)
class _Lane:
    """The threads of one version of an arm and how it did: what it does, or another version did, costs nobody else.

    stuck : calls that go on past their deadline.
    """

    version: str
    breaker: Breaker
    pool: ThreadPoolExecutor
    stuck: int = 0
    lock: Lock = field(default_factory=Lock)

    def late(self, call: Future[Any]) -> None:
        """Count a call that was not ready in time until it ends, if it ever does; one that waited for its turn is not made any more."""
        if not call.cancel():
            self._count(1)
            call.add_done_callback(lambda _: self._count(-1))

    def _count(self, by: int) -> None:
        with self.lock:
            self.stuck += by


class Picker:
    """Calls each arm on a few threads of its own; a process has one.

    Parameters
    ----------
    deadline_ms : after which the next rung of the ladder is shown.
    threads : of each arm. When calls that never end hold them all, the arm is skipped.
    clock : seconds, monotonic.
    """

    def __init__(self, *, deadline_ms: float, threads: int = 4, clock: Callable[[], float] = time.monotonic) -> None:
        self.deadline_s, self.clock, self.threads = deadline_ms / 1000, clock, threads
        self._lanes: dict[str, _Lane] = {}
        self._lock = Lock()

    def opened(self, arm: str) -> int:
        """Return how often the breaker of an arm opened since the process started."""
        lane = self._lanes.get(arm)
        return lane.breaker.opened if lane else 0

    def pick(
        self, arm: Recommender | None, context: Context, *, rules: SlateRules, pins: Sequence[Pin] = (), editors: Sequence[int] = ()
    ) -> Picked:
        """Return a slate, whatever the arm does; None stands for an arm that could not be loaded."""
        start = self.clock()
        if arm is not None and arm.kind == "status_quo":
            return Picked(blank(), "empty", 0)
        ranking, cause, reason = self.rank(arm, context)
        slate = build_slate(ranking, context, rules=rules, pins=pins, editors=editors)
        took_us, artefact = round((self.clock() - start) * 1e6), "" if cause else str(getattr(arm, "version", ""))
        return Picked(slate, "fallback" if cause else "served", took_us, reason, cause, artefact, context.signals.at)

    def rank(self, arm: Recommender | None, context: Context, *, deadline_s: float = 0.0) -> tuple[Ranking, Cause, str]:
        """Return what an arm ranks, or nothing, the cause in a word and the reason in words; ``deadline_s`` for another deadline."""
        if arm is None:
            return Ranking.empty(), "missing", "the arm is not loaded"
        lane = self._lane(arm)
        breaker = lane.breaker
        if lane.stuck < self.threads and not breaker.closed():
            return Ranking.empty(), "resting", "the arm failed repeatedly and rests for 10 s"
        try:
            ranking = self.ask(arm, lambda: sound(arm.rank(context)), deadline_s=deadline_s or self.deadline_s)
        except NoAnswerError as error:
            if error.cause != "stuck":
                breaker.ended(failed=True)
            return Ranking.empty(), error.cause, str(error)
        breaker.ended(failed=False)
        return ranking, "", ""

    def aside(self, arm: Recommender, call: Callable[[], T], *, otherwise: T, deadline_s: float) -> T:
        """Return what code of an arm answers beside its ranking; ``otherwise`` when it fails, is late or its earlier calls are stuck."""
        try:
            return self.ask(arm, call, deadline_s=deadline_s)
        except NoAnswerError as error:
            log.error("the arm '%s' gave no answer: %s", arm.name, error)
            return otherwise

    def ask(self, arm: Recommender, call: Callable[[], T], *, deadline_s: float) -> T:
        """Return what code of an arm answers.

        Raises
        ------
        NoAnswerError
            It fails, is not ready in time, or calls that never ended hold all threads of the arm.
        """
        lane, start = self._lane(arm), self.clock()
        if lane.stuck >= self.threads:
            raise NoAnswerError("stuck", "earlier calls of the arm are still stuck")
        late = NoAnswerError("late", f"the arm took longer than {deadline_s * 1000:.0f} ms")
        future: Future[tuple[T, float]] | None = None
        try:
            future = lane.pool.submit(lambda: (contained(call), self.clock()))
            answer, ended = future.result(timeout=deadline_s)
        except Exception as error:  # an arm is foreign code: whatever it raises, the reader gets a page and the failure is counted
            if future is None or not timed_out(error, future):
                raise NoAnswerError("failed", said(error)) from error
            lane.late(future)
            raise late from None
        if ended - start > deadline_s:  # it kept the interpreter to itself, so that nobody could stop waiting
            raise late
        return answer

    def _lane(self, arm: Recommender) -> _Lane:
        version = str(getattr(arm, "version", ""))
        with self._lock:
            known = self._lanes.get(arm.name)
            if known is None or known.version != version:  # threads of the version before end with their last call
                breaker = Breaker(self.clock, opened=known.breaker.opened if known else 0)
                pool = ThreadPoolExecutor(self.threads, thread_name_prefix=f"arm {arm.name}")
                known = self._lanes[arm.name] = _Lane(version, breaker, pool)
            return known
