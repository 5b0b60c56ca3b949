"""Words: a cold article is found by what it is about, and nothing later enters."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from experiments.content import add_articles
from experiments.serving.publish import current_signals, read_signals
from experiments.serving.recommender import Article, Catalogue, Context
from experiments.serving.signals import Reads, SignalRules, Texts, build_signals, with_texts
from experiments.settings import Settings
from recsys.candidates import candidates
from recsys.features import FEATURES, compute_features
from recsys.text import fit_texts, main
from tests.conftest import NOW, article
from web.signal_job import SignalJob

AT = NOW.timestamp()
SUBJECTS = {
    "tram": "tram rails depot conductor timetable",
    "cheese": "cheese dairy rind cellar milk",
    "chess": "chess bishop opening endgame clock",
}


def about(number: int, subject: str, **changes: object) -> Article:
    words = SUBJECTS[subject].split()
    body = " ".join(["the", "city", *(words[(number + i) % len(words)] for i in range(4))])
    return article(number, title=f"{subject.title()} {number}", body=body, **changes)


def newspaper(n: int = 90) -> Catalogue:
    return Catalogue([about(i, list(SUBJECTS)[i % 3], published_at=NOW - timedelta(minutes=20 * i)) for i in range(n)])


def test_articles_on_one_subject_are_alike_and_words_of_every_article_say_nothing() -> None:
    catalogue = newspaper()
    alike = fit_texts(catalogue, until=AT).likeness(0, np.arange(90, dtype=np.int32))
    same = np.arange(90) % 3 == 0
    assert alike[same].min() > 0.2
    assert np.abs(alike[~same]).max() < 0.1  # "the" and "city" stand in all of them


def test_the_same_articles_give_the_same_bits_and_a_later_one_changes_nothing() -> None:
    catalogue = newspaper()
    later = Catalogue([*catalogue.articles, replace(about(0, "tram"), id="z", published_at=NOW + timedelta(seconds=1))])
    first, second = fit_texts(catalogue, until=AT), fit_texts(later, until=AT)
    np.testing.assert_array_equal(first.rows, second.rows)
    np.testing.assert_array_equal(first.vectors, second.vectors)


@pytest.mark.parametrize(
    "articles",
    [
        [],
        [about(0, "tram")],
        [article(i, title=f"Article a{i:03d}", imported=True) for i in range(30)],
        [article(i, title="", body="the") for i in range(30)],
    ],
)
def test_without_words_there_is_no_vector(articles: list[Article]) -> None:
    texts = fit_texts(Catalogue(articles), until=AT)
    assert len(texts.rows) == 0
    assert np.isnan(texts.likeness(0, np.array([0, 1], np.int32))).all()


def test_likeness_by_hand() -> None:
    texts = Texts(np.array([2, 5, 7], np.int32), np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32), np.full(3, -1, np.int32))
    found = texts.likeness(5, np.array([7, 0, 2, 9], np.int32))
    np.testing.assert_allclose(found, [0.8, np.nan, 0.6, np.nan], rtol=1e-6)
    assert np.isnan(texts.likeness(3, np.array([2], np.int32))).all()
    assert np.isnan(texts.likeness(None, np.array([2], np.int32))).all()


def asked(catalogue: Catalogue, texts: Texts) -> Context:
    """Somebody has article 0 open; everybody reads the 70 oldest articles, nobody article 3, which is on the subject of 0."""
    n = len(catalogue)
    read = np.repeat(np.arange(n - 70, n, dtype=np.int32), 3)
    codes = np.arange(len(read), dtype=np.int64)
    signals = build_signals(Reads(codes, codes, read, np.full(len(read), AT - 60.0)), catalogue, at=AT, rules=SignalRules(half_life_h=1.0))
    return Context(AT, 0, (), with_texts(signals, texts), np.arange(1, n, dtype=np.int32))


def test_a_cold_article_is_a_candidate_because_of_its_words() -> None:
    catalogue = newspaper()
    cold = 15  # five hours old, never read, on the subject of 0
    without, found = candidates(asked(catalogue, Texts.none()), None), candidates(asked(catalogue, fit_texts(catalogue, until=AT)), None)
    assert cold not in without.articles
    assert dict(zip(found.articles.tolist(), found.sources, strict=True))[cold] == "text"


def test_the_feature_is_the_likeness_and_missing_without_words() -> None:
    catalogue = newspaper()
    texts = fit_texts(catalogue, until=AT)
    union, column = np.arange(1, 20, dtype=np.int32), list(FEATURES).index("text")
    none = np.full(len(union), np.nan)
    np.testing.assert_array_equal(compute_features(asked(catalogue, texts), union, none)[:, column], texts.likeness(0, union))
    assert np.isnan(compute_features(asked(catalogue, Texts.none()), union, none)[:, column]).all()


def test_the_worker_publishes_vectors_with_the_signals(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    catalogue = newspaper()
    add_articles(home, catalogue.articles)
    job = SignalJob(Settings(home=home))
    job.run(round(AT * 1e6))
    assert main(["--home", str(home), "--until", str(round(AT * 1e6))]) == 0
    assert json.loads(capsys.readouterr().out)["says"] == "90 articles have a vector of their words"
    job.run(round(AT * 1e6) + 1)
    pointer = current_signals(home)
    assert pointer is not None
    signals = read_signals(home, catalogue, pointer["version"], digest=pointer["sha256"])
    np.testing.assert_array_equal(signals.texts.vectors, fit_texts(catalogue, until=AT).vectors)
