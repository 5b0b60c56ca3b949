"""How many events each reader sent within the last seconds, in the memory of one process."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from limits.storage import Storage
from limits.storage.base import MovingWindowSupport

__all__ = ["Window"]


class Window(Storage, MovingWindowSupport):
    """A moving window that forgets: what it holds, and what a request costs, depends on the readers of the last seconds only.

    The ``memory`` storage of limits starts a thread per request which goes through every reader ever seen (after 20,000
    readers 8 ms of CPU a request), and keeps them all.

    Examples
    --------
    >>> window = Window()
    >>> [window.acquire_entry("reader", 2, 60) for _ in range(3)]
    [True, True, False]
    """

    STORAGE_SCHEME = ["window"]  # noqa: RUF012 - limits finds it by this

    def __init__(self, uri: str | None = None, *, clock: Callable[[], float] = time.monotonic, **_: Any) -> None:
        super().__init__(uri)
        self._clock = clock
        self._lock = threading.Lock()
        self._times: dict[str, deque[float]] = {}
        self._swept = clock()

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count ``amount`` events unless there would be more than ``limit`` in the last ``expiry`` seconds."""
        now = self._clock()
        with self._lock:
            if now - self._swept > expiry:
                self._times = {one: times for one, times in self._times.items() if times[-1] > now - expiry}
                self._swept = now
            times = self._times.get(key) or deque[float]()
            while times and times[0] <= now - expiry:
                times.popleft()
            if len(times) + amount > limit:
                return False
            times.extend([now] * amount)
            self._times[key] = times
            return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:  # noqa: ARG002 - limits passes it
        """Return when the oldest event that counts came (UTC seconds), and how many count."""
        now = self._clock()
        with self._lock:
            times = [at for at in self._times.get(key, ()) if at > now - expiry]
        return time.time() - (now - times[0] if times else 0), len(times)

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        with self._lock:
            n, self._times = len(self._times), {}
        return n

    def clear(self, key: str) -> None:
        with self._lock:
            self._times.pop(key, None)

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        raise NotImplementedError("only moving windows")

    def get(self, key: str) -> int:
        raise NotImplementedError("only moving windows")

    def get_expiry(self, key: str) -> float:
        raise NotImplementedError("only moving windows")
