"""How varied an arm's articles were: coverage and the Gini coefficient of exposure, with their uncertainty by bucket jackknife.

Both belong to an arm and not to a reader, so no moments carry them. Readers are spread over 200 buckets by a hash;
leaving out one bucket after the other tells how much depends on which readers came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, stdtrit

from analysis.effect import LEAST_READERS, Contrast, Value, compare
from analysis.moments import LOPSIDED
from experiments.errors import DataError

__all__ = ["Diversity", "Pair", "Variety", "coverage", "diversity", "gini", "jackknife", "within"]

QUARTER = 4
NOTHING = "its slots stayed empty"
RAMPED = "the shares changed while the test ran, so the arms were shown on different days"
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Variety:
    """What one arm showed.

    Parameters
    ----------
    readers, places, articles : matured readers, filled places of their slots, different articles in them (counts).
    coverage : share of the catalogue that is expected among ``Diversity.compared_at`` of its places, 0 to 1.
    gini : 0 when all articles of the catalogue were shown equally often, near 1 when one was shown alone.
    """

    arm: str
    readers: int
    places: int
    articles: int
    coverage: Value
    gini: Value


@dataclass(frozen=True, slots=True)
class Pair:
    """One measure (``coverage`` or ``gini``) of two arms against each other."""

    measure: str
    arm: str
    against: str
    contrast: Contrast


@dataclass(frozen=True, slots=True)
class Diversity:
    """Variety of every arm and pair.

    ``compared_at`` is how many places coverage is told for in all arms, so that an arm's size does not count: a quarter
    of those of the smallest. With all of them the jackknife's ranges would be up to twice as wide as they need be.
    """

    catalogue: int
    compared_at: int
    arms: tuple[Variety, ...]
    pairs: tuple[Pair, ...]


def coverage(counts: npt.ArrayLike, *, places: int, catalogue: int) -> Floats:
    """Return the share of a catalogue that is expected among some of the places, drawn without replacement.

    Parameters
    ----------
    counts : (..., k) how often each article was shown; every row must add up to ``places`` at least.
    places : how many are drawn. Arms are compared at equal numbers, because more places show more articles.
    catalogue : articles that could have been shown (count).

    References
    ----------
    Hurlbert (1971), rarefaction.

    Examples
    --------
    >>> coverage([3, 1], places=2, catalogue=4).item()  # of the pairs, half hold the second article as well
    0.375
    """
    shown = np.asarray(counts, dtype=np.float64)
    whole = shown.sum(axis=-1, keepdims=True)
    others = whole - shown  # places of all other articles
    with np.errstate(invalid="ignore"):
        missed = gammaln(others + 1) - gammaln(others - places + 1) - gammaln(whole + 1) + gammaln(whole - places + 1)
        chance = np.where(others >= places, np.exp(missed), 0.0)
    return np.asarray((1 - chance).sum(axis=-1) / catalogue)


def gini(counts: npt.ArrayLike, *, catalogue: int) -> Floats:
    """Return the Gini coefficient of how often articles were shown; those never shown count as zero.

    Parameters
    ----------
    counts : (..., k) how often each article was shown, at least once in all.
    catalogue : articles that could have been shown (count, at least k).

    Examples
    --------
    >>> gini([5, 5], catalogue=2).item(), gini([5, 5], catalogue=4).item()
    (0.0, 0.5)
    """
    ranked = np.sort(np.asarray(counts, dtype=np.float64), axis=-1)
    k = ranked.shape[-1]
    weights = 2 * np.arange(catalogue - k + 1, catalogue + 1) - catalogue - 1
    return np.asarray(ranked @ weights / (catalogue * ranked.sum(axis=-1)))


def jackknife(per_bucket: Integers, statistic: Callable[[Any], Floats], *, readers: int) -> Value:
    """Return a statistic of the sums over all buckets, and its variance by leaving out one bucket at a time.

    The variance is too large rather than too small (Efron & Stein 1981).

    Parameters
    ----------
    per_bucket : (buckets, k) counts; empty buckets are rows of zeros.
    statistic : of (..., k) counts, (...) numbers.
    readers : behind the counts.

    Returns
    -------
    The value with as many degrees of freedom as there are buckets, less one.
    """
    total, g = per_bucket.sum(axis=0), len(per_bucket)
    left = np.concatenate([statistic(total - rows) for rows in np.array_split(per_bucket, 20)])
    off = left - left.mean()
    variance = (g - 1) / g * float(off @ off)
    estimate = float(statistic(total))
    # rounding of equal numbers is no spread
    return Value(readers, estimate, variance if variance > 1e-24 * estimate**2 else 0.0, ((variance, g - 1),))


def within(value: Value, *, level: float) -> tuple[float, float] | None:
    """Return the range of one arm's share or coefficient, from 0 to 1 at most; None without a number."""
    if value.status != "ok":
        return None
    reach = float(-stdtrit(value.parts[0][1], (1 - level) / 2)) * value.variance**0.5
    return max(0.0, value.estimate - reach), min(1.0, value.estimate + reach)


