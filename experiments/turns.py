"""Long work beside requests that must not wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

__all__ = ["in_turns"]

AT_ONCE, PAUSE_S = 250, 0.003
T = TypeVar("T")


def in_turns(items: Iterable[T]) -> Iterator[T]:
    """Yield all items, with a short pause after every 250 where other threads run.

    Threads of Python run one at a time. A request lets go of its turn a dozen times, and beside a thread that always wants one it
    waits a millisecond for each.

    Examples
    --------
    >>> list(in_turns("abc"))
    ['a', 'b', 'c']
    """
    for number, item in enumerate(items, start=1):
        yield item
        if number % AT_ONCE == 0 and threading.active_count() > 1:
            time.sleep(PAUSE_S)
