"""The part of the simulation gate for what is believed after a test, when truths come from the prior."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from analysis.bayes import Prior
from analysis.calibration.figures import Row, error_of
from analysis.calibration.readers import LEVEL, VISITS, values
from analysis.fat_tails import believe
from experiments.experiment import Arm

__all__ = ["belief_row", "beside_row", "bins_of"]

BINS = 10


def belief_row(rng: np.random.Generator, *, readers: int, runs: int) -> Row:
    """Truths drawn from the prior: how often the believed range holds them, and whether believed chances come true.

    False alarms are the share of wrong ones among those believed with 95 % or more, power is how many these are.
    """
    prior, arms = Prior(), (Arm("s", "status_quo", 0.5), Arm("h", "heuristic", 0.5))
    truths, believed, held = rng.normal(0.0, prior.interest, runs), np.full(runs, np.nan), 0
    reach = -float(ndtri((1 - LEVEL) / 2))
    for run, truth in enumerate(truths.tolist()):
        one, two = (values(VISITS.draw(rng, (1, readers), ratio))[0] for ratio in (math.exp(truth), 1.0))
        logs = {"h": one.variance / one.estimate**2, "s": two.variance / two.estimate**2}
        belief = believe(arms, "s", {"h": one.estimate, "s": two.estimate}, log_variances=logs, prior=prior)
        if belief is not None:
            believed[run] = belief.shrunken("h", "s", level=LEVEL).p_better
            mean, s = belief.contrast("h", "s")
            held += abs(truth - mean) <= reach * s
    sure = believed >= LEVEL
    wrong = float(np.mean(truths[sure] <= 0)) if sure.any() else 0.0
    bins, error = bins_of(believed, truths > 0), error_of(LEVEL, runs)
    passed = abs(held / runs - LEVEL) <= 3 * error and all(
        abs(happened - chance) <= 3 * error_of(min(max(chance, 0.5 / n), 1 - 0.5 / n), n) for chance, happened, n in bins
    )
    share, power = held / runs, float(sure.mean())
    return Row("belief after the test", VISITS.name, 2 * readers, wrong, None, None, share, power, error, passed, bins=bins)


def beside_row(rng: np.random.Generator, *, readers: int, model: float, runs: int) -> Row:
    """A rule that does nothing beside a model that makes ``model`` times as much: how often is the rule believed to matter?

    False alarms are the shares of tests after which a change by the rule is believed with 97.5 % or more, by direction.
    """
    arms = (Arm("s", "status_quo", 1 / 3), Arm("h", "heuristic", 1 / 3), Arm("m", "model", 1 / 3))
    down, up, sure = 0, 0, (1 + LEVEL) / 2
    for _ in range(runs):
        found = {arm.name: values(VISITS.draw(rng, (1, readers), model if arm.kind == "model" else 1.0))[0] for arm in arms}
        logs = {arm: one.variance / one.estimate**2 for arm, one in found.items()}
        belief = believe(arms, "s", {arm: one.estimate for arm, one in found.items()}, log_variances=logs, prior=Prior())
        better = belief.shrunken("h", "s", level=LEVEL).p_better if belief else 0.5
        down, up = down + (better <= 1 - sure), up + (better >= sure)
    error, name = error_of(1 - LEVEL, runs), f"belief beside {model:g} times as much"
    low, high = down / runs, up / runs
    return Row(name, VISITS.name, 3 * readers, low + high, low, high, None, None, error, low + high <= 1 - LEVEL + 3 * error)


def bins_of(believed: npt.NDArray[np.float64], true: npt.NDArray[np.bool_]) -> tuple[tuple[float, float, int], ...]:
    """Return per tenth of the believed chance: its mean, how often it came true, and the runs in it.

    Examples
    --------
    >>> bins_of(np.array([0.04, 0.06, 0.95]), np.array([False, True, True]))
    ((0.05, 0.5, 2), (0.95, 1.0, 1))
    """
    which = np.minimum((believed * BINS).astype(np.int64), BINS - 1)
    groups = [which == i for i in range(BINS)]
    return tuple((float(believed[g].mean()), float(true[g].mean()), int(g.sum())) for g in groups if g.any())
