from __future__ import annotations

import gc
import os
import random
import resource
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from experiments.errors import BusyError, PresslabError
from experiments.events.loader import Loader
from experiments.events.outbox import Outbox
from experiments.events.outbox_file import OutboxFile, copy_outbox, outbox_files
from experiments.events.salvage import salvage
from experiments.events.store import alarms, balance, open_store, read_store, store_path
from experiments.events.wire import encode
from tests.events.story import DAY, SMALL, START, send, view

pytestmark = pytest.mark.usefixtures("either_engine")


@pytest.fixture
def loader(tmp_path: Path, either_engine: str) -> Iterator[Loader]:
    with Loader(tmp_path, clock=lambda: START) as opened:
        yield opened


def rows(home: Path, query: str) -> list[tuple[Any, ...]]:
    connection = read_store(store_path(home))
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def written(home: Path, *numbers: int) -> OutboxFile:
    """An outbox file of an owner that lives."""
    (home / "outbox").mkdir(exist_ok=True)
    file = OutboxFile(home / "outbox", f"dead-{numbers[0]}")
    for number in numbers:
        file.write([encode(view(number))], {("view", ""): 1})
    return file


def abandoned(home: Path, *numbers: int) -> OutboxFile:
    """An outbox file whose owner died without sealing it (its log is still there)."""
    file = written(home, *numbers)
    os.close(file._lock)
    return file


def killed(owner: OutboxFile) -> None:
    """Leave a file as a kill does, without what closing it would change, and without the index in memory."""
    left = {path: path.read_bytes() for path in (owner.path, owner.wal)}
    owner._connection.close()
    os.close(owner._lock)
    for path, data in left.items():
        path.write_bytes(data)


def test_every_event_is_stored_once_in_order(tmp_path: Path) -> None:
    loaded = send(tmp_path, [view(n) for n in range(12_000)])
    assert loaded.stored == 12_000
    assert rows(tmp_path, "SELECT count(*), count(DISTINCT id), min(seq), max(seq) FROM event") == [(12_000, 12_000, 1, 12_000)]


def test_a_live_outbox_is_read_while_it_is_written_and_kept(tmp_path: Path, loader: Loader) -> None:
    outbox = Outbox(tmp_path / "outbox", clock=lambda: START, limits=SMALL)
    for number in range(3):
        outbox.append([view(number)])
        assert loader.load().stored == 1
    assert len(outbox_files(tmp_path / "outbox")) == 1
    outbox.close()
    loader.drain()
    assert list((tmp_path / "outbox").iterdir()) == []


def test_a_pass_takes_at_most_what_it_is_told(tmp_path: Path, loader: Loader) -> None:
    outbox = Outbox(tmp_path / "outbox", clock=lambda: START, limits=SMALL)
    outbox.append([view(n) for n in range(25)])
    passes = [loader.load(most=10) for _ in range(4)]
    outbox.close()
    assert [(one.stored, one.pending_files) for one in passes] == [(10, 1), (10, 1), (5, 0), (0, 0)]


def test_the_file_of_a_killed_owner_is_loaded_and_removed(tmp_path: Path, loader: Loader) -> None:
    owner = abandoned(tmp_path, 1, 2, 3)
    assert loader.drain().stored == 3
    assert list((tmp_path / "outbox").iterdir()) == []
    owner._connection.close()


def test_the_same_event_again_is_a_duplicate_and_another_payload_a_conflict(tmp_path: Path) -> None:
    send(tmp_path, [view(1), view(1), view(2)])
    changed = structs.replace(view(1), body={"page_type": "front"})
    again = structs.replace(view(2), received_at=view(2).received_at + 5)
    loaded = send(tmp_path, [view(1), changed, again, changed])
    assert (loaded.stored, loaded.duplicate, loaded.conflict) == (0, 2, 2)
    assert rows(tmp_path, "SELECT body FROM event ORDER BY seq")[0] == ('{"article":"a1","page_type":"article"}',)
    row = balance(tmp_path)[0]
    assert (row.received, row.stored, row.duplicate, row.conflict, row.exact) == (7, 2, 3, 2, True)


def test_a_link_opened_again_is_the_same_click_unless_somebody_else_opens_it(tmp_path: Path) -> None:
    click = structs.replace(view(1), kind="click", arm="als", experiment="related", body={"slot": "s", "article": "a1", "position": 0})
    later = structs.replace(click, issued_at=click.issued_at + 5, received_at=click.received_at + 5, config="another plan")
    others = [structs.replace(click, reader="another"), structs.replace(click, body={**click.body, "position": 1})]
    loaded = send(tmp_path, [click, later, *others])
    assert (loaded.stored, loaded.duplicate, loaded.conflict) == (1, 1, 2)
    assert rows(tmp_path, "SELECT issued_at, config FROM event") == [(click.issued_at, "")]


