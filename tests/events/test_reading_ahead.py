"""A second process reads for the loader while there is a backlog; nothing that is stored or counted depends on it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.errors import BusyError
from experiments.events import reading_ahead
from experiments.events.loader import Loaded, Loader
from experiments.events.outbox_file import outbox_files
from experiments.events.reading_ahead import ReadingAhead, Request
from experiments.events.store import open_store, read_store, store_path
from experiments.events.wire import encode
from tests.events.backlog import ENTRIES, FILES, backlog, exact, readers
from tests.events.story import START, view

MOST = 10


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_ahead, "ONE_CORE", False)


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
            assert len(readers(os.getpid())) == (waits == MOST)
            assert rest(loader).conflict == 1
        assert outbox_files(home / "outbox") == []
    assert stored(tmp_path / "alone") == stored(tmp_path / "helped")


def test_the_second_process_lives_as_long_as_the_backlog(tmp_path: Path, loader: Loader) -> None:
    assert readers(os.getpid()) == []
    loader.load(most=MOST)
    (reader,) = readers(os.getpid())
    loader.load(most=MOST)
    assert readers(os.getpid()) == [reader]
    assert rest(loader).moved == FILES * ENTRIES - 2 * FILES * MOST
    assert readers(os.getpid()) == []
    assert exact(tmp_path)


def test_a_loader_that_is_closed_ends_its_second_process(loader: Loader) -> None:
    loader.load(most=MOST)
    assert readers(os.getpid()) != []
    loader.close()
    assert readers(os.getpid()) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_when_it_dies_or_hangs_the_loader_reads_for_itself_and_says_so(
    tmp_path: Path, loader: Loader, number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    loader.load(most=MOST)
    assert loader._ahead._link is not None
    loader._ahead._link.settimeout(0.2 if number == signal.SIGSTOP else 60)
    os.kill(readers(os.getpid())[0], number)
    with caplog.at_level(logging.WARNING):
        loaded = rest(loader)
    assert loaded.moved == FILES * ENTRIES - FILES * MOST
    assert [("reads for itself" in message) for message in caplog.messages] == [True]
    assert readers(os.getpid()) == []
    assert exact(tmp_path)


def test_a_program_on_the_disk_that_says_something_else_is_not_asked(
    tmp_path: Path, loader: Loader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reading_ahead, "SHAPE", "of an older version")
    assert rest(loader).moved == FILES * ENTRIES
    assert len(caplog.messages) == 1
    assert exact(tmp_path)


def test_a_damaged_file_raises_an_alarm_and_leaves_the_others_alone(
    tmp_path: Path, loader: Loader, caplog: pytest.LogCaptureFixture
) -> None:
    loader.load(most=MOST)
    outbox_files(tmp_path / "outbox")[2].write_bytes(b"no database at all" * 1000)
    loaded = rest(loader)
    assert (loaded.moved, len(outbox_files(tmp_path / "outbox"))) == ((FILES - 1) * (ENTRIES - MOST), 1)
    assert caplog.messages == []


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


@pytest.mark.parametrize(
    "said", [b"", b"\0\0", (9).to_bytes(8, "big") + b"half", (1).to_bytes(8, "big") + b"!", (1).to_bytes(8, "big") + b"0"]
)
def test_an_answer_that_is_cut_or_no_message_is_not_believed(tmp_path: Path, said: bytes, caplog: pytest.LogCaptureFixture) -> None:
    backlog(tmp_path)
    ahead = ReadingAhead(backlog=MOST)
    ahead._link, other = socket.socketpair()
    request = Request(str(outbox_files(tmp_path / "outbox")[0]), 0, 0, most=MOST, at_once=MOST, final=True)
    ahead.ask(request)
    other.recv(1_000)
    other.sendall(said)
    other.close()
    found = ahead.take(request)
    assert (found.entries, found.good, len(list(found.groups))) == (MOST, MOST, 1)
    assert (len(caplog.messages), readers(os.getpid())) == (1, [])
