"""Models of protocol D: each sees the pairs that are not hidden and scores every article for every reader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from experiments.errors import ArmError, nearest
from recsys.collaborative import als, blend, bm25, popularity, svd
from recsys.fit_als import AlsRecipe

__all__ = ["RANKINGS", "Model", "Training", "published_rankings"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Training:
    """The pairs a model may learn from.

    Parameters
    ----------
    reader, article : (n,) int64 codes. strength : (n,) float64. day : (n,) float64, when the reader first opened the article.
    shape : readers and articles; an article may have no pair.
    """

    reader: Ints
    article: Ints
    strength: Floats
    day: Floats
    shape: tuple[int, int]

    @cached_property
    def matrix(self) -> Any:
        """(readers, articles) CSR of strengths."""
        return sp.csr_matrix((self.strength, (self.reader, self.article)), shape=self.shape)


Model = Callable[[Training], Floats]


def _published_blend(data: Training) -> Floats:
    wide = AlsRecipe(factors=64, regularization=10.0, alpha=40.0)
    return blend((1.0, als(data.matrix, wide)), (1.0, bm25(data.matrix)), (0.3, np.log1p(popularity(data.matrix))))


MODELS: dict[str, Model] = {
    "popularity": lambda data: popularity(data.matrix),
    "svd": lambda data: svd(data.matrix),
    "als": lambda data: als(data.matrix),
    "bm25": lambda data: bm25(data.matrix),
    "blend": _published_blend,
}
RANKINGS = tuple(MODELS)
TIMED = ("newest", "heat", "co_read", "co_read_heat", "ranked")


def published_rankings(names: Sequence[str]) -> dict[str, Model]:
    """Return the named models.

    Raises
    ------
    ArmError
        A model is unknown, or needs a moment to rank at, which a random split does not have.

    Examples
    --------
    >>> list(published_rankings(["als"]))
    ['als']
    """
    for name in names:
        if name in TIMED or name.startswith("heat_"):
            raise ArmError(
                f"'{name}' ranks as of a moment, and a random split has none; use --protocol weekly.", f"Here: {', '.join(MODELS)}."
            )
        if name not in MODELS:
            raise ArmError(f"no ranking is called '{name}'; {nearest(name, MODELS)}")
    return {name: MODELS[name] for name in names}