def test_dead_letters_keep_reason_and_payload_and_are_balanced(tmp_path: Path) -> None:
    bad = structs.replace(view(1), kind="click", arm="als", body={"slot": "s"})
    send(tmp_path, [bad, view(2)])
    assert rows(tmp_path, "SELECT reason, kind, arm, payload FROM dead_letter") == [("click: bad article", "click", "als", encode(bad))]
    assert [(row.kind, row.arm, row.dead, row.stored, row.exact) for row in balance(tmp_path)] == [
        ("click", "als", 1, 0, True),
        ("view", "", 0, 1, True),
    ]


@pytest.mark.parametrize(("odd", "reason"), [("half of a pair \ud800", "not readable"), ("nul \0", "no readable reason")])
def test_a_reason_that_is_no_text_does_not_stop_the_loader(tmp_path: Path, odd: str, reason: str) -> None:
    loaded = send(tmp_path, [structs.replace(view(1), body={"dead": odd}), view(2)])
    assert (loaded.dead, loaded.stored) == (1, 1)
    assert rows(tmp_path, "SELECT reason FROM dead_letter") == [(reason,)]


def test_a_text_that_cannot_be_written_is_a_dead_letter_and_reports_go_on(tmp_path: Path) -> None:
    from experiments.events import lake

    names = ["half of a pair \ud800", "an emoji \U0001f600"]
    loaded = send(tmp_path, [view(n, body={"page_type": "article", "article": name}) for n, name in enumerate(names)])
    assert (loaded.dead, loaded.stored) == (1, 1)
    assert lake.reads(tmp_path, until_us=START + DAY)["article"].to_pylist() == names[1:]


@pytest.mark.parametrize("schema", [True, 1.0])
def test_a_number_of_another_type_is_a_dead_letter(tmp_path: Path, schema: object) -> None:
    assert send(tmp_path, [structs.replace(view(1), schema=schema), view(2)]).dead == 1


def test_the_balance_is_exact_at_every_step_of_the_way(tmp_path: Path) -> None:
    chance = random.Random(5)
    outbox = Outbox(tmp_path / "outbox", clock=lambda: START, limits=replace(SMALL, rotate_bytes=60_000))
    assert balance(tmp_path) == []
    with Loader(tmp_path, clock=lambda: START) as loader:
        for _ in range(25):
            some = [
                structs.replace(view(chance.randrange(300)), arm=chance.choice(["als", "front"])) for _ in range(chance.randrange(1, 30))
            ]
            outbox.append(some)
            if chance.random() < 0.5:
                loader.load(most=chance.randrange(1, 40))
            assert all(row.exact for row in balance(tmp_path))
        outbox.close()
        loader.drain()
    final = balance(tmp_path)
    assert all(row.exact and not row.pending for row in final)
    assert sum(row.stored for row in final) == rows(tmp_path, "SELECT count(*) FROM event")[0][0]


def test_a_lost_row_shows_in_the_balance(tmp_path: Path) -> None:
    send(tmp_path, [view(n) for n in range(10)])
    store = open_store(store_path(tmp_path))
    store.execute("DELETE FROM event WHERE seq = 4")
    store.close()
    assert [row.exact for row in balance(tmp_path)] == [False]


def test_a_deleted_outbox_shows_in_the_balance(tmp_path: Path, loader: Loader) -> None:
    outbox = Outbox(tmp_path / "outbox", clock=lambda: START, limits=SMALL)
    outbox.append([view(n) for n in range(10)])
    loader.load(most=6)
    for path in (tmp_path / "outbox").iterdir():
        path.unlink()
    outbox.close()
    row = balance(tmp_path)[0]
    assert (row.received, row.stored, row.pending, row.exact) == (10, 6, 0, False)


def test_a_gap_stops_the_file_raises_an_alarm_and_keeps_it(tmp_path: Path, loader: Loader) -> None:
    owner = abandoned(tmp_path, 1, 2, 3, 4)
    owner._connection.execute("DELETE FROM entry WHERE seq = 3")
    loaded = loader.drain()
    assert (loaded.stored, loaded.alarms) == (2, 1)
    assert rows(tmp_path, "SELECT state, alarm FROM outbox_offset") == [("kept", "entry 3 is missing or damaged")]
    assert len(outbox_files(tmp_path / "outbox")) == 1
    owner._connection.close()


