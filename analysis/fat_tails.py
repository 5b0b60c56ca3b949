"""How much the belief hangs on the shape of the prior, and what finished tests say about its width."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, minimize_scalar
from scipy.special import ndtr

from analysis.bayes import Measured, Posterior, Prior, Shrunken, expected_gain, measured
from analysis.effect import Contrast
from experiments.errors import DataError
from experiments.experiment import Arm

__all__ = ["CONFLICT", "LEAST_FINISHED", "FatTailed", "belief_of", "believe", "fat_tailed", "learnt_prior"]

FREEDOM = 3.0  # degrees of freedom of the fat-tailed prior (STATISTICS 9)
SCALES = np.exp(np.arange(-18.0, 4.0, 0.5))  # of the mixture; the trapezoid rule on the logarithm, ends weigh below 1e-11
CONFLICT = 0.01  # below this chance of what was measured, the normal prior is not believed
LEAST_FINISHED = 20  # tests from which on their effects decide how wide the prior is
WIDEST = 5.0  # log units
Effect = tuple[float, float]  # (log ratio, its sampling variance)


@dataclass(frozen=True, slots=True)
class FatTailed:
    """The belief under a prior with fat tails: a mixture of normal beliefs, each with its weight."""

    parts: tuple[tuple[float, Posterior], ...]

    def shrunken(self, arm: str, against: str, *, level: float, better: str = "up") -> Shrunken:
        """Return the belief about one arm against another, as :meth:`analysis.bayes.Posterior.shrunken` does."""
        sign, half = 1.0 if better == "up" else -1.0, (1 - level) / 2
        found = [(weight, *part.contrast(arm, against)) for weight, part in self.parts]

        def mix(value: Callable[[float, float], float]) -> float:
            return math.fsum(weight * value(mu, s) for weight, mu, s in found)

        def quantile(share: float) -> float:
            ends = min(mu - 40 * s for _, mu, s in found), max(mu + 40 * s for _, mu, s in found)
            return float(brentq(lambda x: mix(lambda mu, s: float(ndtr((x - mu) / s))) - share, *ends, xtol=1e-14))

        return Shrunken(
            mix(lambda mu, s: math.expm1(mu + s * s / 2)), math.expm1(quantile(half)), math.expm1(quantile(1 - half)),
            mix(lambda mu, s: float(ndtr(sign * mu / s))), mix(lambda mu, s: expected_gain(-sign * mu, s)),
        )  # fmt: skip

    def normal(self) -> Posterior:
        """Return the normal belief with the mixture's mean and covariance."""
        first = self.parts[0][1]
        means, weights = np.array([part.mean for _, part in self.parts]), np.array([weight for weight, _ in self.parts])
        mean = weights @ means
        spread = np.einsum("i,ijk->jk", weights, np.array([part.covariance for _, part in self.parts]))
        apart = means - mean
        return replace(first, mean=mean, covariance=spread + (weights * apart.T) @ apart, shape="fat_tailed")


def believe(
    arms: Sequence[Arm], control: str, estimates: Mapping[str, float], *, log_variances: Mapping[str, float], prior: Prior
) -> Posterior | None:
    """Return what to believe about every arm against the control, or None when the control has no estimate.

    Where the prior gave effects as large as those measured less than one chance in a hundred, its normal shape is at odds with
    the readers: it would share a large effect of one arm out among the others. The belief is then that of fat tails.

    Parameters
    ----------
    arms, control, estimates, log_variances, prior : as of :func:`analysis.bayes.posterior`.

    Examples
    --------
    A model is a third better, the rule no better than nothing:

    >>> arms = (Arm("s", "status_quo", 1 / 3), Arm("h", "heuristic", 1 / 3), Arm("m", "model", 1 / 3))
    >>> seen, spread = {"s": 1.0, "h": 1.0, "m": 1.4}, dict.fromkeys("shm", 0.001)
    >>> found = believe(arms, "s", seen, log_variances=spread, prior=Prior())
    >>> found.shape, round(found.shrunken("h", "s", level=0.95).p_better, 2)
    ('fat_tailed', 0.57)
    >>> round(measured(arms, "s", seen, log_variances=spread).given(Prior())[0].shrunken("h", "s", level=0.95).p_better, 2)
    0.99
    """
    found = measured(arms, control, estimates, log_variances=log_variances)
    if found is None:
        return None
    return fat_tailed(found, prior).normal() if found.foretold(prior) < CONFLICT else found.given(prior)[0]


