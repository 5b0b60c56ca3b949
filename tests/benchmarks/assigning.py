"""Readers assigned to arms: one after the other and at once, beside the growthbook SDK in an environment of its own."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from experiments.assignment import allocation, assign, assign_many, reader_key
from experiments.experiment import Arm, Experiment

__all__ = ["assign_rows"]

SCRIPT = Path(__file__).parents[1] / "peers" / "speed_growthbook.py"
READERS, ROUNDS = 20_000, 15
Row = tuple[str, float, str, float]


def assign_rows(growthbook: Path | None) -> Iterator[Row]:
    """Yield readers per CPU second of one thread, the best of 15 rounds; the peer only where ``growthbook`` names an interpreter that has it."""
    arms = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5))
    plan = allocation(Experiment("bench", "?", "status_quo", arms))
    readers = [f"{i:032x}" for i in range(READERS)]
    keys = [reader_key(reader) for reader in readers]
    array = np.array(keys * 50, np.uint64)
    alone = _per_second(lambda: [assign(plan, key) for key in keys], len(keys))
    with_key = _per_second(lambda: [assign(plan, reader_key(reader)) for reader in readers], len(keys))
    yield "assign, one reader after the other", alone, "goal", 1e6
    yield "assign, vectorised", _per_second(lambda: assign_many(plan, array), len(array)), "goal", 2e7
    if growthbook is not None:
        done = subprocess.run([growthbook, SCRIPT, "5000"], check=True, capture_output=True, text=True)
        found = json.loads(done.stdout)
        for way, rate in found["per_second"].items():
            yield "assign with the reader's hash", with_key, f"growthbook {found['version']}, {way.replace('_', ' ')}", rate


def _per_second(call: Callable[[], object], each: int) -> float:
    spent = []
    for _ in range(ROUNDS):
        start = time.process_time()
        call()
        spent.append(time.process_time() - start)
    return each / min(spent)
