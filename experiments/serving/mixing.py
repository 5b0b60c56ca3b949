"""The next article of a slate: one the arm wants, and unlike those already chosen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from experiments.serving.signals import Texts

__all__ = ["Mix", "cosines"]

RELEVANCE, LIKENESS = 0.7, 0.3


def cosines(texts: Texts, articles: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """Return (k, k) cosines of what articles are about, 0 for one without words (and with itself)."""
    vectors = np.zeros((len(articles), texts.vectors.shape[1]), np.float32)
    if len(texts.rows):
        place, known = texts.known(articles)
        vectors[known] = texts.vectors[place[known]]
    return np.asarray(vectors @ vectors.T)


class Mix:
    """Maximal marginal relevance: ``0.7 * score - 0.3 * largest cosine`` with those chosen.

    Parameters
    ----------
    scores : (k,) of an arm, brought to 0..1 here; where they say nothing (all equal, or infinite) the order alone decides.
    likeness : (k, k) cosines.

    References
    ----------
    Carbonell, Goldstein, The use of MMR, diversity-based reranking, SIGIR 1998; RECOMMENDING 4.

    Examples
    --------
    >>> mix = Mix([1.0, 0.9, 0.8, 0.0], np.array([[1.0, 0.9, 0.0, 0.0], [0.9, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]))
    >>> mix.next(), mix.chosen(0), mix.next()
    (0, None, 2)
    """

    def __init__(self, scores: Sequence[float], likeness: npt.NDArray[np.floating]) -> None:
        values = np.asarray(scores, np.float64)
        says = bool(np.isfinite(values).all()) and len(set(scores)) > 1
        self.value = RELEVANCE * ((values - values.min()) / (values.max() - values.min()) if says else np.linspace(1.0, 0.0, len(values)))
        self.likeness = likeness if says else np.zeros_like(likeness)
        self.nearest = np.zeros(len(values))

    def next(self) -> int | None:
        """Place of the best one not yet looked at, which is then looked at; None when there is none."""
        found = int((self.value - LIKENESS * self.nearest).argmax()) if len(self.value) else -1
        if found < 0 or self.value[found] == -np.inf:
            return None
        self.value[found] = -np.inf
        return found

    def chosen(self, place: int) -> None:
        """What comes next is compared with this one, too."""
        np.maximum(self.nearest, self.likeness[place, : len(self.nearest)], out=self.nearest)