def belief_of(
    arms: Sequence[Arm], control: str, contrasts: Mapping[str, Contrast], *, estimates: Mapping[str, float], prior: Prior
) -> Posterior | None:
    """Return what to believe about the goal in every arm, or None where no arm has a result.

    Parameters
    ----------
    contrasts : arm -> its comparison with the control. estimates : of the goal per arm, the control included.
    """
    logs: dict[str, float] = {}
    for arm in arms:
        contrast = contrasts.get(arm.name)
        if contrast is not None and contrast.log_variance is not None:
            logs[arm.name] = contrast.log_variance[0]
            logs[control] = max(logs.get(control, 0.0), contrast.log_variance[1])
    return believe(arms, control, {arm: estimates[arm] for arm in logs}, log_variances=logs, prior=prior)


def fat_tailed(found: Measured, prior: Prior) -> FatTailed:
    """Return the belief when ``a`` and ``b`` follow Student's t with 3 degrees of freedom and the prior's variances.

    Large effects are then pulled less towards nothing, small ones more. All that learning adds to the rule shares one scale.

    References
    ----------
    Azevedo et al. (2020) for fat tails; t as a scale mixture of normals, whose scales are integrated by quadrature.
    """
    density = SCALES ** (FREEDOM / 2) * np.exp(-FREEDOM / 2 * SCALES)
    stretch = np.sqrt((FREEDOM - 2) / FREEDOM / SCALES)
    one, two = (grid.ravel() for grid in np.meshgrid(prior.interest * stretch, prior.learning * stretch, indexing="ij"))
    parts, fits = found.given_each(prior, one, two)
    chances = fits + np.add.outer(np.log(density), np.log(density)).ravel()
    weights = np.exp(chances - chances.max())
    shares: npt.NDArray[np.float64] = weights / weights.sum()
    return FatTailed(tuple((float(share), part) for share, part in zip(shares, parts, strict=True) if share > 1e-15))


def learnt_prior(interest: Sequence[Effect], learning: Sequence[Effect], *, default: Prior = Prior()) -> Prior:
    """Return the prior whose widths fit finished tests; the default's width where there are fewer than 20 of a kind.

    Parameters
    ----------
    interest : of finished tests, (log ratio of the first heuristic to the status quo, its variance).
    learning : (log ratio of the model to the heuristic, its variance).

    Raises
    ------
    DataError
        An effect is not finite or has no positive variance.

    References
    ----------
    Empirical Bayes: the likelihood of effects ~ N(0, tau^2 + v) times tau, so that tau is never 0 (Chung et al. 2013).

    Examples
    --------
    >>> learnt_prior([(0.1, 1e-6)] * 19, []).interest
    0.05
    >>> round(learnt_prior([(0.1, 1e-6), (-0.1, 1e-6)] * 40, []).interest, 3)
    0.101
    """
    used = [len(effects) if len(effects) >= LEAST_FINISHED else 0 for effects in (interest, learning)]
    widths = _width(interest, default.interest), _width(learning, default.learning)
    return replace(default, interest=widths[0], learning=widths[1], tests=(used[0], used[1]))


def _width(effects: Sequence[Effect], default: float) -> float:
    if any(not (math.isfinite(effect) and 0 < variance < math.inf) for effect, variance in effects):
        raise DataError("a finished test has an effect without a positive, finite variance.", "Leave it out.")
    if len(effects) < LEAST_FINISHED:
        return default
    seen, sampling = (np.array(column) for column in zip(*effects, strict=True))

    def misfit(log_width: float) -> float:
        spread = math.exp(2 * log_width) + sampling
        return float(np.sum(np.log(spread) + seen**2 / spread) / 2 - log_width)

    return math.exp(float(minimize_scalar(misfit, bounds=(math.log(1e-6), math.log(WIDEST)), method="bounded", options={"xatol": 1e-8}).x))
