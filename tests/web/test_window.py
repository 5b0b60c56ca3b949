from __future__ import annotations

import random
import threading

import pytest

from web.api.window import Window


class Hand:
    """A clock one moves by hand, seconds."""

    at = 100.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def hand() -> Hand:
    return Hand()


def test_a_reader_may_ask_as_often_as_the_limit_says_within_any_second(hand: Hand) -> None:
    window, chance, asked = Window(clock=hand), random.Random(3), []
    for _ in range(2_000):
        hand.at += chance.random() / 8
        allowed = window.acquire_entry("a", 5, 1)
        assert allowed == (sum(at > hand.at - 1 for at in asked) < 5)
        asked += [hand.at] * allowed
    assert 100 < len(asked) < 1_900


def test_one_reader_does_not_use_up_the_limit_of_another(hand: Hand) -> None:
    window = Window(clock=hand)
    assert [window.acquire_entry(key, 1, 1) for key in "aabb"] == [True, False, True, False]
    assert window.get_moving_window("a", 1, 1)[1] == 1


def test_many_at_once_are_taken_whole_or_not_at_all(hand: Hand) -> None:
    window = Window(clock=hand)
    assert [window.acquire_entry("a", 5, 1, amount=n) for n in (6, 4, 2, 1)] == [False, True, False, True]


def test_readers_who_have_gone_are_forgotten(hand: Hand) -> None:
    window = Window(clock=hand)
    for number in range(1_000):
        window.acquire_entry(f"reader {number}", 5, 1)
    hand.at += 1.5
    window.acquire_entry("reader 7", 5, 1)
    assert window.reset() == 1


def test_no_thread_is_started_for_a_request() -> None:
    window, before = Window(), threading.active_count()
    for _ in range(20):
        window.acquire_entry("a", 5, 1)
    assert threading.active_count() == before


def test_a_cleared_reader_may_ask_again(hand: Hand) -> None:
    window = Window(clock=hand)
    window.acquire_entry("a", 1, 1)
    window.clear("a")
    assert window.acquire_entry("a", 1, 1)
    assert window.check()
