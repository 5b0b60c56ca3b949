"""A disk that fails, is full, or is slow, below a site that runs: strace answers its system calls."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.events.outbox import Outbox, OutboxFull
from experiments.events.outbox_file import outbox_files, read_part
from tests.events.story import SMALL, START, view
from tests.faults.harness import injected, strace, verdict
from tests.faults.test_disk_full import Reading, check_full, check_healed, wait_for
from tests.web.site_fixture import Stand

pytestmark = pytest.mark.skipif(bool(strace()), reason=strace() or "available")
SLOW = "fdatasync,fsync:delay_exit=200000"


@pytest.fixture
def reading(home: Path) -> Iterator[Reading]:
    made = Reading(Stand(home))
    made.open()
    yield made
    made.stand.site.close()


def touched(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of the last change of every file of an outbox."""
    return sorted((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in path.parent.glob(f"{path.stem}.db*") if p.suffix != ".db-shm")


def test_d04_a_file_whose_sync_failed_once_acknowledges_nothing_more(reading: Reading) -> None:
    (spoilt,) = outbox_files(reading.stand.home / "outbox")
    with injected("fdatasync:error=EIO:when=1", process=os.getpid()):
        told = reading.tell()
        left = touched(spoilt)
        assert (told.status_code, told.json) == (503, {"error": "a commit failed: disk I/O error."})
        assert wait_for(lambda: reading.tell().status_code == 202)
    assert touched(spoilt) == left
    assert len(outbox_files(reading.stand.home / "outbox")) == 2
    check_healed(reading)


def test_d04_a_disk_that_never_syncs_again_ends_the_process_and_acknowledged_events_are_kept(tmp_path: Path) -> None:
    ended = threading.Event()
    outbox = Outbox(tmp_path / "outbox", clock=lambda: START, limits=SMALL, give_up=ended.set)
    outbox.append([view(0)])
    with injected("fdatasync:error=EIO", process=os.getpid()):
        for number in range(1, 4):
            with pytest.raises(Exception, match="commit failed"):
                outbox.append([view(number)], timeout_s=30)
        assert ended.wait(30)
    assert verdict(tmp_path, [view(0).id]).lost == 0


def test_d05_on_a_full_disk_pages_go_on_and_room_heals_the_same_process(reading: Reading) -> None:
    with injected("pwrite64:error=ENOSPC", process=os.getpid()):
        assert wait_for(lambda: reading.tell().status_code == 503)
        check_full(reading, "disk")
    check_healed(reading)


def test_d07_while_the_disk_is_slow_the_queue_stays_bounded_and_what_it_took_is_kept(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", clock=lambda: START, limits=replace(SMALL, queue_events=200))
    outbox.append([view(0)])
    taken, refused = [view(0)], 0
    with injected(SLOW, process=os.getpid()):
        for number in range(1, 2_000):  # far more than two commits take while the third one runs
            try:
                outbox.offer([view(number)])
                taken.append(view(number))
            except OutboxFull:
                refused += 1
            assert outbox._line().events <= 200
    outbox.close()
    assert refused > 0
    found = verdict(tmp_path, [event.id for event in taken])
    assert (found.lost, found.stored, found.exact) == (0, len(taken), True)


@pytest.mark.slow
def test_d07_thirty_two_writers_on_a_slow_disk_wait_their_turn_and_memory_stays(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", clock=lambda: START, limits=SMALL)
    outbox.append([view(0)])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took: list[float] = []
    said: Counter[str] = Counter()

    def write(first: int) -> None:
        for number in range(first, first + 60):
            begun = time.monotonic()
            try:
                outbox.append([view(number * 50 + k) for k in range(50)], timeout_s=30)
                said["kept"] += 1
            except OutboxFull:
                said["refused"] += 1
            took.append(time.monotonic() - begun)

    writers = [threading.Thread(target=write, args=(1 + 100 * n,)) for n in range(32)]
    with injected(SLOW, process=os.getpid()):
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    outbox.close()
    print(f"p99 {sorted(took)[len(took) * 99 // 100]:.2f} s, memory +{grown_mb:.0f} MB, {dict(said)}")  # noqa: T201
    assert grown_mb < 50
    assert sum(len(read_part(path, after=0, most=10**6).rows) for path in outbox_files(tmp_path / "outbox")) == said["kept"] * 50 + 1
