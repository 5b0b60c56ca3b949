"""The promise "acknowledged means durable", tried on the user's own disk: kill writers and loaders, cut the power, count.

A run proves something only because the same harness catches a writer that breaks the promise
(``synchronous="OFF"`` under power cuts; ``tests/faults``).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from experiments.clock import system_clock
from experiments.events.ids import PageViews
from experiments.events.loader import Loader
from experiments.events.outbox import Outbox, OutboxLimits
from experiments.events.power import small_disk
from experiments.events.selftest_writer import batch
from experiments.events.store import balance, read_store, store_path

__all__ = ["SelfTest", "fdatasyncs", "selftest"]

BESIDE = 16  # threads that append one event each, when speed is measured
Tell = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What was done to the events, and what became of them.

    Parameters
    ----------
    kills, power_cuts : how often processes were killed, and the disk lost its power.
    acknowledged : events a writer was told are durable. lost : of those, not in the store. duplicates : ids stored twice.
    balance : ``exact`` when every event received is accounted for, else ``off``.
    events_per_second, p99_ms : durable appends of one event from 16 threads. fdatasync_per_second : of this disk, in this run.
    """

    kills: int
    power_cuts: int
    acknowledged: int
    lost: int
    duplicates: int
    balance: str
    events_per_second: float
    fdatasync_per_second: float
    p99_ms: float

    @property
    def kept(self) -> bool:
        """Whether the promise held."""
        return self.acknowledged > 0 and not self.lost and not self.duplicates and self.balance == "exact"


@dataclass(frozen=True, slots=True)
class _Left:
    acknowledged: int
    lost: int
    duplicates: int
    exact: bool


def selftest(
    folder: Path,
    *,
    kills: int,
    power_cuts: int = 0,
    seed: int = 1,
    synchronous: str = "FULL",
    measure_s: float = 2.0,
    tell: Tell = lambda _says, _done: None,
) -> SelfTest:
    """Write, kill, load and compare in a folder of its own, which is removed afterwards.

    Parameters
    ----------
    folder : on the disk in question; exists.
    kills : of writers and loaders together. power_cuts : need root.
    synchronous : of SQLite; anything but ``FULL`` breaks the promise and exists to show that the test notices.
    measure_s : how long appends and syncs are counted, each.
    tell : called with a sentence and the share done, 0 to 1.

    Raises
    ------
    ConfigError
        Power cuts are not possible here.
    """
    chance, steps = random.Random(seed), kills + power_cuts + 1
    with tempfile.TemporaryDirectory(prefix="selftest-", dir=folder) as name:
        home = Path(name)
        parts = [_under_kills(home / "kills", kills, chance, synchronous=synchronous, tell=lambda n: tell("killing processes", n / steps))]
        for n in range(power_cuts):
            tell("cutting the power", (kills + n) / steps)
            parts.append(_under_power_cut(home / f"cut-{n}", chance, synchronous=synchronous))
        tell("measuring this disk", (kills + power_cuts) / steps)
        syncs = fdatasyncs(home, measure_s)
        rate, p99 = _speed(home / "speed", measure_s)
    exact = "exact" if all(part.exact for part in parts) else "off"
    acknowledged, lost, duplicates = (sum(getattr(part, name) for part in parts) for name in ("acknowledged", "lost", "duplicates"))
    return SelfTest(kills, power_cuts, acknowledged, lost, duplicates, exact, rate, syncs, p99)


@contextmanager
def _started(home: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends at the end, and also when this one is gone: its standard input is closed then."""
    command = [sys.executable, "-m", "experiments.events.selftest_writer", str(home), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def _under_kills(home: Path, kills: int, chance: random.Random, *, synchronous: str, tell: Callable[[int], None]) -> _Left:
    """Writers are killed some time after their first acknowledgement; beside them loaders are killed too."""
    said: list[bytes] = []
    done = 0
    while done < kills:
        with _started(home, "load"):
            killed = False
            while done < kills and not killed:
                with _started(home, str(chance.randrange(1 << 30)), synchronous) as writer:
                    said.append(_killed(writer, chance.uniform(0.0, 0.4)))
                done += 1
                killed = done < kills and chance.random() < 0.5
                done += killed
                tell(done)
    return _compare(home, said)


def _killed(writer: subprocess.Popen[bytes], after_s: float) -> bytes:
    """Return everything a writer said until it was killed, ``after_s`` after its first word."""
    assert writer.stdout is not None
    first = writer.stdout.readline()
    timer = threading.Timer(after_s, writer.kill)
    timer.start()
    rest = writer.stdout.read()
    timer.join()
    return first + rest


def _under_power_cut(home: Path, chance: random.Random, *, synchronous: str) -> _Left:
    home.mkdir(parents=True)
    with small_disk(home) as disk:
        with _started(disk.folder, str(chance.randrange(1 << 30)), synchronous) as writer:
            assert writer.stdout is not None
            said = [writer.stdout.readline() for _ in range(500)]
            writer.send_signal(signal.SIGSTOP)
            os.waitpid(writer.pid, os.WUNTRACED)
            disk.cut_power()
            writer.kill()
            said.append(writer.stdout.read())
        disk.power_on()
        return _compare(disk.folder, said)


def _compare(home: Path, said: list[bytes]) -> _Left:
    """Load what is left and hold it against what was acknowledged; a line cut in half was not acknowledged."""
    words = [line for part in said for line in part.splitlines(keepends=True)]
    acknowledged = {bytes.fromhex(word.decode()) for word in words if word.endswith(b"\n")}
    with Loader(home, clock=system_clock) as loader:
        loader.drain()
    store = read_store(store_path(home))
    try:
        stored = [row[0] for row in store.execute("SELECT id FROM event")]
    finally:
        store.close()
    exact = all(row.exact and not row.pending for row in balance(home))
    return _Left(len(acknowledged), len(acknowledged - set(stored)), len(stored) - len(set(stored)), exact)


def fdatasyncs(folder: Path, seconds: float) -> float:
    """Return how many appends of 512 bytes, each with its fdatasync, this disk does in a second."""
    path = folder / "syncs"
    with path.open("wb", buffering=0) as file:
        begun, n = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            file.write(b"\0" * 512)
            os.fdatasync(file.fileno())
            n += 1
        return n / (time.perf_counter() - begun)


def _speed(home: Path, seconds: float) -> tuple[float, float]:
    """Return durable events per second of :data:`BESIDE` threads that append one each, and the 99th percentile in ms."""
    outbox, page_views = Outbox(home / "outbox", clock=system_clock, limits=OutboxLimits(reserve_bytes=0)), PageViews()
    outbox.start()
    waits: list[float] = []
    end = time.perf_counter() + seconds

    def run() -> None:
        while (begun := time.perf_counter()) < end:
            outbox.append(batch(page_views(system_clock()), 1, system_clock()), timeout_s=60)
            waits.append(time.perf_counter() - begun)

    try:
        with ThreadPoolExecutor(BESIDE) as pool:
            for _ in range(BESIDE):
                pool.submit(run)
    finally:
        with suppress(OSError):
            outbox.close()
    return len(waits) / seconds, 1_000 * sorted(waits)[int(0.99 * (len(waits) - 1))]
