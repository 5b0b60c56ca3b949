"""What it is worth to know more: per unknown, and per study one could run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.interpolate import BSpline
from scipy.special import ndtri
from scipy.stats import qmc

from analysis.bayes import Posterior

__all__ = ["Study", "Unknown", "best_length", "known_part", "studies", "unknowns"]

Floats = npt.NDArray[np.float64]
KNOTS = 8
DRAWS = 13  # as a power of two, for studies


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something nobody knows for sure: what settling it is worth, and its share of each arm's uncertainty.

    ``evppi`` is in the currency; shares of variance do not add up to 1 where unknowns are correlated or multiply.
    """

    name: str
    evppi: float
    share_of_variance: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Study:
    """A test one could run: length, what it is worth, what it costs, and the difference."""

    name: str
    days: float
    evsi: float
    cost: float

    @property
    def enbs(self) -> float:
        return self.evsi - self.cost


def known_part(outcome: Floats, unknown: Floats) -> Floats:
    """Return E[outcome | unknown] at every draw, by regression on cubic splines.

    Parameters
    ----------
    outcome : (m, d) draws, one column per option.
    unknown : (m,) draws of one unknown.

    References
    ----------
    Strong, Oakley, Brennan (2014), single-parameter partial value of information by regression.
    """
    if np.ptp(unknown) == 0:
        return np.broadcast_to(outcome.mean(axis=0), outcome.shape)
    inner = np.quantile(unknown, np.linspace(0, 1, KNOTS))
    knots = np.concatenate([[inner[0]] * 3, inner, [inner[-1]] * 3])
    basis = BSpline.design_matrix(unknown, knots, 3)
    weights, *_ = np.linalg.lstsq((basis.T @ basis).toarray(), basis.T @ outcome, rcond=None)  # B-splines are well conditioned
    return np.asarray(basis @ weights)


def unknowns(
    logs: Floats, value: Floats, benefit: Floats, *, names: Sequence[str], kinds: Mapping[str, str], ruled_out: Collection[str] = ()
) -> tuple[Unknown, ...]:
    """Return every unknown with the value of settling it, the most valuable first.

    Parameters
    ----------
    logs : (m, k) log ratios of the arms other than the control.
    value : (m,) value per view.
    benefit : (m, k + 1) net benefit, control first.
    names : k + 1 arms, control first.
    kinds : kind per arm.
    ruled_out : arms that may not be shipped: what they turn out to be changes no decision.
    """
    columns = {"value per view": value} if np.ptp(value) > 0 else {}
    heuristic = next((i for i, arm in enumerate(names[1:]) if kinds.get(arm) == "heuristic"), None)
    for i, arm in enumerate(names[1:]):
        if kinds.get(arm) == "heuristic":
            label = "reader interest" if i == heuristic else f"what {arm} adds"
            columns[label] = logs[:, i] if i == heuristic else logs[:, i] - logs[:, heuristic]
        elif heuristic is not None:
            columns[f"what {arm} adds to {names[1 + heuristic]}"] = logs[:, i] - logs[:, heuristic]
        else:
            columns[f"effect of {arm}"] = logs[:, i]
    left = [i for i, arm in enumerate(names) if arm not in ruled_out]
    found = [_unknown(label, column, benefit, names, left) for label, column in columns.items()]
    return tuple(sorted(found, key=lambda unknown: (-unknown.evppi, unknown.name)))


def _unknown(label: str, column: Floats, benefit: Floats, names: Sequence[str], left: Sequence[int]) -> Unknown:
    fitted = known_part(benefit, column)
    evppi = max(0.0, float(fitted[:, left].max(axis=1).mean() - benefit[:, left].mean(axis=0).max()))
    spread = benefit.var(axis=0)
    shares = {arm: float(fitted[:, i].var() / spread[i]) for i, arm in enumerate(names) if spread[i] > 0}
    return Unknown(label, evppi, shares)


