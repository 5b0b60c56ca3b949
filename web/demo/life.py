"""The experiment's days: simulated readers on the real site, over HTTP, on a shared simulated clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heappop, heappush

from experiments.clock import FileClock
from fixtures.behaviour import Action, Beacon, Memory, Seen, session, session_key
from fixtures.library import Library
from fixtures.readers import Reader, visits
from fixtures.worlds import World
from web.demo.browse import Browser, Wire
from web.demo.history import Stretch

__all__ = ["Life", "live"]

WAVE_S = 3_600.0  # simulated seconds whose requests go out together
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
    waves: int = 0
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
    """Let every reader live through ``stretch``; ``tick`` is called before every wave of requests.

    The clock stands still while the requests of one wave are under way and never goes back. When the site's signals
    fall behind (``life.lag``), the readers wait for them, so that a slow machine does not change what is measured.
    """
    by_key = {reader.key: reader for reader in life.readers}
    waiting: list[_Next] = []
    for reader in life.readers:
        for start in visits(reader, start=stretch.start, days=stretch.days, seed=stretch.seed):
            heappush(waiting, _Next(start, reader.key))
    with ThreadPoolExecutor(life.connections, thread_name_prefix="reader") as pool:
        while waiting:
            now = waiting[0].at
            life.clock.set(round(now * 1e6))
            tick()
            life.waves += 1
            _wait_for_signals(life, now)
            wave: list[_Next] = []
            while waiting and waiting[0].at < now + WAVE_S and len(wave) < 64:
                wave.append(heappop(waiting))
            for items in pool.map(lambda item: _step(life, by_key[item.key], item, seed=stretch.seed), wave):
                for item in items:
                    heappush(waiting, item)
    life.clock.set(round((stretch.start + stretch.days * 86_400) * 1e6))


def _wait_for_signals(life: Life, now: float) -> None:
    start = time.monotonic()
    while life.lag(now) and time.monotonic() - start < 5.0:
        time.sleep(0.01)
    life.waited_s += time.monotonic() - start


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
