"""Faults of the event path (EVENTS: fault tests). The negative controls come first: a harness that cannot lose proves nothing."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.errors import ConfigError
from experiments.events.loader import Loader
from experiments.events.outbox_file import OutboxFile, outbox_files, read_part, wal_tail
from experiments.events.power import Disk, small_disk
from experiments.events.store import balance
from experiments.events.wire import encode
from tests.events.story import START, view
from tests.faults.harness import kill_after, killed_at, start, strace, until_it_dies, verdict

MANY = 100_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    try:
        with small_disk(tmp_path) as made:
            yield made
    except ConfigError as error:
        pytest.skip(str(error))


def cut_power(process: subprocess.Popen[bytes], disk: Disk, lines: int) -> list[bytes]:
    """Stop the writer, cut the power of its disk, and return what had been acknowledged; the disk is mounted again."""
    assert process.stdout is not None
    seen = [process.stdout.readline() for _ in range(lines)]
    process.send_signal(signal.SIGSTOP)  # else a running fdatasync may falsely return 0
    os.waitpid(process.pid, os.WUNTRACED)
    disk.cut_power()
    process.send_signal(signal.SIGKILL)
    seen += process.stdout.readlines()
    process.stdout.close()
    process.wait()
    disk.power_on()
    return [bytes.fromhex(line.decode()) for line in seen if line.endswith(b"\n")]


# Negative controls


def test_a_writer_that_acknowledges_before_it_commits_is_caught(tmp_path: Path) -> None:
    acknowledged = kill_after(start("writer", tmp_path, "hasty", 0, MANY), lines=50)
    assert verdict(tmp_path, acknowledged).lost == len(acknowledged) >= 50


def test_a_writer_that_does_not_sync_is_caught_by_a_power_cut(disk: Disk) -> None:
    acknowledged = cut_power(start("writer", disk.folder, "OFF", 0, MANY), disk, lines=500)
    assert verdict(disk.folder, acknowledged).lost > 0


def test_a_loader_that_forgets_where_it_was_is_caught_by_the_balance(tmp_path: Path) -> None:
    until_it_dies(start("writer", tmp_path, "FULL", 0, 40))
    with Loader(tmp_path, clock=lambda: START) as loader:
        loader.load(most=10)
        with loader.transaction() as store:
            store.execute("UPDATE outbox_offset SET seq = seq + 7 WHERE state = 'open'")
            assert store.execute("SELECT changes()").fetchone()[0] > 0
        assert not all(row.exact for row in balance(tmp_path))


# Faults


def test_power_cuts_lose_nothing_acknowledged(disk: Disk) -> None:
    acknowledged = cut_power(start("writer", disk.folder, "FULL", 0, MANY), disk, lines=500)
    found = verdict(disk.folder, acknowledged)
    assert (found.lost, found.integrity) == (0, "ok")
    assert len(acknowledged) >= 500


@pytest.mark.parametrize("lines", [1, 300])
def test_killed_writers_lose_nothing_acknowledged(tmp_path: Path, lines: int) -> None:
    acknowledged = kill_after(start("writer", tmp_path, "FULL", 0, MANY), lines=lines)
    found = verdict(tmp_path, acknowledged)
    assert (found.lost, found.duplicates, found.exact, found.integrity) == (0, 0, True, "ok")


@pytest.mark.usefixtures("either_engine")
def test_d02_a_loader_killed_again_and_again_loads_everything_once(tmp_path: Path) -> None:
    check_killed_loaders(tmp_path, events=400, kills=4)


@pytest.mark.long
def test_d02_a_loader_killed_while_a_second_process_reads_loads_everything_once(tmp_path: Path) -> None:
    check_killed_loaders(tmp_path, events=400, kills=8, most=4)


@pytest.mark.slow
@pytest.mark.parametrize("most", [100, 20])
def test_d02_a_loader_killed_a_hundred_times(tmp_path: Path, most: int) -> None:
    check_killed_loaders(tmp_path, events=15_000, kills=100, most=most)


def check_killed_loaders(tmp_path: Path, *, events: int, kills: int, most: int = 100) -> None:
    acknowledged = until_it_dies(start("writer", tmp_path, "FULL", 0, events, 60_000 + 60 * events))  # a hundred files or so
    chance = random.Random(2)
    for _ in range(kills):
        kill_after(start("load", tmp_path, -1, most), lines=chance.randrange(4))  # from before its first pass to within its fourth
    found = verdict(tmp_path, acknowledged)
    assert (found.lost, found.stored, found.duplicates, found.exact) == (0, len(acknowledged), 0, True)
    assert outbox_files(tmp_path / "outbox") == []


@pytest.mark.long
@pytest.mark.skipif(bool(strace()), reason=strace() or "available")
@pytest.mark.parametrize("n", range(4, 44, 4))
def test_d03_a_loader_killed_at_its_nth_message_to_the_database_loads_everything_once(in_postgres: Path, n: int) -> None:
    acknowledged = until_it_dies(start("writer", in_postgres, "FULL", 0, 60))
    until_it_dies(start("load", in_postgres, tracing=killed_at("sendto", n)))
    found = verdict(in_postgres, acknowledged)
    assert (found.lost, found.stored, found.duplicates, found.exact) == (0, len(acknowledged), 0, True)


POINTS = [("fdatasync", 9), ("pwrite64", 7), ("pwrite64", 60), ("fsync", 2), ("unlink", 2)]
ALL_POINTS = [(syscall, n) for syscall in ("fdatasync", "write", "pwrite64", "ftruncate", "unlink", "fsync") for n in range(1, 61)]


def killed_writer_and_loader(home: Path, syscall: str, n: int) -> None:
    acknowledged = until_it_dies(start("writer", home, "FULL", 0, 60, tracing=killed_at(syscall, n)))
    acknowledged += until_it_dies(start("writer", home, "FULL", 1, 30))
    until_it_dies(start("load", home, tracing=killed_at(syscall, n)))
    found = verdict(home, acknowledged)
    assert (found.lost, found.duplicates, found.exact, found.integrity) == (0, 0, True, "ok")


@pytest.mark.skipif(bool(strace()), reason=strace() or "available")
@pytest.mark.parametrize(("syscall", "n"), POINTS)
def test_d03_killed_at_the_nth_call_nothing_is_lost_or_doubled(tmp_path: Path, syscall: str, n: int) -> None:
    killed_writer_and_loader(tmp_path, syscall, n)


@pytest.mark.slow
@pytest.mark.skipif(bool(strace()), reason=strace() or "available")
@pytest.mark.parametrize(("syscall", "n"), ALL_POINTS)
def test_d03_killed_at_every_one_of_the_first_sixty_calls(tmp_path: Path, syscall: str, n: int) -> None:
    killed_writer_and_loader(tmp_path, syscall, n)


def test_d08_events_sent_up_to_five_times_by_four_processes_are_stored_once(tmp_path: Path) -> None:
    sent: list[bytes] = []
    seeds = [0, 0, 0, 1, 1, 0]  # two sets of events; the first comes four times, the second twice
    for some in (seeds[:4], seeds[4:]):
        for process in [start("writer", tmp_path, "FULL", seed, 40) for seed in some]:
            sent += until_it_dies(process)
    found = verdict(tmp_path, sent)
    assert (found.stored, found.duplicates) == (len(set(sent)), len(sent) - len(set(sent)))
    assert (found.lost, found.exact, len(sent), found.stored) == (0, True, 1_200, 400)


def test_d09_the_first_payload_of_an_id_is_kept_and_conflicts_are_counted(tmp_path: Path) -> None:
    (tmp_path / "outbox").mkdir()
    file = OutboxFile(tmp_path / "outbox", "one")
    bodies = [encode(view(n % 10, "r", body={"page_type": "front", "x": n // 10})) for n in range(50)]
    for body in bodies:
        file.write([body], {("view", ""): 1})
    file.seal()
    with Loader(tmp_path, clock=lambda: START) as loader:
        loaded = loader.drain()
    assert (loaded.stored, loaded.conflict, loaded.duplicate) == (10, 40, 0)
    assert all(row.exact for row in balance(tmp_path))


def written_and_abandoned(folder: Path) -> tuple[Path, list[int]]:
    """An outbox file with ten commits of three events, and the size of its log after each."""
    folder.mkdir()
    file = OutboxFile(folder, "one")
    sizes = [0]
    for number in range(10):
        file.write([encode(view(number * 3 + k)) for k in range(3)], {("view", ""): 3})
        sizes.append(file.wal_bytes())
    copy = folder.parent / "copy"
    shutil.copytree(folder, copy)
    file.seal()
    (copy / "one.db-shm").unlink(missing_ok=True)
    return copy / "one.db", sizes


def check_cut(path: Path, log: bytes, sizes: list[int], size: int) -> None:
    """Whatever is left of the log: every complete commit is read, and what is behind it is counted."""
    path.with_suffix(".db-wal").write_bytes(log[:size])
    path.with_suffix(".db-shm").unlink(missing_ok=True)
    whole = max(n for n, end in enumerate(sizes) if end <= size)
    tail = wal_tail(path)  # before SQLite sees the log
    assert tail == (size - sizes[whole] if whole else size - 32 * (size >= 32))
    assert len(read_part(path, after=0, most=100).rows) == whole * 3


def test_d12_a_log_cut_anywhere_gives_back_every_complete_commit(tmp_path: Path) -> None:
    path, sizes = written_and_abandoned(tmp_path / "outbox")
    log = path.with_suffix(".db-wal").read_bytes()
    edges = {end + step for end in sizes[-4:] for step in (-1, 0, 1, 23, 24, 25)}
    for size in sorted(edges | set(range(sizes[-4], len(log), 997)) | {1, 31, 40}):
        if size <= len(log):
            check_cut(path, log, sizes, size)


@pytest.mark.slow
def test_d12_a_log_cut_at_every_byte_of_the_last_three_commits(tmp_path: Path) -> None:
    path, sizes = written_and_abandoned(tmp_path / "outbox")
    log = path.with_suffix(".db-wal").read_bytes()
    for size in range(sizes[-4], len(log) + 1):
        check_cut(path, log, sizes, size)


def test_d12_the_loader_loads_what_precedes_a_torn_tail_raises_an_alarm_and_keeps_the_file(tmp_path: Path) -> None:
    path, sizes = written_and_abandoned(tmp_path / "outbox")
    for one in (tmp_path / "outbox").iterdir():
        one.unlink()
    log = path.with_suffix(".db-wal").read_bytes()
    path.with_suffix(".db-wal").write_bytes(log[: sizes[-1] - 100])
    shutil.copytree(path.parent, tmp_path / "outbox", dirs_exist_ok=True)
    found = verdict(tmp_path, [view(n).id for n in range(27)])
    assert (found.lost, found.stored, found.alarms, found.exact) == (0, 27, 1, True)
    assert len(outbox_files(tmp_path / "outbox")) == 1


def test_d13_a_flipped_bit_in_the_log_never_changes_an_event_in_silence(tmp_path: Path) -> None:
    path, _ = written_and_abandoned(tmp_path / "outbox")
    log = path.with_suffix(".db-wal").read_bytes()
    complete = [row[1] for row in read_part(path, after=0, most=100).rows]
    chance = random.Random(4)
    for _ in range(40):
        place = chance.randrange(len(log))
        flipped = bytearray(log)
        flipped[place] ^= 1 << chance.randrange(8)
        path.with_suffix(".db-wal").write_bytes(flipped)
        path.with_suffix(".db-shm").unlink(missing_ok=True)
        tail = wal_tail(path)
        rows = [row[1] for row in read_part(path, after=0, most=100).rows]
        assert rows == complete[: len(rows)]
        assert tail > 0 or len(rows) == len(complete)
