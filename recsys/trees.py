"""Boosted trees as flat arrays, scored for all rows and trees at once (numpy only: this runs in the web process)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.errors import ArtefactError

__all__ = ["FIELDS", "Trees", "trees_from_arrays"]

MOST_LEAVES = 64
ROWS_AT_ONCE = 64  # arrays above 128 KB go back to the kernel and are faulted in again at every call
Ints = npt.NDArray[np.int64]
Sets = npt.NDArray[np.unsignedinteger[Any]]
FIELDS = ("roots", "feature", "threshold", "missing_left", "left", "right", "value", "leaf", "rows", "baseline")


@dataclass(frozen=True)
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
        return np.asarray(self._tables.sums(features) + self.baseline[0])

    @cached_property
    def _tables(self) -> _Tables:
        tree, first, leaves = _leaves(self)
        return _tables(self, tree, first, leaves)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays to publish."""
        return {name: getattr(self, name) for name in FIELDS}


@dataclass(frozen=True, slots=True)
class _Tables:
    """Which leaves of each tree stay open, by feature; the first open one is where a row ends.

    features : (feature, (m,) thresholds ascending and infinity, (m + 2, trees) sets of leaves as bits) of every feature that is asked
    for. Row i holds the leaves left open when the i smallest thresholds lie below the value; the last row is for a missing value,
    which numpy searches behind infinity.
    leaf_value : (trees * most,) the leaves of each tree, from the left; tree t begins at ``starts[t]``. all_open : the set of all leaves.

    References
    ----------
    Lucchese et al., QuickScorer: a fast algorithm to rank documents with additive ensembles of regression trees, SIGIR 2015;
    here the sets are intersected over all smaller thresholds beforehand, so a row costs one look per feature.
    """

    features: tuple[tuple[int, npt.NDArray[np.float64], Sets], ...]
    leaf_value: npt.NDArray[np.float64]
    starts: Ints
    all_open: np.unsignedinteger[Any]

    def sums(self, features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(rows,) sum of what the trees say about each row; a feature between the same thresholds in all rows is looked up once."""
        sums = np.empty(len(features))
        if not len(features):
            return sums
        columns = np.ascontiguousarray(features.T)
        places = np.array([thresholds.searchsorted(columns[feature]) for feature, thresholds, _ in self.features])
        same = (places == places[:, :1]).all(axis=1)
        shared, looks = np.full(len(self.starts), self.all_open), []
        for (_, _, table), rows, alike in zip(self.features, places, same.tolist(), strict=True):
            if alike:
                shared &= table[rows[0]]
            else:
                looks.append((table, rows))
        for start in range(0, len(features), ROWS_AT_ONCE):
            some = slice(start, start + ROWS_AT_ONCE)
            sums[some] = self._values(shared, [(table, rows[some]) for table, rows in looks], len(sums[some])).sum(axis=1)
        return sums

    def _values(self, shared: Sets, looks: Sequence[tuple[Sets, npt.NDArray[np.intp]]], rows: int) -> npt.NDArray[np.float64]:
        """(rows, trees) value of the first leaf that is in ``shared`` and in every set that was looked up."""
        still_open = np.empty((rows, len(shared)), shared.dtype)
        still_open[:] = shared
        found = np.empty_like(still_open)
        for table, places in looks:
            table.take(places, axis=0, out=found, mode="clip")  # nothing is clipped; without a mode numpy takes a copy first
            still_open &= found
        np.negative(still_open, out=found)
        found &= still_open  # the lowest bit alone
        found -= 1
        return np.asarray(self.leaf_value.take(np.bitwise_count(found) + self.starts))


def _tables(trees: Trees, tree: Ints, first: Ints, leaves: Ints) -> _Tables:
    most = int(leaves.max())
    bits = np.uint32 if most <= 32 else np.uint64
    value = np.zeros((len(trees.roots), most))
    value[tree[trees.leaf], first[trees.leaf]] = trees.value[trees.leaf]
    features = []
    for feature in np.unique(trees.feature[~trees.leaf]).tolist():
        nodes = np.flatnonzero(~trees.leaf & (trees.feature == feature))
        thresholds, place = np.unique(trees.threshold[nodes], return_inverse=True)
        left = [((1 << int(leaves[trees.left[n]])) - 1) << int(first[n]) for n in nodes]
        kept = np.invert(np.array(left, bits))  # a value above the threshold closes the leaves on the left
        table = np.full((len(thresholds) + 2, len(trees.roots)), ~bits(0))
        np.bitwise_and.at(table, (place + 1, tree[nodes]), kept)
        table[:-1] = np.bitwise_and.accumulate(table[:-1])
        right = ~trees.missing_left[nodes]
        np.bitwise_and.at(table[-1], tree[nodes[right]], kept[right])
        features.append((feature, np.append(thresholds, np.inf), table))
    return _Tables(tuple(features), value.ravel(), np.arange(len(value)) * most, ~bits(0))


def _leaves(trees: Trees) -> tuple[Ints, Ints, Ints]:
    """(nodes,) tree of each node, number of its first leaf counted from the left, and how many leaves it has."""
    nodes = len(trees.feature)
    tree, first, leaves = np.zeros(nodes, np.int64), np.zeros(nodes, np.int64), trees.leaf.astype(np.int64)
    tree[trees.roots] = np.arange(len(trees.roots))
    inner = np.flatnonzero(~trees.leaf)
    for node in inner[::-1].tolist():
        leaves[node] = min(leaves[trees.left[node]] + leaves[trees.right[node]], MOST_LEAVES + 1)
    for node in inner.tolist():
        left, right = trees.left[node], trees.right[node]
        tree[[left, right]] = tree[node]
        first[left], first[right] = first[node], first[node] + leaves[left]
    if leaves.max() > MOST_LEAVES:
        raise ArtefactError(f"a tree of the ranker has more than {MOST_LEAVES} leaves.", "Train with fewer leaves a tree.")
    return tree, first, leaves


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
    _ = trees._tables  # computed here, not in the first request
    return trees
