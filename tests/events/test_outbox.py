from __future__ import annotations

import gc
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec import structs

from experiments.errors import OutboxError
from experiments.events.loader import Loader
from experiments.events.outbox import Outbox, OutboxFailed, OutboxFull, OutboxLate, OutboxLimits, request_rotation
from experiments.events.outbox_file import OutboxFile, outbox_files, owner_alive, read_part
from experiments.events.outbox_queue import Batch, Line, in_words
from tests.events.story import SMALL, START, view
from tests.faults import harness


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


@pytest.fixture
def outbox(folder: Path) -> Iterator[Outbox]:
    opened = Outbox(folder, clock=lambda: START, limits=SMALL)
    yield opened
    opened.close()


def entries(folder: Path) -> int:
    return sum(len(read_part(path, after=0, most=10**6).rows) for path in outbox_files(folder))


def wait_for(true: Callable[[], bool], *, ticks: int = 2_000) -> bool:
    pause = threading.Event()
    return any(true() or pause.wait(0.005) for _ in range(ticks))


def test_what_append_accepted_is_on_disk_when_it_returns(outbox: Outbox, folder: Path) -> None:
    outbox.append([view(1), view(2)])
    assert entries(folder) == 2


def test_a_writer_syncs_the_log_in_every_commit(folder: Path) -> None:
    folder.mkdir()
    file = OutboxFile(folder, "one")
    assert file._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert file._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert file._connection.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
    file.seal()


def test_sixteen_threads_share_commits_and_lose_nothing(outbox: Outbox, folder: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: outbox.append([view(n)], timeout_s=30), range(800)))
    assert entries(folder) == 800
    part = read_part(outbox_files(folder)[0], after=0, most=1)
    assert part.tally == {("view", ""): 800}


