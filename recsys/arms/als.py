"""Plain ALS: what readers with a history like yours went on to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from experiments.errors import ArtefactError
from experiments.experiment import Audience, Kind
from experiments.serving.recommender import Catalogue, Context, Ranking, register
from experiments.serving.slate_rows import ascending
from recsys.factors import Factors, Folded

__all__ = ["Als", "article_factors", "folded"]


@register
class Als:
    """Fold the reader's reads into published article vectors and rank the pool by dot product.

    A reader without a read that has a vector gets an empty ranking: the ladder takes over.
    """

    name: ClassVar[str] = "als"
    kind: ClassVar[Kind] = "model"
    audience: ClassVar[Audience] = "agreed"
    trainer: ClassVar[str] = "recsys.fit_als"
    uses_texts: ClassVar[bool] = False
    waived: ClassVar[str] = "plain ALS is expected to lose offline; only the test on readers settles it"
    card: ClassVar[Mapping[str, str]] = {
        "limits": "Articles without a read have no vector; readers without a read get the ladder.",
        "cost": "A training of seconds an hour; the vectors of all articles in memory.",
        "owner": "data science",
        "retrain": "Hourly in production.",
    }

    def __init__(self, factors: Factors, *, version: str, recent_reads: float) -> None:
        self.factors = factors
        self.version = version
        self.recent_reads = recent_reads

    @classmethod
    def load(cls, arrays: Mapping[str, npt.NDArray[Any]], manifest: Mapping[str, Any], catalogue: Catalogue) -> Als:
        """Return a ready arm; articles that joined the catalogue later simply have no vector yet."""
        factors = article_factors(arrays, manifest, catalogue)
        return cls(factors, version=str(manifest.get("version", "")), recent_reads=float(manifest["parameters"]["recent_reads"]))

    def rank(self, context: Context) -> Ranking:
        """Rank the articles of the pool that have a vector; empty when no read has one."""
        reader = folded(self.factors, context, self.recent_reads)
        inside = context.pool[context.pool < len(self.factors.vectors)]
        candidates = ascending(inside[self.factors.known[inside]])
        if reader is None or not len(candidates):
            return Ranking.empty()
        return Ranking.best_first(candidates, reader.scores(candidates), "als")

    def explain(self, context: Context, article: int) -> list[tuple[int, float]]:
        """Return (read article, contribution) pairs, largest first; they add up to the served score."""
        reader = folded(self.factors, context, self.recent_reads)
        if reader is None or not (0 <= article < len(self.factors.known) and self.factors.known[article]):
            return []
        return reader.contributions(article)


def folded(factors: Factors, context: Context, recent_reads: float) -> Folded | None:
    """Return the reader of a request: reads oldest first, then the open article; the k-th last weighs ``0.5 ** (k / recent_reads)``."""
    reads: Sequence[int] = context.reads
    if context.article is not None and (not reads or reads[-1] != context.article):
        reads = (*reads, context.article)
    weights = 0.5 ** (np.arange(len(reads))[::-1] / recent_reads)
    return factors.fold_in(reads, weights)


def article_factors(arrays: Mapping[str, npt.NDArray[Any]], manifest: Mapping[str, Any], catalogue: Catalogue) -> Factors:
    """Spread published vectors over today's catalogue by article id.

    Raises
    ------
    ArtefactError
        Arrays and manifest disagree, or all vectors are equal (a constant model).
    """
    try:
        vectors = np.asarray(arrays["vectors"], np.float32)
        ids, parameters = list(manifest["ids"]), manifest["parameters"]
        alpha, regularization = float(parameters["alpha"]), float(parameters["regularization"])
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"bundle of 'als' lacks {error}.", "Train again.") from error
    if vectors.ndim != 2 or len(vectors) != len(ids):
        raise ArtefactError(f"bundle of 'als' has vectors of shape {vectors.shape} for {len(ids)} articles.", "Train again.")
    if not np.isfinite(vectors).all():
        raise ArtefactError("bundle of 'als' holds vectors that are not finite.", "Train again.")
    if len(vectors) > 1 and (vectors == vectors[0]).all():
        raise ArtefactError("bundle of 'als' is constant: every article has the same vector.", "Train again.")
    positions = np.array([catalogue.positions.get(identity, -1) for identity in ids], np.int64)
    spread = np.zeros((len(catalogue), vectors.shape[1]), np.float32)
    spread[positions[positions >= 0]] = vectors[positions >= 0]
    factors = Factors(spread, alpha, regularization)
    _ = factors.base, factors.known  # computed here, not in the first request
    return factors
