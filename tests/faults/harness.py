"""Start, kill and cut: what is the same in every fault test, and the verdict at the end."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from experiments.events.loader import Loader
from experiments.events.store import balance, open_store, store_path
from tests.events.story import START

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Verdict:
    """What is left after everything was loaded."""

    lost: int
    stored: int
    duplicates: int
    alarms: int
    exact: bool
    integrity: str


def start(module: str, *arguments: object, tracing: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    command = [*tracing, sys.executable, "-m", f"tests.faults.{module}", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def kill_after(process: subprocess.Popen[bytes], lines: int) -> list[bytes]:
    """Return the ids acknowledged until the process was killed, some time after ``lines`` of them."""
    assert process.stdout is not None
    with process.stdout as out:
        seen = [line for _, line in zip(range(lines), out, strict=False)]
        process.send_signal(signal.SIGKILL)
        seen += out.readlines()
    process.wait()
    return [bytes.fromhex(line.decode()) for line in seen if line.endswith(b"\n")]


def until_it_dies(process: subprocess.Popen[bytes]) -> list[bytes]:
    assert process.stdout is not None
    with process.stdout as out:
        seen = out.readlines()
    process.wait()
    return [bytes.fromhex(line.decode()) for line in seen if line.endswith(b"\n")]


def verdict(home: Path, acknowledged: Sequence[bytes]) -> Verdict:
    """Load what the outboxes hold and compare it with what was acknowledged."""
    with Loader(home, clock=lambda: START) as loader:
        loaded = loader.drain()
    store = open_store(store_path(home))
    ids = [row[0] for row in store.execute("SELECT id FROM event")]
    alarms = store.execute("SELECT count(*) FROM outbox_offset WHERE state = 'kept'").fetchone()[0]
    integrity = store.check() if store.prefix else store.execute("PRAGMA integrity_check").fetchone()[0]
    store.close()
    lost = len(set(acknowledged) - set(ids))
    assert len(ids) == len(set(ids))
    return Verdict(lost, len(ids), loaded.duplicate, alarms, all(row.exact for row in balance(home)), integrity)


@cache
def strace() -> str:
    """Why strace cannot inject faults here; empty if it can."""
    if not shutil.which("strace"):
        return "needs strace (not installed)"
    done = subprocess.run(
        ["strace", "-f", "-o", "/dev/null", "-e", "inject=fdatasync:signal=KILL:when=1", "true"], capture_output=True, check=False
    )
    return "" if done.returncode == 0 else "needs strace with fault injection (ptrace is not allowed here)"


def killed_at(syscall: str, n: int) -> list[str]:
    """The command line that kills a process when it makes its n-th such call."""
    return ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={syscall}", "-e", f"inject={syscall}:signal=KILL:when={n}"]


@contextmanager
def injected(fault: str, *, process: int) -> Iterator[None]:
    """Let system calls of a running process fail or take longer, for example ``fdatasync:error=EIO``; skips where that is not allowed."""
    call = fault.partition(":")[0]
    command = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={fault}", "-p", str(process)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE)
    assert tracer.stderr is not None
    with tracer.stderr as says:
        if b"attached" not in (first := says.readline()):
            tracer.wait()
            pytest.skip(f"needs strace on a running process: {first.decode().strip()}")
        try:
            yield
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait()
