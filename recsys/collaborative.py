"""Reader x article models for logs that fit in memory as dense tables; all take strengths and return scores of readers for every article."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recsys.factors import Factors
from recsys.fit_als import AlsRecipe, article_vectors
from recsys.interactions import Interactions

__all__ = ["PLAIN", "als", "blend", "bm25", "popularity", "rp3beta", "strengths", "svd"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
PLAIN = AlsRecipe(factors=32, regularization=1.0, alpha=10.0)


def strengths(reader: Ints, article: Ints, weight: Floats, *, shape: tuple[int, int]) -> Any:
    """Return the (readers, articles) CSR matrix of ``log2(1 + summed event weights)``.

    Examples
    --------
    >>> strengths(np.array([0, 0]), np.array([1, 1]), np.array([1.0, 2.0]), shape=(1, 2)).toarray().tolist()
    [[0.0, 2.0]]
    """
    summed = sp.coo_matrix((weight, (reader, article)), shape=shape).tocsr()
    summed.data = np.log2(1.0 + summed.data)
    return summed


def popularity(matrix: Any) -> Floats:
    """Return (readers, articles): summed strength of the article, the same for every reader."""
    return np.tile(np.asarray(matrix.sum(axis=0)), (matrix.shape[0], 1))


def als(matrix: Any, recipe: AlsRecipe = PLAIN, *, rows: Ints | None = None, seed: int = 42) -> Floats:
    """Return fold-in scores of the readers in ``rows`` (all by default); 0 for a reader or an article without reads.

    References
    ----------
    Hu, Koren, Volinsky, Collaborative filtering for implicit feedback datasets, 2008.
    """
    vectors = article_vectors(Interactions(matrix, np.arange(matrix.shape[0]), 0.0), recipe, seed=seed)
    factors = Factors(vectors, recipe.alpha, float(recipe.regularization or 0.0))
    asked = matrix if rows is None else matrix[rows]
    scores = np.zeros(asked.shape)
    for row in range(len(scores)):
        mine = slice(asked.indptr[row], asked.indptr[row + 1])
        if (folded := factors.fold_in(asked.indices[mine], asked.data[mine])) is not None:
            scores[row] = vectors @ folded.vector
    return scores


def bm25(matrix: Any, *, rows: Ints | None = None, neighbours: int = 100, k1: float = 1.2, b: float = 0.75) -> Floats:
    """Return item-kNN scores with BM25 weights of the readers in ``rows`` (all by default).

    Each article keeps its ``neighbours`` most similar ones, itself among them.

    References
    ----------
    As ``implicit.nearest_neighbours.BM25Recommender`` (tested against it), which warns at every fit.
    """
    from implicit.nearest_neighbours import bm25_weight

    weighed = bm25_weight(matrix.T, k1, b).tocsr()  # articles are the documents, readers the terms
    similar = (weighed @ weighed.T).toarray()
    if neighbours < len(similar):
        similar[similar < np.partition(similar, -neighbours, axis=1)[:, -neighbours, None]] = 0.0
    return np.asarray((matrix if rows is None else matrix[rows]) @ similar)


def svd(matrix: Any, *, factors: int = 15) -> Floats:
    """Return the matrix rebuilt from its ``factors`` largest singular values."""
    from scipy.sparse.linalg import svds

    left, values, right = svds(matrix, factors, v0=np.ones(min(matrix.shape)))
    return np.asarray(left * values @ right)


def rp3beta(matrix: Any, *, alpha: float, beta: float) -> Floats:
    """Return the chance of a three-step walk reader - article - reader - article, damped for popular articles.

    Parameters
    ----------
    alpha : exponent of every step's chance. beta : exponent of the end's readers; 0 damps nothing.

    References
    ----------
    Paudel et al., Updatable, accurate, diverse, and scalable recommendations for interactive applications, 2017.
    """
    read = sp.csr_matrix((np.ones(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape)
    of_reader, of_article = (np.maximum(np.asarray(read.sum(axis=axis)).ravel(), 1.0) for axis in (1, 0))
    forth = sp.diags(of_reader**-alpha) @ read
    back = sp.diags(of_article**-alpha) @ read.T
    walk = (back @ forth).toarray() / of_article**beta
    np.fill_diagonal(walk, 0.0)
    return np.asarray(read @ walk)


def blend(*parts: tuple[float, Floats]) -> Floats:
    """Return the weighted sum of (weight, scores), each standardised within the reader.

    Examples
    --------
    >>> blend((1.0, np.array([[0.0, 2.0]])), (0.5, np.array([[5.0, 5.0]]))).tolist()
    [[-1.0, 1.0]]
    """
    total = np.zeros(parts[0][1].shape)
    for weight, scores in parts:
        spread = scores.std(axis=1, keepdims=True)
        total += weight * (scores - scores.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
    return total
