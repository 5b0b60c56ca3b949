"""Asking an arm within its deadline: a late or failing arm is replaced, counted and, if it goes on, left alone for a while."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from dataclasses import dataclass, field
from threading import Lock
from typing import Literal, TypeVar

from experiments.serving.recommender import Context, Ranking, Recommender
from experiments.serving.slate import Pin, Slate, SlateRules, blank, build_slate

__all__ = ["Breaker", "Picked", "Picker"]

log = logging.getLogger("presslab.pick")
T = TypeVar("T")

Outcome = Literal["served", "fallback", "empty"]
Cause = Literal["", "missing", "stuck", "resting", "late", "failed"]


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
    ``version`` of the model it counts; what one did is not held against another.
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
    version: str = ""
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


class Picker:
    """Calls arms on a small thread pool; a process has one.

    Parameters
    ----------
    deadline_ms : after which the next rung of the ladder is shown.
    clock : seconds, monotonic.
    """

    def __init__(self, *, deadline_ms: float, threads: int = 8, clock: Callable[[], float] = time.monotonic) -> None:
        self.deadline_s, self.clock, self.threads = deadline_ms / 1000, clock, threads
        self.breakers: dict[str, Breaker] = {}
        self.stuck: dict[str, int] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._lock = Lock()

    def opened(self, arm: str) -> int:
        """Return how often the breaker of an arm opened since the process started."""
        breaker = self.breakers.get(arm)
        return breaker.opened if breaker else 0

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
        if self._blocked(arm):
            return Ranking.empty(), "stuck", "earlier calls of the arm are still stuck"
        within_s = deadline_s or self.deadline_s
        return self._guarded(arm, lambda: self._on_pool(arm, lambda: arm.rank(context), within_s), within_s)

    def aside(self, arm: Recommender, call: Callable[[], T], *, otherwise: T, deadline_s: float) -> T:
        """Return what code of an arm answers beside its ranking; ``otherwise`` when it fails, is late or its earlier calls are stuck."""
        if self._blocked(arm):
            return otherwise
        try:
            return self._on_pool(arm, call, deadline_s)
        except Exception as error:  # an arm is foreign code
            log.error("the arm '%s' gave no answer: %s", arm.name, f"{type(error).__name__}: {error}")
            return otherwise

    def _blocked(self, arm: Recommender) -> bool:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="arm")
            return bool(self.stuck.get(arm.name, 0)) and sum(self.stuck.values()) >= self.threads // 2

    def _guarded(self, arm: Recommender, call: Callable[[], Ranking], deadline_s: float) -> tuple[Ranking, Cause, str]:
        breaker = self._breaker(arm)
        if not breaker.closed():
            return Ranking.empty(), "resting", "the arm failed repeatedly and rests for 10 s"
        cause: Cause
        try:
            ranking = call()
        except Late:
            cause, reason = "late", f"the arm took longer than {deadline_s * 1000:.0f} ms"
        except Exception as error:  # an arm is foreign code: whatever it raises, the reader gets a page and the failure is counted
            cause, reason = "failed", f"{type(error).__name__}: {error}"
        else:
            breaker.ended(failed=False)
            return ranking, "", ""
        breaker.ended(failed=True)
        return Ranking.empty(), cause, reason

    def _breaker(self, arm: Recommender) -> Breaker:
        version = str(getattr(arm, "version", ""))
        with self._lock:
            known = self.breakers.get(arm.name)
            if known is None or known.version != version:
                known = self.breakers[arm.name] = Breaker(self.clock, opened=known.opened if known else 0, version=version)
            return known

    def _on_pool(self, arm: Recommender, call: Callable[[], T], deadline_s: float) -> T:
        assert self._pool is not None
        future = self._pool.submit(call)
        try:
            return future.result(timeout=deadline_s)
        except Late:
            if not future.cancel():
                with self._lock:
                    self.stuck[arm.name] = self.stuck.get(arm.name, 0) + 1
                future.add_done_callback(lambda _: self._freed(arm.name))
            raise

    def _freed(self, name: str) -> None:
        with self._lock:
            self.stuck[name] -= 1