def test_waiting_appends_share_one_commit(folder: Path) -> None:
    outbox = Outbox(folder, clock=lambda: START, limits=SMALL)
    outbox.append([view(0)])
    blocker = sqlite3.connect(outbox_files(folder)[0], isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")  # the commit in flight waits, the rest queues behind it
    waiting, first = outbox._queued([view(1)])
    assert wait_for(lambda: first not in waiting.waiting)
    threads = [threading.Thread(target=outbox.append, args=([view(n)],), kwargs={"timeout_s": 30}) for n in range(2, 41)]
    for thread in threads:
        thread.start()
    assert wait_for(lambda: waiting.events == 39)
    blocker.execute("ROLLBACK")
    blocker.close()
    for thread in threads:
        thread.join()
    wal = outbox_files(folder)[0].with_suffix(".db-wal").stat().st_size
    outbox.close()
    assert wal < 10 * 4 * 4120  # 41 commits of their own would need 41 times at least three frames


def test_one_huge_batch_is_accepted_by_an_empty_queue_in_one_transaction(folder: Path) -> None:
    outbox = Outbox(folder, clock=lambda: START, limits=replace(SMALL, queue_events=10))
    outbox.append([view(n) for n in range(12_000)], timeout_s=60)
    assert entries(folder) == 12_000
    outbox.close()


def test_a_full_queue_refuses_and_keeps_nothing(folder: Path) -> None:
    outbox = Outbox(folder, clock=lambda: START, limits=replace(SMALL, queue_events=3))
    outbox.append([view(0)])
    blocker = sqlite3.connect(outbox_files(folder)[0], isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(OutboxLate) as committing:
        outbox.append([view(1)], timeout_s=0.05)
    with pytest.raises(OutboxLate) as queued:
        outbox.append([view(2), view(3)], timeout_s=0.01)
    waiting = threading.Thread(target=outbox.append, args=([view(4), view(5)],), kwargs={"timeout_s": 30})
    waiting.start()
    assert wait_for(lambda: any(line.waiting for line in outbox._lines.values()))
    with pytest.raises(OutboxFull, match="queue"):
        outbox.append([view(6), view(7)])
    blocker.execute("ROLLBACK")
    blocker.close()
    waiting.join()
    outbox.close()
    assert (committing.value.withdrawn, queued.value.withdrawn) == (False, True)
    assert entries(folder) == 4  # 0, 1 (its commit was running), 4 and 5


def test_a_full_quota_refuses_and_room_makes_ready_again(folder: Path) -> None:
    outbox = Outbox(folder, clock=lambda: START, limits=replace(SMALL, quota_bytes=200_000))
    (folder / "ballast").write_bytes(b"x" * 300_000)
    with pytest.raises(OutboxFull, match="quota"):
        outbox.append([view(1)])
    assert not outbox.ready
    (folder / "ballast").unlink()
    assert wait_for(lambda: outbox.ready)
    outbox.append([view(1)])
    outbox.close()
    assert entries(folder) == 1


def test_what_is_withdrawn_leaves_its_room_in_the_queue_to_others() -> None:
    line, limits = Line(), replace(SMALL, queue_events=4, queue_bytes=400)
    first, second, third, fourth = (Batch([b"x" * 100] * 2, Counter(), 200) for _ in range(4))
    with line.changed:
        line.admit(first, limits)
        line.admit(second, limits)
        assert line.withdraw(second)
        line.admit(third, limits)
        with pytest.raises(OutboxFull, match="queue"):
            line.admit(fourth, limits)
    assert (line.events, line.size) == (4, 400)


def test_the_disk_reserve_is_kept(folder: Path) -> None:
    outbox = Outbox(folder, clock=lambda: START, limits=OutboxLimits(reserve_bytes=1 << 62))
    with pytest.raises(OutboxFull, match="reserve"):
        outbox.append([view(1)])
    outbox.close()


def test_after_a_failed_commit_the_file_is_left_alone_and_another_one_taken(outbox: Outbox, folder: Path) -> None:
    outbox.append([view(1)])
    spoil = sqlite3.connect(outbox_files(folder)[0], isolation_level=None)
    spoil.execute("DROP TABLE tally")
    spoil.close()
    with pytest.raises(OutboxError, match="commit failed"):
        outbox.append([view(2)])
    outbox.append([view(3)])
    assert len(outbox_files(folder)) == 2
    outbox.close()
    gc.collect()  # a closed connection would copy the log of a file that is in doubt
    assert outbox_files(folder)[0].with_suffix(".db-wal").exists()


def test_a_file_that_cannot_be_sealed_is_left_alone_and_another_one_taken(outbox: Outbox, folder: Path) -> None:
    outbox.append([view(1)])
    first = outbox_files(folder)[0]
    with closing(sqlite3.connect(first, isolation_level=None)) as spoil:
        spoil.execute("DROP TABLE sealed")
    request_rotation(folder)
    assert wait_for(lambda: len(outbox_files(folder)) == 2)
    outbox.append([view(2)])
    assert wait_for(lambda: outbox.ready)
    outbox.close()
    gc.collect()
    assert first.with_suffix(".db-wal").exists()
    assert (owner_alive(first), outbox_files(folder)[0]) == (True, first)


def test_three_failed_commits_within_a_minute_give_up(folder: Path) -> None:
    gone = threading.Event()
    outbox = Outbox(folder, clock=lambda: START, limits=SMALL, give_up=gone.set)
    folder.rmdir()
    for number in range(3):
        assert not gone.is_set()
        with pytest.raises(OutboxError, match="commit failed"):
            outbox.append([view(number)])
    assert gone.wait(5)
    assert not outbox.ready
    with pytest.raises(OutboxError, match="closed"):
        outbox.append([view(9)])


def test_only_failures_within_one_minute_give_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1e6]
    monkeypatch.setattr("experiments.events.outbox.time", SimpleNamespace(monotonic=lambda: now[0]))
    gone = threading.Event()
    outbox = Outbox(folder, clock=lambda: START, limits=SMALL, give_up=gone.set)
    folder.rmdir()

    def fails(at_s: float) -> None:
        now[0] = 1e6 + at_s
        with pytest.raises(OutboxError, match="commit failed"):
            outbox.append([view(1)])

    for at_s in (0, 30, 61, 119):  # any two of them within a minute, no three
        fails(at_s)
    assert not gone.is_set()
    fails(121)  # 61, 119, 121
    assert gone.wait(5)


def test_whoever_waits_when_an_outbox_gives_up_is_refused_and_not_acknowledged(folder: Path) -> None:
    outbox = Outbox(folder, clock=lambda: START, limits=SMALL)
    line, failed = outbox._line(), OutboxFailed("commit", "a commit failed.", "")
    waiting = [Batch([b"1"], Counter(), 1), Batch([b"2"], Counter(), 1)]
    with line.changed:
        for batch in waiting:
            line.admit(batch, SMALL)
    line.error = failed
    outbox._stop(line)
    assert [(batch.done.is_set(), batch.error) for batch in waiting] == [(True, failed)] * 2


def test_a_process_that_forgets_to_close_its_outbox_still_ends(folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from experiments.events.outbox import Outbox; from tests.events.story import START, view;"
        "Outbox(Path(sys.argv[1]), clock=lambda: START).append([view(1)])"
    )
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True, timeout=60)
    assert entries(folder) == 1


