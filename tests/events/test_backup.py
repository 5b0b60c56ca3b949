"""Backups: what was acknowledged comes back, once; what was erased stays erased; a damaged copy is refused."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from experiments.errors import ConfigError, DataError, NotFoundError
from experiments.events import backup
from experiments.events.backup import back_up
from experiments.events.erase import erase_reader
from experiments.events.erased_readers import refuse
from experiments.events.loader import Loader
from experiments.events.outbox import Outbox
from experiments.events.restoring import drill, newest, restore
from experiments.events.store import balance, store_path
from experiments.files import replace_json
from experiments.migrate import migrate
from tests.events.story import DAY, SMALL, START, send, view
from tests.events.test_erase import READER, hits
from tests.faults.harness import verdict


@pytest.fixture
def kept(tmp_path: Path, home: Path, either_engine_long: str) -> Path:
    """A home with ten events, six of one reader, and a pointer to a model."""
    if either_engine_long == "postgresql":
        home.mkdir()
        for name in ("events.json", "erase.key"):
            (tmp_path / name).rename(home / name)
    migrate(home)
    send(home, [view(n, READER if n < 6 else "other-1") for n in range(10)])
    (home / "models" / "als").mkdir(parents=True)
    (home / "models" / "als" / "current.json").write_text("{}")
    return home


def test_a_backup_comes_back_as_it_was(kept: Path, tmp_path: Path) -> None:
    made = back_up(kept, tmp_path / "copies", at_us=START)
    done = restore(newest(tmp_path / "copies"), tmp_path / "new", at_us=START)
    assert (made.last_seq, done.last_seq, done.erased) == (10, 10, 0)
    assert balance(tmp_path / "new") == balance(kept)
    assert (tmp_path / "new" / "models" / "als" / "current.json").read_text() == "{}"
    assert drill(made.path, at_us=START).last_seq == 10
    assert list((tmp_path / "copies").iterdir()) == [made.path]


def test_events_that_still_wait_in_an_outbox_are_in_the_backup(kept: Path, tmp_path: Path) -> None:
    outbox = Outbox(kept / "outbox", clock=lambda: START, limits=SMALL)
    outbox.append([view(n) for n in range(10, 15)])
    made = back_up(kept, tmp_path / "copies", at_us=START)
    outbox.close()
    restore(made.path, tmp_path / "new", at_us=START)
    assert verdict(tmp_path / "new", [view(n).id for n in range(15)]).stored == 15


def test_what_came_while_a_backlog_was_copied_is_not_missed_in_the_copy(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store that is copied last knows of entries that the copy of their outbox does not hold, nor has it loaded them."""
    outbox = Outbox(kept / "outbox", clock=lambda: START, limits=SMALL)
    outbox.append([view(n) for n in range(10, 15)])
    copy_outbox = backup.copy_outbox

    def meanwhile(path: Path, target: Path) -> None:
        copy_outbox(path, target)
        outbox.append([view(n) for n in range(15, 30)])
        with Loader(kept, clock=lambda: START) as loader:
            loader.load(most=7)

    monkeypatch.setattr(backup, "copy_outbox", meanwhile)
    made = back_up(kept, tmp_path / "copies", at_us=START)
    outbox.close()
    assert drill(made.path, at_us=START).last_seq == 17
    restore(made.path, tmp_path / "new", at_us=START)
    assert verdict(tmp_path / "new", [view(n).id for n in range(17)]).stored == 17


def test_a_reader_erased_after_the_backup_does_not_come_back(kept: Path, tmp_path: Path) -> None:
    made = back_up(kept, tmp_path / "copies", at_us=START)
    erase_reader(kept, READER, until_us=START)
    assert restore(made.path, tmp_path / "new", at_us=START, erased_in=kept).erased == 6
    assert hits(tmp_path / "new", READER) == []
    assert send(tmp_path / "new", [view(20, READER)]).erased == 1
    assert all(row.exact for row in balance(tmp_path / "new"))


def test_a_later_backup_knows_who_was_erased_since(kept: Path, tmp_path: Path) -> None:
    first = back_up(kept, tmp_path / "copies", at_us=START)
    erase_reader(kept, READER, until_us=START)
    back_up(kept, tmp_path / "copies", at_us=START + DAY)
    assert restore(first.path, tmp_path / "new", at_us=START).erased == 6


def test_a_reader_whose_erasure_waited_for_the_copy_to_be_taken_does_not_come_back(kept: Path, tmp_path: Path) -> None:
    with Loader(kept, clock=lambda: START) as loader:
        refuse(kept, loader, [READER])  # what comes first; sealed files are written anew after the copy
    made = back_up(kept, tmp_path / "copies", at_us=START)
    assert restore(made.path, tmp_path / "new", at_us=START).erased == 6
    assert hits(tmp_path / "new", READER) == []


def test_who_asked_to_be_erased_before_the_home_was_lost_does_not_come_back(kept: Path, tmp_path: Path) -> None:
    """The request lies in the old home until a worker takes it: there may be none any more."""
    made = back_up(kept, tmp_path / "copies", at_us=START)
    replace_json(kept / "erase" / "one.json", {"reader": READER, "asked_us": START})
    assert restore(made.path, tmp_path / "new", at_us=START, erased_in=kept).erased == 6
    assert hits(tmp_path / "new", READER) == []
    assert send(tmp_path / "new", [view(20, READER)]).erased == 1
    assert all(row.exact for row in balance(tmp_path / "new"))


