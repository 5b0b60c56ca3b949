"""The experiment's days: simulated readers on the real site, over HTTP, on a shared simulated clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from threading import Condition, Thread

from experiments.clock import FileClock
from fixtures.behaviour import Action, Beacon, Memory, Seen, session, session_key
from fixtures.library import Library
from fixtures.readers import Reader, visits
from fixtures.worlds import World
from web.demo.browse import Browser, Wire
from web.demo.history import Stretch

__all__ = ["Life", "live"]

AHEAD_S = 3_600.0  # simulated seconds that requests may run ahead of the earliest one not yet answered
LOOK_S = 600.0  # simulated seconds between two looks at the age of the signals
Acts = Generator[Action, Seen | None, None]


@dataclass(slots=True)
class Life:
    """The readers of a demo and where they live."""

    readers: Sequence[Reader]
    world: World
    library: Library
    browsers: Mapping[str, Browser]
    memories: dict[str, Memory]
    wire: Wire
    clock: FileClock
    connections: int = 8
    sessions: int = 0
    acts: int = 0
    waited_s: float = 0.0
    lag: Callable[[float], bool] = field(default=lambda _: False)


@dataclass(order=True, slots=True)
class _Next:
    """The next thing a reader does; ``acts`` is None for a session that has not begun."""

    at: float
    key: str
    act: Action | None = field(compare=False, default=None)
    acts: Acts | None = field(compare=False, default=None)
    token: str = field(compare=False, default="")


def live(life: Life, stretch: Stretch, *, tick: Callable[[], None]) -> None:
    """Let every reader live through ``stretch``; ``tick`` is called every half second.

    The clock stands at the earliest thing still to be done and never goes back; what lies up to ``AHEAD_S`` later may
    already be under way. When the site's signals fall behind (``life.lag``), the readers wait for them, so that a slow
    machine does not change what is measured.
    """
    days = _Days(life, stretch)
    threads = [Thread(target=days.work, name="reader", daemon=True) for _ in range(life.connections)]
    for thread in threads:
        thread.start()
    try:
        while any(thread.is_alive() for thread in threads):
            tick()
            for thread in threads:
                thread.join(0.5 / len(threads))
    finally:
        days.stop()
    if days.failure is not None:
        raise days.failure
    life.clock.set(round((stretch.start + stretch.days * 86_400) * 1e6))


class _Days:
    """What is still to be done, shared by the connections that do it."""

    def __init__(self, life: Life, stretch: Stretch) -> None:
        self.life, self.seed = life, stretch.seed
        self.by_key = {reader.key: reader for reader in life.readers}
        self.waiting = [
            _Next(at, r.key) for r in life.readers for at in visits(r, start=stretch.start, days=stretch.days, seed=stretch.seed)
        ]
        heapify(self.waiting)
        self.under_way: list[float] = []
        self.changed = Condition()
        self.looked = 0.0
        self.failure: BaseException | None = None
        self.stopped = False

    def work(self) -> None:
        """Take the earliest thing, do it, put back what follows; ends when nothing is left or anything failed."""
        try:
            while (item := self._take()) is not None:
                following = _step(self.life, self.by_key[item.key], item, seed=self.seed)
                with self.changed:
                    self.under_way.remove(item.at)
                    for each in following:
                        heappush(self.waiting, each)
                    if not self.waiting and not self.under_way:
                        self.changed.notify_all()
        except BaseException as error:  # a thread must not die alone: the demo ends with its reason
            self.failure = self.failure or error
            self.stop()

    def stop(self) -> None:
        with self.changed:
            self.stopped = True
            self.changed.notify_all()

    def _take(self) -> _Next | None:
        with self.changed:
            while not self.stopped and (self.waiting or self.under_way):
                now = min([*self.under_way, *(item.at for item in self.waiting[:1])])
                if self.waiting and self.waiting[0].at <= now + AHEAD_S:
                    self.life.clock.set(round(now * 1e6))
                    self._wait_for_signals(now)
                    item = heappop(self.waiting)
                    self.under_way.append(item.at)
                    self.changed.notify()  # one more connection looks whether there is more to do
                    return item
                self.changed.wait()
            return None

    def _wait_for_signals(self, now: float) -> None:
        if now < self.looked + LOOK_S:
            return
        self.looked, start = now, time.monotonic()
        while self.life.lag(now) and time.monotonic() - start < 5.0:
            time.sleep(0.01)
        self.life.waited_s += time.monotonic() - start


def _step(life: Life, reader: Reader, item: _Next, *, seed: int) -> list[_Next]:
    """Do one thing and return what follows: the reader's next one, and a beacon that nobody waits for."""
    if isinstance(item.act, Beacon):
        life.wire.beacon(life.browsers[reader.key], item.act, token=item.token)
        life.acts += 1
        return []
    acts = item.acts
    act: Action | None = item.act
    if acts is None or act is None:
        rng_key = session_key(reader, item.at, seed=seed)
        acts = session(reader, life.world, life.library, life.memories[reader.key], start=item.at, rng_key=rng_key)
        act = next(acts)
        life.sessions += 1
    answer = life.wire.act(life.browsers[reader.key], act)
    life.acts += 1
    following: list[_Next] = []
    with suppress(StopIteration):  # the session is over
        act = acts.send(answer)
        if isinstance(act, Beacon):  # the browser sends it while the reader goes on
            following.append(_Next(max(act.at, item.at), reader.key, act, token=life.browsers[reader.key].token))
            act = next(acts)
        following.append(_Next(max(act.at, item.at), reader.key, act, acts))
    return following
