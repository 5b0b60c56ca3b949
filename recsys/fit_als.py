"""Fit ALS on a reader x article matrix. Runs in a training process only: implicit and its threads stay out of the web."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.errors import DataError
from experiments.serving.packed import ARRAYS
from experiments.serving.recommender import Catalogue
from experiments.serving.signals import HOUR, Reads
from recsys.arms.als import article_factors
from recsys.factors import Factors
from recsys.interactions import Interactions, interactions
from recsys.requests import Site

__all__ = ["AlsRecipe", "Trainer", "als_factors", "article_vectors", "fit", "for_site"]


@dataclass(frozen=True, slots=True)
class AlsRecipe:
    """Parameters of an ALS arm; a changed recipe is a new arm. What is None follows from how busy the site is.

    Parameters
    ----------
    factors, regularization, window_h : None chooses 64, 0.1 and 72 h from 2,000 reads an hour on, else 16, 10 and 336 h: a
        small site needs longer to see a reader twice, and many factors learn its few reads by heart (two simulated sites of
        200 and 900 readers: hit rate at 10 of 0.64 and 0.33 against 0.41 and 0.10).
    half_life_h : of a read, hours.
    recent_reads : when folding a reader in, the k-th last read weighs ``0.5 ** (k / recent_reads)``.
    again : iterations of a fit that begins at the vectors of an earlier one (:class:`Trainer`); 0 begins every fit anew. None chooses
        3 on a busy site, else 0: a small site is fitted in no time.
    """

    factors: int | None = None
    regularization: float | None = None
    alpha: float = 10.0
    iterations: int = 10
    window_h: float | None = None
    half_life_h: float = 24.0
    recent_reads: float = 10.0
    threads: int = 1
    again: int | None = None


LONGEST_CHAIN_H = 48.0  # from the fit anew that a version goes back to: with trainings every hour, one a day begins anew
BUSY = AlsRecipe(factors=64, regularization=0.1, window_h=72.0, again=3)
SMALL = AlsRecipe(factors=16, regularization=10.0, window_h=336.0, again=0)


def for_site(recipe: AlsRecipe, reads: Reads, *, until: float) -> AlsRecipe:
    """Return the recipe with every choice made, for a site as busy as this one."""
    usual = BUSY if len(reads.before(until, until - 72 * HOUR)) >= 72 * 2_000 else SMALL
    open_choices = ("factors", "regularization", "window_h", "again")
    return replace(recipe, **{name: getattr(usual, name) for name in open_choices if getattr(recipe, name) is None})


def article_vectors(
    data: Interactions, recipe: AlsRecipe, *, seed: int, begin: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """Return (articles, factors) float32; articles nobody read have zero rows. Same data, seed and beginning: same bits.

    Parameters
    ----------
    recipe : with every choice made (:func:`for_site`).
    begin : (articles, factors) of an earlier fit, from which ``recipe.again`` iterations lead on; without it ``recipe.iterations``
        lead on from small random vectors, as they do for articles whose row in ``begin`` is zero.

    Raises
    ------
    DataError
        The matrix is empty.
    """
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    if not data.matrix.nnz:
        raise DataError("there are no reads to learn from in this window.", "Train later, or import a log.")
    with threadpool_limits(1, "blas"):  # implicit parallelises itself; nested BLAS threads are slower
        # a new object per fit: refitting one begins at its old vectors, whether they fit the catalogue or not
        model = AlternatingLeastSquares(
            factors=recipe.factors,
            regularization=recipe.regularization,
            alpha=recipe.alpha,
            iterations=recipe.iterations if begin is None else recipe.again,
            random_state=seed,
            num_threads=recipe.threads,  # 0 would take every core
        )
        if begin is not None:
            model.item_factors = _beginning(begin, seed)
        model.fit(data.matrix.astype(np.float32).tocsr(), show_progress=False)
    return np.array(model.item_factors, dtype=np.float32)


def _beginning(vectors: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float32]:
    """A copy in which articles without a vector have a random one: from zero, where readers are new too, it gets far too long or short."""
    small = np.random.default_rng(seed).random(vectors.shape, np.float32) * np.float32(0.01)
    return np.where(vectors.any(axis=1, keepdims=True), vectors, small)


def fit(
    reads: Reads, catalogue: Catalogue, *, until: float, seed: int, recipe: AlsRecipe = AlsRecipe()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arrays of an ``als`` bundle and what its manifest should say about them.

    Parameters
    ----------
    reads : only those before ``until`` (unix seconds) are used.
    """
    chosen = for_site(recipe, reads, until=until)
    data = _window(reads, catalogue, chosen, until=until)
    return _bundle(article_vectors(data, chosen, seed=seed), data, chosen, catalogue)


def _window(reads: Reads, catalogue: Catalogue, chosen: AlsRecipe, *, until: float) -> Interactions:
    return interactions(reads, len(catalogue), until=until, window_h=chosen.window_h or 0.0, half_life_h=chosen.half_life_h)


