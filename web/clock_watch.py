"""When what cannot be undone must wait because the clock is in doubt: a year ahead, retention would delete everything."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from experiments.clock import moment
from experiments.errors import DataError
from experiments.files import read_json, replace_json
from web.worker_state import worker_state

__all__ = ["ClockWatch"]

JUMP_S = 3_600  # by which clock and uptime may differ
AWAY_US = 31 * 86_400_000_000  # since a worker last ran here; a clock that says more may be wrong
WAIT_US = 86_400_000_000  # in which somebody sees it on the health page


class ClockWatch:
    """Compares the clock with the time since the machine was started, and with what the last worker's clock said.

    Parameters
    ----------
    clock : asked anew at every check; UTC microseconds.
    """

    def __init__(self, home: Path, clock: Callable[[], int], *, simulated: bool) -> None:
        self._clock, self._simulated = clock, simulated
        self._note = home / "clock.json"
        self._began_s = self._ahead_s()
        last = worker_state(home)
        if last and clock() - last["clock_us"] > AWAY_US and not simulated and not self._note.exists():
            replace_json(self._note, {"last_us": last["clock_us"], "doubted_us": clock()})

    def check(self) -> None:
        """Raise a :class:`DataError` while the clock is in doubt."""
        if self._simulated:
            return
        jumped_s = self._ahead_s() - self._began_s
        if abs(jumped_s) > JUMP_S:
            raise DataError(
                f"the clock of this machine jumped by {jumped_s / 3_600:+,.1f} h since the worker started; no event is sealed or deleted.",
                "Set the clock, then restart the worker.",
            )
        doubt = read_json(self._note)
        if doubt is None:
            return
        until_us = doubt["doubted_us"] + WAIT_US
        if doubt["doubted_us"] <= self._clock() < until_us:
            days = (doubt["doubted_us"] - doubt["last_us"]) / 86_400_000_000
            raise DataError(
                f"the clock of this machine is {days:,.0f} days ahead of the last worker's; no event is sealed or deleted before "
                f"{moment(until_us):%Y-%m-%d %H:%M} UTC.",
                f"If it is wrong, set it and restart the worker. If it is right, wait, or remove {self._note}.",
            )
        self._note.unlink()

    def _ahead_s(self) -> float:
        """By how much the clock is ahead of the time since the machine was started."""
        return self._clock() / 1e6 - time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
