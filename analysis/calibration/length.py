"""The part of the simulation gate for the length of a test: what is forgone in the end, against always fourteen days."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from analysis.bayes import Posterior, Prior
from analysis.calibration.figures import Row
from analysis.calibration.readers import VISITS, moments, sums_of, value
from analysis.fat_tails import believe
from analysis.information import Study, best_length
from experiments.experiment import Arm

__all__ = ["SITES", "Site", "chosen_length", "forgone", "length_row"]

Floats = npt.NDArray[np.float64]
ARMS = (Arm("s", "status_quo", 0.5), Arm("h", "heuristic", 0.5))
PRIOR = Prior()
FIXED = 14.0  # days
LENGTHS = tuple(float(days) for days in (1, 2, 3, 5, 7, 10, 14, 21, 28, 42, 56, 84, 112, 168))
HORIZON = 365
LARGE = 200_000  # readers from whom it is known how much readers differ


@dataclass(frozen=True, slots=True)
class Site:
    """New readers per day, and what the arm costs, as the relative change that would pay for it."""

    readers_per_day: int
    cost: float

    @property
    def a_day(self) -> float:
        """Variance that one day leaves in the logarithm of one arm's value."""
        return _of_one_reader() / (self.readers_per_day / 2)


@cache
def _of_one_reader() -> float:
    one = value(moments(LARGE, sums_of(VISITS.draw(np.random.default_rng(0), (1, LARGE), 1.0))[0].tolist()))
    return one.variance / one.estimate**2 * LARGE


SITES = tuple(Site(readers, cost) for readers in (40, 400, 4_000) for cost in (0.0, 0.03))


def length_row(rng: np.random.Generator, *, runs: int) -> Row:
    """Truths from the prior on sites of all sizes: what the length chosen beforehand forgoes, against always fourteen days.

    ``false_positive`` is the share of sites on which the chosen length forgoes more, beyond three simulation errors (none
    may), ``power`` how much of what fourteen days forgo is saved on all sites together.
    """
    worse, chosen, fixed = 0, 0.0, 0.0
    for site in SITES:
        truths, luck = rng.normal(PRIOR.interest_mean, PRIOR.interest, runs), rng.standard_normal(runs)
        study = chosen_length(site)
        ours, theirs = (forgone(site, truths, luck, days=days) for days in (study.days if study else 0.0, FIXED))
        gap = ours - theirs
        worse += float(gap.mean()) > 3 * float(gap.std()) / math.sqrt(runs)
        chosen, fixed = chosen + float(ours.mean()), fixed + float(theirs.mean())
    sites = len(SITES)
    return Row(
        "length by what knowing is worth", VISITS.name, max(site.readers_per_day for site in SITES), worse / sites, None, None, None,
        1 - chosen / fixed, 0.0, worse == 0,
    )  # fmt: skip


def chosen_length(site: Site) -> Study | None:
    """Return the test that is worth most after its cost, before any reader came; None where none is worth its cost."""
    spread = np.array([[PRIOR.interest**2]])
    belief = Posterior("s", ("h",), np.array([PRIOR.interest_mean]), spread, np.array([[2 * site.a_day]]))
    costs = {"s": (0.0, 0.0), "h": (site.cost, site.cost / HORIZON)}
    shares = {arm.name: arm.share for arm in ARMS}
    found = best_length(belief, 1.0, costs=costs, shares=shares, days=1.0, lengths=LENGTHS, horizon=HORIZON)
    return found if found is not None and found.enbs > 0 else None


def forgone(site: Site, truths: Floats, luck: Floats, *, days: float) -> Floats:
    """Return (runs,) what a test of ``days`` forgoes of what somebody earns who knows the truth; gains of the horizon are 1.

    Half of the readers see the arm during the test; afterwards all do, if it is believed to earn its cost.

    Parameters
    ----------
    truths, luck : (runs,) true log ratios, and errors of their estimates in standard errors.
    """
    gain, tested = np.expm1(truths) - site.cost, days / HORIZON
    estimates = truths + luck * math.sqrt(2 * site.a_day / days) if days else truths
    ship = np.array([_earns(site, estimate, days) for estimate in estimates.tolist()])
    earned = tested * (0.5 * np.expm1(truths) - site.cost) + (1 - tested) * np.where(ship, gain, 0.0)
    return np.asarray(np.maximum(gain, 0.0) - earned)


def _earns(site: Site, estimate: float, days: float) -> bool:
    if not days:
        return math.expm1(PRIOR.interest_mean + PRIOR.interest**2 / 2) > site.cost
    variances = dict.fromkeys(("s", "h"), site.a_day / days)
    belief = believe(ARMS, "s", {"s": 1.0, "h": math.exp(estimate)}, log_variances=variances, prior=PRIOR)
    mean, s = belief.contrast("h", "s") if belief else (0.0, 0.0)
    return math.expm1(mean + s * s / 2) > site.cost
