"""Ranges that stay honest however often one looks: for guardrails, from the first hundred readers on."""

from __future__ import annotations

import math

from scipy.special import lambertw, ndtri

__all__ = ["LEAST_READERS", "anytime_critical", "anytime_p", "planned_readers"]

LEAST_READERS = 100  # per arm


def tuning(n_star: float, *, alpha: float) -> float:
    """Return rho squared, which makes the range narrowest at ``n_star`` readers.

    Examples
    --------
    >>> round(tuning(1.0, alpha=0.05), 5)
    8.21197
    """
    return float(-lambertw(-alpha * alpha / math.e, -1).real - 1) / n_star


def anytime_critical(n: int, n_star: float, *, alpha: float) -> float:
    """Return the multiple of the standard error that holds at all looks together.

    Parameters
    ----------
    n : readers so far, both arms.
    n_star : readers planned, both arms.
    alpha : two-sided error over all looks.

    References
    ----------
    Waudby-Smith et al., arXiv 2103.06476; STATISTICS 4.

    Examples
    --------
    >>> round(anytime_critical(10_000, 10_000, alpha=0.05) / 1.959964, 2)
    1.55
    """
    spread = n * tuning(n_star, alpha=alpha)
    return math.sqrt(2 * (spread + 1) / spread * math.log(math.sqrt(spread + 1) / alpha))


def anytime_p(z: float, n: int, n_star: float, *, alpha: float) -> float:
    """Return the p-value that may be looked at after every reader, for a difference of ``z`` standard errors."""
    spread = n * tuning(n_star, alpha=alpha)
    return min(1.0, math.sqrt(spread + 1) * math.exp(-spread * z * z / (2 * (spread + 1))))


def planned_readers(cv2: float, shares: tuple[float, float], *, effect: float = 0.05, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the readers (both arms) that find a relative effect with the given chance.

    Parameters
    ----------
    cv2 : squared coefficient of variation of a reader's influence.
    shares : of the two arms among these readers.

    References
    ----------
    STATISTICS 8.

    Examples
    --------
    >>> round(planned_readers(1.0, (0.5, 0.5)))
    13189
    """
    z = float(ndtri(1 - alpha / 2)) + float(ndtri(power))
    return z * z * cv2 * (1 / shares[0] + 1 / shares[1]) / math.log1p(effect) ** 2
