"""Full-text search over published articles; the same for every reader."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.serving.recommender import Article, Catalogue, Ints
from web.reader.text import curly, pieces, plain, words

__all__ = ["Found", "Index", "Results", "index_of", "search"]

TITLE_WEIGHT, DEK_WEIGHT, TAG_WEIGHT = 4.0, 2.0, 3.0
SNIPPET = 180
MOST_SPELLED = 2_000
MOST_CLOSE = 12


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


class Index:
    """The words of all articles, in memory: SQLite builds it and looks words up while other requests go on."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._lock = threading.Lock()  # of one connection
        self._words = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        weakref.finalize(self, self._words.close)
        run = self._words.execute
        run("CREATE VIRTUAL TABLE article USING fts5(title, dek, tags, body, content='', tokenize='unicode61 remove_diacritics 2')")
        run("CREATE VIRTUAL TABLE temp.word USING fts5vocab(main, article, row)")
        run("BEGIN")
        rows = ((place, a.title, a.dek, " ".join(a.tags), a.body) for place, a in enumerate(catalogue.articles))
        self._words.executemany("INSERT INTO article(rowid, title, dek, tags, body) VALUES (?, ?, ?, ?, ?)", rows)
        run("COMMIT")

    def scores(self, terms: Sequence[str]) -> tuple[Ints, npt.NDArray[np.float64]]:
        """Return (k,) positions of articles that hold every term (also as the beginning of a word), and (k,) scores: the higher the better.

        References
        ----------
        BM25 as SQLite's FTS5 computes it, with a weight per column.
        """
        query = f"SELECT rowid, -bm25(article, {TITLE_WEIGHT}, {DEK_WEIGHT}, {TAG_WEIGHT}) FROM article WHERE article MATCH ?"
        rows = np.array(self._rows(query, " AND ".join(f'"{term}"*' for term in terms)), np.float64).reshape(-1, 2)
        return rows[:, 0].astype(np.int32), rows[:, 1]

    def close_to(self, term: str, shown: npt.NDArray[np.bool_]) -> list[str]:
        """Return at most three words that begin alike, best first; none when the term is a word itself.

        Parameters
        ----------
        shown : (n,) by position: words that stand only in articles that are not out, or withdrawn, are not known here.
        """
        if self._stands(term, shown):
            return []
        query = """
            SELECT term FROM word WHERE term >= ? AND term < ? AND length(term) > 3 AND abs(length(term) - ?) <= 2
            ORDER BY doc DESC, term LIMIT ?
        """
        bare = plain(term)  # as FTS5 keeps words
        known = [word for (word,) in self._rows(query, bare[0], chr(ord(bare[0]) + 1), len(bare), MOST_SPELLED) if word.isalpha()]
        close = get_close_matches(bare, known, n=MOST_CLOSE, cutoff=0.6)
        return [word for word in close if self._stands(word, shown)][:3]

    def _stands(self, word: str, shown: npt.NDArray[np.bool_]) -> bool:
        rows = self._rows("SELECT rowid FROM article WHERE article MATCH ?", f'"{word}"')
        return bool(shown[[row for (row,) in rows]].any())

    def _rows(self, query: str, *values: str | int) -> list[Any]:
        with self._lock:
            return self._words.execute(query, values).fetchall()


BUILDING = threading.Lock()


def index_of(catalogue: Catalogue) -> Index:
    """Index every article once per catalogue; whoever asks meanwhile waits."""
    with BUILDING:
        return catalogue.derived(Index)


def search(catalogue: Catalogue, query: str, *, now: datetime, section: str = "", author: str = "", n: int = 20) -> Results:
    """Return articles that hold every word of the query (a word also matches longer words that begin with it).

    Parameters
    ----------
    query : what the reader typed; may be empty when a filter is given.
    section, author : slugs to keep; empty keeps all.
    n : most hits to return.
    """
    terms = list(dict.fromkeys(words(query)))
    articles = catalogue.articles
    found, scores = index_of(catalogue).scores(terms) if terms else (np.arange(len(articles), dtype=np.int32), np.zeros(len(articles)))
    shown = (catalogue.published <= now.timestamp()) & ~catalogue.withdrawn
    kept = shown[found]
    if section:
        kept &= catalogue.section[found] == (catalogue.sections.index(section) if section in catalogue.sections else -1)
    if author:
        kept &= np.array([articles[position].author == author for position in found.tolist()], bool)
    found, scores = found[kept], scores[kept]
    best = found[np.lexsort((found, -catalogue.published[found], -scores))][:n]
    hits = tuple(_found(articles[position], terms) for position in best.tolist())
    return Results(hits, len(found), () if len(found) else _spellings(index_of(catalogue), terms, shown))


def _spellings(index: Index, terms: Sequence[str], shown: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    """The query with its first unknown word replaced by one that is known."""
    unknown, close = next(((term, close) for term in terms if (close := index.close_to(term, shown))), ("", []))
    return tuple(" ".join(word if term == unknown else term for term in terms) for word in close)


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
