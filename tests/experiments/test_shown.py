"""An article shown again and again without being opened is left out for a while."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from experiments.serving.shown import KEPT, Shown


def after(pages: str, *, hour: int = 10, articles: tuple[str, ...] = ("x",)) -> Shown:
    shown = Shown()
    for page in pages:
        shown = shown.with_page(page, articles, hour=hour)
    return shown


def test_two_times_are_not_enough_and_three_are() -> None:
    assert after("ab").tired(hour=10) == ()
    assert after("abc").tired(hour=10) == ("x",)


def test_a_page_counts_once_however_often_it_tells() -> None:
    assert after("aaaa").tired(hour=10) == ()
    assert after("abab").tired(hour=10) == ()


def test_after_three_days_the_article_may_be_shown_again_and_counting_begins_anew() -> None:
    shown = after("abc")
    assert shown.tired(hour=81) == ("x",)
    assert shown.tired(hour=82) == ()
    assert shown.with_page("d", ["x"], hour=82).with_page("e", ["x"], hour=83).tired(hour=84) == ()


@given(pages=st.lists(st.lists(st.sampled_from([f"a{i}" for i in range(80)]), max_size=6, unique=True), max_size=40))
def test_it_never_grows_beyond_what_a_cookie_holds(pages: list[list[str]]) -> None:
    shown = Shown()
    for number, articles in enumerate(pages):
        shown = shown.with_page(str(number), articles, hour=number)
    assert len(shown.entries) <= KEPT
    assert len(shown.pages) <= 4
