from __future__ import annotations

import re

import pytest

from analysis.words import change, money, percent, span

BANNED = re.compile(r"p-value|significan|null hypothesis|confidence|credible|\blift|uplift|\bSRM\b|posterior", re.IGNORECASE)


def assert_plain(*texts: str) -> None:
    """No banned word, no sentence over 25 words."""
    for text in texts:
        assert not BANNED.search(text), text
        for sentence in re.split(r"(?<=[.!?])\s", text):
            assert len(sentence.split()) <= 25, sentence


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (0.0, 0.02, "0.0% to 2.0% higher"),
        (-0.02, 0.0, "0.0% to 2.0% lower"),
        (-1.07, -0.44, "44% to 100% lower"),
        (-0.5, 1.2, "between 50% lower and 120% higher"),
        (0.0003, 0.0009, "0.03% to 0.09% higher"),
        (0.0003, 0.053, "0.03% to 5.3% higher"),
        (-2.5, -1.5, "150% to 250% lower"),
    ],
)
def test_ranges_name_their_direction(low, high, says):
    assert span(low, high) == says


def test_percent_never_shows_more_than_three_digits():
    assert [percent(x) for x in (0.0996, 0.0994, 0.1234, 1.234, 0.0)] == ["10%", "9.9%", "12%", "123%", "0.0%"]


def test_a_small_change_is_not_shown_as_none():
    assert [percent(x) for x in (0.00042, 0.00096, 6e-6, 3e-6)] == ["0.04%", "0.1%", "0.0006%", "0.0%"]
    assert [change(x) for x in (-0.00042, -3e-6)] == ["-0.04%", "+0.0%"]


def test_changes_are_signed():
    assert [change(x) for x in (0.0, 0.1, -0.1)] == ["+0.0%", "+10%", "-10%"]


def test_money_has_three_significant_digits_and_no_minus_zero():
    assert [money(x, "EUR") for x in (0, -1e-5, -0.001, 0.5, 12.345)] == ["€0", "€0", "-€0.001", "€0.50", "€12.30"]
    assert [money(x, "EUR") for x in (98765, -1_234_567)] == ["€98,800", "-€1.23 million"]
