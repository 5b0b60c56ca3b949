"""Power cuts at every instant of a recorded run of outbox and loader, on a disk that tears, reorders and forgets."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.events.outbox_file import outbox_files
from experiments.events.store import read_store, store_path
from experiments.events.wire import decode, encode
from tests.events.story import view
from tests.faults.harness import Verdict, strace, verdict
from tests.faults.simulated_disk import Disk, Step, record

pytestmark = pytest.mark.skipif(bool(strace()), reason=strace() or "available")
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
EVENTS = [view(number, f"reader-{number % 5}") for number in range(80)]
BODIES = {event.id: decode(encode(event))[-1] for event in EVENTS}
KEPT = st.sampled_from([0.0, 0.3, 0.7, 1.0])


def recorded(folder: Path, synchronous: str) -> list[Step]:
    home = folder / synchronous
    (home / "outbox").mkdir(parents=True)
    steps = record(home, "tests.faults.recorded", synchronous)
    assert {one for step in steps if step.what == "said" for one in step.data.split()} == {event.id.hex().encode() for event in EVENTS}
    return steps


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> list[Step]:
    return recorded(tmp_path_factory.mktemp("run"), "FULL")


def after_power_cut(steps: list[Step], at: int, kept: float, seed: int) -> tuple[Verdict, list[tuple[bytes, str]]]:
    """Load what the power cut left; also returns every stored id with its body."""
    disk = Disk(steps[:at])
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        home = Path(folder) / "home"
        disk.without_power(home, Random(seed), kept=kept)
        found = verdict(home, [bytes.fromhex(said.decode()) for said in disk.said])
        store = read_store(store_path(home))
        rows = store.execute("SELECT id, body FROM event").fetchall()
        store.close()
        assert found.alarms == len(outbox_files(home / "outbox"))
    return found, rows


def check(steps: list[Step], at: int, kept: float, seed: int) -> None:
    found, rows = after_power_cut(steps, at % (len(steps) + 1), kept, seed)
    assert (found.lost, found.exact, found.integrity) == (0, True, "ok")
    assert dict(rows).items() <= BODIES.items()
    assert len(rows) == len(dict(rows))


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(at=st.integers(0, 10_000), kept=KEPT, seed=st.integers(0, 10_000))
def test_d28_whatever_a_power_cut_leaves_nothing_acknowledged_is_lost_and_nothing_is_false(
    run: list[Step], at: int, kept: float, seed: int
) -> None:
    check(run, at, kept, seed)


@pytest.mark.slow
@settings(max_examples=5_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(at=st.integers(0, 10_000), kept=KEPT, seed=st.integers(0, 10_000))
def test_d28_in_five_thousand_power_cuts(run: list[Step], at: int, kept: float, seed: int) -> None:
    check(run, at, kept, seed)


def test_d28_an_outbox_that_does_not_sync_is_caught(tmp_path: Path) -> None:
    steps = recorded(tmp_path, "OFF")
    assert any(after_power_cut(steps, len(steps) * part // 10, 0.3, part)[0].lost for part in range(3, 9))
