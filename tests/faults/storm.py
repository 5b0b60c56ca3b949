"""Faults at random, one after the other, on a real site under load: ``python -m tests.faults.storm [MINUTES [SEED]]``.

Linux, root, strace and a loop device. Says one line per fault, then the verdict; the status is 1 when something acknowledged is missing.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from random import Random

import pytest

from experiments.events.power import Disk, small_disk
from tests.faults.harness import ROOT, Verdict, injected, verdict
from tests.faults.site import Visitor, children, free_port, wait_until, with_experiment

DISK_MB = 1_400  # of which the outbox leaves 512 free
VISITORS, PAUSE_S = 8, 0.1  # some 200 events a second
QUIET_S = (2.0, 8.0)  # between a fault and the next
HEALED_S = 60.0
CALLS = ("fdatasync", "pwrite64", "ftruncate", "unlink", "write")


@dataclass
class Storm:
    """A site with its worker on a disk of its own; both are started again when they end, as a service manager does."""

    disk: Disk
    random: Random
    port: int = field(default_factory=free_port)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.disk.folder / "home"

    def tend(self) -> None:
        """Start what does not run."""
        commands = {"serve": ("--port", str(self.port)), "worker": ()}
        for name, options in commands.items():
            if name not in self.processes or self.processes[name].poll() is not None:
                command = [sys.executable, "-m", "web", name, "--home", str(self.home), *options]
                with (self.disk.folder.parent / f"{name}.log").open("ab") as log:
                    self.processes[name] = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)

    def healed(self) -> float:
        """Wait until the site is ready and the worker lives; returns after how many seconds.

        Raises
        ------
        TimeoutError
            They are not within a minute.
        """
        begun = time.monotonic()
        while time.monotonic() < begun + HEALED_S:
            self.tend()
            if self._ready() and self.processes["worker"].poll() is None:
                return time.monotonic() - begun
            time.sleep(0.1)
        raise TimeoutError(f"the site is not ready {HEALED_S:.0f} s after a fault.")

    def _ready(self) -> bool:
        try:
            with closing(HTTPConnection("127.0.0.1", self.port, timeout=5)) as connection:
                connection.request("GET", "/-/ready")
                return connection.getresponse().status == 200
        except (HTTPException, OSError):
            return False

    def everyone(self) -> set[int]:
        """Every process of this home, also jobs that outlived their worker: it is named in the command, or a file of it is open."""
        return {int(one.name) for one in Path("/proc").glob("[0-9]*") if self._is_ours(one)} - {os.getpid()}

    def _is_ours(self, process: Path) -> bool:
        with suppress(OSError):
            if str(self.home).encode() in (process / "cmdline").read_bytes():
                return True
            for one in (process / "fd").iterdir():
                with suppress(OSError):  # just closed
                    if os.readlink(one).startswith(f"{self.disk.folder}/"):
                        return True
        return False

    def all_get(self, number: signal.Signals) -> None:
        for pid in self.everyone():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def end(self) -> None:
        """Kill everything, and wait until its files are closed."""
        self.all_get(signal.SIGKILL)
        if not wait_until(lambda: not self.everyone()):
            raise TimeoutError("a process of the site outlives SIGKILL.")
        for process in self.processes.values():
            process.wait()

    def victim(self) -> int:
        """A web process, or the worker."""
        web = children(self.processes["serve"].pid)
        return self.random.choice([*web, self.processes["worker"].pid])

    def web_process_killed(self) -> None:
        for pid in children(self.processes["serve"].pid)[:1]:
            os.kill(pid, signal.SIGKILL)

    def site_killed(self) -> None:
        self.processes["serve"].kill()

    def worker_killed(self) -> None:
        self.processes["worker"].kill()

    def site_restarted(self) -> None:
        self.processes["serve"].terminate()
        self.processes["serve"].wait(60)

    def site_reloaded(self) -> None:
        self.processes["serve"].send_signal(signal.SIGHUP)

    def process_stopped_for_a_while(self) -> None:
        pid = self.victim()
        os.kill(pid, signal.SIGSTOP)
        time.sleep(self.random.uniform(1, 6))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def killed_at_a_system_call(self) -> None:
        self._injected(f"{self.random.choice(CALLS)}:signal=KILL:when={self.random.randint(1, 60)}")

    def sync_fails(self) -> None:
        self._injected("fdatasync:error=EIO:when=1")

    def every_sync_fails(self) -> None:
        self._injected("fdatasync:error=EIO")

    def no_room_for_writes(self) -> None:
        self._injected("pwrite64:error=ENOSPC")

    def slow_disk(self) -> None:
        self._injected("fdatasync,fsync:delay_exit=200000")

    def _injected(self, fault: str) -> None:
        for _ in range(5):
            with suppress(pytest.skip.Exception), injected(fault, process=self.victim()):  # skipped: that process has just ended
                time.sleep(self.random.uniform(1, 5))
                return

    def full_disk(self) -> None:
        ballast, taken, part = self.disk.folder / "ballast", 0, DISK_MB << 20
        with ballast.open("wb") as file:
            while part >= 4_096:
                try:
                    os.posix_fallocate(file.fileno(), taken, part)
                    taken += part
                except OSError:
                    part //= 2
        time.sleep(self.random.uniform(1, 5))
        ballast.unlink()

    def power_cut(self) -> None:
        self.all_get(signal.SIGSTOP)
        self.disk.cut_power()
        self.end()
        self.disk.power_on()

    @property
    def faults(self) -> tuple[Callable[[], None], ...]:
        return (
            self.web_process_killed, self.site_killed, self.worker_killed, self.site_restarted, self.site_reloaded, self.process_stopped_for_a_while,
            self.killed_at_a_system_call, self.sync_fails, self.every_sync_fails, self.no_room_for_writes, self.slow_disk, self.full_disk, self.power_cut,
        )  # fmt: skip


@contextmanager
def visited(port: int) -> Iterator[list[Visitor]]:
    """Readers who go on reading whatever happens."""
    visitors = [Visitor(port, pause_s=PAUSE_S) for _ in range(VISITORS)]
    for visitor in visitors:
        visitor.start()
    try:
        yield visitors
    finally:
        for visitor in visitors:
            visitor.over.set()
        for visitor in visitors:
            visitor.join(timeout=60)


def weather(folder: Path, *, minutes: float, seed: int, say: Callable[[str], object] = print) -> tuple[Verdict, Counter[int], int]:
    """Let faults come for some minutes; returns the verdict, how often each status was answered, and how many events were acknowledged.

    Every kind comes once in a random order, then anew in another. Raises what :func:`~experiments.events.power.small_disk` raises.
    """
    with small_disk(folder, megabytes=DISK_MB) as disk:
        storm = Storm(disk, Random(seed))
        with_experiment(storm.home).dispose()
        gc.collect()  # connections that nothing refers to any more: a disk with open files keeps its power
        begun = time.monotonic()
        try:
            storm.healed()
            with visited(storm.port) as visitors:
                due: list[Callable[[], None]] = []
                while time.monotonic() < begun + 60 * minutes:
                    due = due or storm.random.sample(storm.faults, len(storm.faults))
                    fault = due.pop()
                    time.sleep(storm.random.uniform(*QUIET_S))
                    fault()
                    healed_s, kept = storm.healed(), sum(len(visitor.acknowledged) for visitor in visitors)
                    minute = (time.monotonic() - begun) / 60
                    say(
                        f"{minute:6.1f} min  {fault.__name__.replace('_', ' ')}: ready after {healed_s:.1f} s, {kept:,} events acknowledged"
                    )
        finally:
            storm.end()
        acknowledged = [one for visitor in visitors for one in visitor.acknowledged]
        statuses = sum((visitor.statuses for visitor in visitors), Counter[int]())
        return verdict(storm.home, acknowledged), statuses, len(acknowledged)


def main(minutes: float, seed: int) -> int:
    """Print what happened."""
    with tempfile.TemporaryDirectory() as name:
        found, statuses, kept = weather(Path(name), minutes=minutes, seed=seed, say=lambda line: print(line, flush=True))  # noqa: T201
    print(f"{kept:,} acknowledged, {found}; answers {dict(statuses)}")  # noqa: T201
    return 0 if (found.lost, found.exact, found.integrity) == (0, True, "ok") and set(statuses) <= {0, 200, 202, 503} else 1


if __name__ == "__main__":
    raise SystemExit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0, int(sys.argv[2]) if len(sys.argv) > 2 else 0))
