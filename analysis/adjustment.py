"""Less noise: what readers did before their first exposure explains part of what they did after it.

Works from moments alone. A metric is linearised to its readers' influence, the influence is regressed on covariates
within arms and phases, and every arm's value moves to where it would be with the covariates' common mean. The arms then
share that mean, so their values are no longer independent: K is the covariance (STATISTICS 3, CUPED).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve
from scipy.linalg.lapack import dpstrf

from analysis.effect import Contrast, Value, arm_value, compare
from analysis.moments import Moments

__all__ = ["OWN_SLOPES_ABOVE", "Adjusted", "Adjustment", "Columns", "adjust", "adjusted_contrast"]

OWN_SLOPES_ABOVE = 5_000  # readers; below it a slope per arm makes ranges of skewed readers too narrow (STATISTICS 3)
COLLINEAR = 1e-10  # share of a covariate's variance that the others leave; below it the covariate says nothing new
CONSTANT = 1e-24  # sum of squares around the mean, relative to that around zero; exact for integers, rounding for floats
NOISE = 1e-13  # of the sums of squares a residual is computed from; below it is rounding
TELLS = "the covariates tell the outcome exactly, so they cannot have been known before"

Floats = npt.NDArray[np.float64]
Cells = Mapping[tuple[str, int], Moments]


@dataclass(frozen=True, slots=True)
class Columns:
    """The metric is the sum of ``numerator`` over that of ``denominator``; ``covariates`` end before the first exposure."""

    numerator: str
    denominator: str
    covariates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Adjustment:
    """The arms' values with the covariates at their common mean; the values as they were when that does not help.

    Parameters
    ----------
    values : arm -> value; its variance contains what all arms share, its parts add up to it.
    variance_removed : share of the variance of the differences, 0 to 1, over all pairs of arms.
    slopes : arm -> slope per used covariate, in the metric's unit per unit of the covariate.
    used : names of the covariates.
    dropped : covariate -> why it was left out.
    reason : why nothing was adjusted; empty when something was.
    before : arm -> variance of its value as it was.
    """

    values: Mapping[str, Value]
    variance_removed: float = 0.0
    slopes: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    used: tuple[str, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    shared: Mapping[tuple[str, str], float] = field(default_factory=dict)
    before: Mapping[str, float] = field(default_factory=dict)

    def covariance(self, arm: str, against: str) -> float:
        """Return K of two arms, in the metric's squared unit; 0 when nothing was adjusted."""
        return self.shared.get((arm, against), 0.0)


