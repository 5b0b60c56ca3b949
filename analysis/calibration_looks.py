"""The part of the simulation gate that looks again and again: planned tests, guardrails, and the split of readers."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from analysis.boundaries import critical_values, crossings
from analysis.calibration import LEVEL, VISITS, Row
from analysis.checks import SPLIT_BLOCK, split_evidence
from analysis.sequential import LEAST_READERS, anytime_critical

__all__ = ["anytime_row", "planned_row", "split_row", "walks"]

Floats = npt.NDArray[np.float64]
FIRST_DAY = 7
FOUND = 1.10  # the effect of the rows with one
LOST = 0.9  # share of one arm's readers that arrive where the split is broken


def walks(rng: np.random.Generator, *, looks: int, a_look: int, ratio: float, runs: int) -> Iterator[tuple[Floats, Floats]]:
    """Yield difference and standard error, each (batch, looks), of two arms that gain ``a_look`` readers per look.

    The formulas are those of :func:`analysis.effect.arm_value`, for all looks at once.
    """
    batch = max(1, 600_000 // (looks * a_look))
    for start in range(0, runs, batch):
        shape = (min(batch, runs - start), looks * a_look)
        (one, v1), (two, v2) = (_path(*VISITS.draw(rng, shape, r), looks=looks, a_look=a_look) for r in (ratio, 1.0))
        yield one - two, np.sqrt(v1 + v2)


def _path(top: npt.NDArray[np.int64], bottom: npt.NDArray[np.int64], *, looks: int, a_look: int) -> tuple[Floats, Floats]:
    def total(values: npt.NDArray[np.int64]) -> Floats:
        return np.asarray(values.reshape(len(values), looks, a_look).sum(2).cumsum(1), dtype=np.float64)

    n = a_look * np.arange(1, looks + 1, dtype=np.float64)
    a, b = total(top), total(bottom)
    aa, ab, bb = total(top * top) - a * a / n, total(top * bottom) - a * b / n, total(bottom * bottom) - b * b / n
    ratio = a / b
    return ratio, (aa - 2 * ratio * ab + ratio * ratio * bb) / (n - 1) * n / (b * b)


def planned_row(rng: np.random.Generator, *, days: int, a_day: int, runs: int) -> Row:
    """A planned test looked at daily from day 7 on: false alarms over all looks, and power against what was predicted."""
    times = [day / days for day in range(FIRST_DAY, days + 1)]
    critical = critical_values(times, alpha=1 - LEVEL)
    low = high = found = held = 0
    error_at_end = 0.0
    for difference, se in walks(rng, looks=days, a_look=a_day, ratio=1.0, runs=runs):
        z = (difference / se)[:, FIRST_DAY - 1 :]
        up, down = (z > critical).any(1), (z < -np.array(critical)).any(1)
        low, high = low + int((down & ~up).sum()), high + int(up.sum())
    truth = VISITS.mean * (FOUND - 1)
    for difference, se in walks(rng, looks=days, a_look=a_day, ratio=FOUND, runs=runs):
        z = (difference / se)[:, FIRST_DAY - 1 :]
        found += int((z > critical).any(1).sum())
        held += int((np.abs(difference - truth)[:, FIRST_DAY - 1 :] <= np.array(critical) * se[:, FIRST_DAY - 1 :]).all(1).sum())
        error_at_end += float(se[:, -1].sum())
    predicted = float(crossings(times, critical, drift=truth / (error_at_end / runs))[0].sum())
    rate, error = (low + high) / runs, math.sqrt(LEVEL * (1 - LEVEL) / runs)
    power_error = math.sqrt(predicted * (1 - predicted) / runs)
    passed = abs(rate - (1 - LEVEL)) <= 3 * error and abs(held / runs - LEVEL) <= 3 * error
    passed &= abs(found / runs - predicted) <= 0.01 + 3 * power_error
    looks = len(times)
    return Row(
        f"planned, {looks} looks", VISITS.name, 2 * days * a_day, rate, low / runs, high / runs, held / runs, found / runs, error, passed
    )


def anytime_row(rng: np.random.Generator, *, looks: int, a_look: int, runs: int) -> Row:
    """A guardrail looked at all the time: the chance that any look is an alarm, and that any range misses the truth."""
    n = a_look * np.arange(1, looks + 1)
    n_star = float(2 * n[-1])
    usable = n >= LEAST_READERS
    critical = np.array([anytime_critical(2 * int(size), n_star, alpha=1 - LEVEL) for size in n[usable]])
    low = high = 0
    for difference, se in walks(rng, looks=looks, a_look=a_look, ratio=1.0, runs=runs):
        z = (difference / se)[:, usable]
        up, down = (z > critical).any(1), (z < -critical).any(1)
        low, high = low + int((down & ~up).sum()), high + int(up.sum())
    rate, error = (low + high) / runs, math.sqrt(LEVEL * (1 - LEVEL) / runs)
    passed = rate <= 1 - LEVEL + 3 * error
    return Row(f"anytime, {looks:,} looks", VISITS.name, int(n_star), rate, low / runs, high / runs, 1 - rate, None, error, passed)


def split_row(rng: np.random.Generator, *, looks: int, a_look: int, runs: int) -> Row:
    """The split check looked at all the time, and the chance that it finds a tenth of one arm missing."""
    shares = {"a": 0.5, "b": 0.5}

    def blocked(kept: float) -> float:
        alarms = 0
        for _ in range(runs):
            a = rng.binomial(a_look, 0.5, looks)
            b = rng.binomial(a_look - a, kept)
            evidence = max(split_evidence({"a": int(x), "b": int(y)}, shares) for x, y in zip(a.cumsum(), b.cumsum(), strict=True))
            alarms += evidence > -math.log(SPLIT_BLOCK)
        return alarms / runs

    rate, power = blocked(1.0), blocked(LOST)
    error = math.sqrt(SPLIT_BLOCK * (1 - SPLIT_BLOCK) / runs)
    passed = rate <= SPLIT_BLOCK + 3 * error
    return Row(f"split check, {looks:,} looks", "planned split", looks * a_look, rate, None, None, None, power, error, passed)
