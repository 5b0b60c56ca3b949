"""What readers find by words."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from experiments.serving.recommender import Catalogue
from tests.conftest import NOW, article
from web.reader.search import Results, index_of, search

TEXTS = {
    "bridge": ("The bridge is open", "Trams cross it again", "Mayor O’Brien cut the ribbon. They didn't wait for rain."),
    "ferry": ("A ferry for the bridge", "", "Crossing takes a quarter of an hour."),
    "cafe": ("Night at the café", "", "Bridges of sugar, and Brannoc's best cake."),
}


@pytest.fixture
def catalogue() -> Catalogue:
    made = enumerate(TEXTS.items(), start=1)
    return Catalogue([article(hours, id=identity, title=title, dek=dek, body=body) for hours, (identity, (title, dek, body)) in made])


def found(catalogue: Catalogue, query: str) -> list[str]:
    return [hit.article.id for hit in results(catalogue, query).hits]


def results(catalogue: Catalogue, query: str) -> Results:
    return search(catalogue, query, now=NOW)


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("bridge", ["bridge", "ferry", "cafe"]),
        ("bridges", ["cafe"]),
        ("bridge ferry", ["ferry"]),
        ("ferry sugar", []),
        ("cafe", ["cafe"]),
        ("CAFÉ", ["cafe"]),
        ("o’brien", ["bridge"]),
        ("didn't", ["bridge"]),
        ("brannoc’s", ["cafe"]),
        ("trams cross", ["bridge"]),
    ],
)
def test_every_word_must_occur_and_may_be_the_beginning_of_a_longer_one(catalogue: Catalogue, query: str, ids: list[str]) -> None:
    assert sorted(found(catalogue, query)) == sorted(ids)


def test_only_what_is_out_is_found(catalogue: Catalogue) -> None:
    hidden = article(-1, id="tomorrow", title="Bridge"), article(1, id="withdrawn", title="Bridge", withdrawn=True)
    assert sorted(found(Catalogue([*catalogue.articles, *hidden]), "bridge")) == ["bridge", "cafe", "ferry"]


def test_without_words_a_section_or_an_author_lists_the_newest_first() -> None:
    catalogue = Catalogue([article(number, author=f"author{number % 2}") for number in range(12)])
    in_section = search(catalogue, "", now=NOW, section="s1")
    assert [hit.article.id for hit in in_section.hits] == ["a001", "a005", "a009"]
    assert [hit.article.id for hit in search(catalogue, "", now=NOW, section="s1", author="author0").hits] == []
    assert search(catalogue, "title", now=NOW, section="none").total == 0
    assert search(catalogue, "title", now=NOW, n=2).total == 12


def test_a_title_counts_for_more_than_a_text(catalogue: Catalogue) -> None:
    assert found(catalogue, "bridge")[-1] == "cafe"


@pytest.mark.parametrize(
    "query", ['"', "AND", "bridge AND", "NEAR(a b)", "a*", "title:bridge", "^a", "-bridge", "²³½", "北京", "\0", "'", "’", "{", "🌉"]
)
def test_no_query_is_a_command(catalogue: Catalogue, query: str) -> None:
    results(catalogue, query)


def test_a_word_that_is_nowhere_is_replaced_by_one_that_is(catalogue: Catalogue) -> None:
    assert results(catalogue, "trams briige").spellings[0] == "trams bridge"
    assert results(catalogue, "çaffé").spellings[0] == "cafe"
    assert results(catalogue, "ferry sugar").spellings == ()  # both are known, only not together


def test_many_who_search_first_at_once_wait_for_one_index(catalogue: Catalogue) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len({id(index) for index in pool.map(index_of, [catalogue] * 8)}) == 1
        assert len({tuple(ids) for ids in pool.map(lambda _: found(catalogue, "bridge"), range(50))}) == 1


def test_a_word_that_only_stands_in_what_is_not_out_is_offered_to_nobody(catalogue: Catalogue) -> None:
    hidden = article(-1, id="tomorrow", title="Zyxomat takes over"), article(1, id="withdrawn", title="Zyxomat gone", withdrawn=True)
    assert results(Catalogue([*catalogue.articles, *hidden]), "zyxomot").spellings == ()
    assert results(Catalogue([*catalogue.articles, *hidden, article(1, id="out", title="Zyxomat")]), "zyxomot").spellings == ("zyxomat",)
