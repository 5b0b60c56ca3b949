"""Boosted trees as flat arrays, walked level by level for all rows and trees at once (numpy only)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.errors import ArtefactError

__all__ = ["FIELDS", "Trees", "trees_from_arrays"]

FIELDS = ("roots", "feature", "threshold", "missing_left", "left", "right", "value", "leaf", "rows", "baseline")


@dataclass(frozen=True, slots=True)
class Trees:
    """An additive model of trees over float64 features; missing values are NaN.

    Parameters
    ----------
    roots : (trees,) int32, node of each root. The other arrays have one entry per node:
    feature int32; threshold float64 (a row goes left when its value is at most that); missing_left bool (where a missing
    value goes); left, right int32 (a leaf points to itself); value float64 (of a leaf); leaf bool; rows int64 (training rows).
    baseline : (1,) float64, added to every sum.
    """

    roots: npt.NDArray[np.int32]
    feature: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float64]
    missing_left: npt.NDArray[np.bool_]
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    value: npt.NDArray[np.float64]
    leaf: npt.NDArray[np.bool_]
    rows: npt.NDArray[np.int64]
    baseline: npt.NDArray[np.float64]

    def decision(self, features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return (rows,) log-odds for (rows, features); equal to scikit-learn's ``decision_function`` to 1e-9."""
        width = features.shape[1]
        flat = np.ascontiguousarray(features, np.float64).reshape(-1)
        node = np.tile(self.roots, len(features))
        start = np.repeat(np.arange(len(features)) * width, len(self.roots))
        going = np.flatnonzero(~self.leaf[node])
        while len(going):
            at = node[going]
            value = flat[start[going] + self.feature[at]]
            left = (value <= self.threshold[at]) | (np.isnan(value) & self.missing_left[at])
            at = np.where(left, self.left[at], self.right[at])
            node[going] = at
            going = going[~self.leaf[at]]
        return np.asarray(self.value[node].reshape(len(features), -1).sum(axis=1) + self.baseline[0])

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays to publish."""
        return {name: getattr(self, name) for name in FIELDS}


def trees_from_arrays(arrays: Mapping[str, npt.NDArray[Any]], n_features: int) -> Trees:
    """Rebuild trees from published arrays.

    Raises
    ------
    ArtefactError
        An array is missing, the shapes differ, a node points outside or backwards (the walk would not end), or the model is constant.
    """
    missing = [name for name in FIELDS if name not in arrays]
    if missing:
        raise ArtefactError(f"the trees lack {', '.join(missing)}.", "Train again.")
    trees = Trees(**{name: np.asarray(arrays[name]) for name in FIELDS})
    nodes = len(trees.feature)
    own = np.arange(nodes)
    inner = ~trees.leaf
    faults = [
        (any(np.shape(getattr(trees, name)) != (nodes,) for name in FIELDS[1:-1]), "arrays of nodes differ in length"),
        (trees.baseline.shape != (1,), "there is not one baseline"),
        (not len(trees.roots) or trees.roots.min() < 0 or trees.roots.max() >= nodes, "a root lies outside"),
        (
            bool((trees.feature[inner] >= n_features).any() or (trees.feature[inner] < 0).any()),
            f"a node asks for a feature beyond {n_features}",
        ),
    ]
    told = [says for bad, says in faults if bad]
    if not told and any(((side[inner] <= own[inner]) | (side[inner] >= nodes)).any() for side in (trees.left, trees.right)):
        told.append("a node points outside or backwards")
    if not told and not inner.any():
        told.append("the model is constant: no tree has a split")
    if told:
        raise ArtefactError("the trees cannot be used.", "Train again.", told)
    return trees