def studies(
    belief: Posterior,
    per_unit: float | Floats,
    *,
    costs: Mapping[str, tuple[float, float]],
    shares: Mapping[str, float],
    days: float,
    horizon: int,
    tested: float | None = None,
) -> tuple[Study, ...]:
    """Return the study at hand: the same test for as long again, with what it would teach and cost.

    Parameters
    ----------
    belief : what is believed now; ``belief.sampling`` is what ``days`` of this test leave uncertain.
    per_unit : money per unit of relative change over the horizon of a shipped arm; one for all, or (k,) one per arm.
    tested : the same of a test, if it reaches other views; ``shares`` divide it.
    costs : per arm (cost over the horizon beyond the control, cost per day); the control first.
    shares : planned share of readers per arm.

    References
    ----------
    STATISTICS 10: preposterior covariance P = S0 (S0 + V)^-1 S0. The test is followed by the better decision for what is left
    of the horizon; without it one decides now. Whoever ships later pays for building once and in full, and for running from
    then on; who never ships does not pay. ``cost`` is what deciding now would bring more meanwhile than the test does, at least 0.
    """
    if not belief.arms or days <= 0 or horizon <= days:
        return ()
    gain = belief.covariance @ np.linalg.pinv(belief.covariance + belief.sampling, hermitian=True)
    learnt, left = gain @ belief.covariance, belief.covariance - gain @ belief.covariance
    values, vectors = np.linalg.eigh((learnt + learnt.T) / 2)
    z = ndtri(qmc.Sobol(len(belief.arms), scramble=True, rng=np.random.default_rng(2)).random_base2(DRAWS))
    means = belief.mean + (z * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    over = np.array([costs[arm][0] for arm in belief.arms])
    a_day = np.array([costs[arm][1] for arm in belief.arms])

    def benefit(change: Floats, shipped: float) -> Floats:
        """Net benefit of the control (0) and of every arm shipped for so many days, at an expected relative change."""
        spared = (a_day - costs[belief.control][1]) * (horizon - shipped)
        each = per_unit * shipped / horizon * change - over + spared
        return np.concatenate([np.zeros((*each.shape[:-1], 1)), each], axis=-1)

    then = benefit(np.expm1(means + np.diag(left) / 2), horizon - days)
    evsi = max(0.0, float(then.max(axis=1).mean() - then.mean(axis=0).max()))
    expected = np.expm1(belief.mean + np.diag(belief.covariance) / 2)
    each = np.array([shares.get(arm, 0.0) for arm in belief.arms])
    meanwhile = days * float(each @ (expected * (per_unit if tested is None else tested)) / horizon - a_day.sum())
    price = float(benefit(expected, horizon).max() - benefit(expected, horizon - days).max()) - meanwhile
    return (Study("the same test again", days, evsi, max(0.0, price)),)


def best_length(
    belief: Posterior,
    per_unit: float | Floats,
    *,
    costs: Mapping[str, tuple[float, float]],
    shares: Mapping[str, float],
    days: float,
    lengths: Sequence[float],
    horizon: int,
    window_days: float = 0.0,
    tested: float | None = None,
) -> Study | None:
    """Return the study whose length is worth most after its cost, or None where none fits into the horizon.

    Parameters are those of :func:`studies`; ``lengths`` are tried (days), while readers keep coming as during ``days``. Only
    those count whose ``window_days`` are over at the end: those of all days but the last window's.

    References
    ----------
    STATISTICS 10; for two arms alike in everything it is Feit & Berman's test & roll length.
    """
    whole = {
        length: belief.sampling * ((days - window_days) / (length - window_days)) for length in lengths if min(days, length) > window_days
    }
    found = [
        study
        for length, sampling in whole.items()
        for study in studies(
            replace(belief, sampling=sampling), per_unit, costs=costs, shares=shares, days=length, horizon=horizon, tested=tested
        )
    ]
    return max(found, key=lambda study: study.enbs, default=None)
