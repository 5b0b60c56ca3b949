"""Raw events past their time are deleted, and so are dead letters; what was computed from events stays."""

from __future__ import annotations

from pathlib import Path

from experiments.events.engine import ADD_OUTCOME
from experiments.events.loader import Loader
from experiments.events.sealed import DAY_US, locked, sweep
from experiments.events.sealing import ELSEWHERE_DONE

__all__ = ["expire"]

OLD = "SELECT day, source FROM sealed WHERE file <> '' AND cleared = 1 AND last_received < ?"


def expire(home: Path, *, until_us: int, days: int, loader: Loader) -> str:
    """Delete events received, and dead letters laid aside, more than ``days`` ago; returns one sentence.

    Of sealed days all events go together, with the last.

    Parameters
    ----------
    loader : of the worker, the only writer of the store.
    """
    before_us = until_us - days * DAY_US
    # under the lock: an erasure that writes a sealed file anew must find its day as it left it
    with locked(home), loader.transaction() as store:
        if not store.leads():
            return ELSEWHERE_DONE
        old = store.execute(
            "SELECT kind, arm, 'compacted', count(*) FROM fresh WHERE received_at < ? GROUP BY kind, arm", (before_us,)
        ).fetchall()
        store.execute("DELETE FROM event WHERE received_at < ?", (before_us,))
        for day in store.execute(OLD, (before_us,)).fetchall():
            old += store.execute("SELECT kind, arm, 'compacted', n FROM sealed_count WHERE day = ? AND source = ?", day).fetchall()
            store.execute("DELETE FROM sealed_count WHERE day = ? AND source = ?", day)
            store.execute("UPDATE sealed SET file = '', bytes = 0, sha256 = '' WHERE day = ? AND source = ?", day)
        letters = store.execute(
            "SELECT kind, arm, 'compacted', count(*) FROM dead_letter WHERE at < ? GROUP BY kind, arm", (before_us,)
        ).fetchall()
        store.execute("DELETE FROM dead_letter WHERE at < ?", (before_us,))  # they may name readers, too
        store.executemany(ADD_OUTCOME, [*old, *letters])  # else the balance would call them lost
    with locked(home), loader.transaction() as store:
        sweep(store, home)  # what no day names any more
    events, dead = (sum(row[3] for row in rows) for rows in (old, letters))
    return f"{events:,} events and {dead:,} dead letter{'' if dead == 1 else 's'} older than {days} days were deleted"
