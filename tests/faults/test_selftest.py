"""``presslab selftest``: what users run to see the promise kept on their own disk."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.errors import ConfigError
from experiments.events.selftest import selftest


def test_killed_writers_and_loaders_lose_and_double_nothing(tmp_path: Path) -> None:
    found = selftest(tmp_path, kills=6, measure_s=0.1)
    assert (found.lost, found.duplicates, found.balance, found.kept) == (0, 0, "exact", True)
    assert found.acknowledged > 100
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_does_not_sync_is_caught(tmp_path: Path) -> None:
    try:
        found = selftest(tmp_path, kills=1, power_cuts=1, synchronous="OFF", measure_s=0.1)
    except ConfigError as error:
        pytest.skip(str(error))
    assert found.lost > 0
    assert not found.kept


def test_without_the_right_to_cut_the_power_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1_000)
    with pytest.raises(ConfigError, match=r"root, mkfs\.ext4 and the right to mount"):
        selftest(tmp_path, kills=1, power_cuts=1)
    assert list(tmp_path.iterdir()) == []


def begun(home: Path) -> tuple[subprocess.Popen[bytes], list[int]]:
    """The command once its writer and its loader work, and descriptors of these two."""
    command = subprocess.Popen(
        [sys.executable, "-m", "web", "selftest", "--quick", "--home", str(home)],
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # what a shell starts in the background ignores it
    )
    children = Path(f"/proc/{command.pid}/task/{command.pid}/children")
    while not list(home.glob("selftest-*/kills/events.db")) or len(children.read_text().split()) < 2:
        assert command.poll() is None
        time.sleep(0.01)
    return command, [os.pidfd_open(int(child)) for child in children.read_text().split()]


def have_ended(processes: list[int]) -> bool:
    """Whether all these end within a while."""
    ended = [bool(select.select([process], [], [], 10)[0]) for process in processes]
    for process in processes:
        os.close(process)
    return all(ended)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_test_that_is_ended_leaves_no_process_and_no_folder_behind(tmp_path: Path, number: signal.Signals) -> None:
    command, processes = begun(tmp_path)
    command.send_signal(number)
    assert command.wait() not in (0, 4)  # neither kept nor broken: nothing was proved
    assert have_ended(processes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
def test_the_processes_of_a_test_that_is_killed_end_by_themselves(tmp_path: Path) -> None:
    command, processes = begun(tmp_path)
    command.kill()
    command.wait()
    assert have_ended(processes)


@pytest.mark.slow
def test_the_quick_command_prints_one_object(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "web", "selftest", "--quick", "--json", "--home", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads(ended.stdout)
    keys = ("kills", "power_cuts", "acknowledged", "lost", "duplicates", "balance")
    assert (ended.returncode, set(keys) <= set(found), found["lost"], found["balance"]) == (0, True, 0, "exact")
