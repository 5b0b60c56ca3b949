"""The simulation gate: do the ranges hold the truth as often as they say, and do false alarms stay as rare?

Readers are simulated arm by arm and go through the same functions as a report. A row passes when its figures are
within three simulation errors of what was promised (on the safe side only, where a method may be cautious).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from analysis.bayes import Prior, posterior
from analysis.effect import Contrast, Value, arm_value, compare
from analysis.multiplicity import family_level
from analysis.skew import Skew
from analysis.totals import Moments
from experiments.experiment import Arm

__all__ = ["LEVEL", "VISITS", "Process", "Row", "calibrate", "pair_row", "row_of"]

Ints = npt.NDArray[np.int64]
Readers = tuple[Ints, Ints]  # numerators and denominators, (runs, readers)
LEVEL = 0.95
KEYS = ("numerator", "denominator")


@dataclass(frozen=True, slots=True)
class Process:
    """How readers behave: ``draw`` gives (runs, readers) of them, with the metric at ``mean`` times the given ratio."""

    name: str
    mean: float
    draw: Callable[[np.random.Generator, tuple[int, int], float], Readers]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the gate. Tails are the shares of false alarms downwards and upwards; power is at the stated effect."""

    estimator: str
    process: str
    readers: int
    false_positive: float
    low_tail: float | None
    high_tail: float | None
    coverage: float | None
    power: float | None
    mc_error: float
    passed: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the row in the shape of ``presslab calibrate``."""
        values = {key: getattr(self, key) for key in self.__slots__ if key != "passed"}
        return {**values, "pass": self.passed}


def visits(rng: np.random.Generator, shape: tuple[int, int], ratio: float) -> Readers:
    """Articles per session of readers who differ in how often and how much they read; the mean is 2.5 times ``ratio``."""
    sessions = 1 + rng.poisson(rng.gamma(0.7, 1.0, shape))
    appetite = rng.gamma(2.0, 0.5, shape)
    return sessions + rng.poisson(sessions * appetite * (2.5 * ratio - 1.0)), sessions


def conversions(rng: np.random.Generator, shape: tuple[int, int], ratio: float) -> Readers:
    """One reader in five converts, times ``ratio``."""
    return (rng.random(shape) < 0.2 * ratio).astype(np.int64), np.ones(shape, np.int64)


def minutes(rng: np.random.Generator, shape: tuple[int, int], ratio: float) -> Readers:
    """Skewed reading time per article, in seconds, of readers with very different numbers of articles."""
    articles = 1 + rng.poisson(rng.gamma(0.5, 4.0, shape))
    return (60 * ratio * articles * rng.lognormal(-0.32, 0.8, shape)).astype(np.int64), articles


VISITS = Process("views per session", 2.5, visits)
CONVERSIONS = Process("conversion", 0.2, conversions)
MINUTES = Process("dwell per view", 60.0, minutes)


def calibrate(*, seed: int = 1, quick: bool = False, runs: int | None = None) -> list[dict[str, Any]]:
    """Run the gate and return its rows, as :meth:`Row.to_dict` shapes them.

    Parameters
    ----------
    seed : of all simulations; the same seed gives the same rows.
    quick : 4,000 instead of 40,000 runs per row (three quarters of a minute); slow rows have fewer, as their error says.
    runs : another number of runs per row.
    """
    from analysis.calibration_looks import anytime_row, planned_row, split_row  # they build on the names above
    from analysis.calibration_rows import adjusted_row, quantile_row, small_counts_row

    runs = runs or (4_000 if quick else 40_000)
    fewer = max(100, runs // 4)
    simulations: list[Callable[[np.random.Generator], Row]] = [
        lambda rng: pair_row(rng, "absolute", VISITS, sizes=(200, 200), runs=runs),
        lambda rng: pair_row(rng, "relative", VISITS, sizes=(200, 200), runs=runs),
        lambda rng: pair_row(rng, "relative", VISITS, sizes=(50, 50), runs=runs),
        lambda rng: pair_row(rng, "relative", CONVERSIONS, sizes=(400, 400), runs=runs),
        lambda rng: pair_row(rng, "relative", MINUTES, sizes=(400, 400), runs=runs),
        lambda rng: pair_row(rng, "guarded", MINUTES, sizes=(60, 3000), runs=runs // 4),
        lambda rng: _family_row(rng, sizes=(200, 150, 150), runs=runs),
        lambda rng: _family_row(rng, sizes=(200, 150, 150), runs=runs, ratio=1.5),
        lambda rng: planned_row(rng, days=14, a_day=30, runs=runs),
        lambda rng: planned_row(rng, days=28, a_day=15, runs=runs),
        lambda rng: anytime_row(rng, looks=14, a_look=30, runs=runs),
        lambda rng: anytime_row(rng, looks=1_000, a_look=5, runs=max(100, runs // 10)),
        lambda rng: split_row(rng, looks=28, a_look=500, runs=runs),
        lambda rng: split_row(rng, looks=1_000, a_look=10, runs=max(100, runs // 10)),
        lambda rng: _posterior_row(rng, readers=400, runs=runs),
        lambda rng: adjusted_row(rng, "relative", sizes=(300, 300), runs=fewer),
        lambda rng: adjusted_row(rng, "absolute", sizes=(300, 300), runs=fewer),
        lambda rng: small_counts_row(rng, "absolute", sizes=(60, 60), runs=runs),
        lambda rng: small_counts_row(rng, "absolute", sizes=(150, 150), runs=runs),
        lambda rng: small_counts_row(rng, "relative", sizes=(60, 60), runs=runs),
        lambda rng: small_counts_row(rng, "relative", sizes=(150, 150), runs=runs),
        lambda rng: quantile_row(rng, sizes=(300, 300), runs=fewer),
    ]
    seeds = np.random.SeedSequence(seed).spawn(len(simulations))  # a row of its own draws the same whatever stands before it
    return [simulate(np.random.default_rng(own)).to_dict() for simulate, own in zip(simulations, seeds, strict=True)]


def _batches(
    rng: np.random.Generator, process: Process, sizes: Sequence[int], *, ratios: Sequence[float], runs: int
) -> Iterator[list[Readers]]:
    """Yield simulated arms in batches that fit into memory."""
    batch = max(1, 400_000 // sum(sizes))
    for start in range(0, runs, batch):
        n = min(batch, runs - start)
        yield [process.draw(rng, (n, size), ratio) for size, ratio in zip(sizes, ratios, strict=True)]


def _values(readers: Readers) -> list[Value]:
    top, bottom = readers
    n = top.shape[1]
    sums = np.stack([top.sum(1), bottom.sum(1)], axis=1).tolist()
    cross = (top * bottom).sum(1).tolist()
    squares = np.stack([(top * top).sum(1), (bottom * bottom).sum(1)], axis=1).tolist()
    out = []
    for s, (a, b), c in zip(sums, squares, cross, strict=True):
        moments = Moments.from_sums(n, KEYS, s, ((a, c), (c, b)))
        out.append(arm_value({("arm", 0): moments}, "arm", numerator=KEYS[0], denominator=KEYS[1], shares={0: 1.0}))
    return out


def _skews(treated: Readers, control: Readers) -> list[Skew]:
    """Pooled skew of every run, as :func:`analysis.skew.skew_of` computes it from distinct rows."""
    parts = []
    for top, bottom in (treated, control):
        ratio = top.sum(1, keepdims=True) / bottom.sum(1, keepdims=True)
        parts.append((top / ratio - bottom) / bottom.mean(1, keepdims=True))
    u = np.concatenate(parts, axis=1)
    n = u.shape[1]
    return [Skew(float(v), float(t)) for v, t in zip((u**2).sum(1) / (n - 2), (u**3).mean(1), strict=True)]


def _contrasts(
    rng: np.random.Generator, process: Process, sizes: tuple[int, int], *, ratio: float, runs: int, guard: bool
) -> Iterator[Contrast]:
    for treated, control in _batches(rng, process, sizes, ratios=(ratio, 1.0), runs=runs):
        skews = _skews(treated, control) if guard else [None] * len(treated[0])
        for one, two, skew in zip(_values(treated), _values(control), skews, strict=True):
            yield compare(one, two, level=LEVEL, skew=skew)


def pair_row(rng: np.random.Generator, estimator: str, process: Process, *, sizes: tuple[int, int], runs: int, ratio: float = 1.15) -> Row:
    """Return the row of one estimator: false alarms without an effect, coverage and power with one.

    Parameters
    ----------
    estimator : ``absolute``, ``relative``, or ``guarded`` (relative, with the skew guard).
    sizes : readers (treated, control).
    ratio : treated over control where there is an effect.
    """
    absolute, guard = estimator == "absolute", estimator == "guarded"
    return row_of(
        estimator,
        process.name,
        sum(sizes),
        runs=runs,
        contrasts=lambda true: _contrasts(rng, process, sizes, ratio=true, runs=runs, guard=guard),
        part="absolute" if absolute else "relative",
        effect=(ratio, process.mean * (ratio - 1) if absolute else ratio - 1),
        careful=guard,  # a range that takes over in the worst cases may be too wide, never too narrow
    )


def row_of(
    estimator: str,
    process: str,
    readers: int,
    *,
    runs: int,
    contrasts: Callable[[float], Iterable[Contrast]],
    part: Literal["absolute", "relative"],
    effect: tuple[float, float],
    careful: bool = False,
    unprinted: bool = False,
) -> Row:
    """Return the row of two arms: false alarms without an effect, coverage and power with one.

    Parameters
    ----------
    readers : of both arms together.
    contrasts : given treated over control, yields ``runs`` simulated comparisons.
    part : the range that is judged.
    effect : treated over control where there is an effect, and what this is in the unit of ``part``.
    careful : the range may be too wide, never too narrow.
    unprinted : a comparison may be without a range; coverage is that of the ranges there are. Otherwise it is a miss.
    """
    low = high = held = found = printed = 0
    for true, truth in ((1.0, 0.0), effect):
        for contrast in contrasts(true):
            range_ = contrast.absolute if part == "absolute" else contrast.relative
            if range_ is not None and true == 1.0:
                low, high = low + (range_.high < 0), high + (range_.low > 0)
            elif range_ is not None:
                held, found, printed = held + (range_.low <= truth <= range_.high), found + (range_.low > 0), printed + 1
    coverage, error = held / max(1, printed if unprinted else runs), math.sqrt(LEVEL * (1 - LEVEL) / runs)
    rate = (low + high) / runs
    passed = rate <= 1 - LEVEL + 3 * error and coverage >= LEVEL - 3 * error
    passed &= careful or (rate >= 1 - LEVEL - 3 * error and coverage <= LEVEL + 3 * error)
    return Row(estimator, process, readers, rate, low / runs, high / runs, coverage, found / runs, error, passed)


def _family_row(rng: np.random.Generator, *, sizes: tuple[int, int, int], runs: int, ratio: float = 1.0) -> Row:
    """The chance that one of three comparisons is a false alarm: no arm differs, or (``ratio``) two differ from the first alike."""
    low = high = 0
    pairs = (("h", "s"), ("m", "s"), ("m", "h"))
    variances = {arm: 1 / size for arm, size in zip("shm", sizes, strict=True)}
    level = family_level(variances, pairs, level=LEVEL)
    for arms in _batches(rng, VISITS, sizes, ratios=(1.0, ratio, ratio), runs=runs):
        for values in zip(*map(_values, arms), strict=True):
            named = dict(zip("shm", values, strict=True))
            ranges = [compare(named[a], named[b], level=level).absolute for a, b in (pairs if ratio == 1.0 else pairs[2:])]
            down, up = any(r is not None and r.high < 0 for r in ranges), any(r is not None and r.low > 0 for r in ranges)
            low, high = low + (down and not up), high + up
    error = math.sqrt(LEVEL * (1 - LEVEL) / runs)
    rate = (low + high) / runs
    held = rate <= 1 - LEVEL + 3 * error and (ratio != 1.0 or rate >= 1 - LEVEL - 3 * error)
    return Row(
        "family of three" if ratio == 1.0 else "family of three, two differ",
        "views per session",
        sum(sizes),
        rate,
        low / runs,
        high / runs,
        1 - rate,
        None,
        error,
        held,
    )


def _posterior_row(rng: np.random.Generator, *, readers: int, runs: int) -> Row:
    """Truths drawn from the prior: how often the believed range holds them, and how often the sure ones are wrong."""
    prior = Prior()
    arms = (Arm("s", "status_quo", 0.5), Arm("h", "heuristic", 0.5))
    truths = rng.normal(0.0, prior.interest, runs)
    held = sure = wrong = 0
    for truth in truths.tolist():
        one, two = (_values(visits(rng, (1, readers), ratio))[0] for ratio in (math.exp(truth), 1.0))
        logs = {"h": one.variance / one.estimate**2, "s": two.variance / two.estimate**2}
        belief = posterior(arms, "s", {"h": one.estimate, "s": two.estimate}, log_variances=logs, prior=prior)
        if belief is None:
            continue
        mu, s = belief.contrast("h", "s")
        held += abs(truth - mu) <= 1.959964 * s
        sure += mu > 1.644854 * s
        wrong += mu > 1.644854 * s and truth <= 0
    error = math.sqrt(LEVEL * (1 - LEVEL) / runs)
    rate = wrong / max(1, sure)
    passed = abs(held / runs - LEVEL) <= 3 * error
    return Row("belief after the test", "views per session", 2 * readers, rate, None, None, held / runs, sure / runs, error, passed)
