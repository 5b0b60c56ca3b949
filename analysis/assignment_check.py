"""Is every reader in the arm the plan assigns, and does assigning readers anew find differences only as often as chance does?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binom, kstest

from analysis.checks import Check, State
from analysis.effect import arm_value, compare
from analysis.moments import Moments
from analysis.words import count
from experiments.assignment import allocation, assign_many, reader_key
from experiments.experiment import Arm, Experiment

__all__ = ["Reassigned", "as_assigned", "assigned_anew", "elsewhere", "reassign", "split_p_values"]

RUNS = 1_000
LEAST, MOST = 1_000, 200_000  # readers: among fewer, a few heavy ones alone bend the p-values; more say nothing else
BLOCK, WARN = 0.001, 0.01
OLD = timedelta(days=45)


def elsewhere(
    experiment: Experiment, shown: tuple[Sequence[str], Sequence[str], Sequence[int]], shares: Mapping[int, Mapping[str, float]]
) -> int:
    """Return how many readers were shown another arm than the one the plan assigns them.

    Parameters
    ----------
    shown : readers, arms, phases, as logged; of equal length.
    shares : phase -> arm -> share in force.
    """
    readers, arms, phases = shown
    names = {arm.name: index for index, arm in enumerate(experiment.arms)}
    keys = np.fromiter(map(reader_key, readers), np.uint64, len(readers))
    logged = np.array([names.get(arm, -2) for arm in arms], dtype=np.int8)
    number = np.array(phases, dtype=np.int64)
    off = np.zeros(len(readers), dtype=bool)
    for phase in np.unique(number).tolist():
        here = number == phase
        plan = allocation(experiment, shares.get(phase, experiment.shares), phase=phase)
        off[here] = assign_many(plan, keys[here]) != logged[here]
    return len({reader for reader, wrong in zip(readers, off.tolist(), strict=True) if wrong})


def as_assigned(different: int, readers: int) -> Check:
    """Check that what was logged is what the plan assigns, for every reader."""
    if not different:
        says = (
            f"Computed again from the plan, {count(readers, 'reader')} got the arm that was shown."
            if readers
            else "Nothing to compare: no reader yet, or readers were split elsewhere."
        )
        return Check("as_assigned", "ok", 0.0, 0.0, None, says)
    says = f"{different:,} of {count(readers, 'reader')} saw another arm than the plan gives them."
    says += " Likely causes: a plan changed by hand, or a web process with an old plan."
    return Check("as_assigned", "block", float(different), 0.0, None, says)


@dataclass(frozen=True, slots=True)
class Reassigned:
    """What assigning stored readers anew found.

    Parameters
    ----------
    at : data cut. readers, runs : how many, how often.
    p_effect, p_split : chance that p-values of the difference, and of the split, are this far from uniform; None when
        there were too few readers.
    """

    at: str
    readers: int
    runs: int
    p_effect: float | None
    p_split: float | None

    @property
    def p(self) -> float | None:
        """The smaller of both, doubled."""
        return None if self.p_effect is None or self.p_split is None else min(1.0, 2 * min(self.p_effect, self.p_split))

    @property
    def says(self) -> str:
        if self.p is None:
            return f"Too few readers to assign anew: {self.readers:,} at the last try, {LEAST:,} are needed."
        found = "found differences as often as chance does" if self.p >= WARN else "found differences more or less often than chance does"
        return f"{count(self.readers, 'reader')} assigned anew {self.runs:,} times: this {found}."

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "p": self.p, "says": self.says}


def reassign(readers: Sequence[str], views: npt.ArrayLike, sessions: npt.ArrayLike, *, at: datetime, runs: int = RUNS) -> Reassigned:
    """Assign stored readers to two halves again and again, with fresh salts, and compare the halves by the report's engine.

    Nothing was done to the halves, so p-values of their difference must be uniform, and so must those of the split.

    Parameters
    ----------
    readers : ids, each once; of more than 200,000 those with the smallest keys are taken, which says nothing about them.
    views, sessions : (n,) whole numbers per reader.
    at : data cut; feeds the salts, so that every month draws anew and can be repeated.

    References
    ----------
    STATISTICS 6; Kolmogorov-Smirnov against the uniform distribution.
    """
    if len(readers) < LEAST:
        return Reassigned(at.isoformat(), len(readers), 0, None, None)
    keys = np.fromiter(map(reader_key, readers), np.uint64, len(readers))
    chosen = np.argsort(keys, kind="stable")[:MOST]
    keys, v, s = keys[chosen], *(np.asarray(column, dtype=np.int64)[chosen] for column in (views, sessions))
    columns = np.column_stack([np.ones_like(v), v, s, v * v, v * s, s * s]).astype(np.float64)  # sums below 2**53 are exact
    whole, effects, treated = columns.sum(axis=0), [], []
    for run in range(runs):
        mine = (assign_many(allocation(_halves(f"{at.isoformat()}:{run}")), keys) == 1).astype(np.float64) @ columns
        effects.append(_p_value(mine, whole - mine))
        treated.append(int(mine[0]))
    splits = split_p_values(treated, len(keys), seed=round(at.timestamp()))
    uniform = [float(kstest(p, "uniform").pvalue) for p in (effects, splits)]
    return Reassigned(at.isoformat(), len(keys), runs, *uniform)


def split_p_values(treated: npt.ArrayLike, readers: int, *, seed: int) -> npt.NDArray[np.float64]:
    """Return one-sided p-values of halves' sizes, exactly uniform when each reader is assigned by a fair coin.

    A count jumps by whole readers; the size of its own jump is spread at random. With half of it instead, the test for
    uniformity called 15 % of fair splits of 400 readers unfair at 1 %.

    Parameters
    ----------
    treated : (runs,) readers in the second half. seed : of the spreading.
    """
    k = np.asarray(treated)
    return np.asarray(binom.cdf(k - 1, readers, 0.5) + np.random.default_rng(seed).random(k.shape) * binom.pmf(k, readers, 0.5))


def _halves(salt: str) -> Experiment:
    arms = (Arm("one", "status_quo", 0.5), Arm("other", "heuristic", 0.5))
    return Experiment("assigned_anew", "Does assigning alone make a difference?", "one", arms, layer="assigned_anew", salt=salt)


def _p_value(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    cells = {}
    for arm, sums in (("one", one), ("other", other)):
        n, v, s, vv, vs, ss = (int(x) for x in sums)
        cells[arm, 0] = Moments.from_sums(n, ("views", "sessions"), (v, s), ((vv, vs), (vs, ss)))
    sides = [arm_value(cells, arm, numerator="views", denominator="sessions", shares={0: 1.0}) for arm in ("one", "other")]
    absolute = compare(*sides, level=0.95).absolute
    return 1.0 if absolute is None else absolute.p


def assigned_anew(stored: Mapping[str, Any] | None, *, at: datetime) -> Check:
    """Return the line about the last monthly run, with its age.

    Parameters
    ----------
    stored : what :meth:`Reassigned.to_dict` wrote; None when it never ran.
    at : of the report.
    """
    if stored is None:
        return Check("assignment", "warn", None, BLOCK, None, "Readers were never assigned anew. Run presslab jobs run assignment.")
    age, p = at - datetime.fromisoformat(stored["at"]), stored["p"]
    days = max(0, round(age / timedelta(days=1)))
    when = "today" if days == 0 else f"{count(days, 'day')} ago"
    state: State = "warn" if (p is not None and p < WARN) or age > OLD else "ok"
    state = "block" if p is not None and p < BLOCK else state
    stale = " That is long ago. Run presslab jobs run assignment." if age > OLD else ""
    return Check("assignment", state, p, BLOCK, p, f"{stored['says']} Last done {when}.{stale}")
