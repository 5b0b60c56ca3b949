"""The two-stage ranker: candidates from heat, co-reading and ALS, scored by boosted trees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from experiments.errors import ArtefactError
from experiments.experiment import Audience, Kind
from experiments.serving.recommender import Catalogue, Context, Ranking, register
from experiments.serving.slate_rows import ascending
from recsys.arms.als import article_factors, folded
from recsys.candidates import Shelf, Union, candidates
from recsys.factors import Factors
from recsys.features import FEATURES, compute_features, fingerprint
from recsys.trees import Trees, trees_from_arrays

__all__ = ["Ranked"]


@register
class Ranked:
    """Score the union of three candidate lists with trees that learned which candidate readers open next."""

    name: ClassVar[str] = "ranked"
    kind: ClassVar[Kind] = "model"
    audience: ClassVar[Audience] = "agreed"
    trainer: ClassVar[str] = "recsys.fit_ranked"
    card: ClassVar[Mapping[str, str]] = {
        "limits": "Learned from next reads, which favour what the front page showed; scores only its candidates.",
        "cost": "A training of minutes a day; about 2 ms a request.",
        "owner": "data science",
        "retrain": "Daily, and when its quality falls.",
    }

    def __init__(self, trees: Trees, factors: Factors, *, version: str, recent_reads: float) -> None:
        self.trees = trees
        self.factors = factors
        self.version = version
        self.recent_reads = recent_reads
        self._shelf: Shelf | None = None

    @classmethod
    def load(cls, arrays: Mapping[str, npt.NDArray[Any]], manifest: Mapping[str, Any], catalogue: Catalogue) -> Ranked:
        """Return a ready arm; raises :class:`ArtefactError` when it was trained on another list of features."""
        if manifest.get("fingerprint") != fingerprint():
            raise ArtefactError("bundle of 'ranked' was trained on another list of features.", "Train again.")
        factors = article_factors(arrays, manifest, catalogue)
        trees = trees_from_arrays(arrays, len(FEATURES))
        return cls(trees, factors, version=str(manifest.get("version", "")), recent_reads=float(manifest["parameters"]["recent_reads"]))

    def inputs(self, context: Context) -> tuple[Union, npt.NDArray[np.float64]]:
        """Return the candidates of a request and their (k, features) matrix; training calls the same function."""
        union = candidates(context, folded(self.factors, context, self.recent_reads), self._standing(context))
        return union, compute_features(context, union.articles, union.als)

    def _standing(self, context: Context) -> tuple[Shelf, npt.NDArray[np.intp]]:
        """The shelf of the last request as long as it reaches; replaced whole, so requests at the same time do not disturb each other."""
        before = self._shelf or Shelf.of(context.signals, self.factors, ascending(context.pool))
        shelf, place = before.reaching(context, self.factors)
        self._shelf = shelf
        return shelf, place

    def rank(self, context: Context) -> Ranking:
        """Rank the candidates by log-odds of being opened next."""
        union, features = self.inputs(context)
        if not len(union.articles):
            return Ranking.empty()
        return Ranking.best_first(union.articles, self.trees.decision(features), union.sources)
