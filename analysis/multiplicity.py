"""Several comparisons at once: how strict each must be so that the family errs as rarely as one would."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import qmc

__all__ = ["exploratory", "family_level"]

DRAWS = 15  # as a power of two; the critical value is then right to about 0.005


def family_level(variances: Mapping[str, float], pairs: Sequence[tuple[str, str]], *, level: float) -> float:
    """Return the level each single interval needs so that all of them hold together with chance ``level``.

    The arms' errors are independent, the differences are not (they share arms): the critical value is the quantile
    of the largest absolute standardised difference.

    Parameters
    ----------
    variances : sampling variance per arm.
    pairs : the differences that are judged, as (arm, against).
    level : of the family, 0 to 1.

    References
    ----------
    Single-step max-T, Hothorn, Bretz, Westfall (2008); STATISTICS 5.

    Examples
    --------
    >>> family_level({"a": 1.0, "b": 1.0}, [("b", "a")], level=0.95)
    0.95
    """
    judged = [(a, b) for a, b in pairs if a in variances and b in variances and variances[a] + variances[b] > 0]
    if len(judged) < 2:
        return level
    arms = sorted({arm for pair in judged for arm in pair})
    draws = ndtri(qmc.Sobol(len(arms), scramble=True, rng=np.random.default_rng(1)).random_base2(DRAWS))
    errors = {arm: draws[:, i] * math.sqrt(variances[arm]) for i, arm in enumerate(arms)}
    largest = np.max([np.abs(errors[a] - errors[b]) / math.sqrt(variances[a] + variances[b]) for a, b in judged], axis=0)
    return max(level, float(1 - 2 * ndtr(-np.quantile(largest, level))))  # draws may miss by a hair what one comparison needs


def exploratory(p_values: Sequence[float | None]) -> list[float | None]:
    """Return Benjamini-Hochberg adjusted p-values: among those below q, a share of at most q is false on average.

    Parameters
    ----------
    p_values : of the metrics that do not decide; None where there is none, and stays None.

    References
    ----------
    Benjamini, Hochberg (1995), as in ``statsmodels.stats.multitest``; STATISTICS 5.

    Examples
    --------
    >>> [round(q, 4) for q in exploratory([0.118, 0.0211, 0.0213, 0.00218])]
    [0.118, 0.0284, 0.0284, 0.0087]
    """
    from statsmodels.stats.multitest import multipletests

    known = [p for p in p_values if p is not None]
    adjusted = iter(multipletests(known, method="fdr_bh")[1].tolist() if known else [])
    return [None if p is None else next(adjusted) for p in p_values]
