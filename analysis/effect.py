"""What an arm changed: value per arm, difference, relative difference, and how sure we are.

The reader is the unit. A metric is the ratio of two sums over readers (a mean has denominator 1), its variance
comes from the delta method, the difference is judged by Welch's t, the relative difference by Fieller's interval
**with the same critical value**, so that the two can never disagree about zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from scipy.special import ndtri, stdtr, stdtrit

from analysis.moments import Moments
from analysis.skew import Skew
from experiments.errors import DataError

__all__ = ["LEAST_READERS", "Absolute", "Contrast", "Relative", "Value", "arm_value", "compare", "interval_at", "phase_shares"]

LEAST_READERS = 30  # per arm; below it no interval of a mean is worth printing (STATISTICS 12)
UNTOLD = 1 / 1.96**2  # variance of the logarithm from which on an arm, alone, cannot be told from zero (as Fieller: g = 1)
SKEWED = 0.2  # size of the skewness of the difference from which the guard takes over (STATISTICS 3)

Cells = Mapping[tuple[str, int], Moments]


@dataclass(frozen=True, slots=True)
class Value:
    """One metric in one arm.

    Parameters
    ----------
    n : readers.
    estimate, variance : of the arm's ratio; nan when they cannot be computed.
    parts : (share of the variance, degrees of freedom) per phase, for Welch.
    status, reason : ``ok``, or why there is no number.
    telling : readers who tell something (most may have a denominator of zero); None where it is ``n``.
    """

    n: int
    estimate: float = math.nan
    variance: float = math.nan
    parts: tuple[tuple[float, float], ...] = ()
    status: str = "ok"
    reason: str = ""
    telling: float | None = None


@dataclass(frozen=True, slots=True)
class Absolute:
    """A difference in the metric's own unit; ``p`` is two-sided."""

    estimate: float
    se: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, slots=True)