@pytest.mark.parametrize("n", [1, 3, 255, 256, 257, 600])
def test_entries_of_one_commit_are_kept_in_their_order_however_many(tmp_path: Path, n: int) -> None:
    file = OutboxFile(tmp_path, "one")
    bodies = [b"%d" % k for k in range(n)]
    for _ in range(2):
        file.write(bodies, {("view", ""): n})
    part = read_part(file.path, after=0, most=10_000)
    assert [(row[0], row[1]) for row in part.rows] == list(enumerate([*bodies, *bodies], 1))
    file.seal()


def test_a_writer_that_was_killed_and_lost_its_lock_file_is_not_waited_for(tmp_path: Path) -> None:
    acknowledged = harness.until_it_dies(harness.start("writer", tmp_path, "killed", 0, 13))
    for lock in (tmp_path / "outbox").glob("*.lock"):
        lock.unlink()
    found = harness.verdict(tmp_path, acknowledged)
    assert (found.lost, found.duplicates, found.alarms, found.exact) == (0, 0, 0, True)
    assert outbox_files(tmp_path / "outbox") == []


@pytest.mark.parametrize("loaded_first", [False, True])
def test_a_writer_whose_lock_file_is_removed_acknowledges_nothing_that_is_not_loaded(tmp_path: Path, loaded_first: bool) -> None:
    outbox = Outbox(tmp_path / "outbox", clock=lambda: START, limits=replace(SMALL, tick_s=3_600.0))
    outbox.append([view(1)])
    acknowledged = [view(1).id]
    (old,) = outbox_files(tmp_path / "outbox")
    old.with_suffix(".lock").unlink()
    with Loader(tmp_path, clock=lambda: START) as loader:
        if loaded_first:
            loader.drain()
        for number in (2, 3):
            with suppress(OutboxFailed):  # the first, unless the committer looked after its lock before
                outbox.append([view(number)], timeout_s=30)
                acknowledged.append(view(number).id)
        outbox.close()
        loader.drain()
    found = harness.verdict(tmp_path, acknowledged)
    assert (found.lost, found.duplicates, found.exact) == (0, 0, True)
    assert outbox_files(tmp_path / "outbox") == []


@pytest.mark.parametrize("replaced", [False, True])
def test_a_commit_under_a_lock_that_is_not_its_own_is_in_doubt(tmp_path: Path, replaced: bool) -> None:
    file = OutboxFile(tmp_path, "one")
    file.write([b"1"], {("view", ""): 1})
    (tmp_path / "one.lock").unlink()
    if replaced:
        (tmp_path / "one.lock").touch()
    with pytest.raises(OSError, match=r"one\.lock"):
        file.write([b"2"], {("view", ""): 1})
    file.seal()


def _append_although_removed(folder: Path, ending: str, said: Connection) -> None:
    outbox = Outbox(folder, clock=lambda: START, limits=replace(SMALL, tick_s=3_600.0))
    outbox.append([view(1)])
    (old,) = outbox_files(folder)
    old.with_suffix(ending).unlink()
    for number in (2, 3):
        with suppress(OutboxFailed):  # the first, unless the committer looked after its file before
            outbox.append([view(number)], timeout_s=30)
            said.send_bytes(view(number).id)
    os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("ending", [".db", ".db-wal"])
def test_a_writer_whose_file_is_removed_acknowledges_nothing_more_in_it(tmp_path: Path, ending: str) -> None:
    hears, said = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_append_although_removed, args=(tmp_path / "outbox", ending, said))
    child.start()
    child.join(30)
    with hears, said:
        acknowledged = [view(1).id] if ending == ".db" else []  # what was in the log that was removed is missed aloud
        while hears.poll():
            acknowledged.append(hears.recv_bytes())
    found = harness.verdict(tmp_path, acknowledged)
    assert view(3).id in acknowledged
    assert (found.lost, found.alarms) == (0, int(ending == ".db-wal"))


@pytest.mark.parametrize("ending", [".lock", ".db", ".db-wal"])
def test_what_is_said_of_a_failed_commit_names_no_folder(tmp_path: Path, ending: str) -> None:
    """It is the answer to whoever sent the events."""
    file = OutboxFile(tmp_path, "one")
    file.write([b"1"], {("view", ""): 1})
    (tmp_path / f"one{ending}").unlink()
    with pytest.raises(OSError, match=str(tmp_path) if ending != ".lock" else "one.lock") as failed:
        file.write([b"2"], {("view", ""): 1})
    assert f"one{ending}" in in_words(failed.value)
    assert str(tmp_path) not in in_words(failed.value)
    file.seal()


