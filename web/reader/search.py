"""Full-text search over published articles; the same for every reader."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches

from experiments.serving.recommender import Article, Catalogue
from web.reader.shelf import published
from web.reader.text import curly, pieces, words

__all__ = ["Found", "Index", "Results", "index_of", "search"]

TITLE_WEIGHT, DEK_WEIGHT, TAG_WEIGHT = 4.0, 2.0, 3.0
SNIPPET = 180
MOST_SPELLED = 20_000


@dataclass(frozen=True, slots=True)
class Found:
    """One hit: title and a passage, each as (piece, found) pairs."""

    article: Article
    title: list[tuple[str, bool]]
    passage: list[tuple[str, bool]]


@dataclass(frozen=True, slots=True)
class Results:
    """Hits, best first, how many there are, and up to three other spellings when there is none."""

    hits: tuple[Found, ...]
    total: int
    spellings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Index:
    """word -> {position in the catalogue: weight}."""

    catalogue: Catalogue
    postings: dict[str, dict[int, float]]


def index_of(catalogue: Catalogue) -> Index:
    """Index every article once per catalogue."""
    return Index(catalogue, catalogue.derived(_postings))


def _postings(catalogue: Catalogue) -> dict[str, dict[int, float]]:
    postings: defaultdict[str, dict[int, float]] = defaultdict(dict)
    for position, article in enumerate(catalogue.articles):
        weights: defaultdict[str, float] = defaultdict(float)
        for text, weight in (
            (article.title, TITLE_WEIGHT),
            (article.dek, DEK_WEIGHT),
            (" ".join(article.tags), TAG_WEIGHT),
            (article.body, 1.0),
        ):
            for word in words(text):
                weights[word] += weight
        for word, total in weights.items():
            postings[word][position] = 1 + math.log(total)
    return dict(postings)


def search(index: Index, query: str, *, now: datetime, section: str = "", author: str = "", n: int = 20) -> Results:
    """Return articles that hold every word of the query (a word also matches longer words that begin with it).

    Parameters
    ----------
    query : what the reader typed; may be empty when a filter is given.
    section, author : slugs to keep; empty keeps all.
    n : most hits to return.
    """
    terms = list(dict.fromkeys(words(query)))
    scores = _scores(index, terms)
    articles = index.catalogue.articles
    kept = [
        (score, position)
        for position, score in scores.items()
        if published(articles[position], now) and section in ("", articles[position].section) and author in ("", articles[position].author)
    ]
    kept.sort(key=lambda pair: (-pair[0], -articles[pair[1]].published_at.timestamp(), pair[1]))
    hits = tuple(_found(articles[position], terms) for _, position in kept[:n])
    return Results(hits, len(kept), () if kept else _spellings(index, terms))


def _scores(index: Index, terms: list[str]) -> dict[int, float]:
    everything = dict.fromkeys(range(len(index.catalogue)), 0.0)
    for term in terms:
        matched: dict[int, float] = {}
        for word, postings in index.postings.items():
            if word.startswith(term):
                rarity = math.log(1 + len(index.catalogue) / len(postings)) * (1.0 if word == term else 0.6)
                for position, weight in postings.items():
                    matched[position] = max(matched.get(position, 0.0), weight * rarity)
        everything = {position: everything[position] + score for position, score in matched.items() if position in everything}
    return everything


def _spellings(index: Index, terms: list[str]) -> tuple[str, ...]:
    known = [word for word in index.postings if word.isalpha() and len(word) > 3][:MOST_SPELLED]
    unknown = [term for term in terms if term not in index.postings]
    if not unknown:
        return ()
    close = get_close_matches(unknown[0], known, n=3, cutoff=0.6)
    return tuple(" ".join(word if term == unknown[0] else term for term in terms) for word in close)


def _found(article: Article, terms: list[str]) -> Found:
    text = next((t for t in (article.dek, *article.body.split("\n\n")) if any(found for _, found in pieces(t, terms))), article.dek)
    first = next((match for match in _starts(text, terms)), 0)
    start = 0 if first < SNIPPET - 40 else text.rfind(" ", 0, first - 60) + 1
    cut = text[start : start + SNIPPET]
    if start + SNIPPET < len(text):
        cut = cut.rsplit(" ", 1)[0] + " …"
    return Found(article, pieces(curly(article.title), terms), pieces(curly(("… " if start else "") + cut), terms))


def _starts(text: str, terms: list[str]) -> list[int]:
    starts, at = [], 0
    for piece, found in pieces(text, terms):
        starts += [at] if found else []
        at += len(piece)
    return starts
