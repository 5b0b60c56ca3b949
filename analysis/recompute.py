"""The headline effect a second time, with statsmodels: if two roads disagree, nobody should drive on either."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.checks import Check
from analysis.moments import Distinct

__all__ = ["TOLERANCE", "Recomputed", "again", "agreement"]

Floats = npt.NDArray[np.float64]
TOLERANCE = 1e-9  # relative


@dataclass(frozen=True, slots=True)
class Recomputed:
    """Difference and standard error of one arm against another, as statsmodels sees them."""

    arm: str
    against: str
    estimate: float
    se: float


@dataclass(frozen=True, slots=True, eq=False)
class _Readers:
    """One entry per reader: cell code, numerator, denominator, and weight in its arm."""

    cell: npt.NDArray[np.int64]
    numerator: Floats
    denominator: Floats
    weight: Floats
    arms: tuple[str, ...]  # arm of every cell
    shares: tuple[float, ...]  # share of the phase of every cell


def again(
    rows: Sequence[Distinct], pairs: Sequence[tuple[str, str]], *, shares: Mapping[int, float] | None = None
) -> tuple[Recomputed, ...]:
    """Return the difference of every pair, recomputed reader by reader.

    With one phase: weighted least squares of a reader's ratio on the arms, weighted by the denominator, clustered by
    reader without small-sample factor, times n / (n - 1) per arm: the regression behind the delta method. With several
    phases: least squares of numerator, denominator and influence on (arm, phase) cells with HC2 variances.

    Parameters
    ----------
    rows : distinct (arm, phase, numerator, denominator) with counts.
    pairs : (arm, against).
    shares : weight per phase; None pools all phases.

    Raises
    ------
    ValueError
        A reader has a numerator without a denominator in a single phase, or rows lack the phase.
    """
    readers = _expand(rows, shares)
    values = _clustered(readers) if shares is None or len(shares) == 1 else _by_cell(readers)
    known = [(arm, against) for arm, against in pairs if arm in values and against in values]
    return tuple(Recomputed(a, b, values[a][0] - values[b][0], math.sqrt(values[a][1] + values[b][1])) for a, b in known)


def _expand(rows: Sequence[Distinct], shares: Mapping[int, float] | None) -> _Readers:
    several = shares is not None and len(shares) > 1
    if several and any(row.phase is None for row in rows):
        raise ValueError("the distinct rows do not say their phase")
    if not rows:
        raise ValueError("there are no distinct rows")
    kept = [row for row in sorted(rows, key=_order) if shares is None or row.phase is None or row.phase in shares]
    cells = sorted({(row.arm, row.phase or 0 if several else 0) for row in kept})
    code = {cell: i for i, cell in enumerate(cells)}
    count = np.array([row.count for row in kept], dtype=np.int64)
    cell = np.repeat([code[row.arm, row.phase or 0 if several else 0] for row in kept], count)
    share = tuple((shares or {}).get(phase, 1.0) if several else 1.0 for _, phase in cells)
    size = np.bincount(cell, minlength=len(cells))
    numerator = np.repeat(np.array([row.numerator for row in kept], dtype=np.float64), count)
    denominator = np.repeat(np.array([row.denominator for row in kept], dtype=np.float64), count)
    weight = np.array(share)[cell] / size[cell]
    return _Readers(cell, numerator, denominator, weight, tuple(arm for arm, _ in cells), share)


def _order(row: Distinct) -> tuple[str, int, int, int]:
    return row.arm, row.phase or 0, row.denominator, row.numerator  # sums of floats must not depend on who came first


def _dummies(readers: _Readers) -> Floats:
    return np.eye(len(readers.arms))[readers.cell]


def _fit(model: Any, **how: Any) -> tuple[Floats, Floats]:
    result = model.fit(**how)
    return np.asarray(result.params, dtype=np.float64), np.asarray(result.cov_params(), dtype=np.float64)


def _clustered(readers: _Readers) -> dict[str, tuple[float, float]]:
    from statsmodels.regression.linear_model import WLS

    empty = readers.denominator == 0
    if (readers.numerator[empty] != 0).any():
        raise ValueError("some readers have a numerator without a denominator")
    ratio = np.divide(readers.numerator, readers.denominator, out=np.zeros_like(readers.numerator), where=~empty)
    scale = readers.denominator.mean() or 1.0
    model = WLS(ratio, _dummies(readers), weights=readers.denominator / scale)
    groups = {"groups": np.arange(len(ratio)), "use_correction": False}
    params, covariance = _fit(model, cov_type="cluster", cov_kwds=groups)
    factor = {i: n / (n - 1) for i, n in enumerate(np.bincount(readers.cell)) if n > 1}
    return {readers.arms[i]: (float(params[i]), float(covariance[i, i] * k)) for i, k in factor.items()}


def _by_cell(readers: _Readers) -> dict[str, tuple[float, float]]:
    from statsmodels.regression.linear_model import OLS

    cells = _dummies(readers)
    top, _ = _fit(OLS(readers.numerator, cells))
    bottom, _ = _fit(OLS(readers.denominator, cells))
    share = np.array(readers.shares)
    found = {}
    for arm in dict.fromkeys(readers.arms):
        own = np.array([name == arm for name in readers.arms])
        below = float((share * bottom)[own].sum())
        ratio = float((share * top)[own].sum()) / below
        _, covariance = _fit(OLS((readers.numerator - ratio * readers.denominator) / below, cells), cov_type="HC2")
        found[arm] = (ratio, float((share**2 * np.diag(covariance))[own].sum()))
    return found


def agreement(first: Sequence[Recomputed], second: Sequence[Recomputed]) -> Check:
    """Compare our differences and standard errors with the recomputed ones; a relative gap above 1e-9 blocks.

    The gap of a difference is relative to the difference or its standard error, whichever is larger.
    """
    other = {(r.arm, r.against): r for r in second}
    both = [(r, other[r.arm, r.against]) for r in first if (r.arm, r.against) in other]
    if not both:
        return Check("recomputed", "warn", None, TOLERANCE, None, "The main result was not computed a second time: there is none yet.")
    gap = max(_gap(a, b) for a, b in both)
    if not gap <= TOLERANCE:
        says = f"A second computation disagrees with the first: relative gap {gap:.1e}."
        return Check("recomputed", "block", gap, TOLERANCE, None, says)
    return Check("recomputed", "ok", gap, TOLERANCE, None, "A second, independent computation gives the same main result.")


def _gap(one: Recomputed, other: Recomputed) -> float:
    scale = max(abs(one.estimate), one.se)  # an arm where everybody did it against one where nobody did has no spread at all
    apart = abs(one.estimate - other.estimate), abs(one.se - other.se)
    return max(apart[0] / scale, apart[1] / (one.se or scale)) if scale else max(apart)
