"""The part of the simulation gate for ranges that need more than two sums per reader: adjusted, rare events, quantiles."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from analysis.adjustment import Adjusted, Columns, adjust, adjusted_contrast
from analysis.calibration.figures import Part, Row, planned_power, row_of
from analysis.calibration.readers import KEYS, LEVEL, VISITS, WHOLE, Process, value
from analysis.effect import LEAST_READERS, Contrast, compare
from analysis.moments import Moments
from analysis.quantile import Quantile, quantile_contrast, quantile_value
from analysis.small_counts import binary_counts, share_contrast

__all__ = ["BEFORE", "adjusted_of", "adjusted_row", "quantile_row", "share_contrast_of", "share_row", "with_past"]

Sizes = tuple[int, int]  # readers (treated, control)
VIEWS = 2.5  # per session, without an effect
BEFORE = ("views before", "sessions before")
WAIT_MS = 400.0  # median, without an effect
OWN_PACE = 0.85  # spread of readers' own pace, in standard deviations of one event
LARGE = 100_000  # readers per arm from whom the planner knows what their past explains


def adjusted_row(rng: np.random.Generator, part: Part, *, sizes: Sizes, runs: int, ratio: float = 1.15) -> Row:
    """Views per session of skewed readers, adjusted by their views and sessions before the test.

    A comparison that is not adjusted after all has no range and counts as a miss.
    """
    change = VIEWS * (ratio - 1) if part == "absolute" else ratio - 1

    def contrasts(true: float) -> Iterator[Contrast]:
        for _ in range(runs):
            sides = with_past(rng, sizes[0], true), with_past(rng, sizes[1], 1.0)
            yield adjusted_of(*sides).contrast or Contrast(sizes, (None, None))

    large = np.random.default_rng(0)
    explained = adjusted_of(with_past(large, LARGE, ratio), with_past(large, LARGE, 1.0)).variance_removed
    estimator = "adjusted" if part == "relative" else "adjusted, absolute"
    planned = planned_power(VISITS, sizes, ratio, explained=explained)
    return row_of(
        estimator, VISITS.name, sum(sizes), runs=runs, contrasts=contrasts, part=part, effect=(ratio, change), planned=planned
    )  # fmt: skip


def with_past(rng: np.random.Generator, readers: int, ratio: float) -> Moments:
    """Readers keep how often they come and how much they like to read; the arm changes how much they do."""
    often, appetite = rng.gamma(0.7, 1.0, readers), rng.gamma(2.0, 0.5, readers)
    earlier, sessions = rng.poisson(2 * often), 1 + rng.poisson(often)
    before = earlier + rng.poisson(earlier * appetite * (VIEWS - 1))
    views = sessions + rng.poisson(sessions * appetite * (VIEWS * ratio - 1))
    return Moments.from_rows(np.stack([views, sessions, before, earlier], axis=1), (*KEYS, *BEFORE))


def adjusted_of(treated: Moments, control: Moments) -> Adjusted:
    cells, pair = {("treated", 0): treated, ("control", 0): control}, ("treated", "control")
    plain = compare(value(treated), value(control), level=LEVEL)
    adjustment = adjust(cells, pair, columns=Columns(*KEYS, BEFORE), shares=WHOLE)
    return adjusted_contrast(adjustment, pair, plain=plain, level=LEVEL)


def share_row(rng: np.random.Generator, part: Part, process: Process, *, sizes: Sizes, runs: int, ratio: float = 5 / 3) -> Row:
    """A share of the readers does it, by the score test.

    Few whole numbers cannot be wrong exactly one time in twenty, so ranges of rare events may be cautious. Where nobody
    in either arm (for ratios: in the control) did it, no range is printed.
    """
    rare = process.mean * min(sizes) < 50

    def contrasts(true: float) -> Iterator[Contrast]:
        treated, control = (rng.binomial(n, process.mean * r, runs).tolist() for n, r in zip(sizes, (true, 1.0), strict=True))
        yield from (share_contrast_of((x, sizes[0]), (y, sizes[1])) for x, y in zip(treated, control, strict=True))

    change = process.mean * (ratio - 1) if part == "absolute" else ratio - 1
    return row_of(
        "score test" if part == "absolute" else "score test, ratio",
        process.name, sum(sizes), runs=runs, contrasts=contrasts, part=part, effect=(ratio, change), careful=rare, unprinted=True,
        planned=None if rare else planned_power(process, sizes, ratio),
    )  # fmt: skip


@lru_cache(maxsize=200_000)  # the same few tables come again and again
def share_contrast_of(treated: tuple[int, int], control: tuple[int, int]) -> Contrast:
    """Return the comparison of two (events, readers) through moments, as a report has them."""
    sides = [
        Moments.from_sums(readers, KEYS, (events, readers), ((events, events), (events, readers))) for events, readers in (treated, control)
    ]
    one, two = (binary_counts({("arm", 0): side}, "arm", numerator=KEYS[0], denominator=KEYS[1]) for side in sides)
    plain = compare(*map(value, sides), level=LEVEL)
    return plain if one is None or two is None else share_contrast(one, two, plain=plain, level=LEVEL, least=LEAST_READERS)


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
