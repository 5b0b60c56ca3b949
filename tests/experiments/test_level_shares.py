"""Onward reads by device and referrer, small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.serving.level_shares import LevelShares, level_shares, levels_of
from experiments.serving.recommender import Catalogue
from experiments.serving.signals import HOUR, Reads, build_signals
from tests.conftest import NOW

AT = NOW.timestamp()
PHONE, DESK = levels_of("phone", "external"), levels_of("desktop", "direct")
ANY = np.arange(10, dtype=np.int32)


def reads(*rows: tuple[int, int, float, tuple[int, ...]]) -> Reads:
    """Rows of (session, article, hours ago, levels); every session has a reader of its own."""
    session, article, ago, levels = zip(*sorted(rows, key=lambda row: -row[2]), strict=True)
    number = np.array(session, np.int64)
    return Reads(number, number, np.array(article, np.int32), AT - np.array(ago) * HOUR, np.array(levels, np.int64))


def by_level(found: Reads, catalogue: Catalogue) -> LevelShares:
    return build_signals(found, catalogue, at=AT).by_level


def test_an_onward_read_counts_for_the_page_it_came_from(catalogue: Catalogue) -> None:
    shares = by_level(reads((1, 3, 1.6, PHONE), (1, 4, 1.5, DESK), (2, 3, 1.6, DESK), (2, 5, 1.5, PHONE)), catalogue)
    everybody, phones, external = shares.of(PHONE, ANY)
    assert everybody.tolist() == [0, 0, 0, 0, 0.5, 0.5, 0, 0, 0, 0]  # 3 was opened first, nobody went on to it
    assert phones[[4, 5]] == pytest.approx([(0.5 + 30 * 0.5) / 30.5, 30 * 0.5 / 30.5])  # an hour and a half old: half a read
    assert external.tolist() == phones.tolist()


def test_a_level_nobody_had_is_everybody(catalogue: Catalogue) -> None:
    shares = by_level(reads((1, 3, 2.0, PHONE), (1, 4, 1.9, PHONE), (2, 3, 2.0, DESK), (2, 5, 1.0, DESK)), catalogue)
    everybody, unseen, unknown = shares.of((123, 0), ANY)
    assert everybody.tolist() == unseen.tolist() == unknown.tolist()
    assert len(shares.levels) == 5


def test_reads_of_the_last_six_hours_count_and_none_leaves_zeros(catalogue: Catalogue) -> None:
    assert not by_level(reads((1, 3, 8.0, PHONE), (1, 4, 7.9, PHONE)), catalogue).of(PHONE, ANY).any()
    assert level_shares(np.zeros(0, np.int32), np.zeros(0), np.zeros((0, 2), np.int64), now=AT).of(PHONE, ANY).shape == (3, 10)


def test_reads_without_levels_are_everybodys(catalogue: Catalogue) -> None:
    told = reads((1, 3, 2.0, PHONE), (1, 4, 1.9, PHONE))
    untold = Reads(told.reader, told.session, told.article, told.at)
    assert by_level(untold, catalogue).levels.tolist() == [0]
    assert by_level(untold, catalogue).of(PHONE, ANY)[1, 4] == 1.0


def test_a_later_read_changes_no_share(catalogue: Catalogue) -> None:
    rows = [(1, 3, 2.0, PHONE), (1, 4, 1.0, PHONE)]
    later = [(1, 5, 0.0, PHONE), (2, 3, -0.5, DESK), (2, 6, -1.0, DESK)]
    one, other = (by_level(reads(*given), catalogue) for given in (rows, rows + later))
    assert one.levels.tolist() == other.levels.tolist()
    assert one.shares.tolist() == other.shares.tolist()
