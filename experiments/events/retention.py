"""Raw events past their time are deleted; what was computed from them stays."""

from __future__ import annotations

from experiments.events.loader import ADD_OUTCOME, Loader

__all__ = ["expire"]

DAY_US = 86_400_000_000


def expire(*, until_us: int, days: int, loader: Loader) -> str:
    """Delete events received more than ``days`` ago; returns one sentence.

    Parameters
    ----------
    loader : of the worker, the only writer of the store.
    """
    before_us = until_us - days * DAY_US
    with loader.transaction() as store:
        old = store.execute(
            "SELECT kind, arm, 'compacted', count(*) FROM event WHERE received_at < ? GROUP BY kind, arm", (before_us,)
        ).fetchall()
        store.execute("DELETE FROM event WHERE received_at < ?", (before_us,))
        store.executemany(ADD_OUTCOME, old)  # else the balance would call them lost
    return f"{sum(row[3] for row in old):,} events older than {days} days were deleted"
