"""How much of the permitted error has been spent until a time: the spending functions of group-sequential tests."""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy.special import ndtr, ndtri

from experiments.errors import ExperimentError

__all__ = ["Spending", "obrien_fleming", "pocock", "power_family"]

Spending = Callable[[float, float], float]  # (time, alpha) -> error spent until then; never falls, alpha at time 1


def obrien_fleming(time: float, alpha: float) -> float:
    """Return the two-sided error spent until ``time``: hardly any early, nearly all at the end.

    ``time`` is a fraction of the planned information (above 1 counts as 1), ``alpha`` the error over all looks, in (0, 1).
    Lan, DeMets (1983), O'Brien-Fleming type: 4 (1 - Phi(z_{1 - alpha / 4} / sqrt(t))).

    Examples
    --------
    >>> round(obrien_fleming(0.5, 0.05), 5), round(obrien_fleming(1.0, 0.05), 5)
    (0.00305, 0.05)
    """
    return 4 * float(ndtr(ndtri(alpha / 4) / math.sqrt(min(time, 1.0)))) if time > 0 else 0.0


def pocock(time: float, alpha: float) -> float:
    """Return the error spent until ``time`` when all looks shall be about equally strict: alpha log(1 + (e - 1) t).

    Examples
    --------
    >>> round(pocock(0.5, 0.05), 5), round(pocock(1.0, 0.05), 5)
    (0.03101, 0.05)
    """
    return alpha * math.log1p((math.e - 1) * min(max(time, 0.0), 1.0))


def power_family(rho: float) -> Spending:
    """Return the spending function alpha t^rho (Kim, DeMets 1987); ``rho`` is positive, larger is later.

    Examples
    --------
    >>> power_family(2.0)(0.5, 0.05)
    0.0125
    """
    if not rho > 0:
        raise ExperimentError(f"spending alpha * t^{rho:g} does not start at zero.", "Give a rho above 0.")
    return lambda time, alpha: alpha * float(min(max(time, 0.0), 1.0)) ** rho
