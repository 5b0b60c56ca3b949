"""Moments as machines read them."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from web.formatting import iso


def test_the_two_hours_of_one_name_when_clocks_go_back_are_told_apart() -> None:
    """Python calls them equal: what is kept for one must not be given for the other."""
    first, again = (datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=fold) for fold in (0, 1))
    assert first == again
    assert (iso(first), iso(again)) == ("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z")
    assert iso(again.astimezone(UTC)) == iso(again)