def test_a_file_that_cannot_be_opened_for_now_is_an_alarm_of_this_pass_and_loaded_by_the_next(tmp_path: Path, loader: Loader) -> None:
    owner = abandoned(tmp_path, 1, 2)
    most, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    gc.collect()  # what other tests left open
    os.close(lowest := os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1, hard))  # enough to list the folder; an outbox takes two
    try:
        loaded = loader.load()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    assert (loaded.stored, loaded.alarms) == (0, 1)
    assert rows(tmp_path, "SELECT count(*) FROM outbox_offset") == [(0,)]
    assert (loaded := loader.drain()).stored == 2
    assert loaded.alarms == 0
    owner._connection.close()


def test_a_kept_file_is_named_until_somebody_removes_it(tmp_path: Path, loader: Loader) -> None:
    assert alarms(tmp_path) == {}
    owner = abandoned(tmp_path, 1, 2)
    owner._connection.execute("DELETE FROM entry WHERE seq = 1")
    loader.drain()
    assert alarms(tmp_path) == {owner.path: "entry 1 is missing or damaged"}
    owner._connection.close()
    owner.path.unlink()
    assert alarms(tmp_path) == {}


def test_a_changed_entry_breaks_the_chain(tmp_path: Path, loader: Loader) -> None:
    owner = abandoned(tmp_path, 1, 2, 3)
    owner._connection.execute("UPDATE entry SET body = ? WHERE seq = 2", (encode(view(9)),))
    assert (loaded := loader.drain()).stored == 1
    assert loaded.alarms == 1
    owner._connection.close()


@pytest.mark.parametrize(("numbers", "change"), [((1, 2, 3), "UPDATE tally SET n = 4"), ((1,), "DELETE FROM tally")])
def test_a_tally_that_differs_from_the_entries_raises_an_alarm(
    tmp_path: Path, loader: Loader, numbers: tuple[int, ...], change: str
) -> None:
    owner = abandoned(tmp_path, *numbers)
    owner._connection.execute(change)
    loaded = loader.drain()
    assert (loaded.stored, loaded.alarms) == (len(numbers), 1)
    assert [row.exact for row in balance(tmp_path)] == [False]
    owner._connection.close()


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("ended", [OutboxFile.seal, killed])
@pytest.mark.parametrize("left", [None, 32])
def test_a_file_whose_log_is_gone_or_empty_raises_an_alarm(
    tmp_path: Path, loader: Loader, loaded: bool, ended: Callable[[OutboxFile], None], left: int | None
) -> None:
    owner = written(tmp_path, 1, 2)
    if loaded:
        loader.load()
    owner.write([encode(view(3))], {("view", ""): 1})
    ended(owner)
    if left is None:
        owner.wal.unlink()
    else:
        os.truncate(owner.wal, left)
    assert loader.drain().alarms == 1
    assert list(alarms(tmp_path)) == [owner.path]
    assert [(row.received, row.stored, row.exact) for row in balance(tmp_path)] == [(2, 2, True)] * loaded


def test_a_log_cut_between_two_commits_raises_an_alarm(tmp_path: Path, loader: Loader) -> None:
    owner = written(tmp_path, 1, 2)
    end = owner.wal.stat().st_size
    owner.write([encode(view(3))], {("view", ""): 1})
    killed(owner)
    os.truncate(owner.wal, end)
    loaded = loader.drain()
    assert (loaded.stored, loaded.alarms) == (2, 1)
    assert alarms(tmp_path) == {owner.path: "3 entries were acknowledged, the file ends at 2"}


def test_a_file_that_shrank_after_it_was_loaded_takes_nothing_out_of_the_balance(tmp_path: Path, loader: Loader) -> None:
    owner = written(tmp_path, 1, 2, 3)
    loader.load()
    killed(owner)
    os.truncate(owner.wal, owner.wal.stat().st_size - 1)
    assert loader.drain().alarms == 1
    assert [(row.received, row.stored, row.exact) for row in balance(tmp_path)] == [(3, 3, True)]


def test_an_empty_database_raises_an_alarm_also_without_a_log(tmp_path: Path, loader: Loader) -> None:
    (tmp_path / "outbox").mkdir()
    path = tmp_path / "outbox" / "dead-1.db"
    path.touch()
    assert loader.drain().alarms == 1
    assert list(alarms(tmp_path)) == [path]
    assert balance(tmp_path) == []


