"""Kills of the process that reads ahead, and of the loader it reads for."""

from __future__ import annotations

import os
import random
import select
import signal
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from experiments.events import reading_ahead
from experiments.events.loader import Loader
from experiments.events.store import balance
from tests.events.backlog import ENTRIES, FILES, backlog, exact, readers
from tests.events.story import START
from tests.faults.harness import start


@pytest.mark.skipif(reading_ahead.ONE_CORE, reason="needs two cores")
def test_the_reader_of_a_killed_loader_ends_by_itself(tmp_path: Path) -> None:
    backlog(tmp_path)
    loader = start("load", tmp_path, 1, 4)  # stops itself after one pass
    os.waitpid(loader.pid, os.WUNTRACED)
    (reader,) = readers(loader.pid)
    ended = os.pidfd_open(reader)
    loader.kill()
    loader.communicate()
    assert select.select([ended], [], [], 60)[0], "it still runs"
    os.close(ended)


@pytest.mark.long
@pytest.mark.usefixtures("either_engine")
def test_a_reader_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_ahead, "ONE_CORE", False)
    chance, killed, done = random.Random(3), [], threading.Event()

    def kill() -> None:
        while not done.wait(chance.random() * 0.4):
            for reader in readers(os.getpid()):
                with suppress(ProcessLookupError):
                    os.kill(reader, signal.SIGKILL)
                    killed.append(reader)

    killer = threading.Thread(target=kill)
    killer.start()
    with Loader(tmp_path, clock=lambda: START, backlog=3) as loader:
        for number in range(12):
            backlog(tmp_path, number * 1_000)
            while (part := loader.load(most=3)).pending_files or part.moved:
                assert all(row.exact for row in balance(tmp_path))
    done.set()
    killer.join()
    assert len(killed) >= 3
    assert exact(tmp_path)
    rows = balance(tmp_path)
    assert sum(row.received for row in rows) == 12 * FILES * ENTRIES
    assert sum(row.stored for row in rows) == 12 * 81
