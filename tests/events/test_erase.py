from __future__ import annotations

import os
import random
from base64 import b64encode
from pathlib import Path

import pyarrow as pa
import pytest
from msgspec.structs import replace

from experiments.errors import BusyError, DataError
from experiments.events import erase, lake
from experiments.events.erase import erase_reader, erase_readers
from experiments.events.export import export_reader
from experiments.events.loader import Loader
from experiments.events.outbox import Outbox
from experiments.events.outbox_file import OutboxFile
from experiments.events.store import balance, read_store, store_path
from experiments.events.wire import encode
from tests.events.story import SMALL, START, send, view

pytestmark = pytest.mark.usefixtures("either_engine")
READER = "reader-9f3c7a51d2e84b60"


def hits(home: Path, text: str) -> list[str]:
    """Files that hold the text raw, as hex or as base64 (at any alignment)."""
    raw = text.encode()
    spellings = [raw, raw.hex().encode(), *(b64encode(b"\0" * shift + raw)[4:-4] for shift in range(3))]
    return [str(path) for path in home.rglob("*") if path.is_file() and any(one in path.read_bytes() for one in spellings)]


def mixed(n: int) -> list[object]:
    chance = random.Random(2)
    readers = [READER if chance.random() < 0.05 else f"other-{chance.randrange(50)}" for _ in range(n)]
    filler = ["x" * chance.randrange(900) for _ in range(n)]
    return [view(i, readers[i], body={"page_type": "front", "x": filler[i]}) for i in range(n)]


def others(home: Path) -> list[tuple[object, ...]]:
    connection = read_store(store_path(home))
    try:
        return connection.execute("SELECT id, reader, body FROM event WHERE reader LIKE 'other%' ORDER BY id").fetchall()
    finally:
        connection.close()


def test_after_an_erasure_no_byte_of_the_reader_is_left_and_others_are_untouched(tmp_path: Path, either_engine: str) -> None:
    events = mixed(3_000)
    random.Random(1).shuffle(events)
    for start in range(0, 3_000, 500):
        send(tmp_path, events[start : start + 500])  # type: ignore[arg-type]
    before, mine = others(tmp_path), len(export_reader(tmp_path, READER))
    assert bool(hits(tmp_path, READER)) == (either_engine == "sqlite")  # of the server's own files: tests/events/test_postgres.py
    erased = erase_reader(tmp_path, READER, until_us=START)
    assert (erased.rows, erased.outboxes_left, erased.wiped) == (mine, 0, True)
    assert hits(tmp_path, READER) == []
    assert others(tmp_path) == before
    assert [(row.erased, row.exact) for row in balance(tmp_path)] == [(mine, True)]


def test_pages_that_were_merged_when_they_emptied_keep_no_copy(tmp_path: Path) -> None:
    # secure_delete alone fails here: cells move between pages before they are deleted, and leave copies behind
    chance = random.Random(0)
    readers = [READER if chance.random() < 0.9 else f"other-{i % 50}" for i in range(6_000)]
    events = [view(i, reader, body={"page_type": "front", "x": "x" * chance.randrange(300)}) for i, reader in enumerate(readers)]
    chance.shuffle(events)
    for start in range(0, 6_000, 1_000):
        send(tmp_path, events[start : start + 1_000])
    assert erase_reader(tmp_path, READER, until_us=START).rows == readers.count(READER)
    assert hits(tmp_path, READER) == []


def test_later_events_of_an_erased_reader_are_refused_and_counted(tmp_path: Path) -> None:
    send(tmp_path, [view(1, READER), view(2, "other-1")])
    erase_reader(tmp_path, READER, until_us=START)
    loaded = send(tmp_path, [view(3, READER), view(1, READER), view(4, "other-1")])
    assert (loaded.stored, loaded.erased) == (1, 2)
    assert hits(tmp_path, READER) == []
    row = balance(tmp_path)[0]
    assert (row.received, row.stored, row.erased, row.exact) == (5, 2, 3, True)