def test_a_damaged_file_raises_an_alarm_and_leaves_the_others_alone(tmp_path: Path, loader: Loader) -> None:
    owner = abandoned(tmp_path, 1)
    owner._connection.close()
    other = abandoned(tmp_path, 2)
    owner.path.write_bytes(b"no database at all" * 1000)
    loaded = loader.drain()
    assert (loaded.stored, loaded.alarms) == (1, 1)
    other._connection.close()


BITS = {  # what one bit can make of the type of a value, and of the version of the file
    "a text": ("UPDATE entry SET body = CAST(CAST(body AS TEXT) || ' ' AS TEXT) WHERE seq = 2", 1),
    "the same text": ("UPDATE entry SET body = CAST(body AS TEXT) WHERE seq = 2", 3),
    "no UTF-8": ("UPDATE entry SET body = CAST(x'ff' AS TEXT) WHERE seq = 2", 1),
    "a number": ("UPDATE entry SET body = 7 WHERE seq = 2", 1),
    "a check that is none": ("UPDATE entry SET chain = 'x' WHERE seq = 2", 1),
    "a count that is none": ("UPDATE tally SET n = 'x'", 0),
    "a kind that is no text": ("UPDATE tally SET kind = x'ff'", 0),
    "a number of entries that is none": ("INSERT INTO sealed VALUES ('x')", 0),
}


@pytest.mark.parametrize(("change", "stored"), BITS.values(), ids=BITS)
def test_values_of_another_type_stop_their_file_only(tmp_path: Path, loader: Loader, change: str, stored: int) -> None:
    owner, other = abandoned(tmp_path, 1, 2, 3), abandoned(tmp_path, 4)
    owner._connection.execute(change)
    loaded = loader.drain()
    assert (loaded.stored, loaded.alarms) == (stored + 1, int(stored != 3))
    assert list(alarms(tmp_path)) == ([owner.path] if stored != 3 else [])
    for file in (owner, other):
        file._connection.close()
    assert salvage(tmp_path, loader) == [] if stored == 3 else salvage(tmp_path, loader)[0].stored + stored >= 1
    assert all(row.exact for row in balance(tmp_path))


def test_a_file_of_a_version_that_does_not_exist_is_damaged_and_not_waited_for(tmp_path: Path, loader: Loader) -> None:
    owner = abandoned(tmp_path, 1)
    owner._connection.close()  # copies the log
    data = bytearray(owner.path.read_bytes())
    data[47] ^= 16  # the format of the schema
    owner.path.write_bytes(data)
    assert loader.drain().alarms == 1
    assert alarms(tmp_path) == {owner.path: "damaged: unsupported file format"}
    assert salvage(tmp_path, loader)[0].lost == 1
    assert all(row.exact for row in balance(tmp_path))


def test_a_second_loader_is_refused_while_the_first_lives(tmp_path: Path, loader: Loader) -> None:
    with pytest.raises(BusyError, match="another loader"):
        Loader(tmp_path, clock=lambda: START)
    loader.close()
    with Loader(tmp_path, clock=lambda: START) as second:
        assert second.drain().moved == 0
    loader._store = open_store(store_path(tmp_path))
    loader._lock = os.open(tmp_path / "loader.lock", os.O_RDWR)


