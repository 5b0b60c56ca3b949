"""Counts of what readers met: right after a write that failed, a damaged file, an erasure."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from analysis.failing import Met
from experiments.errors import BusyError
from experiments.events.backup import back_up
from experiments.events.store import open_store, read_store, store_path
from experiments.ladder import ladder_of
from tests.events.story import START, send
from tests.web.test_ladder import engine as engine  # a fixture
from tests.web.test_operations import FAILED, Clock, met, pages
from tests.web.test_operations import clock as clock
from tests.web.test_operations import operations as operations
from web.cli import commands
from web.cli.main import app
from web.met import NEW
from web.operations import Operations

commands.install()


def counts(home: Path, engine: Engine) -> Path:
    return home / "ladder" / f"{ladder_of(engine, 'newest').proposal}.db"


def test_what_could_not_be_written_is_not_counted_twice(tmp_path: Path, engine: Engine, operations: Operations) -> None:
    send(tmp_path, pages(readers=range(50)))
    operations.look()
    send(tmp_path, pages(readers=range(50, 52), minute=2, **FAILED))
    with closing(sqlite3.connect(counts(tmp_path, engine))) as database:
        database.execute("CREATE TRIGGER full BEFORE UPDATE ON counted BEGIN SELECT RAISE(ABORT, 'the disk is full'); END")
        for _ in range(9):
            with pytest.raises(sqlite3.Error, match="the disk is full"):
                operations.look()
        database.execute("DROP TRIGGER full")
    assert operations.look() == []
    assert met(tmp_path, engine) == Met(52, failed=2, fallback=2, nothing=2)


def test_a_look_reads_what_is_new_by_its_number_and_not_everything_since_the_beginning(tmp_path: Path) -> None:
    send(tmp_path, pages(readers=range(1)))
    with closing(open_store(store_path(tmp_path))) as store:
        plan = store.execute("EXPLAIN QUERY PLAN " + NEW, (10, 20, "related", "live", START)).fetchall()
    assert [row[-1] for row in plan] == ["SEARCH event USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]


def test_damaged_counts_are_counted_anew(tmp_path: Path, engine: Engine, operations: Operations, clock: Clock) -> None:
    send(tmp_path, pages(readers=range(50)))
    operations.look()
    operations.close()
    counts(tmp_path, engine).write_bytes(b"no database" * 500)
    again = Operations(tmp_path, engine, clock, source="live")
    send(tmp_path, pages(readers=range(50, 60), minute=2))
    again.look()
    assert met(tmp_path, engine).readers == 60
    again.close()


def test_a_worker_that_was_told_to_end_does_not_look_any_more(tmp_path: Path, engine: Engine, operations: Operations) -> None:
    send(tmp_path, pages(readers=range(10), **FAILED))
    operations.close()
    assert operations.look() == []
    assert ladder_of(engine, "newest").state == "live"


def kept(home: Path, engine: Engine) -> int:
    with closing(sqlite3.connect(counts(home, engine))) as database:
        found: int = database.execute("SELECT count(DISTINCT reader) FROM met").fetchone()[0]
    return found


def test_a_reader_is_forgotten_also_before_the_first_look_of_a_worker(
    tmp_path: Path, engine: Engine, operations: Operations, clock: Clock
) -> None:
    send(tmp_path, pages(readers=range(9)))
    operations.look()
    operations.close()
    again = Operations(tmp_path, engine, clock, source="live")
    again.forget("r3")
    assert kept(tmp_path, engine) == 8
    again.look()
    again.forget("r4")
    assert kept(tmp_path, engine) == 7


def test_a_reader_who_is_erased_without_a_worker_is_forgotten_too(tmp_path: Path, engine: Engine, operations: Operations) -> None:
    send(tmp_path, pages(readers=range(9)))
    operations.look()
    operations.close()
    done = CliRunner().invoke(app, ["data", "erase", "r3", "--yes", "--home", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert kept(tmp_path, engine) == 8


def test_whoever_erases_by_hand_is_told_that_old_pages_are_still_read(tmp_path: Path) -> None:
    send(tmp_path, pages(readers=range(9)))
    erase = ["data", "erase", "r3", "--yes", "--home", str(tmp_path)]
    with closing(read_store(store_path(tmp_path))) as reading:
        reading.snapshot()
        assert reading.execute("SELECT count(*) FROM event").fetchone()
        told = CliRunner().invoke(app, erase)
        assert isinstance(told.exception, BusyError), told.output
    assert CliRunner().invoke(app, erase).exit_code == 0


def test_copies_do_not_carry_what_can_be_counted_again(tmp_path: Path, engine: Engine, operations: Operations) -> None:
    send(tmp_path, pages(readers=range(9)))
    operations.look()
    copy = back_up(tmp_path, tmp_path.parent / "copies", at_us=START)
    assert (copy.path / "control.db").exists()
    assert not list((copy.path / "ladder").glob("*.db"))


def test_counts_of_an_earlier_layout_are_taken_anew(tmp_path: Path, engine: Engine, operations: Operations, clock: Clock) -> None:
    send(tmp_path, pages(readers=range(50)))
    operations.look()
    operations.close()
    counts(tmp_path, engine).unlink()
    with closing(sqlite3.connect(counts(tmp_path, engine))) as database:
        database.executescript("CREATE TABLE met(arm, what, reader); CREATE TABLE counted(since, seq); PRAGMA user_version=1;")
    again = Operations(tmp_path, engine, clock, source="live")
    send(tmp_path, pages(readers=range(50, 60), minute=2))
    again.look()
    assert met(tmp_path, engine).readers == 60
    again.close()
