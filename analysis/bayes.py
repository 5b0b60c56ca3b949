"""What we believe after the test: effects pulled towards a sceptical prior, with their covariance.

The prior mirrors the business question. Against the status quo a heuristic is worth ``a`` ("do readers want
recommendations?"), a model ``a + b`` ("does learning add to the rule?"), on the logarithmic scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import gammaincc, ndtr, ndtri
from scipy.stats import multivariate_normal

from experiments.experiment import Arm

__all__ = ["Measured", "Posterior", "Prior", "Shrunken", "expected_gain", "measured", "posterior"]

Floats = npt.NDArray[np.float64]
Shape = Literal["normal", "fat_tailed"]


@dataclass(frozen=True, slots=True)
class Prior:
    """Standard deviations of ``a`` (interest in recommendations) and ``b`` (what learning adds), log scale, and their means.

    ``tests`` says how many finished tests gave the widths of ``a`` and ``b``; 0 where they are our own guess.
    """

    interest: float = 0.05
    learning: float = 0.03
    interest_mean: float = 0.0
    learning_mean: float = 0.0
    tests: tuple[int, int] = (0, 0)


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
    measured : what was measured, if the belief was made of it.
    shape : of the prior, ``normal`` or ``fat_tailed``.
    """

    control: str
    arms: tuple[str, ...]
    mean: Floats
    covariance: Floats
    sampling: Floats
    measured: Measured | None = None
    shape: Shape = "normal"

    def contrast(self, arm: str, against: str) -> tuple[float, float]:
        """Return mean and standard deviation of one log ratio."""
        weight = self._weight(arm) - self._weight(against)
        return float(weight @ self.mean), math.sqrt(max(0.0, float(weight @ self.covariance @ weight)))

    def p_best(self, *, better: str = "up") -> dict[str, float]:
        """Return the chance of every arm, the control included, that no other is better.

        References
        ----------
        STATISTICS 9: normal distribution function of the differences; within 1e-4 for four arms and more, exact below.
        """
        sign, chances = 1.0 if better == "up" else -1.0, {}
        for arm in (self.control, *self.arms):
            others = [other for other in (self.control, *self.arms) if other != arm]
            behind = sign * np.array([self._weight(other) - self._weight(arm) for other in others])
            normal = multivariate_normal(behind @ self.mean, behind @ self.covariance @ behind.T, allow_singular=True)
            chances[arm] = float(normal.cdf(np.zeros(len(others)), rng=np.random.default_rng(3)))
        return chances

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
    interested, own = _interested(arms), _own(arms)
    return np.outer(interested, interested) * prior.interest**2 + np.diag(own) * prior.learning**2


def _interested(arms: Sequence[Arm]) -> Floats:
    return np.array([arm.kind != "status_quo" for arm in arms], dtype=np.float64)


def _own(arms: Sequence[Arm]) -> Floats:
    heuristics = [arm.name for arm in arms if arm.kind == "heuristic"]
    return np.array([arm.kind == "model" or arm.name in heuristics[1:] for arm in arms], dtype=np.float64)


def _prior_mean(arms: Sequence[Arm], prior: Prior) -> Floats:
    learnt = np.array([arm.kind == "model" for arm in arms], dtype=np.float64)
    return _interested(arms) * prior.interest_mean + learnt * prior.learning_mean


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Log ratios of k arms against the control as measured, with their sampling covariance; ``contrast`` makes them of all arms."""

    known: tuple[Arm, ...]
    control: str
    contrast: Floats
    logs: Floats
    sampling: Floats

    def foretold(self, prior: Prior) -> float:
        """Return the chance, under the prior, of effects at least as far from what it expects as those measured.

        References
        ----------
        Prior predictive p-value (Box 1980): Mahalanobis distance with k degrees of freedom.
        """
        total = self.contrast @ prior_covariance(self.known, prior) @ self.contrast.T + self.sampling
        apart = self.logs - self.contrast @ _prior_mean(self.known, prior)
        return float(gammaincc(len(apart) / 2, apart @ np.linalg.pinv(total, hermitian=True) @ apart / 2))

    def given(self, prior: Prior) -> tuple[Posterior, float]:
        """Return the posterior, and the logarithm of how well the prior foretold what was measured (up to a constant)."""
        (found,), (fit,) = self.given_each(prior, np.array([prior.interest]), np.array([prior.learning]))
        return found, float(fit)

    def given_each(self, prior: Prior, interest: Floats, learning: Floats) -> tuple[list[Posterior], Floats]:
        """Return the same for many widths (g,) at once; the prior gives the means."""
        mean = self.contrast @ _prior_mean(self.known, prior)
        wide, own = (self.contrast @ prior_covariance(self.known, Prior(*one)) @ self.contrast.T for one in ((1.0, 0.0), (0.0, 1.0)))
        before = np.multiply.outer(interest**2, wide) + np.multiply.outer(learning**2, own)
        total, surprise = before + self.sampling, self.logs - mean
        inverse = np.linalg.pinv(total, hermitian=True)
        gain = before @ inverse
        left = before - gain @ before
        arms = tuple(arm.name for arm in self.known if arm.name != self.control)
        means, spreads = mean + gain @ surprise, (left + left.transpose(0, 2, 1)) / 2
        found = [Posterior(self.control, arms, m, s, self.sampling, self) for m, s in zip(means, spreads, strict=True)]
        return found, -0.5 * (inverse @ surprise @ surprise + np.linalg.slogdet(total)[1])


def measured(arms: Sequence[Arm], control: str, estimates: Mapping[str, float], *, log_variances: Mapping[str, float]) -> Measured | None:
    """Return the measured log ratios of all arms with an estimate; None when the control or every other arm has none.

    Parameters are those of :func:`posterior`.
    """
    known = tuple(arm for arm in arms if estimates.get(arm.name, 0.0) > 0 and math.isfinite(log_variances.get(arm.name, math.nan)))
    names = [arm.name for arm in known]
    if control not in names or len(names) < 2:
        return None
    at = names.index(control)
    contrast = np.array([[float(name == other) - float(i == at) for i, name in enumerate(names)] for other in names if other != control])
    logs = contrast @ np.log([estimates[name] for name in names])
    return Measured(known, control, contrast, logs, contrast @ np.diag([log_variances[name] for name in names]) @ contrast.T)


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
    found = measured(arms, control, estimates, log_variances=log_variances)
    return found.given(prior)[0] if found else None