def test_a_dead_letter_of_a_reader_erased_after_the_backup_does_not_come_back(kept: Path, tmp_path: Path) -> None:
    only_dead = "reader-5b1e7d09"
    send(kept, [changed(view(20, only_dead), body={"dead": "expired"})])
    made = back_up(kept, tmp_path / "copies", at_us=START)
    assert erase_reader(kept, only_dead, until_us=START).dead_letters == 1
    assert restore(made.path, tmp_path / "new", at_us=START, erased_in=kept).erased == 1
    assert hits(tmp_path / "new", only_dead) == []
    assert all(row.exact for row in balance(tmp_path / "new"))


def test_backups_older_than_thirty_days_are_deleted(kept: Path, tmp_path: Path) -> None:
    made = [back_up(kept, tmp_path / "copies", at_us=START + day * DAY).path for day in (0, 1, 31)]
    back_up(kept, tmp_path / "copies", at_us=START + 32 * DAY)
    assert [path.exists() for path in made] == [False, False, True]


def test_what_a_query_spilled_from_memory_is_in_no_copy(kept: Path, tmp_path: Path) -> None:
    """It holds readers, is of no use to anybody else, and half a database would fail the check of the copy."""
    spilled = kept / "lake" / f"spill-{os.getpid()}"
    spilled.mkdir(parents=True)
    (spilled / "events.db").write_bytes(b"half a database")
    made = back_up(kept, tmp_path / "copies", at_us=START)
    assert not (made.path / "lake").exists()


def test_only_so_many_backups_are_kept_the_newest(kept: Path, tmp_path: Path) -> None:
    made = [back_up(kept, tmp_path / "copies", at_us=START + day * DAY, most=3).path for day in range(5)]
    assert sorted((tmp_path / "copies").iterdir()) == made[-3:]


def test_what_a_killed_backup_or_drill_left_behind_is_swept_after_a_day(kept: Path, tmp_path: Path) -> None:
    for name, hours in ((".20260101T063000.000000Z", 30), (".drill-x", 30), (".20260102T063000.000000Z", 1), (".mine", 30)):
        (tmp_path / "copies" / name / "outbox").mkdir(parents=True)
        os.utime(tmp_path / "copies" / name, (time.time() - hours * 3_600,) * 2)
    made = back_up(kept, tmp_path / "copies", at_us=START).path
    assert {path.name for path in (tmp_path / "copies").iterdir()} == {made.name, ".20260102T063000.000000Z", ".mine"}


def test_a_copy_that_would_fill_the_disk_is_not_begun(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nearly_full = shutil.disk_usage(tmp_path)._replace(free=1 << 30)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: nearly_full)
    with pytest.raises(DataError, match="must leave 1 GiB free"):
        back_up(kept, tmp_path / "copies", at_us=START)
    assert list((tmp_path / "copies").iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "words"),
    [(lambda path: path.unlink(), "is missing"), (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), "was changed")],
)
def test_a_damaged_backup_restores_nothing_and_names_the_file(kept: Path, tmp_path: Path, damage: object, words: str) -> None:
    made = back_up(kept, tmp_path / "copies", at_us=START)
    damage(store_path(made.path))  # type: ignore[operator]
    with pytest.raises(DataError, match="damaged") as caught:
        restore(made.path, tmp_path / "new", at_us=START)
    assert f"events.db {words}" in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_a_home_in_use_is_never_overwritten(kept: Path, tmp_path: Path) -> None:
    made = back_up(kept, tmp_path / "copies", at_us=START)
    with pytest.raises(ConfigError, match="not empty"):
        restore(made.path, kept, at_us=START)


def test_a_backup_inside_its_own_home_or_of_nothing_is_refused(kept: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="inside"):
        back_up(kept, kept / "copies", at_us=START)
    with pytest.raises(NotFoundError):
        back_up(tmp_path / "nothing", tmp_path / "copies", at_us=START)
    with pytest.raises(NotFoundError):
        newest(tmp_path)


def test_a_damaged_database_leaves_no_copy(kept: Path, tmp_path: Path) -> None:
    (kept / "content.db").write_bytes(b"SQLite format 3\0" + b"x" * 5_000)
    with pytest.raises(DataError, match=r"content\.db"):
        back_up(kept, tmp_path / "copies", at_us=START)
    assert list((tmp_path / "copies").iterdir()) == []


def test_a_damaged_outbox_file_keeps_no_backup_from_being_taken_and_comes_along_for_a_salvage(kept: Path, tmp_path: Path) -> None:
    (kept / "outbox" / "one.db").write_bytes(b"no database at all" * 1000)
    made = back_up(kept, tmp_path / "copies", at_us=START)
    restore(made.path, tmp_path / "new", at_us=START)
    assert (tmp_path / "new" / "outbox" / "one.db").read_bytes() == b"no database at all" * 1000
    with Loader(tmp_path / "new", clock=lambda: START) as loader:
        assert loader.drain().alarms == 1


def test_a_backup_may_be_taken_while_the_worker_loads(kept: Path, tmp_path: Path) -> None:
    with Loader(kept, clock=lambda: START) as loader:
        loader.load()
        assert back_up(kept, tmp_path / "copies", at_us=START).last_seq == 10
