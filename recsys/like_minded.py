"""Heat with a long memory, and the same heat as seen by readers who have read what this reader has read."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recsys.weekly_log import Log

__all__ = ["hyperbolic_heat", "like_minded_heat", "similarity"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# chosen on the first nine of Deskdrop's seventeen cuts; docs/protocols-deskdrop.md has the neighbourhood
SOON_DAYS, SMOOTHING, TASTE = 0.1, 0.3, 2.0


def hyperbolic_heat(past: Log, at: float, readers: Ints) -> Floats:  # noqa: ARG001
    """Return (articles,): every reader's first read counts ``1 / (age + 0.1)``, age in days.

    Examples
    --------
    >>> once = Log(np.array([0, 0]), np.array([1, 1]), np.array([0.0, 0.4]), np.ones(2), (1, 2))
    >>> hyperbolic_heat(once, 0.4, np.array([0])).round(9).tolist()
    [0.0, 2.0]
    """
    first = past.first_reads()
    return np.asarray(np.bincount(first.article, weights=1.0 / (at - first.day + SOON_DAYS), minlength=past.shape[1]))


def like_minded_heat(past: Log, at: float, readers: Ints) -> Floats:
    """Return (q, articles): heat times (reads by like-minded readers / reads by all) squared, as a logarithm.

    A read by reader v counts ``s(u, v) / mean of s(u, .)`` for reader u, so that the ratio is about 1 for an article whose
    readers are as like u as readers are on average; 0.3 reads are added on either side. A reader without a past has ratio 1.
    """
    table = past.read().astype(np.float64)
    alike = similarity(table, readers)
    mean = alike.mean(axis=1, keepdims=True)
    warm = mean[:, 0] > 0
    alike[warm] /= mean[warm]
    alike[~warm] = 1.0
    ratio = (alike @ table + SMOOTHING) / (table.sum(axis=0) + SMOOTHING)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(hyperbolic_heat(past, at, readers)) + TASTE * np.log(ratio))


def similarity(table: Floats, readers: Ints) -> Floats:
    """Return (q, readers): cosine of what two readers have read, rare articles counting more; 0 with oneself.

    Parameters
    ----------
    table : (readers, articles), 1 where a reader has opened an article.

    References
    ----------
    User-based nearest neighbours, weights ``log(1 + readers / (1 + readers of the article))``.

    Examples
    --------
    >>> read = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    >>> similarity(read, np.array([0])).round(6).tolist()
    [[0.0, 1.0, 0.0]]
    """
    weighed = table * np.log(1.0 + len(table) / (1.0 + table.sum(axis=0)))
    length = np.linalg.norm(weighed, axis=1)
    weighed /= np.where(length > 0, length, 1.0)[:, None]
    alike = weighed[readers] @ weighed.T
    alike[np.arange(len(readers)), readers] = 0.0
    return np.asarray(alike)