def diversity(shown: Any, readers: Mapping[str, int], pairs: Sequence[tuple[str, str]], *, level: float, phases: int = 1) -> Diversity:
    """Return what every arm showed, and arms against each other.

    Parameters
    ----------
    shown : see :class:`experiments.events.lake_articles.Shown`.
    readers : matured readers per arm, in the order of the report.
    pairs : (treated, control) to compare.
    level : of the intervals, 0 to 1.
    phases : how many allocations of readers there were; with several the arms were not shown side by side.

    Notes
    -----
    The Gini coefficient of few places is too high, as chance makes counts unequal: arms are compared where one has at
    most one and a half times the places of the other.
    """
    counts = {arm: _per_bucket(*shown.arms[arm], buckets=shown.buckets) for arm in readers if arm in shown.arms}
    enough = [cell for arm, cell in counts.items() if readers[arm] >= LEAST_READERS]
    at = min((min(int(cell.sum()) // QUARTER, int(cell.sum() - cell.sum(axis=1).max())) for cell in enough), default=0)
    found = {arm: _variety(arm, n, counts.get(arm), at=at, catalogue=shown.catalogue) for arm, n in readers.items()}
    compared = [
        Pair(measure, *pair, _compared(measure, *(found[arm] for arm in pair), level=level, phases=phases))
        for measure in ("coverage", "gini")
        for pair in pairs
        if set(pair) <= set(counts)
    ]
    return Diversity(shown.catalogue, at, tuple(found.values()), tuple(compared))


def _per_bucket(bucket: Any, article: Any, places: Any, *, buckets: int) -> Integers:
    """Counts per bucket and article, of the articles an arm showed."""
    if len(bucket) and not 0 <= int(bucket.min()) <= int(bucket.max()) < buckets:
        raise DataError(f"buckets reach from {bucket.min()} to {bucket.max()}, they must be 0 to {buckets - 1}.")
    names, column = np.unique(article, return_inverse=True)
    counts = np.zeros((buckets, len(names)), dtype=np.int64)
    np.add.at(counts, (bucket, column), places)
    return counts


def _variety(arm: str, readers: int, counts: Integers | None, *, at: int, catalogue: int) -> Variety:
    if counts is None:
        empty = Value(readers, status="undefined_for_arm", reason=NOTHING)
        return Variety(arm, readers, 0, 0, empty, empty)
    places, articles = int(counts.sum()), counts.shape[1]
    if readers < LEAST_READERS or at < 1:
        few = f"an arm has {readers} readers, at least {LEAST_READERS} are needed"
        none = Value(readers, status="insufficient", reason=few if readers < LEAST_READERS else "too few places were filled")
        return Variety(arm, readers, places, articles, none, none)
    return Variety(
        arm, readers, places, articles,
        jackknife(counts, lambda c: coverage(c, places=at, catalogue=catalogue), readers=readers),
        jackknife(counts, lambda c: gini(c, catalogue=catalogue), readers=readers),
    )  # fmt: skip


def _compared(measure: str, one: Variety, two: Variety, *, level: float, phases: int) -> Contrast:
    sides: tuple[Value, Value] = (one.coverage, two.coverage) if measure == "coverage" else (one.gini, two.gini)
    times = max(one.places, two.places) / min(one.places, two.places)
    uneven = measure == "gini" and times > LOPSIDED
    why = RAMPED if phases > 1 else f"one arm filled {times:.3g} times as many places as the other" if uneven else ""
    if why and all(side.status == "ok" for side in sides):
        values = (sides[0].estimate, sides[1].estimate)
        return Contrast((one.readers, two.readers), values, status="not_estimable", reason=why)
    return compare(*sides, level=level)
