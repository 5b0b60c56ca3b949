"""What we believe after the test: effects pulled towards a sceptical prior, with their covariance.

The prior mirrors the business question. Against the status quo a heuristic is worth ``a`` ("do readers want
recommendations?"), a model ``a + b`` ("does learning add to the rule?"), on the logarithmic scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from experiments.experiment import Arm

__all__ = ["Posterior", "Prior", "Shrunken", "expected_gain", "posterior"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prior:
    """Standard deviations of ``a`` (interest in recommendations) and ``b`` (what learning adds), log scale."""

    interest: float = 0.05
    learning: float = 0.03


@dataclass(frozen=True, slots=True)
class Shrunken:
    """A believed relative change (fractions), the chance that it is an improvement, and the loss if it is not.

    ``expected_loss`` is the mean of max(0, harm) on the logarithmic scale: what shipping risks, per unit.
    """

    mean: float
    low: float
    high: float
    p_better: float
    expected_loss: float


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """Log ratios of every arm against the control.

    Parameters
    ----------
    control : the arm all others are compared with; its log ratio is 0.
    arms : k other arms.
    mean : (k,) of the log ratios.
    covariance : (k, k).
    sampling : (k, k) covariance of the measured log ratios, before the prior.
    """

    control: str
    arms: tuple[str, ...]
    mean: Floats
    covariance: Floats
    sampling: Floats

    def contrast(self, arm: str, against: str) -> tuple[float, float]:
        """Return mean and standard deviation of one log ratio."""
        weight = self._weight(arm) - self._weight(against)
        return float(weight @ self.mean), math.sqrt(max(0.0, float(weight @ self.covariance @ weight)))

    def _weight(self, arm: str) -> Floats:
        return np.array([1.0 if name == arm else 0.0 for name in self.arms])

    def shrunken(self, arm: str, against: str, *, level: float, better: str = "up") -> Shrunken:
        """Return the belief about one arm against another; ``better`` is the metric's direction.

        The mean is that of exp(log ratio) - 1; interval and chances are exact under the normal belief.
        """
        mu, s = self.contrast(arm, against)
        half = float(ndtri(0.5 + level / 2)) * s
        sign = 1.0 if better == "up" else -1.0
        chance = float(ndtr(sign * mu / s)) if s else float(sign * mu > 0)
        return Shrunken(math.expm1(mu + s * s / 2), math.expm1(mu - half), math.expm1(mu + half), chance, expected_gain(-sign * mu, s))


def expected_gain(mean: float, sd: float) -> float:
    """Return E max(0, X) of a normal X.

    References
    ----------
    STATISTICS 9; for |mean / sd| > 37 the limit is used.

    Examples
    --------
    >>> round(expected_gain(0.1, 0.05), 10), round(expected_gain(-0.1, 0.05), 10)
    (0.1004245351, 0.0004245351)
    """
    if sd <= 0 or abs(mean / sd) > 37:
        return max(0.0, mean)
    ratio = mean / sd
    return mean * float(ndtr(ratio)) + sd * math.exp(-ratio * ratio / 2) / math.sqrt(2 * math.pi)


def prior_covariance(arms: Sequence[Arm], prior: Prior) -> Floats:
    """Return the (k, k) prior covariance of the log value of every arm against the status quo, in the given order.

    The first heuristic is ``a``, every further one ``a`` plus a difference as uncertain as ``b``; a model is ``a + b``.
    """
    interested = np.array([arm.kind != "status_quo" for arm in arms], dtype=np.float64)
    heuristics = [arm.name for arm in arms if arm.kind == "heuristic"]
    own = np.array([arm.kind == "model" or arm.name in heuristics[1:] for arm in arms], dtype=np.float64)
    return np.outer(interested, interested) * prior.interest**2 + np.diag(own) * prior.learning**2


def posterior(
    arms: Sequence[Arm], control: str, estimates: Mapping[str, float], *, log_variances: Mapping[str, float], prior: Prior
) -> Posterior | None:
    """Return what to believe about every arm against the control, or None when the control has no estimate.

    Parameters
    ----------
    arms : of the plan; their kinds decide the prior.
    estimates : value of the metric per arm (positive); arms that are missing are left out.
    log_variances : variance of the logarithm of each arm's value.

    References
    ----------
    STATISTICS 9: Sigma = (Sigma0^-1 + V^-1)^-1, written with gains so that a singular prior is allowed.
    """
    known = [arm for arm in arms if estimates.get(arm.name, 0.0) > 0 and math.isfinite(log_variances.get(arm.name, math.nan))]
    names = [arm.name for arm in known]
    if control not in names or len(names) < 2:
        return None
    at = names.index(control)
    others = tuple(name for name in names if name != control)
    contrast = np.array([[float(name == other) - float(i == at) for i, name in enumerate(names)] for other in others])
    measured = contrast @ np.log([estimates[name] for name in names])
    sampling = contrast @ np.diag([log_variances[name] for name in names]) @ contrast.T
    before = contrast @ prior_covariance(known, prior) @ contrast.T
    gain = before @ np.linalg.pinv(before + sampling, hermitian=True)
    covariance = before - gain @ before
    return Posterior(control, others, gain @ measured, (covariance + covariance.T) / 2, sampling)
