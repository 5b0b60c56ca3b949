"""Train the ranker: which candidate of a past page view was opened next. Runs in a training process only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from experiments.errors import DataError
from experiments.serving.recommender import Catalogue
from experiments.serving.signals import HOUR, Reads
from recsys import fit_als
from recsys.arms.als import folded
from recsys.candidates import candidates
from recsys.factors import Factors
from recsys.features import FEATURES, GROUPS, compute_features, fingerprint
from recsys.fit_als import AlsRecipe, als_factors
from recsys.requests import Request, Site, contexts, next_reads
from recsys.trees import Trees

__all__ = ["Examples", "RankedRecipe", "Trainer", "drawn", "examples", "fit_trees", "flatten"]

LEAST_EXAMPLES = 50


@dataclass(frozen=True, slots=True)
class RankedRecipe:
    """Parameters of the ranker; a changed recipe is a new arm.

    Parameters
    ----------
    window_h : of the page views it learns from. warm_up_h : reads kept before the first of them.
    requests : page views drawn from the window. negatives : candidates drawn per page view beside the opened one.
    refit_h : the ALS feature of a page view comes from vectors at most this old.
    """

    window_h: float = 168.0
    warm_up_h: float = 24.0
    requests: int = 4_000
    negatives: int = 40
    refit_h: float = 12.0
    trees: int = 300
    learning_rate: float = 0.04
    leaves: int = 31
    l2: float = 1.0
    threads: int = 1
    als: AlsRecipe = field(default_factory=AlsRecipe)


@dataclass(frozen=True, slots=True)
class Examples:
    """Training rows.

    Parameters
    ----------
    features : (n, features) float64. opened : (n,) bool. answered_at : (n,) unix seconds at which the next article was opened.
    requests : page views looked at. recall : share of them whose next article was a candidate.
    """

    features: npt.NDArray[np.float64]
    opened: npt.NDArray[np.bool_]
    answered_at: npt.NDArray[np.float64]
    requests: int
    recall: float


def examples(reads: Reads, site: Site, recipe: RankedRecipe, *, until: float, seed: int) -> Examples:
    """Return the rows of past page views whose next read was among the candidates.

    Parameters
    ----------
    reads : of readers the model may learn from. site : everybody's reads, for the signals.
    until : unix seconds; page views whose next read came later are not used.
    """
    first = float(reads.at[0]) if len(reads) else until
    since = max(until - recipe.window_h * HOUR, first + recipe.warm_up_h * HOUR)
    asked = next_reads(reads, since=since, until=until, most=recipe.requests, seed=seed)
    rng = np.random.default_rng(seed)
    parts: list[npt.NDArray[np.float64]] = []
    marks: list[npt.NDArray[np.bool_]] = []
    times: list[float] = []
    vectors = _Vectors(reads, site.catalogue, recipe, seed)
    for request, context in contexts(asked, site):
        union = candidates(context, folded(vectors.at(request), context, recipe.als.recent_reads))
        opened = union.articles == request.target
        if not opened.any():
            continue
        rows = drawn(opened, recipe.negatives, rng)
        parts.append(compute_features(context, union.articles, union.als)[rows])
        marks.append(opened[rows])
        times += [request.answered_at] * len(rows)
    if len(parts) < LEAST_EXAMPLES:
        raise DataError(
            f"only {len(parts)} page views of the window have a next read to learn from; {LEAST_EXAMPLES} are needed.", "Train later."
        )
    return Examples(np.concatenate(parts), np.concatenate(marks), np.array(times), len(asked), len(parts) / len(asked))


def drawn(opened: npt.NDArray[np.bool_], most: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Return the place of the opened candidate and of at most ``most`` others, ascending."""
    others = np.flatnonzero(~opened)
    if len(others) > most:
        others = np.sort(rng.choice(others, most, replace=False))
    return np.sort(np.concatenate([np.flatnonzero(opened), others]))


class _Vectors:
    """Article vectors as they were before a page view, refitted on a fixed grid."""

    def __init__(self, reads: Reads, catalogue: Catalogue, recipe: RankedRecipe, seed: int) -> None:
        self.reads, self.catalogue, self.recipe, self.seed = reads, catalogue, recipe, seed
        self.fitted_at = -np.inf
        self.factors: Factors | None = None

    def at(self, request: Request) -> Factors:
        grid = self.recipe.refit_h * HOUR
        moment = request.at // grid * grid
        if self.factors is None or moment != self.fitted_at:
            self.factors, self.fitted_at = als_factors(self.reads, self.catalogue, self.recipe.als, until=moment, seed=self.seed), moment
        return self.factors


