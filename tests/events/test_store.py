from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from experiments.errors import DataError, NotFoundError
from experiments.events.loader import Loader
from experiments.events.store import erase_key, open_store, read_store, reader_key, store_path
from tests.events.story import START, send, view


def test_a_missing_store_is_named_with_what_to_do(tmp_path: Path) -> None:
    for opener in (open_store, read_store):
        with pytest.raises(NotFoundError, match="Start the worker"):
            opener(store_path(tmp_path))


def test_the_writer_is_durable_and_wipes_what_it_deletes(tmp_path: Path) -> None:
    store = open_store(store_path(tmp_path), create=True)
    found = {
        name: store.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "secure_delete", "cell_size_check")
    }
    assert found == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1, "cell_size_check": 1}
    store.close()


def test_another_layout_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(store_path(tmp_path))
    connection.execute("PRAGMA user_version=9")
    connection.close()
    with pytest.raises(DataError, match="layout 9"):
        open_store(store_path(tmp_path), create=True)


def test_a_reading_connection_cannot_write(tmp_path: Path) -> None:
    send(tmp_path, [view(1)])
    connection = read_store(store_path(tmp_path))
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM event")
    connection.close()


def test_the_key_of_erased_readers_is_made_once_and_private(tmp_path: Path) -> None:
    first = reader_key(erase_key(tmp_path), "a")
    assert first == reader_key(erase_key(tmp_path), "a") != reader_key(erase_key(tmp_path), "b")
    assert (tmp_path / "erase.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "other").mkdir()
    assert reader_key(erase_key(tmp_path / "other"), "a") != first


def test_the_store_log_is_emptied_when_nothing_is_left_to_do(tmp_path: Path) -> None:
    send(tmp_path, [view(n) for n in range(50)])
    log = tmp_path / "events.db-wal"
    with Loader(tmp_path, clock=lambda: START) as loader:
        loader.load()
        assert log.stat().st_size == 0
