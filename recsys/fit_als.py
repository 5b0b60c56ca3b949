"""Fit ALS on a reader x article matrix. Runs in a training process only: implicit and its threads stay out of the web."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.errors import DataError
from experiments.serving.recommender import Catalogue
from experiments.serving.signals import HOUR, Reads
from recsys.factors import Factors
from recsys.interactions import Interactions, interactions
from recsys.requests import Site

__all__ = ["AlsRecipe", "Trainer", "als_factors", "article_vectors", "fit", "window"]


@dataclass(frozen=True, slots=True)
class AlsRecipe:
    """Parameters of an ALS arm; a changed recipe is a new arm.

    Parameters
    ----------
    window_h, half_life_h : of the training reads, hours; None chooses 72 and 24 on a busy site (2,000 reads an hour),
        else 336 and 168, because a small site needs longer to see the same reader twice.
    recent_reads : when folding a reader in, the k-th last read weighs ``0.5 ** (k / recent_reads)``.
    """

    factors: int = 64
    regularization: float = 0.1
    alpha: float = 10.0
    iterations: int = 10
    window_h: float | None = None
    half_life_h: float | None = None
    recent_reads: float = 10.0
    threads: int = 1


def window(reads: Reads, recipe: AlsRecipe, *, until: float) -> tuple[float, float]:
    """Return (window, half-life) in hours for a site as busy as this one."""
    busy = len(reads.before(until, until - 72 * HOUR)) >= 72 * 2_000
    return recipe.window_h or (72.0 if busy else 336.0), recipe.half_life_h or (24.0 if busy else 168.0)


def article_vectors(data: Interactions, recipe: AlsRecipe, *, seed: int) -> npt.NDArray[np.float32]:
    """Return (articles, factors) float32; articles nobody read have zero rows. Same data and seed: same bits.

    Raises
    ------
    DataError
        The matrix is empty.
    """
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    if not data.matrix.nnz:
        raise DataError("there are no reads to learn from in this window.", "Train on a longer window, or import a log.")
    with threadpool_limits(1, "blas"):  # implicit parallelises itself; nested BLAS threads are slower
        # a new object per fit: refitting one warm-starts from the old vectors
        model = AlternatingLeastSquares(
            factors=recipe.factors,
            regularization=recipe.regularization,
            alpha=recipe.alpha,
            iterations=recipe.iterations,
            random_state=seed,
            num_threads=recipe.threads,  # 0 would take every core
        )
        model.fit(data.matrix.astype(np.float32).tocsr(), show_progress=False)
    vectors = np.array(model.item_factors, dtype=np.float32)
    vectors[np.diff(data.matrix.tocsc().indptr) == 0] = 0.0
    return vectors


def fit(
    reads: Reads, catalogue: Catalogue, *, until: float, seed: int, recipe: AlsRecipe = AlsRecipe()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arrays of an ``als`` bundle and what its manifest should say about them.

    Parameters
    ----------
    reads : only those before ``until`` (unix seconds) are used.
    """
    window_h, half_life_h = window(reads, recipe, until=until)
    data = interactions(reads, len(catalogue), until=until, window_h=window_h, half_life_h=half_life_h)
    vectors = article_vectors(data, recipe, seed=seed)
    known = np.flatnonzero(np.abs(vectors).max(axis=1) > 0).astype(np.int32)
    about: Mapping[str, Any] = {
        "parameters": {**asdict(recipe), "window_h": window_h, "half_life_h": half_life_h},
        "articles": len(catalogue),
        "catalogue": catalogue.version,
        "ids": [catalogue.ids[i] for i in known],
        "rows": {"readers": int(data.matrix.shape[0]), "articles": len(known), "pairs": int(data.matrix.nnz)},
    }
    return {"vectors": vectors[known]}, dict(about)


def als_factors(reads: Reads, catalogue: Catalogue, recipe: AlsRecipe, *, until: float, seed: int) -> Factors:
    """Return vectors fitted on reads before ``until``, spread over the catalogue; all zero when there are no reads yet."""
    spread = np.zeros((len(catalogue), recipe.factors), np.float32)
    if len(reads.before(until)):
        arrays, about = fit(reads, catalogue, until=until, seed=seed, recipe=recipe)
        spread[[catalogue.positions[identity] for identity in about["ids"]]] = arrays["vectors"]
    return Factors(spread, recipe.alpha, recipe.regularization)


@dataclass(frozen=True, slots=True)
class Trainer:
    """Fits the ``als`` arm as of any moment (see :mod:`recsys.training`)."""

    reads: Reads
    site: Site
    until: float
    seed: int
    recipe: AlsRecipe = AlsRecipe()

    @property
    def ablations(self) -> dict[str, tuple[str, ...]]:
        return {}

    def fit(self, until: float, without: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return arrays and manifest entries of a model that saw nothing at or after ``until``; ALS has no part to leave out."""
        if without:
            raise DataError(f"'als' has no features to leave out, asked for {', '.join(without)}.")
        return fit(self.reads, self.site.catalogue, until=until, seed=self.seed, recipe=self.recipe)
