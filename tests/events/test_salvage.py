"""Damaged outbox files come to an end: what can be read is loaded, the rest is counted, the balance is exact."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from experiments.events.asking import replay_anywhere, salvage_anywhere
from experiments.events.erased_readers import refuse
from experiments.events.event import Event
from experiments.events.loader import Loader
from experiments.events.outbox_file import OutboxFile, outbox_files
from experiments.events.replay import Replayed, dead_letters
from experiments.events.salvage import Salvaged
from experiments.events.store import alarms, balance
from experiments.events.wire import encode
from tests.events.story import START, view
from tests.events.test_erase import hits
from tests.events.test_loader import abandoned, killed, rows, written

pytestmark = pytest.mark.usefixtures("either_engine_long")


def damaged(home: Path, change: Callable[[OutboxFile], object], *, events: int = 6) -> OutboxFile:
    """An outbox file of six events that was damaged after its owner died, as a loader leaves it."""
    file = abandoned(home, *range(events))
    change(file)
    file._connection.close()
    with Loader(home, clock=lambda: START) as loader:
        loader.drain()
    return file


def salvaged(home: Path) -> Salvaged:
    (found,) = salvage_anywhere(home, at_us=START)
    assert outbox_files(home / "outbox") == []
    assert alarms(home) == {}
    assert not any(row.pending for row in balance(home))
    assert all(row.exact for row in balance(home))
    return found


def ids(home: Path) -> list[bytes]:
    return sorted(row[0] for row in rows(home, "SELECT id FROM event"))


def known(*numbers: int) -> list[bytes]:
    return sorted(view(n).id for n in numbers)


def test_behind_a_gap_what_the_check_confirms_is_stored_and_the_first_is_a_dead_letter_to_replay(tmp_path: Path) -> None:
    damaged(tmp_path, lambda file: file._connection.execute("DELETE FROM entry WHERE seq = 3"))
    assert ids(tmp_path) == known(0, 1)
    found = salvaged(tmp_path)
    assert (found.alarm, found.stored, found.unsure, found.lost) == ("entry 3 is missing or damaged", 2, 1, 1)
    assert ids(tmp_path) == known(0, 1, 4, 5)
    assert {letter.reason: letter.n for letter in dead_letters(tmp_path)} == {
        "damaged in its outbox file": 1,
        "lost with its outbox file": 1,
    }
    assert replay_anywhere(tmp_path, at_us=START) == Replayed(tried=2, stored=1, dead=1)
    assert ids(tmp_path) == known(0, 1, 3, 4, 5)
    assert all(row.exact for row in balance(tmp_path))


def test_an_entry_that_was_changed_is_kept_as_it_is_and_believed_by_nobody(tmp_path: Path) -> None:
    garbage = b"\xff\x00 nothing"
    damaged(tmp_path, lambda file: file._connection.execute("UPDATE entry SET body = ? WHERE seq = 2", (garbage,)))
    found = salvaged(tmp_path)
    assert (found.stored, found.unsure, found.lost) == (4, 1, 0)
    ((kind, payload),) = rows(tmp_path, "SELECT kind, payload FROM dead_letter")
    assert (kind, bytes(payload).partition(b"\n")[2]) == ("view", garbage)
    assert replay_anywhere(tmp_path, at_us=START).dead == 1
    assert all(row.exact for row in balance(tmp_path))


def test_an_entry_of_which_the_check_says_that_it_was_changed_is_never_taken_for_an_event(tmp_path: Path) -> None:
    """One flipped bit may leave an event as good as any, of another article."""
    other = encode(view(1)).replace(b'"a1"', b'"a3"')
    damaged(tmp_path, lambda file: file._connection.execute("UPDATE entry SET body = ? WHERE seq = 2", (other,)))
    assert salvaged(tmp_path).unsure == 1
    ((kind, payload),) = rows(tmp_path, "SELECT kind, payload FROM dead_letter")
    assert (kind, bytes(payload).partition(b"\n")[2]) == ("view", other)
    assert replay_anywhere(tmp_path, at_us=START) == Replayed(tried=1, dead=1)
    assert ids(tmp_path) == known(0, 2, 3, 4, 5)
    assert all(row.exact for row in balance(tmp_path))


@pytest.mark.parametrize("n", [9, 4])
def test_a_tally_that_counts_more_has_lost_entries_and_one_that_counts_less_is_corrected(tmp_path: Path, n: int) -> None:
    damaged(tmp_path, lambda file: file._connection.execute("UPDATE tally SET n = ?", (n,)))
    assert salvaged(tmp_path).lost == max(0, n - 6)
    assert [row.received for row in balance(tmp_path)] == [max(n, 6)]


def test_a_file_that_somebody_removed_is_counted_as_lost(tmp_path: Path) -> None:
    file = damaged(tmp_path, lambda file: file._connection.execute("DELETE FROM entry WHERE seq = 3"))
    for path in (tmp_path / "outbox").glob(f"{file.path.stem}*"):
        path.unlink()
    assert not all(row.exact for row in balance(tmp_path))
    assert salvaged(tmp_path).lost == 4


def test_entries_of_a_log_that_was_cut_are_lost_though_nobody_knows_what_they_were(tmp_path: Path) -> None:
    file = written(tmp_path, 0, 1)
    end = file.wal.stat().st_size
    file.write([encode(view(2)), encode(view(3))], {("view", ""): 2})
    killed(file)
    os.truncate(file.wal, end)
    with Loader(tmp_path, clock=lambda: START) as loader:
        loader.drain()
    found = salvaged(tmp_path)
    assert (found.alarm, found.stored, found.lost) == ("4 entries were acknowledged, the file ends at 2", 0, 2)
    assert [(row.kind, row.received, row.dead) for row in balance(tmp_path)] == [("?", 2, 2), ("view", 2, 0)]


def test_a_database_that_was_removed_is_not_salvaged_but_loaded(tmp_path: Path) -> None:
    file = written(tmp_path, 0, 1)
    with Loader(tmp_path, clock=lambda: START) as loader:
        loader.load()
    file.write([encode(view(2))], {("view", ""): 1})
    killed(file)
    file.path.unlink()
    assert salvage_anywhere(tmp_path, at_us=START) == []
    with Loader(tmp_path, clock=lambda: START) as loader:
        loader.drain()
    assert ids(tmp_path) == known(0, 1, 2)


def test_events_that_arrived_on_another_way_are_duplicates(tmp_path: Path) -> None:
    damaged(tmp_path, lambda file: file._connection.execute("DELETE FROM entry WHERE seq = 3"))
    other = abandoned(tmp_path, 5)
    other._connection.close()
    with Loader(tmp_path, clock=lambda: START) as loader:
        loader.drain()
    found = salvaged(tmp_path)
    assert (found.stored, found.duplicate) == (1, 1)


def test_pages_of_a_file_that_are_damaged_take_only_their_own_entries_with_them(tmp_path: Path) -> None:
    """Whatever page is overwritten: no event is changed, each is stored, doubtful or lost, and they add up."""
    chance, seen = random.Random(3), 0
    for number in range(8):
        home = tmp_path / str(number)
        home.mkdir()
        file = written(home, 1_000)
        events = [replace(view(n), body={"page_type": "front", "x": "y" * 500}) for n in range(60)]
        file.write(map(encode, events), {("view", ""): 60})
        os.close(file._lock)
        file._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        file._connection.close()
        content = bytearray(file.path.read_bytes())
        place = 4_096 * chance.randrange(1, len(content) // 4_096)
        content[place : place + 4_096] = chance.randbytes(4_096)
        file.path.write_bytes(content)
        with Loader(home, clock=lambda: START) as loader:
            loader.drain()
        found = salvage_anywhere(home, at_us=START)
        check_whole(home, events)
        seen += sum(one.stored for one in found)
    assert seen > 60


def check_whole(home: Path, events: list[Event]) -> None:
    assert all(row.exact and row.pending == 0 for row in balance(home))
    assert set(ids(home)) <= {event.id for event in events} | {view(1_000).id}
    assert outbox_files(home / "outbox") == []


@pytest.mark.parametrize(("before", "behind"), [(b"", b""), (b"\xff", b"\xff")], ids=["whole", "in pieces"])
def test_what_is_of_an_erased_reader_leaves_no_payload(tmp_path: Path, before: bytes, behind: bytes) -> None:
    reader = "0af7" * 8
    body = before + encode(view(2, reader)) + behind
    with Loader(tmp_path, clock=lambda: START) as loader:
        refuse(tmp_path, loader, [reader])
    damaged(tmp_path, lambda file: file._connection.execute("UPDATE entry SET body = ? WHERE seq = 3", (body,)))
    found = salvaged(tmp_path)
    assert (found.stored, found.unsure, found.lost) == (3, 0, 1)
    assert hits(tmp_path, reader) == []


def test_a_file_that_is_still_written_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "outbox").mkdir()
    file = OutboxFile(tmp_path / "outbox", "one")
    for n in range(3):
        file.write([encode(view(n))], {("view", ""): 1})
    file._connection.execute("DELETE FROM entry WHERE seq = 2")
    with Loader(tmp_path, clock=lambda: START) as loader:
        loader.drain()
    (found,) = salvage_anywhere(tmp_path, at_us=START)
    assert (found.busy, outbox_files(tmp_path / "outbox")) == (True, [file.path])
    file.seal()
    assert salvaged(tmp_path).unsure == 1
