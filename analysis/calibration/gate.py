"""The simulation gate: do the ranges hold the truth as often as they say, and do false alarms stay as rare?

Readers are simulated arm by arm and go through the same functions as a report. A row passes when its figures are
within three simulation errors of what was promised (on the safe side only, where a method may be cautious).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from analysis.calibration.belief import belief_row, beside_row
from analysis.calibration.diversity import diversity_rows
from analysis.calibration.figures import Part, Row, planned_power, row_of, tails_row
from analysis.calibration.length import length_row
from analysis.calibration.looks import anytime_row, before_row, planned_rows, split_row
from analysis.calibration.readers import CONVERSIONS, LEVEL, MINUTES, RARE, SLOTS, VISITS, Process, batches, skews, values
from analysis.calibration.rows import adjusted_row, quantile_row, share_row
from analysis.effect import Contrast, compare
from analysis.multiplicity import family_level

__all__ = ["calibrate", "family_row", "pair_row"]

Simulation = Callable[[np.random.Generator], Row]


def calibrate(*, seed: int = 1, quick: bool = False, runs: int | None = None) -> list[dict[str, Any]]:
    """Run the gate and return its rows, as :meth:`Row.to_dict` shapes them.

    Parameters
    ----------
    seed : of all simulations; the same seed gives the same rows.
    quick : 4,000 instead of 40,000 runs per row, and without the slowest row (a minute).
    runs : another number of runs per row; slow rows have fewer, as their error says.
    """
    runs = runs or (4_000 if quick else 40_000)
    few, fewest = max(100, runs // 4), max(100, runs // 10)
    simulations: list[Simulation] = [
        *_of_two_arms(runs, few),
        lambda rng: family_row(rng, sizes=(200, 150, 150), runs=runs),
        lambda rng: family_row(rng, sizes=(200, 150, 150), runs=runs, ratio=1.5),
        *planned_rows(runs=few, most_looks=0 if quick else fewest),
        lambda rng: anytime_row(rng, looks=14, a_look=30, runs=few),
        lambda rng: anytime_row(rng, looks=28, a_look=15, runs=few),
        lambda rng: anytime_row(rng, looks=1_000, a_look=5, runs=fewest),
        lambda rng: split_row(rng, looks=28, a_look=3_000, lost=0.05, runs=runs),
        lambda rng: split_row(rng, looks=28, a_look=3_000, lost=0.02, runs=runs),
        lambda rng: split_row(rng, looks=1_000, a_look=10, lost=0.05, runs=fewest),
        lambda rng: belief_row(rng, readers=400, runs=runs),
        lambda rng: before_row(rng, looks=28, a_look=30, runs=few),
        lambda rng: length_row(rng, runs=few),
        *diversity_rows(readers=400, runs=max(20, runs // 10)),
        *(lambda rng, model=model: beside_row(rng, readers=400, model=model, runs=fewest) for model in (1.1, 1.33)),
        lambda rng: pair_row(rng, "relative", SLOTS, sizes=(1_000, 1_000), runs=few),
        # new rows come last: the others keep their seeds, and a page can be held against the one before
    ]
    seeds = np.random.SeedSequence(seed).spawn(len(simulations))  # a row of its own draws the same whatever stands before it
    return [simulate(np.random.default_rng(own)).to_dict() for simulate, own in zip(simulations, seeds, strict=True)]


def _of_two_arms(runs: int, few: int) -> list[Simulation]:
    both: tuple[Part, Part] = ("absolute", "relative")
    return [
        *(lambda rng, part=part: pair_row(rng, part, VISITS, sizes=(200, 200), runs=runs) for part in both),
        lambda rng: pair_row(rng, "relative", VISITS, sizes=(50, 50), runs=runs),
        lambda rng: pair_row(rng, "relative", VISITS, sizes=(1_150, 1_150), runs=few, ratio=1.10, kept=True),
        *(lambda rng, part=part: pair_row(rng, part, MINUTES, sizes=(400, 400), runs=runs) for part in both),
        lambda rng: pair_row(rng, "relative", MINUTES, sizes=(60, 3000), runs=few, guard=True),
        *(lambda rng, part=part: share_row(rng, part, CONVERSIONS, sizes=(400, 400), runs=runs, ratio=1.3) for part in both),
        *(lambda rng, part=part: share_row(rng, part, RARE, sizes=(60, 60), runs=runs) for part in both),
        *(lambda rng, part=part: share_row(rng, part, RARE, sizes=(150, 150), runs=runs) for part in both),
        lambda rng: share_row(rng, "relative", RARE, sizes=(300, 1_200), runs=runs),
        *(lambda rng, part=part: adjusted_row(rng, part, sizes=(300, 300), runs=few) for part in both),
        lambda rng: quantile_row(rng, sizes=(300, 300), runs=few),
    ]


def _contrasts(
    rng: np.random.Generator, process: Process, sizes: tuple[int, int], *, ratio: float, runs: int, guard: bool
) -> Iterator[Contrast]:
    for treated, control in batches(rng, process, sizes, ratios=(ratio, 1.0), runs=runs):
        found = skews(treated, control) if guard else [None] * len(treated[0])
        for one, two, skew in zip(values(treated), values(control), found, strict=True):
            yield compare(one, two, level=LEVEL, skew=skew)


def pair_row(
    rng: np.random.Generator,
    part: Part,
    process: Process,
    *,
    sizes: tuple[int, int],
    runs: int,
    ratio: float = 1.15,
    guard: bool = False,
    kept: bool = False,
) -> Row:
    """Return the row of one range: false alarms without an effect, coverage and power with one.

    Parameters
    ----------
    sizes : readers (treated, control).
    ratio : treated over control where there is an effect.
    guard : with the guard against skew.
    kept : the planner must promise the power to the point; it promises a little less where effects are large.
    """
    return row_of(
        "guarded" if guard else part,
        process.name,
        sum(sizes),
        runs=runs,
        contrasts=lambda true: _contrasts(rng, process, sizes, ratio=true, runs=runs, guard=guard),
        part=part,
        effect=(ratio, process.mean * (ratio - 1) if part == "absolute" else ratio - 1),
        careful=guard,  # a range that takes over in the worst cases may be too wide, never too narrow
        planned=None if guard else planned_power(process, sizes, ratio),
        kept=kept,
    )


def family_row(rng: np.random.Generator, *, sizes: tuple[int, int, int], runs: int, ratio: float = 1.0) -> Row:
    """The chance that one of three comparisons is a false alarm: no arm differs, or (``ratio``) two differ from the first alike."""
    low = high = 0
    pairs = (("h", "s"), ("m", "s"), ("m", "h"))
    level = family_level({arm: 1 / size for arm, size in zip("shm", sizes, strict=True)}, pairs, level=LEVEL)
    for arms in batches(rng, VISITS, sizes, ratios=(1.0, ratio, ratio), runs=runs):
        for found in zip(*map(values, arms), strict=True):
            named = dict(zip("shm", found, strict=True))
            ranges = [compare(named[a], named[b], level=level).absolute for a, b in (pairs if ratio == 1.0 else pairs[2:])]
            down, up = any(r is not None and r.high < 0 for r in ranges), any(r is not None and r.low > 0 for r in ranges)
            low, high = low + (down and not up), high + up
    name = "family of three" if ratio == 1.0 else "family of three, two differ"
    return tails_row(name, VISITS.name, sum(sizes), tails=(low, high), runs=runs, coverage=1 - (low + high) / runs, exact=ratio == 1.0)
