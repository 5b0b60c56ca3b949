"""A reading connection that is cut when its time is over: a snapshot that stays keeps the store's log from being emptied."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress

__all__ = ["LONGEST_S", "WHOLE_STORE_S", "BriefConnection"]

LONGEST_S = 30.0  # of a page or a look at what is new
WHOLE_STORE_S = 1_800.0  # of whoever reads all events: the longest run of a job, which is killed then anyway
GRACE_S = 0.5  # for whoever was interrupted to hear of it


class BriefConnection(sqlite3.Connection):
    """Reads for a limited time; then the statement that runs is interrupted, and a connection that idles is closed.

    Whoever goes on gets a :class:`sqlite3.Error`.
    """

    def end_after(self, seconds: float) -> None:
        """Start the time."""
        self._end = threading.Timer(seconds, self._cut)
        self._end.daemon = True
        self._end.start()

    def close(self) -> None:
        """Close, in time."""
        self._end.cancel()
        super().close()

    def _cut(self) -> None:
        with suppress(sqlite3.ProgrammingError):  # closed in this instant
            self.interrupt()
        self._end.finished.wait(GRACE_S)
        super().close()
