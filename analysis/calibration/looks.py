"""The part of the simulation gate that looks again and again: planned tests, guardrails, and the split of readers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, ndtri

from analysis.boundaries import Look, Plan, boundary_now, critical_values, crossings, student_critical
from analysis.calibration.figures import POWER_OFF, Row, error_of, tails_row
from analysis.calibration.readers import LEVEL, VISITS
from analysis.checks import BEFORE_BLOCK, SPLIT_BLOCK, STRENGTH
from analysis.sequential import LEAST_READERS, anytime_critical, planned_readers

__all__ = ["anytime_row", "before_row", "looks_at", "planned_row", "planned_rows", "split_paths", "split_row", "walks"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
FIRST_DAY = 7
FOUND = 1.10  # the effect of the rows with one
MOST_PREDICTED = 100  # looks
PLANNED = 420  # readers per arm with whom the plan is fulfilled


def walks(rng: np.random.Generator, *, looks: int, a_look: int, ratio: float, runs: int) -> Iterator[tuple[Floats, Floats]]:
    """Yield difference and standard error, each (batch, looks), of two arms that gain ``a_look`` readers per look.

    The formulas are those of :func:`analysis.effect.arm_value`, for all looks at once.
    """
    batch = max(1, 600_000 // (looks * a_look))
    for start in range(0, runs, batch):
        shape = (min(batch, runs - start), looks * a_look)
        (one, v1), (two, v2) = (_path(*VISITS.draw(rng, shape, r), looks=looks, a_look=a_look) for r in (ratio, 1.0))
        yield one - two, np.sqrt(v1 + v2)


def _path(top: Ints, bottom: Ints, *, looks: int, a_look: int) -> tuple[Floats, Floats]:
    def total(values: Ints) -> Floats:
        return np.asarray(values.reshape(len(values), looks, a_look).sum(2).cumsum(1), dtype=np.float64)

    n = a_look * np.arange(1, looks + 1, dtype=np.float64)
    a, b = total(top), total(bottom)
    aa, ab, bb = total(top * top) - a * a / n, total(top * bottom) - a * b / n, total(bottom * bottom) - b * b / n
    ratio = a / b
    return ratio, (aa - 2 * ratio * ab + ratio * ratio * bb) / (n - 1) * n / (b * b)


def planned_rows(*, runs: int, most_looks: int) -> list[Callable[[np.random.Generator], Row]]:
    """Return the simulations of planned tests: daily from day 7 as in the product, other rhythms, and plans that came out otherwise.

    ``most_looks`` is the number of runs with 801 looks, whose boundary takes a minute; 0 leaves them out.
    """
    daily = {days: range(FIRST_DAY, days + 1) for days in (14, 28)}
    return [
        *(partial(planned_row, at=daily[days], a_look=PLANNED // days, planned=days, runs=runs) for days in daily),
        *(partial(planned_row, at=range(1, looks + 1), a_look=PLANNED // looks, planned=looks, runs=runs) for looks in (14, 28)),
        *([partial(planned_row, at=range(200, 1_001), a_look=5, planned=1_000, runs=most_looks, ratio=1.03)] if most_looks else []),
        partial(planned_row, name="uneven", at=(17, 20, 42, 46, 76, 84), a_look=5, planned=84, runs=runs),
        partial(planned_row, name="more than planned", at=(25, 42, 63, 110), a_look=5, planned=84, runs=runs),
        partial(planned_row, name="less than planned", at=(20, 30, 42, 60), a_look=5, planned=84, runs=runs),
    ]


def looks_at(times: Sequence[float]) -> list[float]:
    """Return the critical values of these looks as a running test gets them; the last one is at its deadline.

    Examples
    --------
    >>> [round(c, 3) for c in looks_at([0.5, 1.0])]
    [2.963, 1.969]
    """
    plan, found = Plan(0.1, FIRST_DAY + len(times) - 1), []
    taken: list[Look] = []
    for day, time in enumerate(times, FIRST_DAY):
        now = Look(day, time)
        boundary = boundary_now(plan, taken, now)
        found.append(math.inf if boundary.critical is None else boundary.critical)
        taken = taken if boundary.look is None else [*taken, boundary.look]
    return found


def planned_row(
    rng: np.random.Generator, *, at: Sequence[int], a_look: int, planned: int, runs: int, name: str = "", ratio: float = FOUND
) -> Row:
    """A planned test: false alarms and misses over all its looks, and power against what was predicted.

    Parameters
    ----------
    at : when it is looked at, in steps of ``a_look`` readers per arm.
    planned : the step at which the plan is fulfilled.
    name : of a row whose last step is not the planned one, or whose looks are uneven.
    """
    times, columns = [step / planned for step in at], np.array(at) - 1
    known = looks_at(times) if name else critical_values(times, alpha=1 - LEVEL)
    critical = student_critical(known, 2.0 * a_look * np.array(at) - 2)  # the arms' spreads are alike
    low = high = found = held = 0
    error_at_end, last = 0.0, at[-1]
    for difference, se in walks(rng, looks=last, a_look=a_look, ratio=1.0, runs=runs):
        z = (difference / se)[:, columns]
        up, down = (z > critical).any(1), (z < -critical).any(1)
        low, high = low + int((down & ~up).sum()), high + int(up.sum())
    truth = VISITS.mean * (ratio - 1)
    for difference, se in walks(rng, looks=last, a_look=a_look, ratio=ratio, runs=runs):
        found += int(((difference / se)[:, columns] > critical).any(1).sum())
        held += int((np.abs(difference - truth)[:, columns] <= critical * se[:, columns]).all(1).sum())
        error_at_end += float(se[:, -1].sum())
    predicted = _predicted(times, known, drift=truth / (error_at_end / runs * math.sqrt(times[-1])))
    rate, error = (low + high) / runs, error_of(LEVEL, runs)
    passed = abs(rate - (1 - LEVEL)) <= 3 * error and abs(held / runs - LEVEL) <= 3 * error
    passed &= predicted is None or abs(found / runs - predicted) <= POWER_OFF + 3 * error_of(predicted, runs)
    title = f"planned, {len(at):,} looks" + (f", {name}" if name else "")
    return Row(
        title, VISITS.name, 2 * last * a_look, rate, low / runs, high / runs, held / runs, found / runs, error, passed,
        planned_power=predicted,
    )  # fmt: skip


def _predicted(times: Sequence[float], critical: Sequence[float], *, drift: float) -> float | None:
    """The power by recursion; None for so many looks that it takes as long as the boundary."""
    return float(crossings(times, critical, drift=drift)[0].sum()) if len(times) < MOST_PREDICTED else None


def anytime_row(rng: np.random.Generator, *, looks: int, a_look: int, runs: int) -> Row:
    """A guardrail looked at all the time: the chance that any look is an alarm, and that any range misses the truth."""
    n = a_look * np.arange(1, looks + 1)
    n_star = float(2 * n[-1])
    usable = n >= LEAST_READERS
    critical = np.array([anytime_critical(2 * int(size), n_star, alpha=1 - LEVEL) for size in n[usable]])
    low = high = held = 0
    for difference, se in walks(rng, looks=looks, a_look=a_look, ratio=1.0, runs=runs):
        z = (difference / se)[:, usable]
        up, down = (z > critical).any(1), (z < -critical).any(1)
        low, high = low + int((down & ~up).sum()), high + int(up.sum())
    for difference, se in walks(rng, looks=looks, a_look=a_look, ratio=FOUND, runs=runs):
        off = np.abs(difference - VISITS.mean * (FOUND - 1))[:, usable]
        held += int((off <= critical * se[:, usable]).all(1).sum())
    return tails_row(
        f"anytime, {looks:,} looks", VISITS.name, int(n_star), tails=(low, high), runs=runs, coverage=held / runs, exact=False
    )  # fmt: skip


def before_row(rng: np.random.Generator, *, looks: int, a_look: int, runs: int) -> Row:
    """The check that readers were alike before the test, looked at all the time and once more at the end; power: they differ by 10 %."""
    n, z_end = a_look * np.arange(1, looks + 1), -float(ndtri(BEFORE_BLOCK / 2))
    critical = np.full(looks, np.inf)
    found = []
    for ratio in (1.0, FOUND):
        alarms = 0
        for difference, se in walks(rng, looks=looks, a_look=a_look, ratio=ratio, runs=runs):
            cv2 = float(np.mean(se[:, -1] ** 2)) * int(n[-1]) / VISITS.mean**2 / 2
            n_star = planned_readers(cv2, (0.5, 0.5), alpha=BEFORE_BLOCK)
            for look in np.flatnonzero(n >= LEAST_READERS).tolist():
                critical[look] = anytime_critical(2 * int(n[look]), n_star, alpha=BEFORE_BLOCK)
            z = np.abs(difference / se)
            alarms += int(((z > critical).any(1) | (z[:, -1] > z_end)).sum())
        found.append(alarms / runs)
    error = error_of(2 * BEFORE_BLOCK, runs)  # both ways of looking may err once in a thousand tests
    passed = found[0] <= 2 * BEFORE_BLOCK + 3 * error
    return Row(f"alike before, {looks} looks", VISITS.name, 2 * int(n[-1]), found[0], None, None, None, found[1], error, passed)


def split_row(rng: np.random.Generator, *, looks: int, a_look: int, lost: float, runs: int) -> Row:
    """The split check looked at all the time, and the chance that it finds the share ``lost`` of one arm missing."""
    rate, power = (
        float((split_paths(rng, looks=looks, a_look=a_look, kept=k, runs=runs) > -math.log(SPLIT_BLOCK)).mean()) for k in (1.0, 1 - lost)
    )
    error = error_of(SPLIT_BLOCK, runs)
    title = f"split check, {looks:,} looks, {lost:.0%} of an arm lost"
    return Row(title, "planned split", looks * a_look, rate, None, None, None, power, error, rate <= SPLIT_BLOCK + 3 * error)


def split_paths(rng: np.random.Generator, *, looks: int, a_look: int, kept: float, runs: int) -> Floats:
    """Return (runs,) the largest evidence of any look, by :func:`analysis.checks.split_evidence`'s formula for two equal arms."""
    largest, batch = [], max(1, 2_000_000 // looks)
    for start in range(0, runs, batch):
        one = rng.binomial(a_look, 0.5, (min(batch, runs - start), looks))
        two = rng.binomial(a_look - one, kept).cumsum(1)
        one = one.cumsum(1)
        n, prior = one + two, STRENGTH / 2
        evidence = gammaln(STRENGTH) - gammaln(STRENGTH + n) - n * math.log(0.5)
        evidence += gammaln(prior + one) + gammaln(prior + two) - 2 * gammaln(prior)
        largest.append(evidence.max(1))
    return np.concatenate(largest)