def _bundle(
    vectors: npt.NDArray[np.float32], data: Interactions, chosen: AlsRecipe, catalogue: Catalogue
) -> tuple[dict[str, Any], dict[str, Any]]:
    known = np.flatnonzero(np.abs(vectors).max(axis=1) > 0).astype(np.int32)
    about: Mapping[str, Any] = {
        "parameters": asdict(chosen),
        "articles": len(catalogue),
        "catalogue": catalogue.version,
        "ids": [catalogue.ids[i] for i in known],
        "rows": {"readers": int(data.matrix.shape[0]), "articles": len(known), "pairs": int(data.matrix.nnz)},
    }
    return {"vectors": vectors[known]}, dict(about)


def als_factors(reads: Reads, catalogue: Catalogue, recipe: AlsRecipe, *, until: float, seed: int) -> Factors:
    """Return vectors fitted on reads before ``until``, spread over the catalogue; all zero when there are no reads yet."""
    if not len(reads.before(until)):
        return Factors(np.zeros((len(catalogue), 1), np.float32), recipe.alpha, 1.0)
    arrays, about = fit(reads, catalogue, until=until, seed=seed, recipe=recipe)
    spread = np.zeros((len(catalogue), arrays["vectors"].shape[1]), np.float32)
    spread[[catalogue.positions[identity] for identity in about["ids"]]] = arrays["vectors"]
    return Factors(spread, recipe.alpha, float(about["parameters"]["regularization"]))


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fit that a later one may begin at.

    Parameters
    ----------
    until : unix seconds, it saw nothing at or after them. vectors : (articles, factors), over the catalogue of this training.
    anew : until of the fit from random vectors that it goes back to, by one step or many.
    version, sha256 : of the published version it was read from, and of that one's arrays; empty when it was fitted in this training.
    """

    until: float
    vectors: npt.NDArray[np.float32]
    anew: float
    version: str = ""
    sha256: str = ""

    def told(self) -> dict[str, Any]:
        """What a manifest says of the beginning: with it, the seed and the reads the same bits come again."""
        return {"version": self.version, "sha256": self.sha256, "until": round(self.until * 1e6), "anew_until": round(self.anew * 1e6)}


@dataclass(slots=True)
class Trainer:
    """Fits the ``als`` arm as of any moment (see :mod:`recsys.training`).

    On a busy site a fit begins at the vectors of an earlier moment: those of the version that serves (:meth:`lead_on`), or of the fit
    that was judged a day earlier. Three iterations from there find the next click more often than ten from random ones.
    """

    reads: Reads
    site: Site
    until: float
    seed: int
    recipe: AlsRecipe = AlsRecipe()
    fitted: Fitted | None = field(default=None, init=False)

    @property
    def ablations(self) -> dict[str, tuple[str, ...]]:
        return {}

    def lead_on(self, arrays: Mapping[str, npt.NDArray[Any]], about: Mapping[str, Any]) -> bool:
        """Take a published version for an earlier fit, so that the next one begins at it; False where that one begins anew.

        It does when the recipe was another, and when the version goes back to a fit anew of more than two days ago.

        Parameters
        ----------
        arrays, about : of the version, as :func:`experiments.serving.artefacts.read_bundle` returns them.

        Raises
        ------
        ArtefactError
            Arrays and manifest disagree.
        """
        chosen, until = for_site(self.recipe, self.reads, until=self.until), about["until"] / 1e6
        began = about.get("began")  # of an earlier release it is the moment of a fit anew, or None
        anew = ((began.get("anew_until") if isinstance(began, Mapping) else began) or about["until"]) / 1e6
        if not chosen.again or about.get("parameters") != asdict(chosen) or self.until - anew > LONGEST_CHAIN_H * HOUR:
            return False
        if self.fitted is None or self.fitted.until < until:
            vectors = article_factors(arrays, about, self.site.catalogue).vectors
            self.fitted = Fitted(until, vectors, anew, str(about["version"]), str(about["files"][ARRAYS]["sha256"]))
        return True

    def fit(self, until: float, without: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return arrays and manifest entries of a model that saw nothing at or after ``until``; ALS has no part to leave out."""
        if without:
            raise DataError(f"'als' has no features to leave out, asked for {', '.join(without)}.")
        chosen = for_site(self.recipe, self.reads, until=until)
        began = self.fitted
        if began is not None and (not chosen.again or began.until >= until or began.vectors.shape[1] != chosen.factors):
            began = None
        data = _window(self.reads, self.site.catalogue, chosen, until=until)
        vectors = article_vectors(data, chosen, seed=self.seed, begin=began.vectors if began else None)
        self.fitted = Fitted(until, vectors, began.anew if began else until)
        arrays, about = _bundle(vectors, data, chosen, self.site.catalogue)
        return arrays, {**about, "began": began.told() if began else {}}
