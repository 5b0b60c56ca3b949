"""Moments as machines read them."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from analysis import words
from web.formatting import iso, money


def test_the_two_hours_of_one_name_when_clocks_go_back_are_told_apart() -> None:
    """Python calls them equal: what is kept for one must not be given for the other."""
    first, again = (datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=fold) for fold in (0, 1))
    assert first == again
    assert (iso(first), iso(again)) == ("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z")
    assert iso(again.astimezone(UTC)) == iso(again)


@pytest.mark.parametrize(
    "amount", [0, 1e-5, 1e-4, 0.00412, 0.00999, 0.009996, 0.01, 0.126, 0.999, 15, 40.2, 99.996, 1234.5, 999_999, 2.34e6]
)
@pytest.mark.parametrize("sign", [1, -1])
def test_tables_and_sentences_write_the_same_amount_alike(amount: float, sign: int) -> None:
    assert money(sign * amount) == words.money(sign * amount, "EUR").replace("-", "\N{MINUS SIGN}")


def test_no_amount_is_called_nothing_that_is_not() -> None:
    assert (words.money(0.00412, "EUR"), words.money(-0.0001, "EUR"), words.money(1e-9, "EUR")) == ("€0.00412", "-€0.0001", "€0")
