"""Article vectors and the reader vector that belongs to a list of reads (numpy only: this runs in the web process)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Factors", "Folded"]

Floats = npt.NDArray[np.floating[Any]]
Positions = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Factors:
    """Vectors of one ALS model.

    Parameters
    ----------
    vectors : (articles, factors) float32; a zero row means that nobody had read the article.
    alpha : confidence of a read of weight 1; applied here and in the fit, never in the matrix.
    regularization : of the fit.

    References
    ----------
    Hu, Koren, Volinsky, Collaborative filtering for implicit feedback datasets, 2008. Equal to implicit's
    ``recalculate_user`` to 1e-5 (tested), without its parent-and-child hang and without reading rows that do not exist.
    """

    vectors: npt.NDArray[np.float32]
    alpha: float
    regularization: float

    @cached_property
    def base(self) -> Floats:
        """``YᵀY + regularization · I``, (factors, factors)."""
        wide = self.vectors[self.known].astype(np.float64)  # of a million articles few have a vector
        return np.asarray(wide.T @ wide + self.regularization * np.eye(wide.shape[1]))

    @cached_property
    def known(self) -> npt.NDArray[np.bool_]:
        """(articles,) whether an article has a vector; a zero score is not a low score."""
        return np.asarray(self.vectors.any(axis=1))

    def fold_in(self, articles: npt.ArrayLike, weights: npt.ArrayLike) -> Folded | None:
        """Return the reader who has these reads, or None when no read article has a vector.

        Parameters
        ----------
        articles : (k,) positions; unknown ones are dropped, repeated ones add up.
        weights : (k,) of the reads, 1 = one read now.
        """
        positions, values = np.asarray(articles, np.int64), np.asarray(weights, np.float64)
        inside = (positions >= 0) & (positions < len(self.vectors)) & (values > 0)
        positions, values = positions[inside], values[inside]
        usable = self.known[positions]
        summed: dict[int, float] = {}
        for position, value in zip(positions[usable].tolist(), values[usable].tolist(), strict=True):
            summed[position] = summed.get(position, 0.0) + value  # of a few reads; np.unique takes five times as long
        if not summed:
            return None
        read = np.array(sorted(summed))
        confidence = self.alpha * np.array([summed[position] for position in sorted(summed)])
        rows = self.vectors[read].astype(np.float64)
        left = self.base + rows.T @ (rows * (confidence - 1)[:, None])
        return Folded(self, read.astype(np.int32), confidence, left, np.linalg.solve(left, rows.T @ confidence))


@dataclass(frozen=True, slots=True)
class Folded:
    """A reader as seen by the model.

    Parameters
    ----------
    read : (k,) int32 distinct positions; confidence : (k,) of each.
    left : (factors, factors) matrix of the normal equations; vector : (factors,) their solution.
    """

    factors: Factors
    read: Positions
    confidence: Floats
    left: Floats
    vector: Floats

    def scores(self, articles: npt.NDArray[Any]) -> Floats:
        """(m,) predicted preference; only meaningful where :attr:`Factors.known`. An article's score does not depend on the others."""
        return np.asarray(np.vecdot(self.factors.vectors.take(articles, axis=0).astype(np.float64), self.vector))

    def contributions(self, article: int) -> list[tuple[int, float]]:
        """(read article, share of the score) pairs, largest first; they add up to the score exactly.

        ``score(j) = Σ_i c_i · y_jᵀ A⁻¹ y_i``: each read owns one term.
        """
        towards = np.linalg.solve(self.left, self.factors.vectors[article].astype(np.float64))
        parts = self.confidence * (self.factors.vectors[self.read].astype(np.float64) @ towards)
        order = np.lexsort((self.read, -parts))
        return [(int(self.read[i]), float(parts[i])) for i in order]
