"""Heat and co-reading, small enough to check by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.errors import ArtefactError
from experiments.serving.pair_rows import PairRows
from experiments.serving.publish import current_signals, publish_signals, read_signals, signal_versions
from experiments.serving.recommender import Catalogue
from experiments.serving.signals import HOUR, Past, Reads, SignalRules, Signals, build_signals, signals_from_arrays, signals_to_arrays
from tests.conftest import NOW, article

AT = NOW.timestamp()


def reads(*rows: tuple[int, int, int, float]) -> Reads:
    """Rows of (reader, session, article, hours ago)."""
    ordered = sorted(rows, key=lambda row: -row[3])
    columns = list(zip(*ordered, strict=True))
    return Reads(np.array(columns[0]), np.array(columns[1]), np.array(columns[2], np.int32), AT - np.array(columns[3]) * HOUR)


EVERY_PAIR = SignalRules(half_life_h=1.0, co_read_sessions=1)


def test_heat_halves_every_half_life(catalogue: Catalogue) -> None:
    heat = build_signals(reads((1, 1, 3, 1.0), (2, 2, 3, 2.0)), catalogue, at=AT, rules=EVERY_PAIR).heat
    assert heat[3] == pytest.approx(0.5 + 0.25)


def test_a_reader_counts_once_per_article_and_day(catalogue: Catalogue) -> None:
    heat = build_signals(reads((1, 1, 3, 1.0), (1, 1, 3, 1.0)), catalogue, at=AT, rules=EVERY_PAIR).heat
    assert heat[3] == pytest.approx(0.5)


def test_a_reader_who_comes_back_to_an_article_all_day_does_not_make_it_most_read(catalogue: Catalogue) -> None:
    back_and_forth = [(1, 1, 3 + i % 2, 0.9 - 0.01 * i) for i in range(50)]
    signals = build_signals(reads(*back_and_forth, (2, 2, 5, 0.4), (3, 3, 5, 0.4)), catalogue, at=AT, rules=EVERY_PAIR)
    assert signals.reads_in[1][[3, 4, 5]].tolist() == [1, 1, 2]
    assert signals.onward_in[1][[3, 4]].tolist() == [0, 1]
    assert signals.by_level.articles.tolist() == [4]


def test_a_reader_counts_once_also_where_codes_are_too_large_to_sort_with_their_places(catalogue: Catalogue) -> None:
    heat = build_signals(reads((1, 1, 3, 1.0), (1, 1, 3, 1.0), (2**62, 2, 3, 1.0)), catalogue, at=AT, rules=EVERY_PAIR).heat
    assert heat[3] == pytest.approx(1.0)


def test_a_reader_above_sixty_articles_an_hour_is_left_out() -> None:
    catalogue = Catalogue([article(i) for i in range(70)])
    scraper = [(9, 9, i, 0.5) for i in range(61)]
    signals = build_signals(reads(*scraper, (1, 1, 3, 1.0)), catalogue, at=AT, rules=EVERY_PAIR)
    assert signals.reads_in[4].sum() == 1


def test_what_is_read_after_another_article_counts_fully_and_backwards_half(catalogue: Catalogue) -> None:
    signals = build_signals(reads((1, 1, 3, 8.0), (1, 1, 4, 8.0 - 1e-9)), catalogue, at=AT, rules=EVERY_PAIR)
    assert dict(zip(*map(np.ndarray.tolist, signals.co_reads(3)), strict=True)) == {4: pytest.approx(0.5)}
    assert dict(zip(*map(np.ndarray.tolist, signals.co_reads(4)), strict=True)) == {3: pytest.approx(0.25)}


def pairs(rows: PairRows, article: int) -> dict[int, float]:
    return dict(zip(*map(np.ndarray.tolist, rows.of(article)), strict=True))


def test_reads_close_in_a_session_are_near_each_other_and_further_steps_weigh_less(catalogue: Catalogue) -> None:
    signals = build_signals(reads((1, 1, 3, 2.0), (1, 1, 4, 2.0), (1, 1, 5, 2.0), (2, 2, 6, 2.0)), catalogue, at=AT, rules=EVERY_PAIR)
    assert pairs(signals.near, 3) == pytest.approx({4: 0.5, 5: 0.5 * 0.7})  # two hours are one half-life, twice that of heat
    assert pairs(signals.near, 5) == pytest.approx({3: 0.5 * 0.7 * 0.7, 4: 0.5 * 0.7})  # backwards weighs 0.7
    assert signals.near.total[3] == pytest.approx(0.85)
    assert pairs(signals.near, 6) == {}


def test_only_what_was_opened_right_after_follows(catalogue: Catalogue) -> None:
    signals = build_signals(reads((1, 1, 3, 1.0), (1, 1, 4, 1.0), (1, 1, 5, 1.0)), catalogue, at=AT, rules=EVERY_PAIR)
    assert [pairs(signals.following, article) for article in (3, 4, 5)] == [{4: 0.5}, {5: 0.5}, {}]


def test_onward_reads_leave_out_the_first_of_a_session_and_reloads(catalogue: Catalogue) -> None:
    signals = build_signals(
        reads((1, 1, 3, 0.2), (1, 1, 3, 0.19), (1, 1, 4, 0.18), (1, 1, 5, 0.1), (2, 2, 5, 0.1), (3, 3, 6, 0.9), (3, 3, 4, 0.8)),
        catalogue,
        at=AT,
        rules=EVERY_PAIR,
    )
    assert signals.onward_in[:, [3, 4, 5, 6]].tolist() == [[0, 1, 1, 0], [0, 2, 1, 0], [0, 2, 1, 0]]


def test_pairs_of_few_sessions_are_hidden_whatever_their_distance(catalogue: Catalogue) -> None:
    rows = [(r, r, a, 1.0 - a / 100) for r in range(3) for a in (3, 4, 5)]
    signals = build_signals(reads(*rows), catalogue, at=AT, rules=SignalRules(half_life_h=1.0, co_read_sessions=4))
    assert len(signals.near.articles) == len(signals.following.articles) == 0
    signals = build_signals(reads(*rows), catalogue, at=AT, rules=SignalRules(half_life_h=1.0, co_read_sessions=3))
    assert signals.near.of(3)[0].tolist() == [4, 5]


def test_a_pair_shows_only_from_enough_sessions_on(catalogue: Catalogue) -> None:
    rows = [(r, r, a, 1.0 - a / 100) for r in range(9) for a in (3, 4)]
    rules = SignalRules(half_life_h=1.0, co_read_sessions=10)
    assert len(build_signals(reads(*rows), catalogue, at=AT, rules=rules).co_reads(3)[0]) == 0
    rows += [(9, 9, 3, 1.0), (9, 9, 4, 0.9)]
    assert build_signals(reads(*rows), catalogue, at=AT, rules=rules).co_reads(3)[0].tolist() == [4]


def test_one_session_reading_a_pair_ten_times_does_not_show_it(catalogue: Catalogue) -> None:
    rows = [(1, 1, 3 + i % 2, 1.0 - i / 100) for i in range(20)]
    assert len(build_signals(reads(*rows), catalogue, at=AT, rules=SignalRules(co_read_sessions=10)).co_articles) == 0


def test_a_later_read_changes_nothing(catalogue: Catalogue) -> None:
    one = build_signals(reads((1, 1, 3, 1.0)), catalogue, at=AT, rules=EVERY_PAIR)
    other = build_signals(reads((1, 1, 3, 1.0), (2, 2, 3, -1.0)), catalogue, at=AT, rules=EVERY_PAIR)
    mine, others = signals_to_arrays(one), signals_to_arrays(other)
    assert all(np.array_equal(mine[name], others[name]) for name in mine)


def a_day(reads_a_day: int) -> Reads:
    """Nobody has read for three hours."""
    codes = np.arange(reads_a_day)
    return Reads(codes, codes, (codes % 5).astype(np.int32), AT - np.linspace(23.9, 3.0, reads_a_day) * HOUR)


@pytest.mark.parametrize(("reads_a_day", "busy", "half_life_h"), [(48_000, True, 1.0), (47_999, False, 24.0)])
def test_a_busy_site_stays_busy_in_a_quiet_hour(catalogue: Catalogue, reads_a_day: int, busy: bool, half_life_h: float) -> None:
    signals = build_signals(a_day(reads_a_day), catalogue, at=AT)
    assert (signals.busy, signals.half_life_h) == (busy, half_life_h)


@pytest.mark.parametrize(("reads_a_day", "credit_h"), [(48_000, 1.0), (47_999, 24.0)])
@pytest.mark.parametrize("half_life_h", [0.5, 2.0])
def test_a_half_life_that_was_chosen_makes_no_site_busy_or_quiet(
    catalogue: Catalogue, reads_a_day: int, credit_h: float, half_life_h: float
) -> None:
    rules = SignalRules(half_life_h=half_life_h)
    signals = build_signals(a_day(reads_a_day), catalogue, at=AT, rules=rules)
    signals = replace(signals, typical=np.ones_like(signals.typical))
    age_h = (AT - catalogue.published) / HOUR
    credit = signals.warmth(np.arange(len(catalogue), dtype=np.int32), AT) - signals.heat
    np.testing.assert_allclose(credit, np.clip(1.0 - age_h / credit_h, 0.0, 1.0), atol=1e-3)


def test_a_new_article_gets_heat_on_credit(catalogue: Catalogue) -> None:
    signals = build_signals(reads(*[(r, r, a, 2.0) for r in range(4) for a in range(1, 40)]), catalogue, at=AT)
    warmth = signals.warmth(np.array([0, 39], np.int32), AT)
    assert signals.heat[0] == 0
    assert warmth[0] > 0


def test_a_snapshot_survives_the_disk_and_a_changed_byte_is_refused(home: Path, catalogue: Catalogue) -> None:
    signals = build_signals(reads((1, 1, 3, 1.0), (1, 1, 4, 0.5)), catalogue, at=AT, rules=EVERY_PAIR)
    version = publish_signals(home, signals)
    pointer = current_signals(home)
    assert pointer is not None
    again = read_signals(home, catalogue, version, digest=pointer["sha256"])
    mine, theirs = signals_to_arrays(signals), signals_to_arrays(again)
    assert mine.keys() == theirs.keys()
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)
    path = home / "signals" / f"{version}.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match="does not match"):
        read_signals(home, catalogue, version, digest=pointer["sha256"])


def test_signals_of_another_catalogue_are_refused(home: Path, catalogue: Catalogue) -> None:
    version = publish_signals(home, Signals.empty(catalogue, AT))
    with pytest.raises(ArtefactError, match="speak of 40 articles"):
        read_signals(home, Catalogue([article(1)]), version)


def test_three_snapshots_are_kept(home: Path, catalogue: Catalogue) -> None:
    for second in range(5):
        publish_signals(home, Signals.empty(catalogue, AT + second))
    assert len(signal_versions(home)) == 3


def test_a_snapshot_of_an_older_version_is_refused_with_the_way_out(catalogue: Catalogue) -> None:
    arrays = signals_to_arrays(Signals.empty(catalogue, AT))
    del arrays["near_total"]
    with pytest.raises(ArtefactError, match="lack 'near_total'"):
        signals_from_arrays(arrays, catalogue)


def test_a_past_gives_every_full_hour_what_its_reads_alone_give(catalogue: Catalogue) -> None:
    rng = np.random.default_rng(0)
    n, levels = 3_000, np.array([[0, 0], [7, 0], [7, 9]])
    at = np.sort(AT - HOUR * 150 * rng.random(n))
    reader = np.where(rng.random(n) < 0.7, rng.integers(0, 40, n), 99)
    scraped = np.flatnonzero(reader == 99)[:200]
    at[scraped] = AT - HOUR * 30.5  # more reads than the cap within one hour
    at.sort()
    log = Reads(reader, rng.integers(0, 600, n), rng.integers(0, 30, n).astype(np.int32), at, levels[rng.integers(0, 3, n)])
    past = Past.of(log, cap_per_hour=EVERY_PAIR.reader_cap_per_hour)
    assert len(past.reads) < n
    for hours in (0, 1, 13, 31, 149):
        alone, shared = (build_signals(given, catalogue, at=AT - hours * HOUR, rules=EVERY_PAIR) for given in (log, past))
        for name, array in signals_to_arrays(alone).items():
            np.testing.assert_array_equal(signals_to_arrays(shared)[name], array, err_msg=f"{name} {hours} h earlier")
