from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from experiments.errors import ConfigError
from experiments.events.ids import LinkClaims, PageClaims, PageViews, TokenError, Tokens, conversion_id, event_id

NOW = 1_767_225_600_000_000
DAY = 86_400_000_000
OLD, NEW = b"o" * 32, b"n" * 32
PAGE = "019b76da-a800-7000-8000-000000000001".replace("-", "")


def claims(tokens: Tokens, reader: str = "reader-1") -> PageClaims:
    return PageClaims(PAGE, tokens.reader_hash(reader), "live", NOW, "7", "related", "als", ("a", "b"))


def test_page_views_grow_even_when_the_clock_steps_back() -> None:
    page_view = PageViews()
    ids = [page_view(at) for at in (NOW, NOW, NOW - DAY, NOW + 1000, NOW + 1000)]
    assert ids == sorted(set(ids))


def test_a_page_view_begins_with_its_millisecond_and_is_a_uuid7() -> None:
    page_view = PageViews()(NOW)
    assert int(page_view[:12], 16) == NOW // 1000
    assert page_view[12] == "7"
    assert page_view[16] in "89ab"


def test_page_views_of_sixteen_threads_are_distinct() -> None:
    page_view = PageViews()
    with ThreadPoolExecutor(16) as pool:
        ids = list(pool.map(lambda _: page_view(NOW), range(4_000)))
    assert len(set(ids)) == 4_000


def test_two_processes_in_the_same_millisecond_do_not_meet() -> None:
    assert PageViews()(NOW) != PageViews()(NOW)


def test_an_event_id_depends_on_page_kind_and_key_and_begins_with_the_time() -> None:
    first = event_id(PAGE, "click", "slot|a")
    assert first == event_id(PAGE, "click", "slot|a")
    assert len(first) == 16
    assert first[:6].hex() == PAGE[:12]
    assert len({first, event_id(PAGE, "click", "slot|b"), event_id(PAGE, "dwell", "slot|a"), event_id("0" * 32, "click", "slot|a")}) == 4


def test_a_page_token_gives_back_its_claims() -> None:
    tokens = Tokens({"k1": NEW}, "k1")
    token = tokens.page(claims(tokens))
    assert tokens.read_page(token, reader="reader-1", now_us=NOW + 7 * DAY) == claims(tokens)
    assert "reader-1" not in token


@pytest.mark.parametrize(("reader", "later", "reason"), [("reader-2", 0, "foreign"), ("reader-1", 7 * DAY + 1, "expired")])
def test_a_copied_or_old_page_token_is_refused_with_its_reason(reader: str, later: int, reason: str) -> None:
    tokens = Tokens({"k1": NEW}, "k1")
    with pytest.raises(TokenError) as caught:
        tokens.read_page(tokens.page(claims(tokens)), reader=reader, now_us=NOW + later)
    assert caught.value.reason == reason


def test_tokens_read_together_say_each_its_own() -> None:
    tokens = Tokens({"k1": NEW, "k0": OLD}, "k1")
    good, old = claims(tokens), Tokens({"k0": OLD}, "k0")
    foreign, expired = replace(good, reader_hash=tokens.reader_hash("reader-2")), replace(good, issued_at=NOW - 8 * DAY)
    given = [tokens.page(good), "bad", tokens.page(foreign), tokens.page(expired), old.page(claims(old))]
    found = tokens.read_pages(given, reader="reader-1", now_us=NOW)
    assert [one.reason if isinstance(one, TokenError) else one for one in found] == [good, "bad", "foreign", "expired", claims(old)]


@given(st.integers(0, 10_000), st.characters(codec="utf-8"))
def test_a_token_with_any_character_changed_is_bad(place: int, character: str) -> None:
    tokens = Tokens({"k1": NEW}, "k1")
    token = tokens.page(claims(tokens))
    place %= len(token)
    changed = token[:place] + character + token[place + 1 :]
    if changed != token:
        with pytest.raises(TokenError, match="bad"):
            tokens.read_page(changed, reader="reader-1", now_us=NOW)


