"""Which metrics are yes or no per reader, to the last reader."""

from __future__ import annotations

import pytest

from analysis.effect import Contrast
from analysis.small_counts import binary_counts, share_contrast
from tests.analysis.tables import SESSIONS, VIEWS, moments


def counted(table: list[tuple[int, int]]) -> tuple[int, int] | None:
    return binary_counts({("als", 1): moments(table)}, "als", numerator=VIEWS, denominator=SESSIONS)


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ([(1, 1), (0, 1)], (1, 2)),
        ([(0, 1)] * 50 + [(1, 1)] * 50, (50, 100)),
        ([(1, 1)] * 7, (7, 7)),
        ([(2, 1), (0, 1)], None),
        ([(2, 1)] + [(0, 1)] * 99, None),
        ([(1, 1), (0, 2)], None),
        ([(1, 2), (0, 2)], None),
        ([(1, 1)], None),
    ],
)
def test_a_metric_is_yes_or_no_when_every_reader_has_nought_or_one_of_one(table, found):
    assert counted(table) == found


def test_a_house_rule_for_the_least_number_of_readers_holds_for_shares_too():
    plain = Contrast((70, 80), (0.8, 0.6), df=140.0)
    found = share_contrast((56, 70), (48, 80), plain=plain, level=0.95, least=71)
    assert (found.status, found.reason) == ("insufficient", "an arm has 70 readers, at least 71 are needed")
    assert share_contrast((56, 70), (48, 80), plain=plain, level=0.95, least=70).status == "ok"
