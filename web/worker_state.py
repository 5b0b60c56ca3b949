"""The worker's heartbeat, which also a page can read without loading what the worker needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.clock import Clock, system_clock
from experiments.files import read_json, replace_json

__all__ = ["beat", "worker_state"]


def beat(home: Path, *, pid: int, clock: Clock, loaded: dict[str, int], faults: dict[str, str]) -> None:
    """Write the heartbeat (real time; ``clock_us`` is the time the jobs see)."""
    state = {"pid": pid, "at_us": system_clock(), "clock_us": clock(), "loaded": dict(loaded), "faults": dict(faults)}
    replace_json(home / "worker.json", state)


def worker_state(home: Path) -> dict[str, Any] | None:
    """Return the last heartbeat with ``age_s``, or None if no worker ever ran here."""
    state: dict[str, Any] | None = read_json(home / "worker.json")
    if state is not None:
        state["age_s"] = max(0.0, (system_clock() - state["at_us"]) / 1e6)
    return state