@given(st.binary(min_size=1, max_size=40))
def test_a_signed_text_has_one_spelling(text: bytes) -> None:
    tokens = Tokens({"k1": NEW}, "k1")
    signed = tokens.sign("cookie", text.hex() + "~~~???>>>")
    for other in (signed + "=", signed.replace("-", "+"), signed.replace("_", "/"), signed.replace(".", "=.", 2)):
        assert other == signed or tokens.unsign("cookie", other) is None


@given(st.text())
def test_any_text_as_a_token_is_bad_and_nothing_worse(text: str) -> None:
    tokens = Tokens({"k1": NEW}, "k1")
    with pytest.raises(TokenError):
        tokens.read_page(text, reader="r", now_us=NOW)
    with pytest.raises(TokenError):
        tokens.read_link(text, "a", now_us=NOW)
    assert tokens.unsign("cookie", text) is None


def test_tokens_of_the_former_key_are_read_until_it_is_removed() -> None:
    before = Tokens({"k1": OLD}, "k1")
    token, link, cookie = before.page(claims(before)), before.link(PAGE, "article.related", 2, "a"), before.sign("id", "reader-1")
    both = Tokens({"k1": OLD, "k2": NEW}, "k2")
    assert both.read_page(token, reader="reader-1", now_us=NOW).arm == "als"
    assert both.read_link(link, "a", now_us=NOW).position == 2
    assert both.unsign("id", cookie) == "reader-1"
    with pytest.raises(TokenError, match="bad"):
        Tokens({"k2": NEW}, "k2").read_page(token, reader="reader-1", now_us=NOW)


@pytest.mark.parametrize("slot", ["article.related", "front.lead"])
def test_a_link_token_names_page_slot_and_position_for_its_article_only(slot: str) -> None:
    tokens = Tokens({"k1": NEW}, "k1")
    link = tokens.link(PAGE, slot, 5, "article-9")
    assert tokens.read_link(link, "article-9", now_us=NOW) == LinkClaims(PAGE, slot, 5)
    with pytest.raises(TokenError, match="bad"):
        tokens.read_link(link, "article-8", now_us=NOW)


def test_a_link_token_is_read_for_a_day() -> None:
    tokens = Tokens({"k1": NEW}, "k1")
    link = tokens.link(PageViews()(NOW), "article.related", 5, "a")
    assert tokens.read_link(link, "a", now_us=NOW + DAY).position == 5
    with pytest.raises(TokenError, match="expired"):
        tokens.read_link(link, "a", now_us=NOW + DAY + 1)


def test_a_link_token_of_the_known_slot_has_about_forty_characters() -> None:
    assert len(Tokens({"k1": NEW}, "k1").link(PAGE, "article.related", 5, "x" * 100)) <= 41


def test_a_signed_text_is_read_for_its_purpose_only() -> None:
    tokens = Tokens({"k1": NEW}, "k1")
    signed = tokens.sign("id", "Zoë; a=b")
    assert tokens.unsign("id", signed) == "Zoë; a=b"
    assert tokens.unsign("choice", signed) is None
    assert set(signed) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


def test_a_page_token_is_no_signed_text_and_no_link() -> None:
    tokens = Tokens({"k1": NEW}, "k1")
    token = tokens.page(claims(tokens))
    assert tokens.unsign("page", token) is None
    with pytest.raises(TokenError):
        tokens.read_link(token, "a", now_us=NOW)


@pytest.mark.parametrize(("keys", "current"), [({}, "a"), ({"a": b"short"}, "a"), ({"a.b": NEW}, "a.b")])
def test_keys_that_cannot_sign_are_refused(keys: dict[str, bytes], current: str) -> None:
    with pytest.raises(ConfigError):
        Tokens(keys, current)


def test_claims_cannot_be_moved_to_another_arm() -> None:
    tokens = Tokens({"k1": NEW}, "k1")
    mine, other = tokens.page(claims(tokens)), tokens.page(replace(claims(tokens), arm="front"))
    key, _, mac = mine.split(".")
    with pytest.raises(TokenError, match="bad"):
        tokens.read_page(f"{key}.{other.split('.')[1]}.{mac}", reader="reader-1", now_us=NOW)


