"""A second process reads for the loader while there is a backlog; nothing that is stored or counted depends on it."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from experiments.errors import BusyError
from experiments.events import reading_ahead
from experiments.events.event import Event
from experiments.events.loader import Loaded, Loader
from experiments.events.outbox_file import OutboxFile, outbox_files
from experiments.events.store import balance, open_store, read_store, store_path
from experiments.events.wire import encode
from tests.events.story import START, view

FILES, ENTRIES, MOST = 4, 25, 10


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_ahead, "ONE_CORE", False)


def events() -> Iterator[Event]:
    """Good ones, one in ten that is refused, and some that come again, the same or changed."""
    for n in range(FILES * ENTRIES):
        event = view(n % 90, arm="als")
        yield replace(event, kind="click") if n % 10 == 3 else replace(event, body={"page_type": "front"}) if n == 94 else event


def backlog(home: Path) -> None:
    """Files whose owners have died."""
    (home / "outbox").mkdir(parents=True)
    some = events()
    for number in range(FILES):
        file = OutboxFile(home / "outbox", f"dead-{number}")
        for event in islice(some, ENTRIES):
            file.write([encode(event)], {(event.kind, event.arm): 1})
        os.close(file._lock)
        file._connection.close()


def readers() -> list[int]:
    """The processes that read ahead for this one."""
    mine = [int(child) for path in Path("/proc/self/task").glob("*/children") for child in path.read_text().split()]
    return [child for child in mine if b"reading_ahead" in Path(f"/proc/{child}/cmdline").read_bytes()]


def stored(home: Path) -> list[list[tuple[Any, ...]]]:
    tables = [
        "event ORDER BY seq",
        "dead_letter ORDER BY outbox, seq",
        "tally ORDER BY outbox, kind, arm",
        "outcome ORDER BY kind, arm, name",
    ]
    store = read_store(store_path(home))
    try:
        return [[tuple(row) for row in store.execute(f"SELECT * FROM {table}")] for table in tables]
    finally:
        store.close()


def exact(home: Path) -> bool:
    return all(row.exact and not row.pending for row in balance(home))


@pytest.fixture
def loader(tmp_path: Path, either_engine_long: str) -> Iterator[Loader]:
    backlog(tmp_path)
    with Loader(tmp_path, clock=lambda: START, backlog=MOST) as opened:
        yield opened


def rest(loader: Loader) -> Loaded:
    """Load what is left, in small parts."""
    total = Loaded()
    while (part := loader.load(most=MOST)).pending_files or part.moved:
        total += part
    return total


def test_what_is_read_ahead_is_stored_as_if_the_loader_had_read_it(tmp_path: Path) -> None:
    for home, waits in ((tmp_path / "alone", 1_000), (tmp_path / "helped", MOST)):
        backlog(home)
        with Loader(home, clock=lambda: START, backlog=waits) as loader:
            loader.load(most=MOST)
            assert len(readers()) == (waits == MOST)
            assert rest(loader).conflict == 1
        assert outbox_files(home / "outbox") == []
    assert stored(tmp_path / "alone") == stored(tmp_path / "helped")


def test_the_second_process_lives_as_long_as_the_backlog(tmp_path: Path, loader: Loader) -> None:
    assert readers() == []
    loader.load(most=MOST)
    (reader,) = readers()
    loader.load(most=MOST)
    assert readers() == [reader]
    assert rest(loader).moved == FILES * ENTRIES - 2 * FILES * MOST
    assert readers() == []
    assert exact(tmp_path)


def test_a_loader_that_is_closed_ends_its_second_process(loader: Loader) -> None:
    loader.load(most=MOST)
    assert readers() != []
    loader.close()
    assert readers() == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_when_it_dies_or_hangs_the_loader_reads_for_itself_and_says_so(
    tmp_path: Path, loader: Loader, number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    loader.load(most=MOST)
    assert loader._ahead._link is not None
    loader._ahead._link.settimeout(0.2 if number == signal.SIGSTOP else 60)
    os.kill(readers()[0], number)
    with caplog.at_level(logging.WARNING):
        loaded = rest(loader)
    assert loaded.moved == FILES * ENTRIES - FILES * MOST
    assert [("reads for itself" in message) for message in caplog.messages] == [True]
    assert readers() == []
    assert exact(tmp_path)


def test_a_program_on_the_disk_that_says_something_else_is_not_asked(
    tmp_path: Path, loader: Loader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reading_ahead, "SHAPE", "of an older version")
    assert rest(loader).moved == FILES * ENTRIES
    assert len(caplog.messages) == 1
    assert exact(tmp_path)


def test_a_damaged_file_raises_an_alarm_and_leaves_the_others_alone(tmp_path: Path, loader: Loader) -> None:
    loader.load(most=MOST)
    outbox_files(tmp_path / "outbox")[2].write_bytes(b"no database at all" * 1000)
    loaded = rest(loader)
    assert (loaded.moved, len(outbox_files(tmp_path / "outbox"))) == ((FILES - 1) * (ENTRIES - MOST), 1)


def test_an_entry_that_was_changed_breaks_the_chain(tmp_path: Path, loader: Loader) -> None:
    loader.load(most=MOST)
    with sqlite3.connect(outbox_files(tmp_path / "outbox")[2]) as file:
        file.execute("UPDATE entry SET body = ? WHERE seq = 15", (encode(view(9)),))
    file.close()
    assert (loaded := loader.load(most=MOST)).alarms == 1
    assert loaded.moved == 3 * MOST + 4


def test_what_was_read_for_a_pass_that_failed_is_stored_by_the_next(tmp_path: Path, loader: Loader) -> None:
    loader.load(most=MOST)
    store = open_store(store_path(tmp_path))
    store.execute("UPDATE lease SET epoch = epoch + 1")
    with pytest.raises(BusyError):
        loader.load(most=MOST)
    store.execute("UPDATE lease SET epoch = epoch - 1")
    store.close()
    assert rest(loader).moved == FILES * ENTRIES - FILES * MOST
    assert exact(tmp_path)
