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

import numpy as np

from experiments.content import load_catalogue
from experiments.errors import PresslabError
from experiments.serving.artefacts import point, write_bundle
from experiments.serving.recommender import Article, Catalogue
from experiments.serving.signals import HOUR, Texts

__all__ = ["fit_texts", "main", "words_of"]

TERMS, DIMENSIONS = 20_000, 128
WINDOW_H = 14 * 24.0
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
    """Return unit vectors of articles published in ``[until - window_h, until]`` and of evergreens; no read enters.

    Parameters
    ----------
    until : unix seconds; an article published later does not exist yet. Same articles and seed: same bits on one machine.

    References
    ----------
    TF-IDF of 1- and 2-grams (the 20,000 most frequent), then a truncated SVD of at most 128 dimensions: latent semantic analysis,
    Deerwester et al., 1990.
    """
    age_h = (until - catalogue.published) / HOUR
    found = np.flatnonzero((age_h >= 0) & ((age_h <= window_h) | catalogue.evergreen) & ~catalogue.withdrawn)
    articles = [catalogue.articles[i] for i in found]
    words = [words_of(article) for article in articles]
    rows = np.array([i for i, text in enumerate(words) if text.strip()], np.int64)
    if len(rows) < 2:
        return Texts.none()
    vectors = _vectors([words[i] for i in rows], [articles[i].language for i in rows], seed)
    length = np.linalg.norm(vectors, axis=1)
    said = length > 1e-6
    unit = (vectors[said] / length[said, None]).astype(np.float32)
    return Texts(found[rows[said]].astype(np.int32), unit)


def _vectors(words: Sequence[str], languages: Sequence[str], seed: int) -> np.ndarray:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from threadpoolctl import threadpool_limits

    counted = TfidfVectorizer(
        ngram_range=(1, 2), max_features=TERMS, sublinear_tf=True, stop_words=sorted(set(_stop_words(words, languages)))
    )
    try:
        matrix = counted.fit_transform(words)
    except ValueError:  # nothing is left but stop words
        return np.zeros((len(words), 1))
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
        bundle = write_bundle(given.home / "texts", {"vectors": texts.vectors}, about)
        point(given.home / "texts", bundle.version, at_us=given.until)
        result, status = {"says": f"{len(texts.rows):,} articles have a vector of their words", "version": bundle.version}, 0
    except PresslabError as error:
        result, status = {"reason": str(error)}, error.exit_status
    sys.stdout.write(json.dumps(result) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