def test_a_loader_that_could_not_open_the_store_keeps_no_other_out(
    tmp_path: Path, either_engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = os.environ.get("PRESSLAB_DATABASE_URL")
    if good is None:
        store_path(tmp_path).write_bytes(b"no database" * 1_000)
    else:
        monkeypatch.setenv("PRESSLAB_DATABASE_URL", "postgresql://127.0.0.1:1/none")
    with pytest.raises((PresslabError, sqlite3.DatabaseError)):
        Loader(tmp_path, clock=lambda: START)
    if good is None:
        store_path(tmp_path).unlink()
    else:
        monkeypatch.setenv("PRESSLAB_DATABASE_URL", good)
    Loader(tmp_path, clock=lambda: START).close()


def test_a_closed_loader_writes_nothing_and_says_so(tmp_path: Path, loader: Loader) -> None:
    loader.close()
    loader.close()
    with Loader(tmp_path, clock=lambda: START), pytest.raises(BusyError, match="closed"), loader.transaction():
        pytest.fail("a closed loader began to write")


def test_a_loader_that_lost_the_lease_writes_nothing(tmp_path: Path, loader: Loader) -> None:
    abandoned(tmp_path, 1)._connection.close()
    usurper = open_store(store_path(tmp_path))
    usurper.execute("UPDATE lease SET epoch = epoch + 1")
    usurper.close()
    with pytest.raises(BusyError, match="took over"):
        loader.load()
    assert rows(tmp_path, "SELECT count(*) FROM event") == [(0,)]


def test_a_loader_killed_before_it_removed_a_finished_file_just_removes_it(tmp_path: Path, loader: Loader) -> None:
    abandoned(tmp_path, 1, 2)._connection.close()
    with loader.transaction() as store:
        store.execute("INSERT INTO outbox_offset VALUES (?, 2, 0, 'done', '')", (f"{store.prefix}dead-1",))
    assert loader.drain().moved == 0
    assert list((tmp_path / "outbox").iterdir()) == []


def test_a_finished_file_that_a_power_cut_brings_back_is_all_duplicates(tmp_path: Path, loader: Loader) -> None:
    abandoned(tmp_path, 1, 2)._connection.close()
    copy = {path: path.read_bytes() for path in (tmp_path / "outbox").iterdir()}
    loader.drain()
    for path, data in copy.items():
        path.write_bytes(data)
    assert loader.drain().duplicate == 2
    assert [(row.stored, row.exact) for row in balance(tmp_path)] == [(2, True)]


def test_a_dead_letter_of_a_file_that_comes_back_is_a_duplicate(tmp_path: Path, loader: Loader) -> None:
    """A backup under load holds the file, and the store into which it was loaded meanwhile."""
    owner = written(tmp_path, 1)
    owner.write([encode(structs.replace(view(2), kind="click"))], {("click", ""): 1})
    owner.write([encode(view(3))], {("view", ""): 1})
    killed(owner)
    copy = {path: path.read_bytes() for path in (tmp_path / "outbox").iterdir()}
    assert (loader.drain().dead, loader.drain().dead) == (1, 0)
    for path, data in copy.items():
        path.write_bytes(data)
    loaded = loader.drain()
    assert (loaded.stored, loaded.dead, loaded.duplicate) == (0, 0, 3)
    assert [(row.kind, row.received, row.dead, row.duplicate, row.exact) for row in balance(tmp_path)] == [
        ("click", 2, 1, 1, True),
        ("view", 4, 0, 2, True),
    ]


def test_a_file_as_a_backup_copied_it_before_the_store_is_finished_without_an_alarm(tmp_path: Path, loader: Loader) -> None:
    owner = written(tmp_path, 1, 2)
    copy_outbox(owner.path, tmp_path / "copy.db")
    owner.write([encode(view(3))], {("view", ""): 1})
    loader.load()
    killed(owner)
    owner.wal.unlink()
    (tmp_path / "copy.db").rename(owner.path)
    owner.path.with_suffix(".lock").write_bytes(b"")  # as a restore makes it
    assert loader.drain().alarms == 0
    assert list((tmp_path / "outbox").iterdir()) == []
    assert [(row.received, row.stored, row.exact) for row in balance(tmp_path)] == [(3, 3, True)]


def test_what_a_killed_process_left_unfinished_is_swept(tmp_path: Path, loader: Loader) -> None:
    folder = tmp_path / "outbox"
    folder.mkdir()
    for name in ("x-1.lock", "x-1.new", "x-1.new-journal"):
        (folder / name).write_bytes(b"")
    loader.drain()
    assert list(folder.iterdir()) == []


def test_passes_do_not_wait_for_somebody_who_reads_the_store(tmp_path: Path, loader: Loader) -> None:
    """A report reads for half a minute, and every pass that found nothing waited five seconds for it."""
    send_to = Outbox(tmp_path / "outbox", clock=lambda: START, limits=SMALL)
    send_to.append([view(0)])
    loader.drain()
    reading = read_store(store_path(tmp_path))
    reading.snapshot()
    assert reading.execute("SELECT count(*) FROM event").fetchone() == (1,)
    passes = threading.Thread(target=lambda: [(send_to.append([view(n)]), loader.drain()) for n in range(1, 21)])
    passes.start()
    passes.join(timeout=20)
    assert not passes.is_alive()
    reading.close()
    assert rows(tmp_path, "SELECT count(*) FROM event") == [(21,)]
    send_to.close()
    loader.drain()
    log = tmp_path / "events.db-wal"
    assert not log.exists() or log.stat().st_size == 0


def test_late_events_are_stored_and_counted(tmp_path: Path) -> None:
    event = view(1)
    loaded = send(tmp_path, [structs.replace(event, received_at=event.issued_at + 2 * 86_400_000_000), view(2)])
    assert (loaded.stored, loaded.late) == (2, 1)