def test_a_database_that_was_removed_comes_back_with_what_its_log_holds(tmp_path: Path) -> None:
    acknowledged = harness.until_it_dies(harness.start("writer", tmp_path, "killed", 0, 13))
    assert len(outbox_files(tmp_path / "outbox")) == 3
    for path in outbox_files(tmp_path / "outbox"):
        path.unlink()
    for lock in (tmp_path / "outbox").glob("*.lock"):
        lock.unlink()
    found = harness.verdict(tmp_path, acknowledged)
    assert (found.lost, found.duplicates, found.alarms, found.exact) == (0, 0, 0, True)
    assert list((tmp_path / "outbox").iterdir()) == []


def test_a_quiet_writer_notices_that_its_lock_file_is_gone_and_starts_another_file(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", clock=lambda: START, limits=SMALL)
    outbox.append([view(1)])
    (old,) = outbox_files(tmp_path / "outbox")
    old.with_suffix(".lock").unlink()
    assert wait_for(lambda: len(outbox_files(tmp_path / "outbox")) == 2 and outbox.ready)
    outbox.append([view(2)])
    outbox.close()


def test_an_event_that_cannot_be_written_fails_its_own_call_only(outbox: Outbox, folder: Path) -> None:
    with pytest.raises(OutboxFailed, match="cannot be written"):
        outbox.append([view(1), structs.replace(view(2), body={"x": object()})])
    outbox.append([view(3)])
    assert entries(folder) == 1


def test_a_file_is_sealed_and_replaced_when_its_log_is_long(folder: Path) -> None:
    outbox = Outbox(folder, clock=lambda: START, limits=replace(SMALL, rotate_bytes=100_000))
    for start in range(0, 2_000, 100):
        outbox.append([view(n) for n in range(start, start + 100)], timeout_s=30)
    outbox.close()
    files = outbox_files(folder)
    assert len(files) > 2
    assert all(read_part(path, after=0, most=10**6).sealed for path in files if path is not files[-1])
    assert entries(folder) == 2_000


def test_a_request_makes_every_process_start_a_new_file(outbox: Outbox, folder: Path) -> None:
    outbox.append([view(1)])
    old = outbox_files(folder)[0]
    request_rotation(folder)
    assert wait_for(lambda: not owner_alive(old))
    assert read_part(old, after=0, most=9).sealed == 1


def test_the_owner_is_seen_to_live_until_it_closes(outbox: Outbox, folder: Path) -> None:
    outbox.append([view(1)])
    assert [owner_alive(path) for path in outbox_files(folder)] == [True]
    outbox.close()
    assert [owner_alive(path) for path in outbox_files(folder)] == [False]


def test_after_closing_everything_is_refused(outbox: Outbox) -> None:
    outbox.close()
    with pytest.raises(OutboxError, match="closed"):
        outbox.append([view(1)])


def test_start_makes_the_file_before_the_first_page_needs_it(outbox: Outbox, folder: Path) -> None:
    assert outbox_files(folder) == []
    outbox.start()
    assert wait_for(lambda: len(outbox_files(folder)) == 1)


def _append_in_child(outbox: Outbox) -> None:
    outbox.append([view(n) for n in range(100, 150)], timeout_s=30)
    os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_gets_a_committer_and_a_file_of_its_own(tmp_path: Path, outbox: Outbox, folder: Path) -> None:
    outbox.append([view(n) for n in range(50)])
    child = multiprocessing.get_context("fork").Process(target=_append_in_child, args=(outbox,))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    outbox.append([view(n) for n in range(50, 60)])
    assert len(outbox_files(folder)) == 2
    outbox.close()
    with Loader(tmp_path, clock=lambda: START) as loader:
        assert loader.drain().stored == 110


def test_what_is_offered_waits_for_nobody_and_goes_with_the_next_commit(outbox: Outbox, folder: Path) -> None:
    outbox.append([view(0)])
    blocker = sqlite3.connect(outbox_files(folder)[0], isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    outbox.offer([view(1)])
    outbox.offer([view(2), view(3)])
    assert entries(folder) == 1
    blocker.execute("ROLLBACK")
    blocker.close()
    outbox.close()
    assert entries(folder) == 4


def test_an_offer_to_a_full_queue_or_a_closed_outbox_is_refused(folder: Path) -> None:
    outbox = Outbox(folder, clock=lambda: START, limits=replace(SMALL, queue_events=3))
    outbox.append([view(0)])
    blocker = sqlite3.connect(outbox_files(folder)[0], isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    outbox.offer([view(1)])
    assert wait_for(lambda: not any(line.waiting for line in outbox._lines.values()))
    outbox.offer([view(2), view(3)])
    with pytest.raises(OutboxFull, match="queue"):
        outbox.offer([view(4), view(5)])
    blocker.execute("ROLLBACK")
    blocker.close()
    outbox.close()
    with pytest.raises(OutboxError, match="closed"):
        outbox.offer([view(6)])
    assert entries(folder) == 4
