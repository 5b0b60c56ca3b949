"""Where ranges are known to err more, or more to one side, than they promise: measured as the gate measures, and published."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from analysis.calibration.gate import pair_row
from analysis.calibration.readers import Ints, Process, Readers

__all__ = ["known_limits", "paid"]

RUNS = 4_000
SPREAD = 0.8  # of the logarithm of what a reader pays


def paid(share: float) -> Callable[[np.random.Generator, tuple[int, int], float], Readers]:
    """Cents per reader, where a share of the readers pays about 10 euros times the ratio."""

    def draw(rng: np.random.Generator, shape: tuple[int, int], ratio: float) -> Readers:
        amount: Ints = np.rint(1_000 * ratio * rng.lognormal(-(SPREAD**2) / 2, SPREAD, shape)).astype(np.int64)
        return np.where(rng.random(shape) < share, amount, 0), np.ones(shape, np.int64)

    return draw


def known_limits(*, seed: int = 1, runs: int = RUNS) -> list[dict[str, Any]]:
    """Return rows as :func:`analysis.calibration.gate.calibrate` does; nothing is judged by them.

    Parameters
    ----------
    seed : the same seed gives the same rows. runs : per row.
    """
    cases = ((0.05, (4_000, 16_000)), (0.05, (16_000, 4_000)), (0.05, (10_000, 10_000)), (0.005, (3_000, 9_000)))
    seeds = np.random.SeedSequence(seed).spawn(len(cases))
    found = []
    for (share, sizes), own in zip(cases, seeds, strict=True):
        process = Process(f"euros, {share:.1%} pay, {sizes[0]:,} beside {sizes[1]:,}", 1_000 * share, paid(share), per_reader=True)
        found.append(pair_row(np.random.default_rng(own), "relative", process, sizes=sizes, runs=runs, guard=True).to_dict())
    return found
