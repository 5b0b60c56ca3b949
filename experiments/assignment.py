"""Which arm a reader gets: a pure function of the published plan and the reader's id.

The reader id is hashed once per request to 64 bits; each layer mixes that key with the experiment's salt and compares
the result with integer ranges, so that the scalar and the vectorised form agree bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from experiments.errors import ExperimentError
from experiments.experiment import Experiment

__all__ = ["Allocation", "Assignment", "allocation", "assign", "assign_many", "reader_key"]

MASK = (1 << 64) - 1
BITS = 53  # exact in a float and in int64
BUCKETS = 200


class Assignment(NamedTuple):
    """The arm of one reader in one experiment; ``bucket`` (0 to 199) is for jackknives, ``phase`` for ramps."""

    experiment: str
    arm: str
    phase: int
    bucket: int


@dataclass(frozen=True, slots=True)
class Allocation:
    """An experiment's plan in the form the hot path needs.

    ``ranges`` holds (first, end, arm) in units of 2**-53, sorted; a point outside every range is not enrolled.
    ``whole`` holds, per bucket, what every reader of it gets; None where a bucket is divided.
    """

    experiment: str
    salt: int
    phase: int
    ranges: tuple[tuple[int, int, str], ...]
    whole: tuple[Assignment | None, ...]


def reader_key(reader: str) -> int:
    """Return the 64-bit key of a reader id (once per request).

    Examples
    --------
    >>> reader_key("a") == reader_key("a") != reader_key("b")
    True
    """
    return int.from_bytes(blake2b(reader.encode(), digest_size=8).digest(), "little")


def allocation(experiment: Experiment, shares: Mapping[str, float] | None = None, *, phase: int = 0) -> Allocation:
    """Return the ranges in force.

    Each arm owns a range as wide as its planned share; a ramping arm uses only the first part of it, so a reader never
    changes arm when a share grows.

    Parameters
    ----------
    shares : share in force per arm (fraction of the audience), at most the planned one; None is the plan itself.
    """
    now = experiment.shares if shares is None else dict(shares)
    unknown = sorted(set(now) - set(experiment.shares))
    if unknown:
        raise ExperimentError(f"experiment '{experiment.name}': shares name the unknown arm {', '.join(unknown)}.")
    ranges, start = [], 0.0
    for arm in experiment.arms:
        share = now.get(arm.name, 0.0)
        if not 0 <= share <= arm.share + 1e-12:
            raise ExperimentError(f"experiment '{experiment.name}': arm '{arm.name}' cannot take {share:g}, {arm.share:g} is planned.")
        first, last = round(start * 2**BITS), round(min(start + share, 1.0) * 2**BITS)
        start += arm.share
        ranges.append((first, last, arm.name))
    salt = int.from_bytes(blake2b(f"{experiment.layer}:{experiment.salt or experiment.name}".encode(), digest_size=8).digest(), "little")
    whole = tuple(_whole(ranges, experiment.name, phase, bucket) for bucket in range(BUCKETS))
    return Allocation(experiment.name, salt, phase, tuple(ranges), whole)


def _whole(ranges: Sequence[tuple[int, int, str]], experiment: str, phase: int, bucket: int) -> Assignment | None:
    """What every reader of a bucket gets, if that is one arm."""
    lowest, after = (-(-(edge << BITS) // BUCKETS) for edge in (bucket, bucket + 1))
    for first, end, arm in ranges:
        if first <= lowest and after <= end:
            return Assignment(experiment, arm, phase, bucket)
    return None


def assign(plan: Allocation, key: int) -> Assignment | None:
    """Return the reader's arm, or None when the reader is not enrolled.

    Examples
    --------
    >>> from experiments.experiment import Arm
    >>> arms = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5))
    >>> plan = allocation(Experiment("related", "Does it pay?", "status_quo", arms))
    >>> assign(plan, reader_key("r1")) == assign(plan, reader_key("r1"))
    True
    """
    value = ((key ^ plan.salt) + 0x9E3779B97F4A7C15) & MASK  # splitmix64's finaliser (Steele, Lea, Flood 2014)
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    point = (value ^ (value >> 31)) >> 11
    bucket = point * BUCKETS >> BITS
    known = plan.whole[bucket]  # one look instead of a comparison per arm and a new tuple: half the time
    if known is not None:
        return known
    for first, end, arm in plan.ranges:
        if first <= point < end:
            return Assignment(plan.experiment, arm, plan.phase, bucket)
    return None


def assign_many(plan: Allocation, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int8]:
    """Return the index of each reader's arm in ``plan.ranges``; -1 where not enrolled.

    Parameters
    ----------
    keys : (n,) uint64, see :func:`reader_key`.
    """
    with np.errstate(over="ignore"):
        value = (keys ^ np.uint64(plan.salt)) + np.uint64(0x9E3779B97F4A7C15)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    point = (value ^ (value >> np.uint64(31))) >> np.uint64(11)
    arms = np.full(len(keys), -1, np.int8)
    for index, (first, end, _) in enumerate(plan.ranges):
        arms[(point >= np.uint64(first)) & (point < np.uint64(end))] = index
    return arms