class Relative:
    """A difference as a fraction of the control (0.05 = +5 %)."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Contrast:
    """One arm against another on one metric; what cannot be estimated is None, and ``reason`` says why.

    ``log_variance`` holds the variances of the logarithm of (treated, control), for the Bayesian layer; ``covariance``
    is that of the two values, 0 unless they were adjusted by a common covariate.
    """

    n: tuple[int, int]
    values: tuple[float | None, float | None]
    absolute: Absolute | None = None
    relative: Relative | None = None
    log_variance: tuple[float, float] | None = None
    df: float = math.nan
    status: str = "ok"
    reason: str = ""
    covariance: float = 0.0

    @property
    def change_log_variance(self) -> float | None:
        """Variance of the logarithm of treated over control: V_1/theta_1^2 + V_0/theta_0^2 - 2 K/(theta_1 theta_0).

        Examples
        --------
        >>> Contrast((9, 9), (2.0, 4.0), log_variance=(0.3, 0.2), covariance=0.4).change_log_variance
        0.4
        """
        treated, control = self.values
        if self.log_variance is None or not treated or not control:
            return None
        return self.log_variance[0] + self.log_variance[1] - 2 * self.covariance / (treated * control)


def phase_shares(cells: Cells, arms: Sequence[str]) -> tuple[dict[int, float], tuple[int, ...]]:
    """Return the share of every phase over all arms, and the phases that had to be dropped.

    A phase in which an arm has fewer than two readers is dropped from every arm. An arm that has them in no phase
    at all cannot drop phases for the others.

    Examples
    --------
    >>> one = Moments.from_sums(4, ("x",), (4,), ((4,),))
    >>> phase_shares({("a", 1): one, ("b", 1): one, ("a", 2): one}, ["a", "b"])
    ({1: 1.0}, (2,))
    """
    phases = sorted({phase for _, phase in cells})
    readers = {(arm, phase): cells[arm, phase].n if (arm, phase) in cells else 0 for arm in arms for phase in phases}
    present = [arm for arm in arms if any(readers[arm, phase] >= 2 for phase in phases)]
    kept = [phase for phase in phases if present and all(readers[arm, phase] >= 2 for arm in present)]
    total = sum(readers[arm, phase] for arm in present for phase in kept)
    shares = {phase: sum(readers[arm, phase] for arm in present) / total for phase in kept}
    return shares, tuple(phase for phase in phases if phase not in kept)


def arm_value(cells: Cells, arm: str, *, numerator: str, denominator: str, shares: Mapping[int, float]) -> Value:
    """Return a ratio metric of one arm and its variance by the delta method.

    Parameters
    ----------
    cells : moments per (arm, phase).
    numerator, denominator : columns; the ratio is sum over sum.
    shares : weight of each phase (adds up to 1); phases without weight are left out.

    References
    ----------
    STATISTICS 3: theta = m_N / m_D, Var = (S_NN - 2 theta S_ND + theta^2 S_DD) / (n m_D^2), m = sum of w_s m_s.

    Examples
    --------
    >>> three = Moments.from_sums(3, ("views", "sessions"), (8, 4), ((24, 11), (11, 6)))
    >>> arm_value({("a", 1): three}, "a", numerator="views", denominator="sessions", shares={1: 1.0}).estimate
    2.0
    """
    found = [(share, cells[arm, phase]) for phase, share in sorted(shares.items()) if (arm, phase) in cells]
    n = sum(moments.n for _, moments in found)
    if n < 2:
        return Value(n, status="insufficient", reason=f"{arm} has {n} reader{'' if n == 1 else 's'} whose window has ended")
    pairs = [(share, moments.n, *moments.pair(numerator, denominator)) for share, moments in found]
    top = math.fsum(share * float(mean[0]) for share, _, mean, _ in pairs)
    bottom = math.fsum(share * float(mean[1]) for share, _, mean, _ in pairs)
    if bottom == 0:
        return Value(n, status="undefined_denominator", reason=f"the denominator of {arm} adds up to zero")
    theta = top / bottom
    parts, telling = [], 0.0
    for share, readers, mean, s in pairs:
        tells = _telling(readers, float(mean[1]), float(s[1, 1]))
        telling += tells
        spread = float(s[0, 0]) - 2 * theta * float(s[0, 1]) + theta * theta * float(s[1, 1])
        noise = 1e-14 * (abs(float(s[0, 0])) + theta * theta * abs(float(s[1, 1])))
        parts.append((share * share * (spread if spread > noise else 0.0) / (readers * bottom * bottom), max(tells - 1, 1e-6)))
    return Value(n, theta, math.fsum(part for part, _ in parts), tuple(parts), telling=telling)


def _telling(readers: int, mean: float, variance: float) -> float:
    """(sum D)^2 / sum D^2 where denominators are below one on average, so that some are zero: such a reader tells nothing."""
    squares = variance * (readers - 1) + readers * mean * mean
    return min(float(readers), (readers * mean) ** 2 / squares) if 0 < mean < 1 else float(readers)


def compare(
    treated: Value, control: Value, *, level: float, skew: Skew | None = None, least: int = LEAST_READERS, covariance: float = 0.0
) -> Contrast:
    """Return the effect of one arm against another: difference, relative difference, status.

    Parameters
    ----------
    level : of the intervals, 0 to 1.
    skew : spread and third moment of the readers' influence; decides whether the guard takes over.
    least : readers per arm below which nothing is printed but counts.
    covariance : K, of the two estimates, in the metric's squared unit; 0 unless they share a covariate. The guard
        knows the spread of unadjusted readers only and leaves it out.

    Raises
    ------
    DataError
        The covariance is larger than the two variances allow.

    References
    ----------
    Welch (1947); Fieller (1954); skew guard and K: STATISTICS 3.
    """
    n, values = (treated.n, control.n), (_shown(treated), _shown(control))
    for value in (treated, control):
        if value.status != "ok":
            return Contrast(n, values, status=value.status, reason=value.reason)
    if min(n) < least:
        return Contrast(n, values, status="insufficient", reason=f"an arm has {min(n)} readers, at least {least} are needed")
    tells = min(value.n if value.telling is None else value.telling for value in (treated, control))
    if tells < least:
        few = f"of an arm's readers only some {tells:.0f} have anything in the denominator, at least {least} are needed"
        return Contrast(n, values, status="insufficient", reason=few)
    if _spread(treated, control, covariance) <= 0:
        return Contrast(n, values, status="no_variation", reason="no reader differs from another in either arm")
    if skew is not None and abs(skew.of_difference(n)) > SKEWED:
        return _guarded(treated, control, level=level, cv2=skew.cv2)
    return interval_at(Contrast(n, values), treated, control, level=level, covariance=covariance)


def _shown(value: Value) -> float | None:
    return value.estimate if math.isfinite(value.estimate) else None


def interval_at(
    contrast: Contrast,
    treated: Value,
    control: Value,
    *,
    level: float,
    critical: float | None = None,
    covariance: float | None = None,
) -> Contrast:
    """Return the same contrast with its intervals at another level (guarded contrasts stay guarded).

    ``critical`` replaces the quantile of Student's t that belongs to ``level``, in both intervals. ``covariance`` of the
    two estimates is the contrast's own unless given.
    """
    if contrast.status == "guarded" and contrast.log_variance is not None and critical is None:
        return _guarded(treated, control, level=level, cv2=contrast.log_variance[0] * contrast.n[0])
    k = contrast.covariance if covariance is None else covariance
    variance = _spread(treated, control, k)
    df = variance**2 / math.fsum(part * part / free for side in (treated, control) for part, free in _own(side, k))
    c = critical or _critical(level, df)
    change, se = treated.estimate - control.estimate, math.sqrt(variance)
    absolute = Absolute(change, se, change - c * se, change + c * se, _two_sided(change / se, df))
    relative, reason = _fieller(treated, control, c, covariance=k)
    logs = _log_variance(treated, control) if relative and treated.estimate > 0 else None
    status = "ok" if relative else "not_estimable"
    changed = replace(contrast, absolute=absolute, relative=relative, log_variance=logs, df=df, covariance=k)
    return replace(changed, status=status, reason=reason)


def _spread(treated: Value, control: Value, covariance: float) -> float:
    """Variance of the difference, V_1 + V_0 - 2 K."""
    if covariance * covariance > treated.variance * control.variance * (1 + 1e-9):
        says = f"a covariance of {covariance:g} does not fit variances of {treated.variance:g} and {control.variance:g}."
        raise DataError(says, "Its square may not exceed their product.")
    return treated.variance + control.variance - 2 * covariance


def _own(side: Value, covariance: float) -> tuple[tuple[float, float], ...]:
    """The parts of a variance without what both arms share; they add up to V_z - K."""
    if covariance == 0:
        return side.parts
    return tuple((part * (1 - covariance / side.variance), free) for part, free in side.parts)


def _log_variance(treated: Value, control: Value) -> tuple[float, float]:
    return treated.variance / treated.estimate**2, control.variance / control.estimate**2


def _fieller(treated: Value, control: Value, c: float, *, covariance: float = 0.0) -> tuple[Relative | None, str]:
    if control.estimate <= 0:
        return None, "a relative change cannot be estimated: the control's value is not above zero"
    ratio, v1, v0 = treated.estimate / control.estimate, treated.variance, control.variance
    scale = c * c / control.estimate**2
    g, shift = c * c * v0 / control.estimate**2, scale * covariance  # shift = g K / V_0, which also exists when V_0 is 0
    if g >= 1:
        return None, "a relative change cannot be estimated: the control's value cannot be told from zero"
    inner = v1 - 2 * ratio * covariance + ratio * ratio * v0 - g * v1 + shift * covariance
    half, middle = c / control.estimate * math.sqrt(max(0.0, inner)), ratio - shift
    return Relative(ratio - 1, (middle - half) / (1 - g) - 1, (middle + half) / (1 - g) - 1), ""


def _guarded(treated: Value, control: Value, *, level: float, cv2: float) -> Contrast:
    logs, lower = (cv2 / treated.n, cv2 / control.n), min(treated.estimate, control.estimate)
    if lower <= 0 or max(logs) >= UNTOLD:
        few = "no event" if lower <= 0 else "so few events that its value cannot be told from zero"
        says = f"the arms are so unequal in size that only the logarithm of the ratio can be judged, and an arm has {few}"
        return Contrast((treated.n, control.n), (treated.estimate, control.estimate), status="not_estimable", reason=says)
    log = math.log(treated.estimate / control.estimate)
    s, df = math.sqrt(logs[0] + logs[1]), treated.n + control.n - 2.0
    c, change = _critical(level, df), treated.estimate - control.estimate
    # the logarithmic mean turns log units into the metric's unit, so that both intervals reach zero together
    scale = change / log if log else control.estimate
    absolute = Absolute(change, scale * s, change - c * scale * s, change + c * scale * s, _two_sided(log / s, df))
    relative = Relative(math.expm1(log), math.expm1(log - c * s), math.expm1(log + c * s))
    says = "the arms are unequal in size and readers differ much: the spread is taken from all arms together"
    return Contrast((treated.n, control.n), (treated.estimate, control.estimate), absolute, relative, logs, df, "guarded", says)


def _critical(level: float, df: float) -> float:
    tail = (1 - level) / 2
    return float(-stdtrit(df, tail)) if df < 1e9 else float(-ndtri(tail))


def _two_sided(t: float, df: float) -> float:
    return min(1.0, 2 * float(stdtr(min(df, 1e9), -abs(t))))