def fit_trees(rows: Examples, recipe: RankedRecipe, *, without: Sequence[str] = ()) -> Trees:
    """Fit gradient-boosted trees; features named in ``without`` are blanked (the ablation)."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    model = HistGradientBoostingClassifier(
        max_iter=recipe.trees,
        learning_rate=recipe.learning_rate,
        max_leaf_nodes=recipe.leaves,
        l2_regularization=recipe.l2,
        random_state=0,
        early_stopping=False,  # it would validate on random rows, not on later ones
    )
    features = rows.features.copy()
    blank = np.asarray(np.isnan(features).all(axis=0))  # scikit-learn cannot bin a column without a value
    blank[[list(FEATURES).index(name) for name in without]] = True
    features[:, blank] = 0.0  # a constant is never split on, whatever comes later
    with threadpool_limits(recipe.threads):  # spinning OpenMP threads on a busy machine cost ten times the fit
        model.fit(features, rows.opened)
    return flatten(model)


def flatten(model: Any) -> Trees:
    """Return the trees of a fitted scikit-learn model as flat arrays (golden test: equal to ``decision_function`` to 1e-9)."""
    tables = [stage[0].nodes for stage in model._predictors]
    starts = np.cumsum([0, *(len(table) for table in tables)])
    nodes = np.concatenate(tables)
    if nodes["is_categorical"].any():
        raise DataError("the ranker has native categorical splits, which SHAP explains wrongly.", "Encode categories as numbers.")
    offset = np.repeat(starts[:-1], np.diff(starts))
    leaf = nodes["is_leaf"].astype(bool)
    own = np.arange(len(nodes))
    return Trees(
        roots=starts[:-1].astype(np.int32),
        feature=np.where(leaf, 0, nodes["feature_idx"]).astype(np.int32),
        threshold=np.clip(np.where(leaf, 0.0, nodes["num_threshold"]), -np.finfo(float).max, np.finfo(float).max),
        missing_left=nodes["missing_go_to_left"].astype(bool),
        left=np.where(leaf, own, nodes["left"] + offset).astype(np.int32),
        right=np.where(leaf, own, nodes["right"] + offset).astype(np.int32),
        value=np.where(leaf, nodes["value"], 0.0).astype(np.float64),
        leaf=leaf,
        rows=nodes["count"].astype(np.int64),
        baseline=np.asarray(model._baseline_prediction, np.float64).reshape(-1)[:1],
    )


class Trainer:
    """Fits the ``ranked`` arm as of any moment; the examples are computed once."""

    ablations: ClassVar[dict[str, tuple[str, ...]]] = {"without_als": GROUPS["als"]}

    def __init__(self, reads: Reads, site: Site, until: float, seed: int, recipe: RankedRecipe = RankedRecipe()) -> None:
        self.reads, self.site, self.seed, self.recipe = reads, site, seed, recipe
        self.rows = examples(reads, site, recipe, until=until, seed=seed)
        self._vectors = cache(self._als)  # the ablation needs the same ones

    def fit(self, until: float, without: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return arrays and manifest entries of a model that saw nothing at or after ``until``.

        Parameters
        ----------
        without : names of features to blank (an ablation).
        """
        before = self.rows.answered_at < until
        rows = Examples(
            self.rows.features[before], self.rows.opened[before], self.rows.answered_at[before], self.rows.requests, self.rows.recall
        )
        if int(rows.opened.sum()) < LEAST_EXAMPLES:
            raise DataError(
                f"only {int(rows.opened.sum())} page views before the split have a next read; {LEAST_EXAMPLES} are needed.", "Train later."
            )
        trees = fit_trees(rows, self.recipe, without=without)
        arrays, about = self._vectors(until)
        own = {key: value for key, value in asdict(self.recipe).items() if key != "als"}
        about = {**about, "parameters": {**about["parameters"], "als_window_h": about["parameters"]["window_h"], **own}}
        about["features"] = list(FEATURES)
        about["fingerprint"] = fingerprint()
        about["rows"] = {**about["rows"], "page_views": int(rows.opened.sum()), "examples": len(rows.opened)}
        about["candidate_recall"] = rows.recall
        return {**arrays, **trees.arrays()}, about

    def _als(self, until: float) -> tuple[dict[str, Any], dict[str, Any]]:
        return fit_als.fit(self.reads, self.site.catalogue, until=until, seed=self.seed, recipe=self.recipe.als)
