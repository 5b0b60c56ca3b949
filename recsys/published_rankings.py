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
from recsys.collaborative import als, blend, bm25, popularity, rp3beta, svd
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


BROAD = AlsRecipe(factors=128, regularization=300.0, alpha=100.0)
CLOSE_DAYS = 4.0


def closeness(data: Training) -> Floats:
    """Return log of how much of an article's reading fell into days on which the reader was active, smoothed by four days.

    Both come from pairs that models may see; when a hidden pair was read is nowhere used.
    """
    from scipy.ndimage import gaussian_filter1d

    day = data.day.astype(np.int64)
    width = int(day.max()) + 1
    active, read = np.zeros((data.shape[0], width)), np.zeros((data.shape[1], width))
    np.add.at(active, (data.reader, day), 1.0)
    np.add.at(read, (data.article, day), 1.0)
    active = gaussian_filter1d(active, CLOSE_DAYS, axis=1, mode="constant")
    return np.asarray(np.log(active / active.sum(axis=1, keepdims=True) @ read.T + 1e-3))


PARTS: dict[str, tuple[float, Model]] = {
    "als_broad": (1.0, lambda data: als(data.matrix, BROAD)),
    "rp3beta": (0.5, lambda data: rp3beta(data.matrix, alpha=0.7, beta=0.4)),
    "popularity": (-0.2, lambda data: np.log1p(popularity(data.matrix))),
    "closeness": (0.3, closeness),
}
"""What ``tuned`` blends, chosen on splits of the training pairs; docs/protocols-deskdrop.md has the figures."""


def _published_blend(data: Training) -> Floats:
    wide = AlsRecipe(factors=64, regularization=10.0, alpha=40.0)
    return blend((1.0, als(data.matrix, wide)), (1.0, bm25(data.matrix)), (0.3, np.log1p(popularity(data.matrix))))


def _tuned(without: Sequence[str] = ()) -> Model:
    return lambda data: blend(*((weight, part(data)) for name, (weight, part) in PARTS.items() if name not in without))


MODELS: dict[str, Model] = {
    "popularity": lambda data: popularity(data.matrix),
    "svd": lambda data: svd(data.matrix),
    "als": lambda data: als(data.matrix),
    "bm25": lambda data: bm25(data.matrix),
    "blend": _published_blend,
    "rp3beta": PARTS["rp3beta"][1],
    "als_broad": PARTS["als_broad"][1],
    "tuned": _tuned(),
}
RANKINGS = tuple(MODELS)
TIMED = ("newest", "heat", "co_read", "co_read_heat", "ranked")


def published_rankings(names: Sequence[str]) -> dict[str, Model]:
    """Return the named models; ``tuned-closeness`` is ``tuned`` without that part (of ``als_broad rp3beta popularity closeness``).

    Raises
    ------
    ArmError
        A model is unknown, or needs a moment to rank at, which a random split does not have.

    Examples
    --------
    >>> list(published_rankings(["als"]))
    ['als']
    """
    chosen: dict[str, Model] = {}
    for name in names:
        whole, _, without = name.partition("-")
        if name in TIMED or name.startswith("heat_"):
            raise ArmError(
                f"'{name}' ranks as of a moment, and a random split has none; use --protocol weekly.", f"Here: {', '.join(MODELS)}."
            )
        if whole == "tuned" and without in PARTS:
            chosen[name] = _tuned([without])
        elif name in MODELS:
            chosen[name] = MODELS[name]
        else:
            raise ArmError(f"no ranking is called '{name}'; {nearest(name, MODELS)}")
    return chosen
