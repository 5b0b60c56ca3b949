"""Reads as matrices and as past requests: nothing from later may enter."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from experiments.errors import DataError
from experiments.serving.level_shares import levels_of
from experiments.serving.recommender import Catalogue
from experiments.serving.signals import HOUR, Reads
from recsys.interactions import interactions, to_reads
from recsys.requests import Site, contexts, next_reads
from tests.recsys import small_site

CATALOGUE = Catalogue(small_site.articles(40, 10.0))
AT = small_site.START + 8 * 24 * HOUR


def rows(*reads: tuple[str, str, int, float]) -> Reads:
    """Reads of (reader, session, article number, seconds after AT)."""
    columns = list(zip(*reads, strict=True))
    at = np.array([round((AT + s) * 1e6) for s in columns[3]], np.int64)
    return to_reads(
        pa.table({"reader": columns[0], "session": columns[1], "article": [CATALOGUE.ids[i] for i in columns[2]], "at": at}), CATALOGUE
    )


def test_rows_come_sorted_and_unknown_articles_are_left_out() -> None:
    table = pa.table(
        {
            "reader": ["b", "a", "a"],
            "session": ["t", "s", "s"],
            "article": [CATALOGUE.ids[3], "gone", CATALOGUE.ids[1]],
            "at": [3_000_000, 1, 2_000_000],
        }
    )
    reads = to_reads(table, CATALOGUE)
    assert reads.article.tolist() == [1, 3]
    assert reads.at.tolist() == [2.0, 3.0]
    with pytest.raises(DataError, match="lacks session"):
        to_reads(table.drop_columns(["session"]), CATALOGUE)


def test_the_matrix_ends_before_until_and_forgets_what_is_older_than_its_window() -> None:
    reads = rows(("a", "s", 1, -100 * HOUR), ("a", "s", 2, -HOUR), ("b", "t", 2, -2 * HOUR), ("b", "t", 3, 0.0))
    found = interactions(reads, len(CATALOGUE), until=AT, window_h=72, half_life_h=1).matrix.toarray()
    assert sorted(found[found > 0].tolist()) == [0.25, 0.5]
    assert found[:, 3].sum() == 0
    assert found.dtype == np.float32


def test_a_request_knows_what_was_read_before_it_and_nothing_else() -> None:
    reads = rows(("a", "s", 1, 0), ("a", "s", 2, 60), ("a", "s", 3, 120), ("b", "t", 9, 30), ("a", "u", 4, 9_000))
    found = next_reads(reads, since=AT, until=AT + HOUR, most=10, seed=0)
    assert [(r.article, r.target, r.reads, r.session_position) for r in found] == [(1, 2, (), 0), (2, 3, (1,), 1)]
    assert [r.answered_at - r.at for r in found] == [60, 60]


def test_a_request_knows_device_and_referrer_of_the_open_article_not_of_the_next() -> None:
    at = [round((AT + s) * 1e6) for s in (0, 60)]
    table = {"reader": ["a", "a"], "session": ["s", "s"], "article": list(CATALOGUE.ids[1:3]), "at": at}
    said = {"device": ["phone", "phone"], "referrer": ["external", "slot"]}
    reads = to_reads(pa.table(table | said), CATALOGUE)
    (request,) = next_reads(reads, since=AT, until=AT + HOUR, most=10, seed=0)
    ((_, context),) = contexts([request], Site(CATALOGUE, reads))
    assert request.levels == context.levels == levels_of("phone", "external")
    assert next_reads(to_reads(pa.table(table), CATALOGUE), since=AT, until=AT + HOUR, most=10, seed=0)[0].levels == (0, 0)


def test_going_back_to_an_article_is_no_recommendation_to_learn() -> None:
    reads = rows(("a", "s", 1, 0), ("a", "s", 2, 60), ("a", "s", 1, 120))
    assert [r.target for r in next_reads(reads, since=AT, until=AT + HOUR, most=10, seed=0)] == [2]


def test_requests_are_those_a_look_at_every_read_finds_and_a_draw_is_part_of_them() -> None:
    rng = np.random.default_rng(0)
    for seed in range(30):
        session = rng.integers(0, 20, 120)
        reads = Reads(session % 7, session, rng.integers(0, 9, 120).astype(np.int32), np.sort(np.round(rng.random(120) * HOUR)))
        expected = []
        for first in range(120):
            later = [i for i in range(first + 1, 120) if session[i] == session[first]][:1]
            past = {int(reads.article[i]) for i in range(first) if reads.reader[i] == reads.reader[first]}
            expected += [(first, i) for i in later if reads.article[i] not in {reads.article[first], *past}]
        every = next_reads(reads, since=0.0, until=HOUR + 1, most=999, seed=seed)
        assert sorted((r.at, r.answered_at, r.article, r.target) for r in every) == sorted(
            (reads.at[a], reads.at[b], reads.article[a], reads.article[b]) for a, b in expected
        )
        drawn = next_reads(reads, since=0.0, until=HOUR + 1, most=5, seed=seed)
        assert len(drawn) == 5
        assert [r for r in every if r in drawn] == drawn


def test_the_signals_of_a_request_were_published_before_it() -> None:
    reads = rows(("b", "t", 5, -10), ("a", "s", 1, 10), ("a", "s", 2, 70), ("c", "v", 7, 100))
    asked = next_reads(reads, since=AT, until=AT + HOUR, most=10, seed=0)
    ((request, context),) = contexts(asked, Site(CATALOGUE, reads))
    assert context.signals.at <= request.at
    assert np.flatnonzero(context.signals.reads_in[1]).tolist() == [5]
    assert request.article not in context.pool