def test_what_cannot_be_read_of_an_erased_reader_is_not_kept_as_a_dead_letter(tmp_path: Path) -> None:
    erase_reader(tmp_path, READER, until_us=START)
    loaded = send(tmp_path, [replace(view(3, READER), body={"dead": "expired"}), replace(view(4, "other-1"), body={"dead": "expired"})])
    assert (loaded.dead, loaded.erased) == (1, 1)
    assert hits(tmp_path, READER) == []
    row = balance(tmp_path)[0]
    assert (row.received, row.dead, row.erased, row.exact) == (2, 1, 1, True)


def test_outboxes_of_living_processes_are_emptied_too(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", clock=lambda: START, limits=SMALL)
    outbox.append([view(1, READER), view(2, "other-1")])
    with Loader(tmp_path, clock=lambda: START) as loader:
        erased = erase_reader(tmp_path, READER, until_us=START, loader=loader)
        assert erased.outboxes_left == 0
        assert hits(tmp_path, READER) == []
        outbox.append([view(3, "other-1")])
        outbox.close()
        loader.drain()
    assert [(row.stored, row.erased, row.exact) for row in balance(tmp_path)] == [(2, 1, True)]


def test_what_somebody_still_reads_is_said_and_wiped_when_the_erasure_is_repeated(tmp_path: Path, either_engine: str) -> None:
    send(tmp_path, [view(1, READER), view(2, "other-1")])
    reading = read_store(store_path(tmp_path))
    reading.snapshot()
    assert reading.execute("SELECT count(*) FROM event").fetchone() == (2,)
    assert not erase_reader(tmp_path, READER, until_us=START).wiped
    assert bool(hits(tmp_path, READER)) == (either_engine == "sqlite")
    reading.close()
    erased = erase_reader(tmp_path, READER, until_us=START)
    assert (erased.rows, erased.wiped) == (0, True)
    assert hits(tmp_path, READER) == []


class CountingLoader(Loader):
    """Counts how often the store was written anew."""

    wipes = 0

    def wipe(self) -> bool:
        self.wipes += 1
        return super().wipe()


def test_readers_who_ask_together_are_erased_together_and_the_store_is_written_anew_once(tmp_path: Path) -> None:
    gone = [f"reader-{n:04}-9f3c7a51" for n in range(600)]  # more than one statement takes
    send(tmp_path, [view(n, reader) for n, reader in enumerate([*gone, *gone[:3], "other-1"])])
    send(tmp_path, [replace(view(900 + n, reader), body={"dead": "expired"}) for n, reader in enumerate([gone[5], gone[599], "other-1"])])
    with CountingLoader(tmp_path, clock=lambda: START) as loader:
        erased = erase_readers(tmp_path, [*gone, gone[0]], until_us=START, loader=loader)
        assert loader.wipes == 1
    assert (erased.rows, erased.dead_letters, erased.outboxes_left) == (603, 2, 0)
    assert hits(tmp_path, "-9f3c7a51") == []
    assert send(tmp_path, [view(2_000, gone[7]), view(2_001, "other-1")]).erased == 1
    assert [(row.stored, row.dead, row.erased, row.exact) for row in balance(tmp_path)] == [(2, 1, 606, True)]


def test_dead_letters_and_imports_of_the_reader_go_as_well(tmp_path: Path) -> None:
    send(tmp_path, [replace(view(1, READER), body={"dead": "expired"}), replace(view(2, "other-1"), body={"dead": "expired"})])
    table = pa.table({"reader": [READER, "u2"], "article": ["x", "y"], "at": [START, START + 1]})
    path = lake.add_import(tmp_path, table, name="log", sha256="d" * 64)
    erased = erase_reader(tmp_path, READER, until_us=START)
    assert (erased.dead_letters, erased.imported) == (1, 1)
    assert hits(tmp_path, READER) == []
    assert lake.reads(tmp_path, until_us=START + 9)["reader"].to_pylist() == ["u2"]
    assert [(row.dead, row.erased, row.exact) for row in balance(tmp_path)] == [(1, 1, True)]
    assert lake.add_import(tmp_path, table, name="log", sha256="d" * 64) == path
    assert hits(tmp_path, READER) == []  # the file that was imported before does not bring the reader back


def test_erasing_needs_the_loader_of_the_worker_that_runs(tmp_path: Path) -> None:
    with Loader(tmp_path, clock=lambda: START), pytest.raises(BusyError):
        erase_reader(tmp_path, READER, until_us=START)


def test_nobody_is_erased_by_an_empty_name(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        erase_reader(tmp_path, "", until_us=START)


def test_a_reader_who_never_came_is_erased_without_a_trace_but_the_keyed_hash(tmp_path: Path) -> None:
    erased = erase_reader(tmp_path, READER, until_us=START)
    assert (erased.rows, erased.imported) == (0, 0)
    assert hits(tmp_path, READER) == []
    assert os.stat(tmp_path / "erase.key").st_size == 32


def test_what_a_process_cannot_let_go_of_is_said_and_not_taken_for_erased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erase, "OUTBOX_WAIT_S", 0.1)
    (tmp_path / "outbox").mkdir()
    file = OutboxFile(tmp_path / "outbox", "one")  # its owner met an error of the disk, and holds it until it ends
    file.write([encode(view(1, READER))], {("view", ""): 1})
    erased = erase_reader(tmp_path, READER, until_us=START)
    assert erased.outboxes_left == 1
    with pytest.raises(BusyError, match="1 outbox file may still hold what was erased everywhere else"):
        erased.sure()
    file.seal()
    assert erase_reader(tmp_path, READER, until_us=START).sure().outboxes_left == 0
    assert hits(tmp_path, READER) == []


def test_a_short_id_touches_no_dead_letter_of_anybody_else(tmp_path: Path) -> None:
    send(tmp_path, [replace(view(n, reader), body={"dead": "1"}) for n, reader in enumerate(("1", "11", "r1"))])
    assert erase_reader(tmp_path, "1", until_us=START).dead_letters == 1
    assert [(row.dead, row.erased, row.exact) for row in balance(tmp_path)] == [(2, 1, True)]


def test_an_export_names_what_waits_what_was_refused_and_what_was_imported(tmp_path: Path) -> None:
    send(tmp_path, [view(1, READER), replace(view(2, READER), body={"dead": "expired"})])
    lake.add_import(
        tmp_path, pa.table({"reader": [READER, "u2"], "article": ["x", "y"], "at": [START, START]}), name="log", sha256="d" * 64
    )
    outbox = Outbox(tmp_path / "outbox", clock=lambda: START, limits=SMALL)
    outbox.append([view(3, READER), view(4, "other-1")])
    found = {event["state"]: event for event in export_reader(tmp_path, READER)}
    assert {state: event["issued_at"] - START for state, event in found.items()} == {
        "imported": 0,
        "stored": 1_000,
        "refused": 0,
        "pending": 3_000,
    }
    assert found["imported"]["body"]["article"] == "x"
    assert READER in found["refused"]["body"]["written"]
    outbox.close()
    with Loader(tmp_path, clock=lambda: START) as loader:
        loader.drain()
    assert [event["state"] for event in export_reader(tmp_path, READER)].count("stored") == 2


def test_an_export_holds_every_event_of_the_reader_in_order_and_nobody_elses(tmp_path: Path) -> None:
    send(tmp_path, [view(5, READER), view(2, READER), view(3, "other-1")])
    exported = export_reader(tmp_path, READER)
    assert [event["issued_at"] for event in exported] == [START + 2_000, START + 5_000]
    assert exported[0]["body"] == {"page_type": "article", "article": "a2"}
    assert {event["reader"] for event in exported} == {READER}
    assert export_reader(tmp_path, "") == []
    assert export_reader(tmp_path / "nowhere", READER) == []