@dataclass(frozen=True, slots=True)
class Adjusted:
    """One adjusted comparison; ``contrast`` is None when there is none, and ``reason`` says why.

    ``variance_removed`` is the share, 0 to 1, that the variance of this difference lost.
    """

    contrast: Contrast | None
    variance_removed: float = 0.0
    used: tuple[str, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Cell:
    """Readers of one arm and phase: centred sums of products of p covariates and the influence, in the metric's unit."""

    arm: str
    phase: int
    share: float
    n: int
    mean: Floats  # (p,)
    xx: Floats  # (p, p)
    xy: Floats  # (p,)
    yy: float
    noise: float  # what rounding alone may leave of yy

    def kept(self, which: Sequence[int]) -> _Cell:
        xx = self.xx[np.ix_(which, which)]
        return _Cell(self.arm, self.phase, self.share, self.n, self.mean[which], xx, self.xy[which], self.yy, self.noise)


def adjust(
    cells: Cells,
    arms: Sequence[str],
    *,
    columns: Columns,
    shares: Mapping[int, float],
    own_slopes_above: float = OWN_SLOPES_ABOVE,
) -> Adjustment:
    """Return every arm's value adjusted by covariates.

    Parameters
    ----------
    cells : moments per (arm, phase), with the columns named by ``columns``.
    arms : those that share the slope and the mean of the covariates; arms without a value stay as they are.
    columns : of the metric and its covariates.
    shares : weight of each phase (adds up to 1), as for :func:`analysis.effect.arm_value`.
    own_slopes_above : when every arm has more readers than this, each gets its own slopes (Lin); ``math.inf`` never.

    Raises
    ------
    MetricError
        The moments lack a column.

    References
    ----------
    Deng, Xu, Kohavi, Walker (2013), CUPED; Lin (2013), slopes per arm; STATISTICS 3 for phases, variances and K.
    Collinear covariates go by pivoted Cholesky (LAPACK ``dpstrf``) of their pooled correlations within arms and phases.

    Examples
    --------
    Articles after (y) are twice those before (x) plus 1 or -1; arm b happened to get the keener readers.

    >>> keys = ("y", "one", "x")
    >>> a = Moments.from_rows([(1, 1, 0), (-1, 1, 0), (5, 1, 2), (3, 1, 2)], keys)
    >>> b = Moments.from_rows([(3, 1, 1), (1, 1, 1), (7, 1, 3), (5, 1, 3)], keys)
    >>> found = adjust({("a", 0): a, ("b", 0): b}, "ab", columns=Columns("y", "one", ("x",)), shares={0: 1.0})
    >>> round(found.slopes["a"][0], 9), [round(found.values[arm].estimate, 9) for arm in "ab"]
    (2.0, [3.0, 3.0])
    """
    ratio = {"numerator": columns.numerator, "denominator": columns.denominator, "shares": shares}
    plain = {arm: arm_value(cells, arm, **ratio) for arm in arms}  # type: ignore[arg-type]
    known = {arm: value for arm, value in plain.items() if value.status == "ok"}
    if len(known) < 2:
        return Adjustment(plain, reason="fewer than two arms have a value")
    found = [cell for arm in known for cell in _cells_of(cells, arm, columns=columns, shares=shares)]
    which, dropped = _choose(found, columns.covariates)
    used = tuple(columns.covariates[i] for i in which)
    if not used:
        return Adjustment(plain, dropped=dropped, reason="no covariate tells readers apart in every arm")
    found = [cell.kept(which) for cell in found]
    if min(_free(found, arm) for arm in known) <= len(used):
        return Adjustment(plain, dropped=dropped, reason="an arm has too few readers for a slope")
    slopes = _slopes(found, list(known), own=min(value.n for value in known.values()) > own_slopes_above)
    values = {arm: _moved(found, value, arm, slopes=slopes) if (value := plain[arm]).status == "ok" else value for arm in plain}
    shared = {(a, b): math.fsum(_shared(found, slopes[a], slopes[b]).values()) for a in known for b in known if a != b}
    removed = _removed(known, values, shared)
    if not removed > 0:
        return Adjustment(plain, dropped=dropped, reason="the covariates explain no part of the variance")
    listed = {arm: tuple(map(float, slope)) for arm, slope in slopes.items()}
    before = {arm: value.variance for arm, value in known.items()}
    return Adjustment(values, removed, listed, used, dropped, shared=shared, before=before)


def adjusted_contrast(found: Adjustment, pair: tuple[str, str], *, plain: Contrast, level: float) -> Adjusted:
    """Return the adjusted comparison of ``pair`` = (arm, against).

    There is none where the unadjusted one has no range, where it is guarded (the guard needs the third moment of
    unadjusted readers), and where the variance of the difference would not become smaller.

    Parameters
    ----------
    plain : the unadjusted comparison of the same pair.
    level : of the intervals, 0 to 1.
    """
    if found.reason:
        return Adjusted(None, dropped=found.dropped, reason=found.reason)
    if plain.absolute is None or plain.status == "guarded":
        reason = plain.reason if plain.absolute is None else "the arms are too unequal in size for it"
        return Adjusted(None, dropped=found.dropped, reason=reason)
    treated, control = (found.values[arm] for arm in pair)
    contrast = compare(treated, control, level=level, covariance=found.covariance(*pair))
    if contrast.absolute is None:
        return Adjusted(None, dropped=found.dropped, reason=TELLS if contrast.status == "no_variation" else contrast.reason)
    # the error of a score test holds if the arms do not differ: it is no measure for that of a difference
    removed = 1 - contrast.absolute.se**2 / math.fsum(found.before[arm] for arm in pair)
    if not removed > 0:
        return Adjusted(None, dropped=found.dropped, reason="the covariates explain no part of the variance")
    return Adjusted(contrast, removed, found.used, found.dropped)


def _cells_of(cells: Cells, arm: str, *, columns: Columns, shares: Mapping[int, float]) -> Iterator[_Cell]:
    """Linearise the metric around the arm's value: psi = (N - theta D) / m_D, with means weighted over phases."""
    names = (columns.numerator, columns.denominator, *columns.covariates)
    blocks = [(p, share, cells[arm, p].n, *cells[arm, p].block(names)) for p, share in sorted(shares.items()) if (arm, p) in cells]
    top, bottom = (math.fsum(share * float(mean[i]) for _, share, _, mean, _ in blocks) for i in (0, 1))
    theta = top / bottom
    for phase, share, n, mean, cross in blocks:
        xy = (cross[2:, 0] - theta * cross[2:, 1]) / bottom
        own, other = float(cross[0, 0]), theta * theta * float(cross[1, 1])
        yy = (own - 2 * theta * float(cross[0, 1]) + other) / bottom**2
        yield _Cell(arm, phase, share, n, mean[2:], cross[2:, 2:], xy, yy, NOISE * (own + other) / bottom**2)


def _choose(cells: Sequence[_Cell], names: Sequence[str]) -> tuple[list[int], dict[str, str]]:
    """Indices of the covariates that vary in every arm and are no combination of others; and why the rest is not used."""
    dropped: dict[str, str] = {}
    for i, name in enumerate(names):
        same = [arm for arm in dict.fromkeys(cell.arm for cell in cells) if _constant([c for c in cells if c.arm == arm], i)]
        if same:
            everywhere = len(same) == len({cell.arm for cell in cells})
            dropped[name] = "the same for every reader" if everywhere else f"the same for every reader of {', '.join(same)}"
    varying = [i for i, name in enumerate(names) if name not in dropped]
    kept = [varying[i] for i in _independent(_sum_of([c.kept(varying).xx for c in cells]))] if varying else []
    dropped |= {names[i]: "a combination of the others" for i in varying if i not in kept}
    return kept, dropped


def _constant(cells: Sequence[_Cell], i: int) -> bool:
    around = math.fsum(float(cell.xx[i, i]) for cell in cells)
    return around <= CONSTANT * math.fsum(cell.n * float(cell.mean[i]) ** 2 for cell in cells)


def _sum_of(arrays: Sequence[Floats]) -> Floats:
    return np.asarray(np.sum(arrays, axis=0), dtype=np.float64)


def _correlations(xx: Floats) -> tuple[Floats, Floats]:
    scale = np.sqrt(np.diag(xx))
    found = xx / np.outer(scale, scale)
    np.fill_diagonal(found, 1.0)
    return found, scale


def _independent(xx: Floats) -> list[int]:
    _, pivots, rank, _ = dpstrf(_correlations(xx)[0], tol=COLLINEAR, lower=1)
    return sorted(int(pivot) - 1 for pivot in pivots[:rank])


def _slopes(cells: Sequence[_Cell], arms: Sequence[str], *, own: bool) -> dict[str, Floats]:
    """One slope for all arms from pooled products within arms and phases, or one each where every arm allows it."""
    groups = {arm: [cell for cell in cells if cell.arm == arm] for arm in arms}
    sums = {arm: (_sum_of([c.xx for c in group]), _sum_of([c.xy for c in group])) for arm, group in groups.items()}
    if own and all(len(_independent(xx)) == len(xx) for xx, _ in sums.values()):
        return {arm: _slope(xx, xy) for arm, (xx, xy) in sums.items()}
    common = _slope(_sum_of([xx for xx, _ in sums.values()]), _sum_of([xy for _, xy in sums.values()]))
    return dict.fromkeys(arms, common)


def _slope(xx: Floats, xy: Floats) -> Floats:
    correlations, scale = _correlations(xx)
    return np.asarray(solve(correlations, xy / scale, assume_a="pos") / scale, dtype=np.float64)


def _free(cells: Sequence[_Cell], arm: str) -> int:
    """Readers of an arm beyond one per phase."""
    return sum(cell.n - 1 for cell in cells if cell.arm == arm)


def _phases(cells: Sequence[_Cell]) -> dict[int, list[_Cell]]:
    return {phase: [cell for cell in cells if cell.phase == phase] for phase in sorted({cell.phase for cell in cells})}


def _moved(cells: Sequence[_Cell], value: Value, arm: str, *, slopes: Mapping[str, Floats]) -> Value:
    """theta - b'(m_x - x_bar); variance sigma^2 / n + K per phase."""
    slope, shared, free = slopes[arm], _shared(cells, slopes[arm], slopes[arm]), _free(cells, arm)
    factor, step, parts = free / (free - len(slope)), 0.0, []
    for phase, group in _phases(cells).items():
        everyone = sum(cell.n for cell in group)
        centre = _sum_of([cell.mean * (cell.n / everyone) for cell in group])
        for cell in (cell for cell in group if cell.arm == arm):
            step += cell.share * float(slope @ (cell.mean - centre))
            left = cell.yy - 2 * float(slope @ cell.xy) + float(slope @ cell.xx @ slope)
            spread = (left if left > cell.noise else 0.0) / (cell.n - 1) * factor
            parts.append((cell.share**2 * spread / cell.n + shared[phase], cell.n - 1))
    return Value(value.n, value.estimate - step, math.fsum(part for part, _ in parts), tuple(parts), telling=value.telling)


def _shared(cells: Sequence[_Cell], one: Floats, other: Floats) -> dict[int, float]:
    """Phase -> its part of K = sum of w_s^2 b_1' S_xx,s b_0 / N_s, with S_xx,s pooled within the arms of the phase."""
    found = {}
    for phase, group in _phases(cells).items():
        n = sum(cell.n for cell in group)
        spread = _sum_of([cell.xx for cell in group]) / (n - len(group))
        found[phase] = group[0].share ** 2 * float(one @ spread @ other) / n
    return found


def _removed(plain: Mapping[str, Value], values: Mapping[str, Value], shared: Mapping[tuple[str, str], float]) -> float:
    """One minus the variance of all differences after over before."""
    before = math.fsum(plain[a].variance + plain[b].variance for a, b in shared)
    after = math.fsum(values[a].variance + values[b].variance - 2 * k for (a, b), k in shared.items())
    return 1 - after / before if before > 0 else 0.0
