"""The part of the simulation gate for ranges that need more than two sums per reader: adjusted, rare events, quantiles."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from analysis.adjustment import Columns, adjust, adjusted_contrast
from analysis.calibration import KEYS, LEVEL, Row, row_of
from analysis.effect import LEAST_READERS, Contrast, arm_value, compare
from analysis.quantile import Quantile, quantile_contrast, quantile_value
from analysis.small_counts import binary_counts, is_small, small_count_contrast
from analysis.totals import Moments

__all__ = ["adjusted_row", "quantile_row", "small_counts_row"]

Part = Literal["absolute", "relative"]
Sizes = tuple[int, int]  # readers (treated, control)
VIEWS = 2.5  # per session, without an effect
BEFORE = ("views before", "sessions before")
RARE = 0.03  # share of readers with the event, without an effect
WAIT_MS = 400.0  # median, without an effect
OWN_PACE = 0.85  # spread of readers' own pace, in standard deviations of one event
WHOLE = {0: 1.0}  # one phase


def adjusted_row(rng: np.random.Generator, part: Part, *, sizes: Sizes, runs: int, ratio: float = 1.15) -> Row:
    """Views per session of skewed readers, adjusted by their views and sessions before the test.

    A comparison that is not adjusted after all has no range and counts as a miss.
    """
    change = VIEWS * (ratio - 1) if part == "absolute" else ratio - 1

    def contrasts(true: float) -> Iterator[Contrast]:
        for _ in range(runs):
            yield _adjusted(_with_past(rng, sizes[0], true), _with_past(rng, sizes[1], 1.0))

    estimator = "adjusted" if part == "relative" else "adjusted, absolute"
    return row_of(estimator, "views per session", sum(sizes), runs=runs, contrasts=contrasts, part=part, effect=(ratio, change))


def _with_past(rng: np.random.Generator, readers: int, ratio: float) -> Moments:
    """Readers keep how often they come and how much they like to read; the arm changes how much they do."""
    often, appetite = rng.gamma(0.7, 1.0, readers), rng.gamma(2.0, 0.5, readers)
    earlier, sessions = rng.poisson(2 * often), 1 + rng.poisson(often)
    before = earlier + rng.poisson(earlier * appetite * (VIEWS - 1))
    views = sessions + rng.poisson(sessions * appetite * (VIEWS * ratio - 1))
    return Moments.from_rows(np.stack([views, sessions, before, earlier], axis=1), (*KEYS, *BEFORE))


def _adjusted(treated: Moments, control: Moments) -> Contrast:
    cells, pair = {("treated", 0): treated, ("control", 0): control}, ("treated", "control")
    sides = (arm_value(cells, arm, numerator=KEYS[0], denominator=KEYS[1], shares=WHOLE) for arm in pair)
    plain = compare(*sides, level=LEVEL)
    adjustment = adjust(cells, pair, columns=Columns(*KEYS, BEFORE), shares=WHOLE)
    return adjusted_contrast(adjustment, pair, plain=plain, level=LEVEL).contrast or Contrast(plain.n, (None, None))


def small_counts_row(rng: np.random.Generator, part: Part, *, sizes: Sizes, runs: int, ratio: float = 5 / 3) -> Row:
    """Three readers in a hundred do it, or five: by the score test below ten events, by the delta method above.

    Few whole numbers cannot be wrong exactly one time in twenty, so these ranges may be cautious. Where nobody in
    either arm (for ratios: in the control) did it, no range is printed.
    """

    def contrasts(true: float) -> Iterator[Contrast]:
        treated, control = (rng.binomial(n, rate, runs).tolist() for n, rate in zip(sizes, (RARE * true, RARE), strict=True))
        yield from (_of_counts((x, sizes[0]), (y, sizes[1])) for x, y in zip(treated, control, strict=True))

    estimator = "small counts" if part == "absolute" else "small counts, ratio"
    change = RARE * (ratio - 1) if part == "absolute" else ratio - 1
    return row_of(
        estimator, "rare event", sum(sizes), runs=runs, contrasts=contrasts, part=part, effect=(ratio, change), careful=True, unprinted=True
    )


@lru_cache(maxsize=100_000)  # the same few tables come again and again
def _of_counts(treated: tuple[int, int], control: tuple[int, int]) -> Contrast:
    """Through moments, as a report has them."""
    pair, cells = ("treated", "control"), {}
    for arm, (events, readers) in zip(pair, (treated, control), strict=True):
        cells[arm, 0] = Moments.from_sums(readers, KEYS, (events, readers), ((events, events), (events, readers)))
    one, two = (binary_counts(cells, arm, numerator=KEYS[0], denominator=KEYS[1]) for arm in pair)
    if one is not None and two is not None and is_small(one, two):
        return small_count_contrast(one, two, level=LEVEL, least=LEAST_READERS)
    return compare(*(arm_value(cells, arm, numerator=KEYS[0], denominator=KEYS[1], shares=WHOLE) for arm in pair), level=LEVEL)


def quantile_row(rng: np.random.Generator, *, sizes: Sizes, runs: int, ratio: float = 1.15) -> Row:
    """The median waiting time of readers who wait many times, each at a pace of their own."""

    def contrasts(true: float) -> Iterator[Contrast]:
        for _ in range(runs):
            treated, control = (_median(rng, size, WAIT_MS * r) for size, r in zip(sizes, (true, 1.0), strict=True))
            yield quantile_contrast(treated, control, level=LEVEL)

    return row_of(
        "quantile, clustered", "waiting time", sum(sizes), runs=runs, contrasts=contrasts, part="relative", effect=(ratio, ratio - 1)
    )


def _median(rng: np.random.Generator, readers: int, median_ms: float) -> Quantile:
    often: npt.NDArray[np.int64] = 1 + rng.poisson(rng.gamma(1.5, 2.5, readers))
    who = np.repeat(np.arange(readers), often)
    pace = rng.normal(0.0, OWN_PACE, readers)[who] + rng.normal(0.0, 1.0, len(who))
    return quantile_value(who, median_ms * np.exp(pace), q=0.5, level=LEVEL)
