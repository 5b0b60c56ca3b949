"""One line of the simulation gate, and how a line of two arms is counted and judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from scipy.special import ndtr, ndtri

from analysis.calibration.readers import KEYS, LEVEL, Process, moments, sums_of
from analysis.effect import Contrast
from analysis.power import Design, blinded_cv2, readers_needed

__all__ = ["Found", "Part", "Row", "error_of", "planned_power", "row_of", "tails_row"]

Part = Literal["absolute", "relative"]
LARGE = 400_000  # readers from whom the planner knows how much readers differ
BIAS, SE_OFF, POWER_OFF = 0.05, 0.02, 0.01  # permitted beyond simulation error (STATISTICS 12)
SMALL = 400  # readers of both arms; below, the standard error of the delta method is known to be short by a few percent


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the gate.

    Parameters
    ----------
    false_positive, low_tail, high_tail : shares of runs without an effect that claim one; of those, downwards and upwards.
    coverage : share of runs whose range holds the truth. power : share that find the stated effect.
    mc_error : simulation error of a share of 5 %.
    bias : mean error of the estimate, in true standard errors. se_ratio : the standard error that is reported over the true one.
    planned_power : what the planner promised for this effect and so many readers.
    bins : of a belief, (believed chance, how often it was so, runs).
    """

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
    bias: float | None = None
    se_ratio: float | None = None
    planned_power: float | None = None
    bins: tuple[tuple[float, float, int], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the row in the shape of ``presslab calibrate``."""
        found = {key: getattr(self, key) for key in self.__slots__ if key not in ("passed", "bins")}
        return {**found, "pass": self.passed, **({"bins": [list(one) for one in self.bins]} if self.bins else {})}


def error_of(share: float, runs: int) -> float:
    """Return the simulation error of a share.

    Examples
    --------
    >>> round(error_of(0.05, 40_000), 5)
    0.00109
    """
    return math.sqrt(share * (1 - share) / runs)


def planned_power(process: Process, sizes: tuple[int, int], ratio: float, *, explained: float = 0.0) -> float:
    """Return the chance that the planner promises to find ``ratio`` with so many readers (treated, control)."""
    rng, share = np.random.default_rng(0), sizes[0] / sum(sizes)
    parts = [(round(LARGE * share), ratio), (LARGE - round(LARGE * share), 1.0)]
    cells = [moments(n, sums_of(process.draw(rng, (1, n), r))[0].tolist()) for n, r in parts]
    cv2 = blinded_cv2(cells, numerator=KEYS[0], denominator=KEYS[1])
    design = Design((share, 1 - share), alpha=round(1 - LEVEL, 12))
    once = readers_needed(design, effect=ratio - 1, cv2=cv2, explained=explained)
    z = -float(ndtri(design.alpha / 2))
    return float(ndtr((z + ndtri(design.power)) * math.sqrt(sum(sizes) / once) - z))


@dataclass(slots=True)
class Found:
    """What ranges said over many runs with one truth; on the logarithmic scale where relative ranges are judged."""

    part: Part
    truth: float
    low: int = 0
    high: int = 0
    held: int = 0
    printed: int = 0
    estimates: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)

    def add(self, contrast: Contrast) -> None:
        range_ = contrast.absolute if self.part == "absolute" else contrast.relative
        if range_ is None:
            return
        self.printed += 1
        self.low, self.high = self.low + (range_.high < 0), self.high + (range_.low > 0)
        self.held += range_.low <= self.truth <= range_.high
        log, se = contrast.change_log_variance, contrast.absolute.se if contrast.absolute else math.nan
        if self.part == "absolute":
            self.estimates.append(range_.estimate)
            self.errors.append(se)
        elif log is not None:
            self.estimates.append(math.log1p(range_.estimate))
            self.errors.append(math.sqrt(log))

    def bias(self) -> float | None:
        """Mean error in true standard errors; None where a run has no estimate."""
        target = self.truth if self.part == "absolute" else math.log1p(self.truth)
        spread = float(np.std(self.estimates)) if self.estimates else 0.0
        return (float(np.mean(self.estimates)) - target) / spread if spread and len(self.estimates) == self.printed else None

    def se_ratio(self) -> tuple[float, float] | None:
        """The root of the mean reported variance over the true standard error, and the simulation error of that."""
        if not self.estimates or len(self.estimates) < self.printed:
            return None
        off = np.array(self.estimates) - np.mean(self.estimates)
        if (variance := float(np.mean(off**2))) == 0:
            return None
        ratio = math.sqrt(float(np.mean(np.square(self.errors))) / variance)
        return ratio, ratio * math.sqrt(max(0.0, float(np.mean(off**4)) / variance**2 - 1) / 4 / len(off))


def row_of(
    estimator: str,
    process: str,
    readers: int,
    *,
    runs: int,
    contrasts: Callable[[float], Iterable[Contrast]],
    part: Part,
    effect: tuple[float, float],
    careful: bool = False,
    unprinted: bool = False,
    se: bool = True,
    planned: float | None = None,
    kept: bool = False,
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
    se : whether the standard error is one of the estimate whatever the truth, and so can be judged.
    planned : power that was planned; it may not be promised and missed.
    kept : the planner must also not promise too little (it may, where effects are large: it plans with logarithms).
    """
    none, some = Found(part, 0.0), Found(part, effect[1])
    for true, found in ((1.0, none), (effect[0], some)):
        for contrast in contrasts(true):
            found.add(contrast)
    rate, error = (none.low + none.high) / runs, error_of(LEVEL, runs)
    coverage, power = some.held / max(1, some.printed if unprinted else runs), some.high / runs
    bias, ratio = some.bias(), none.se_ratio() if se else None
    passed = rate <= 1 - LEVEL + 3 * error and coverage >= LEVEL - 3 * error
    passed &= careful or (rate >= 1 - LEVEL - 3 * error and coverage <= LEVEL + 3 * error)
    passed &= careful or bias is None or abs(bias) <= BIAS + 3 / math.sqrt(runs)
    passed &= careful or ratio is None or readers < SMALL or abs(ratio[0] - 1) <= SE_OFF + 3 * ratio[1]
    short = 0.0 if planned is None else planned - power
    passed &= planned is None or max(short, -short if kept else 0.0) <= POWER_OFF + 3 * error_of(planned, runs)
    shown = ratio[0] if ratio else None
    return Row(
        estimator, process, readers, rate, none.low / runs, none.high / runs, coverage, power, error, passed, bias, shown, planned
    )  # fmt: skip


def tails_row(estimator: str, process: str, readers: int, *, tails: Sequence[int], runs: int, coverage: float | None, exact: bool) -> Row:
    """Return the row of false alarms alone, given how many point down and up; ``exact``: too few of them fail too."""
    rate, error = sum(tails) / runs, error_of(LEVEL, runs)
    passed = rate <= 1 - LEVEL + 3 * error and (not exact or rate >= 1 - LEVEL - 3 * error)
    return Row(estimator, process, readers, rate, tails[0] / runs, tails[1] / runs, coverage, None, error, passed)
