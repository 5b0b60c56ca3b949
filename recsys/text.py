"""What articles are about, as vectors: a cold article has no reads, but it has words.

``python -m recsys.text --home H --until US`` fits them in a process of its own and publishes plain arrays under ``home/texts``;
the signals carry them to every web process.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.content import load_catalogue
from experiments.errors import PresslabError
from experiments.serving.artefacts import point, write_bundle
from experiments.serving.recommender import Article, Catalogue
from experiments.serving.signals import HOUR, Texts

__all__ = ["fit_texts", "main", "same_story", "words_of"]

TERMS, DIMENSIONS = 20_000, 128
WINDOW_H = 14 * 24.0
ALIKE, ROWS = 0.8, 512  # cosine from which two articles tell the same; rows compared at once
COMMON, ENOUGH = 0.3, 20  # a word in three of ten articles of a language says nothing, once there are twenty


def words_of(article: Article) -> str:
    """Return headline, summary and text; nothing for an imported article whose text was not in the import.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> words_of(Article("7", "Article 7", "", "No text.", "s", "", datetime(2026, 1, 1, tzinfo=UTC), imported=True))
    ''
    """
    if article.imported and article.title == f"Article {article.id}":
        return ""
    return f"{article.title} {article.dek} {article.body}"


def fit_texts(catalogue: Catalogue, *, until: float, window_h: float = WINDOW_H, seed: int = 0) -> Texts:
    """Return unit vectors of articles published in ``[until - window_h, until]`` and of evergreens, and which of them tell the same.

    No read enters.

    Parameters
    ----------
    until : unix seconds; an article published later does not exist yet. Same articles and seed: same bits on one machine.

    References
    ----------
    TF-IDF of 1- and 2-grams (the 20,000 most frequent), then a truncated SVD of at most 128 dimensions: latent semantic analysis,
    Deerwester et al., 1990. Articles whose TF-IDF cosine is 0.8 or more, directly or through others, are one story (RECOMMENDING 4).
    """
    age_h = (until - catalogue.published) / HOUR
    found = np.flatnonzero((age_h >= 0) & ((age_h <= window_h) | catalogue.evergreen) & ~catalogue.withdrawn)
    articles = [catalogue.articles[i] for i in found]
    words = [words_of(article) for article in articles]
    rows = np.array([i for i, text in enumerate(words) if text.strip()], np.int64)
    if len(rows) < 2:
        return Texts.none()
    matrix = _weights([words[i] for i in rows], [articles[i].language for i in rows])
    vectors = np.zeros((len(rows), 1)) if matrix is None else _vectors(matrix, seed)
    length = np.linalg.norm(vectors, axis=1)
    said = length > 1e-6
    if matrix is None or not said.any():
        return Texts.none()
    unit = (vectors[said] / length[said, None]).astype(np.float32)
    return Texts(found[rows[said]].astype(np.int32), unit, same_story(matrix[said]))


def same_story(weights: Any) -> npt.NDArray[np.int32]:
    """Return (m,) the number of the story an article shares with others, -1 for one that stands alone.

    Parameters
    ----------
    weights : (m, terms) CSR matrix, rows of length 1.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> same_story(sp.csr_matrix([[1.0, 0.0], [0.0, 1.0], [0.9, 0.43589]])).tolist()
    [0, -1, 0]
    """
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    across = weights.T.tocsr()
    near = sparse.vstack([_near(weights[first : first + ROWS] @ across) for first in range(0, weights.shape[0], ROWS)])
    story = connected_components(near, directed=False)[1]
    return np.where(np.bincount(story)[story] > 1, story, -1).astype(np.int32)


def _near(cosines: Any) -> Any:
    """Only the cosines that make two articles one story."""
    cosines.data[cosines.data < ALIKE] = 0.0
    cosines.eliminate_zeros()
    return cosines


def _weights(words: Sequence[str], languages: Sequence[str]) -> Any:
    """TF-IDF as a CSR matrix of unit rows; None when nothing is left but stop words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    counted = TfidfVectorizer(
        ngram_range=(1, 2), max_features=TERMS, sublinear_tf=True, stop_words=sorted(set(_stop_words(words, languages)))
    )
    try:
        return counted.fit_transform(words)
    except ValueError:
        return None


def _vectors(matrix: Any, seed: int) -> np.ndarray:
    from sklearn.decomposition import TruncatedSVD
    from threadpoolctl import threadpool_limits

    dimensions = min(DIMENSIONS, min(matrix.shape) - 1)
    if dimensions < 1:
        return np.asarray(matrix.toarray())
    with threadpool_limits(1):
        return np.asarray(TruncatedSVD(dimensions, random_state=seed).fit_transform(matrix))


def _stop_words(words: Sequence[str], languages: Sequence[str]) -> Iterator[str]:
    """Words that three of ten articles of a language contain: lists for every language are not at hand, counting is."""
    from sklearn.feature_extraction.text import CountVectorizer

    for language in sorted(set(languages)):
        mine = [text for text, own in zip(words, languages, strict=True) if own == language]
        if len(mine) >= ENOUGH:
            counted = CountVectorizer(binary=True)
            share = np.asarray(counted.fit_transform(mine).mean(axis=0)).ravel()
            yield from counted.get_feature_names_out()[share > COMMON]


def main(argv: Sequence[str] | None = None) -> int:
    """Fit and publish; prints one JSON line and returns the exit status."""
    parser = argparse.ArgumentParser(prog="recsys.text", description="Vectors of what articles are about.")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--until", type=int, required=True, help="articles published up to this time, UTC microseconds")
    given = parser.parse_args(argv)
    try:
        catalogue = load_catalogue(given.home)
        texts = fit_texts(catalogue, until=given.until / 1e6)
        about = {"ids": [catalogue.ids[i] for i in texts.rows.tolist()], "until": given.until}
        bundle = write_bundle(given.home / "texts", {"vectors": texts.vectors, "stories": texts.stories}, about)
        point(given.home / "texts", bundle.version, at_us=given.until)
        result, status = {"says": f"{len(texts.rows):,} articles have a vector of their words", "version": bundle.version}, 0
    except PresslabError as error:
        result, status = {"reason": str(error)}, error.exit_status
    sys.stdout.write(json.dumps(result) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