def test_what_a_former_version_signed_and_named_is_known_to_this_one() -> None:
    """Pages are open while the site is updated: a token or an id that came out otherwise would lose or double their events."""
    tokens = Tokens({"a": b"0123456789abcdef", "b": b"fedcba9876543210x"}, "a")
    view = "0193a5b0c0de7abc8def0123456789ab"
    assert (tokens.reader_hash("reader-1"), tokens.reader_hash("reader-1", "b")) == ("12eb831cb740d5e3", "1dd485978ff589bc")
    page = PageClaims(view, "12eb831cb740d5e3", "live", 1_760_000_000_000_000, "7", "related", "front", ("a1", "a2"), "a3")
    assert tokens.page(page) == (
        "a.WyIwMTkzYTViMGMwZGU3YWJjOGRlZjAxMjM0NTY3ODlhYiIsIjEyZWI4MzFjYjc0MGQ1ZTMiLCJsaXZlIiwxNzYwMDAwMDAwMDAwMDAwLCI3Iiwi"
        "cmVsYXRlZCIsImZyb250IixbImExIiwiYTIiXSwiYTMiXQ.jsYl5oqxKcLWjm72r06EZA"
    )
    assert tokens.link(view, "article.related", 255, "a1") == "a.A0QCX0XATNIFPAGTpbDA3nq8je8BI0Vniav_AQ"
    assert tokens.link(view, "home.rail", 0, "a1") == "a.BRRn19XRHVTdigGTpbDA3nq8je8BI0VniasAAGhvbWUucmFpbA"
    assert tokens.read_link("a.A0QCX0XATNIFPAGTpbDA3nq8je8BI0Vniav_AQ", "a1", now_us=0) == LinkClaims(view, "article.related", 255)
    assert tokens.sign("cookie", "hello \N{LATIN SMALL LETTER E WITH ACUTE}") == "a.aGVsbG8gw6k.K-R7_Vz6dg2IP-pw6WQObg"
    assert event_id(view, "click", "article.related|a1").hex() == "0193a5b0c0ded2001fba05bd3c21d35a"
    assert conversion_id(1_760_000_000_000_000, "subscription", "A-17").hex() == "0199c82cc00040c948ae3f07098c15a1"


def test_a_page_view_holds_its_millisecond_and_all_of_its_chance() -> None:
    first, second = (int(PageViews()(at), 16) for at in (NOW, NOW + 5_000))
    assert (second >> 80) - (first >> 80) == 5
    page_view = PageViews()
    found = [int(page_view(NOW), 16) for _ in range(300)]
    chances = [(one >> 64 & 0xFFF) << 62 | one & (1 << 62) - 1 for one in found]
    steps = [later - earlier for earlier, later in pairwise(chances)]
    assert min(steps) >= 1
    assert max(steps) <= 2**32
    firsts = [int(PageViews()(NOW), 16) for _ in range(200)]
    assert max(one >> 64 & 0xFFF for one in firsts) < 2**11  # half the room is left for steps
    assert len({one >> 64 & 0xFFF for one in firsts}) > 100


@pytest.mark.parametrize(("view", "position"), [(PAGE, -1), (PAGE, 256), ("x", 1), (PAGE.upper() + "0", 1)])
def test_a_link_that_could_not_be_read_back_is_not_signed(view: str, position: int) -> None:
    with pytest.raises(ConfigError, match=r"position -?\d+\. Positions are 0 to 255\."):
        Tokens({"k": NEW}, "k").link(view, "article.related", position, "a")


def test_a_refused_token_says_what_still_counts_and_a_refused_key_what_is_wanted() -> None:
    assert str(TokenError("bad")).endswith("the token is bad. The view still counts; what the token carried does not.")
    assert TokenError("expired").what == "the token is expired."
    assert Tokens({"k": b"x" * 16}, "k")
    with pytest.raises(ConfigError, match=r"key 'k' cannot sign\. A key id is 1 to 8 letters or digits, a key at least 16 bytes\."):
        Tokens({"k": b"x" * 15}, "k")
    with pytest.raises(ConfigError, match=r"the signing key 'z' is not among the keys\. Known: a, k\."):
        Tokens({"k": NEW, "a": NEW}, "z")
    with pytest.raises(ConfigError, match=r"Known: none\."):
        Tokens({}, "z")
