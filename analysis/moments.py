"""One row per reader becomes moments per (arm, phase): exact sums become means and centred cross-products.

The engine (:mod:`experiments.events.lake`) adds up integers exactly; the centring uses Python integers too, so that no
offset, however large, costs a digit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from experiments.errors import DataError, MetricError

__all__ = ["LOPSIDED", "Distinct", "Moments", "Sums", "Totals", "add_up"]

Floats = npt.NDArray[np.float64]
LOPSIDED = 1.5  # readers of the largest arm over the smallest: from here on skewed metrics need their third moment


class Sums(Protocol):
    """What the lake gives per (arm, phase, bucket): exact sums and sums of products of integer columns."""

    @property
    def arm(self) -> str: ...
    @property
    def phase(self) -> int: ...
    @property
    def bucket(self) -> int | None: ...
    @property
    def n(self) -> int: ...
    @property
    def keys(self) -> tuple[str, ...]: ...
    @property
    def sums(self) -> tuple[int, ...]: ...
    @property
    def products(self) -> tuple[tuple[int, ...], ...]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Readers, means and centred cross-products of some columns.

    Parameters
    ----------
    n : readers (count).
    keys : k column names.
    mean : (k,) float64.
    cross : (k, k) float64, sum over readers of (v - mean)(v - mean)'.

    Examples
    --------
    >>> m = Moments.from_sums(3, ("views", "sessions"), (6, 3), ((14, 6), (6, 3)))
    >>> m.mean.tolist(), m.cross[0, 0].item()
    ([2.0, 1.0], 2.0)
    """

    n: int
    keys: tuple[str, ...]
    mean: Floats
    cross: Floats

    @classmethod
    def from_sums(cls, n: int, keys: Sequence[str], sums: Sequence[int], products: Sequence[Sequence[int]]) -> Moments:
        """Centre exact sums; the result is the correctly rounded value whatever the offset.

        Raises
        ------
        DataError
            No reader, or sums and products of another size than ``keys``.
        """
        k = len(keys)
        if n < 1 or len(sums) != k or len(products) != k or any(len(row) != k for row in products):
            raise DataError(f"moments of {n} readers with {k} columns, {len(sums)} sums and {len(products)} rows of products do not fit.")
        mean = np.array([_ratio(s, n) for s in sums], dtype=np.float64)
        cross = np.array([[_ratio(n * products[i][j] - sums[i] * sums[j], n) for j in range(k)] for i in range(k)], dtype=np.float64)
        return cls(n, tuple(keys), mean, cross.reshape(k, k))

    @classmethod
    def from_rows(cls, values: npt.ArrayLike, keys: Sequence[str]) -> Moments:
        """Centre rows of floats, one per reader; rows that are not finite are refused and counted.

        Parameters
        ----------
        values : (n, k) numbers.
        keys : k column names.
        """
        rows = np.asarray(values, dtype=np.float64).reshape(-1, len(keys))
        broken = int((~np.isfinite(rows)).any(axis=1).sum())
        if broken or not len(rows):
            raise DataError(f"{broken} of {len(rows)} readers have a value that is not a finite number.", "Give one number per reader.")
        mean = rows.mean(axis=0)
        mean = mean + (rows - mean).mean(axis=0)  # second pass: the first mean of large offsets is off by rounding
        centred = rows - mean
        return cls(len(rows), tuple(keys), mean, centred.T @ centred)

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both sets of readers, which must be disjoint.

        References
        ----------
        Chan, Golub, LeVeque (1979), pairwise update.
        """
        if self.keys != other.keys:
            raise DataError(f"moments of {', '.join(self.keys)} cannot be merged with those of {', '.join(other.keys)}.")
        n, step = self.n + other.n, other.mean - self.mean
        cross = self.cross + other.cross + np.outer(step, step) * (self.n * other.n / n)
        return Moments(n, self.keys, self.mean + step * (other.n / n), cross)

    def block(self, names: Sequence[str]) -> tuple[Floats, Floats]:
        """Return the means (k,) and the centred cross-products (k, k) of some columns, in the order of ``names``.

        Raises
        ------
        MetricError
            A column is not among ``keys``.
        """
        for name in names:
            if name not in self.keys:
                raise MetricError(f"there is no column '{name}' in these moments.", f"Columns: {', '.join(self.keys)}.")
        where = [self.keys.index(name) for name in names]
        return self.mean[where], self.cross[np.ix_(where, where)]

    def with_ones(self, name: str = "ones") -> Moments:
        """Return the same with one more column, 1 for every reader: the denominator of a mean."""
        k = len(self.keys)
        cross = np.zeros((k + 1, k + 1))
        cross[:k, :k] = self.cross
        return Moments(self.n, (*self.keys, name), np.append(self.mean, 1.0), cross)

    def pair(self, numerator: str, denominator: str) -> tuple[Floats, Floats]:
        """Return the means (2,) and the sample covariance (2, 2) of two columns; nan below two readers."""
        mean, cross = self.block((numerator, denominator))
        return mean, cross / (self.n - 1 if self.n > 1 else np.nan)


def _ratio(numerator: int, denominator: int) -> float:
    return int(numerator) / int(denominator)  # Python divides integers of any size with one rounding


@dataclass(frozen=True, slots=True)
class Distinct:
    """``count`` readers of an arm and phase who share the same numerator and denominator (phase None: all phases)."""

    arm: str
    numerator: int
    denominator: int
    count: int
    phase: int | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Everything a report is made of.

    Parameters
    ----------
    moments : per (arm, phase) of matured readers.
    counts : the lake's counts: readers exposed and matured per arm, fallbacks, crossed readers and so on.
    distinct : metric name -> distinct rows; always the goal, others when the arms are very unequal in size.
    segments : segment of the plan -> group of readers -> totals of these readers, for the goal.
    caps, uncut, events, missing : see :class:`analysis.queries.Asked`.
    audience_share : share of the site's article views that readers of the plan's audience opened, 0 to 1.
    """

    moments: Mapping[tuple[str, int], Moments]
    counts: Any
    distinct: Mapping[str, tuple[Distinct, ...]] = field(default_factory=dict)
    segments: Mapping[str, Mapping[str, Totals]] = field(default_factory=dict)
    caps: Mapping[str, int] = field(default_factory=dict)
    uncut: Mapping[str, tuple[Distinct, ...]] = field(default_factory=dict)
    events: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    audience_share: float = 1.0

    def readers(self) -> dict[str, int]:
        """Matured readers per arm."""
        found: dict[str, int] = {}
        for (arm, _), moments in sorted(self.moments.items()):
            found[arm] = found.get(arm, 0) + moments.n
        return found

    @property
    def phases(self) -> tuple[int, ...]:
        return tuple(sorted({phase for _, phase in self.moments}))


def add_up(rows: Iterable[Sums]) -> dict[tuple[str, int], Moments]:
    """Add the buckets of every (arm, phase) as integers, then centre; the order of rows does not matter.

    Rows whose ``bucket`` is None are whole cells; they are used alone when present.
    """
    cells: dict[tuple[str, int], list[Sums]] = {}
    for row in rows:
        cells.setdefault((row.arm, row.phase), []).append(row)
    return {cell: _add(_whole(cells[cell])) for cell in sorted(cells)}


def _whole(rows: list[Sums]) -> list[Sums]:
    whole = [row for row in rows if row.bucket is None]
    return whole or rows


def _add(rows: Sequence[Sums]) -> Moments:
    keys = rows[0].keys
    if any(row.keys != keys for row in rows):
        raise DataError(f"moments of arm '{rows[0].arm}' have different columns in different buckets.")
    sums = [sum(int(row.sums[i]) for row in rows) for i in range(len(keys))]
    products = [[sum(int(row.products[i][j]) for row in rows) for j in range(len(keys))] for i in range(len(keys))]
    return Moments.from_sums(sum(int(row.n) for row in rows), keys, sums, products)
