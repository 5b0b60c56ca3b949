from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from experiments.events.engine import Store
from experiments.events.rows import decoded, insert_new
from experiments.events.sqlite_store import SqliteStore
from experiments.events.store import last_seq, open_store, store_path
from experiments.events.wire import COLUMNS, Columns, StoredRow, decode, encode
from tests.events.story import START, view

MOST_ROWS = SqliteStore.most_rows


@pytest.fixture
def store(tmp_path: Path, either_engine: str) -> Iterator[Store]:
    opened = open_store(store_path(tmp_path), create=True)
    opened.begin()
    yield opened
    opened.rollback()
    opened.close()


def row(number: int, article: str = "a1", arm: str = "front") -> StoredRow:
    return decode(encode(replace(view(number), arm=arm, body={"page_type": "article", "article": article})))


def columns(rows: Sequence[StoredRow]) -> Columns:
    return list(zip(*rows, strict=True))


def stored(store: Store) -> list[StoredRow]:
    return store.execute(f"SELECT {', '.join(COLUMNS)} FROM event ORDER BY seq").fetchall()


@pytest.mark.parametrize("many", [1, 2, MOST_ROWS - 1, MOST_ROWS])
def test_rows_are_stored_as_they_are_and_in_their_order(store: Store, many: int) -> None:
    rows = [row(number) for number in range(many)]
    assert insert_new(store, columns(rows)) == (many, 0, Counter())
    assert stored(store) == rows


def test_a_time_of_the_client_that_is_absent_stays_absent_and_zero_stays_zero(store: Store) -> None:
    times = [(None, None), (0, 0), (START, None), (None, START), (2**62 - 1, 1)]
    rows = [decode(encode(replace(view(number), client_at=client, sent_at=sent))) for number, (client, sent) in enumerate(times)]
    insert_new(store, columns(rows))
    assert store.execute("SELECT client_at, sent_at FROM event ORDER BY seq").fetchall() == times


@pytest.mark.parametrize("share_again", [0.0, 0.003, 0.3, 1.0])
def test_the_first_of_each_id_is_kept_and_every_other_counted(store: Store, share_again: float) -> None:
    chance = random.Random(7)
    first: dict[bytes, StoredRow] = {}
    counted: Counter[str] = Counter()
    for _ in range(11):
        some = [
            row(chance.randrange(900) if chance.random() < share_again else n, chance.choice("ab"))
            for n in chance.sample(range(10**6), MOST_ROWS)
        ]
        for one in some:
            kept = first.setdefault(one[0], one)
            if kept is not one:
                counted["duplicate" if kept == one else "conflict"] += 1
        before = len(stored(store))
        new, _, others = insert_new(store, columns(some))
        assert new == len(stored(store)) - before
        for (kind, arm, name), n in others.items():
            assert (kind, arm) == ("view", "front")
            counted[name] -= n
    assert stored(store) == list(first.values())
    assert not any(counted.values())


def test_events_that_come_again_leave_no_gap_in_the_numbers(store: Store) -> None:
    insert_new(store, columns([row(number) for number in range(10)]))
    insert_new(store, columns([row(number) for number in range(20)]))
    insert_new(store, columns([row(number) for number in range(20)]))
    assert [seq for (seq,) in store.execute("SELECT seq FROM event ORDER BY seq")] == list(range(1, 21))
    assert last_seq(store) == 20


def test_late_rows_are_counted_when_they_are_stored_and_only_then(store: Store) -> None:
    late = [(*one[: COLUMNS.index("late")], 1, one[-1]) for one in map(row, range(5))]
    assert insert_new(store, columns(late))[:2] == (5, 5)
    assert insert_new(store, columns(late))[:2] == (0, 0)


def test_a_row_the_store_cannot_take_is_no_duplicate(store: Store) -> None:
    with pytest.raises(Exception, match=r"refuses events|null value"):
        insert_new(store, columns([(*row(1)[:2], None, *row(1)[3:])]))


@pytest.mark.parametrize(("many", "at_once"), [(0, 10), (1, 10), (9, 10), (10, 10), (11, 10), (35, 10), (1_300, 600), (600, 600)])
def test_entries_are_read_in_parts_and_in_their_order_and_only_the_bad_ones_are_refused(many: int, at_once: int) -> None:
    entries = [(number, b"nonsense" if number % 7 == 3 else encode(view(number))) for number in range(many)]
    parts = list(decoded(entries, at_once=at_once))
    assert [len(good[0]) + len(refused) for good, refused in parts] == [at_once] * (many // at_once) + [many % at_once] * (
        many % at_once > 0
    )
    assert [one for good, _ in parts for one in zip(*good, strict=True)] == [decode(body) for number, body in entries if number % 7 != 3]
    assert [one for _, refused in parts for one in refused] == [
        (number, "not readable", b"nonsense") for number in range(many) if number % 7 == 3
    ]


def test_where_every_entry_is_refused_nothing_is_stored(store: Store) -> None:
    ((good, refused),) = decoded([(number, b"nonsense") for number in range(3)], at_once=10)
    assert [number for number, _, _ in refused] == [0, 1, 2]
    assert insert_new(store, good) == (0, 0, Counter())
