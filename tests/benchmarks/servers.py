"""gunicorn's gthread beside granian on the real site, in turns: ``python -m tests.benchmarks.servers GRANIAN_PYTHON``.

GRANIAN_PYTHON is the interpreter of an environment with granian; our packages reach it by PYTHONPATH. Runs on a finished demo
(PRESSLAB_BENCH_HOME names one; without it a small one is made first).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.events.selftest import fdatasyncs
from tests.benchmarks.serving import ANY_NUMBER, TOKEN, articles, demo_home, free_port, get, page, post, reader_cookie, served
from tests.faults.site import Visitor, children, wait_until
from web.serve import NUMERIC_THREADS

ROOT = Path(__file__).parents[2]
ROUNDS, SECONDS = 3, 5.0
TICK = os.sysconf("SC_CLK_TCK")
Command = Callable[[Path, int], tuple[list[str], dict[str, str]]]


def gthread(home: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """``presslab serve``: two processes of sixteen threads."""
    return [sys.executable, "-m", "web", "serve", "--home", str(home), "--port", str(port)], {}


def granian(python: str) -> Command:
    def command(home: Path, port: int) -> tuple[list[str], dict[str, str]]:
        path = f"{ROOT}{os.pathsep}{sysconfig.get_path('purelib')}"
        more = {"PYTHONPATH": path, "PRESSLAB_HOME": str(home), **dict.fromkeys(NUMERIC_THREADS, "1")}
        options = ["--interface", "wsgi", "--workers", "2", "--blocking-threads", "16", "--runtime-threads", "1", "--backpressure", "64", "--respawn-failed-workers", "--respawn-interval", "0.1", "--no-ws", "--log-level", "error", "--workers-kill-timeout", "10", "--factory", "tests.benchmarks.granian_app:site"]  # fmt: skip
        return [python, "-m", "granian", "--port", str(port), *options], more

    return command


@contextmanager
def running(command: Command, home: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """One server on the home; yields its first process and its port."""
    port = free_port()
    words, more = command(home, port)
    environment = {k: v for k, v in os.environ.items() if k != "PRESSLAB_BENCH_HOME"} | ANY_NUMBER | more
    process = subprocess.Popen(words, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        served(port, "/-/ready")
        yield process, port
    finally:
        left = [process.pid, *_below(process.pid)]
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid in left[1:]:
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGKILL)


def _below(pid: int) -> list[int]:
    found = children(pid)
    return [*found, *(one for child in found for one in _below(child))]


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process and those below it."""
    total = 0
    for one in (pid, *_below(pid)):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def _megabytes(pid: int) -> float:
    return sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in (pid, *_below(pid))) * 4096 / 2**20


def load(folder: Path, server: tuple[subprocess.Popen[bytes], int], requests: Sequence[str], **how: Any) -> dict[str, float]:
    """One run of the client: requests a second, waits, CPU milliseconds a request."""
    process, port = server
    job = folder / "job.json"
    job.write_text(json.dumps({"port": port, "requests": requests, "seconds": SECONDS, **how}), "utf-8")
    before = _cpu_s(process.pid)
    done = subprocess.run([sys.executable, "-m", "tests.benchmarks.client", str(job)], capture_output=True, check=True)
    found = json.loads(done.stdout)
    assert set(found["codes"]) <= {"200", "202"}, found["codes"]
    found["cpu_ms"] = 1_000 * (_cpu_s(process.pid) - before) / sum(found["codes"].values())
    return dict(found)


def speeds(folder: Path, home: Path, servers: dict[str, Command]) -> Iterator[tuple[str, ...]]:
    """Pages as fast as they go, pages at a fixed rate, events in requests of fifty; each figure is a median of rounds in turns."""
    with ExitStack() as stack:
        up = {name: stack.enter_context(running(command, home)) for name, command in servers.items()}
        cookie = reader_cookie(home, up["gthread"][1], "front")
        pages = [page(path, cookie) for path in articles(home)]
        tokens = [TOKEN.search(get(up["gthread"][1], articles(home)[-1], cookie)[1]) for _ in range(50)]
        posts = [
            post("/e", json.dumps({"events": [{"token": t[1], "active_ms": 1_000 + n, "depth": 50} for t in tokens if t]}), cookie)
            for n in range(400)
        ]
        kinds: dict[str, tuple[list[str], dict[str, Any]]] = {
            "article pages, 16 connections": (pages, {"connections": 16}),
            "article pages at 100/s": (pages, {"connections": 32, "per_second": 100}),
            "POST /e of 50 events, 4 connections": (posts, {"connections": 4}),
        }
        for what, (requests, how) in kinds.items():
            runs: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
            for _ in range(ROUNDS):
                for name in servers:
                    runs[name].append(load(folder, up[name], requests, **how))
            for name, found in runs.items():
                middle = {key: statistics.median(one[key] for one in found) for key in ("per_second", "p50", "p99", "cpu_ms")}
                yield (
                    what,
                    name,
                    f"{middle['per_second']:,.0f}/s, half {middle['p50']:.1f} ms, 99 in 100 {middle['p99']:.1f} ms, CPU {middle['cpu_ms']:.2f} ms",
                )
        for name, (process, _) in up.items():
            yield "memory of all its processes", name, f"{_megabytes(process.pid):,.0f} MB"


def behaviours(home: Path, name: str, command: Command) -> Iterator[tuple[str, ...]]:
    """What happens to readers (each request is tried twice) when workers are killed, reloaded, ended; and beside slow clients."""

    def visited(act: Callable[[subprocess.Popen[bytes], int], object]) -> str:
        with running(command, home) as (process, port):
            visitors = [Visitor(port) for _ in range(4)]
            for visitor in visitors:
                visitor.start()
            time.sleep(1)
            begun = time.monotonic()
            act(process, port)
            spent = time.monotonic() - begun
            time.sleep(1)
            for visitor in visitors:
                visitor.over.set()
            for visitor in visitors:
                visitor.join()
            pages, failed, errors = (sum(getattr(one, what) for one in visitors) for what in ("pages", "failed", "errors"))
        return f"{pages} pages, {failed} failed twice, {errors} answers of 500 and above; {spent:.1f} s"

    def kill(process: subprocess.Popen[bytes], _: int) -> None:
        for _ in range(5):
            os.kill(_workers(process)[0], signal.SIGKILL)
            time.sleep(0.6)

    def reload(process: subprocess.Popen[bytes], _: int) -> None:
        before = set(_workers(process))
        process.send_signal(signal.SIGHUP)
        assert wait_until(lambda: not before & set(_workers(process)) and len(_workers(process)) == 2, seconds=30), "no new workers"

    yield "a worker killed five times in 3 s", name, visited(kill)
    yield "graceful reload (HUP)", name, visited(reload)
    yield "100 clients that send half a request", name, _beside_slow_clients(home, command)
    yield "ended (TERM) while pages are asked for", name, _drained(home, command)
    yield "its first process killed", name, _orphans(home, command)


def _workers(process: subprocess.Popen[bytes]) -> list[int]:
    """Worker processes (the helper of Python's multiprocessing is none)."""
    return [pid for pid in children(process.pid) if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()]


def _beside_slow_clients(home: Path, command: Command) -> str:
    with running(command, home) as (_, port), ExitStack() as stack:
        for _ in range(100):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            slow.sendall(b"GET /en/ HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        waits, visitor, begun = [], Visitor(port), time.monotonic()
        while time.monotonic() - begun < 5:
            start = time.monotonic()
            visitor.read(articles(home)[len(waits) % 40].rpartition("/")[2])
            waits.append(time.monotonic() - start)
        return f"{len(waits)} pages in 5 s by one reader, the slowest {max(waits):.2f} s, {visitor.failed} failed twice"


def _drained(home: Path, command: Command) -> str:
    with running(command, home) as (process, port):
        visitors = [Visitor(port) for _ in range(4)]
        for visitor in visitors:
            visitor.start()
        time.sleep(1)
        for visitor in visitors:
            visitor.over.set()  # each ends the request it is in
        begun = time.monotonic()
        process.terminate()
        process.wait(30)
        spent = time.monotonic() - begun
        for visitor in visitors:
            visitor.join()
        return f"gone after {spent:.1f} s, {sum(one.errors for one in visitors)} answers of 500 and above"


def _orphans(home: Path, command: Command) -> str:
    with running(command, home) as (process, _):
        left = _below(process.pid)
        process.kill()
        begun = time.monotonic()
        gone = wait_until(lambda: not any(_alive(pid) for pid in left), seconds=15)
        return f"the others {'end after ' + format(time.monotonic() - begun, '.1f') + ' s' if gone else 'still hold the port after 15 s'}"


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def main(python: str) -> None:
    """Print the table."""
    servers: dict[str, Command] = {"gthread": gthread, "granian": granian(python)}
    table = Table("what", "server", "figure", box=None, header_style="bold")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home = demo_home(folder)
        for row in speeds(folder, home, servers):
            table.add_row(*row)
        for server, command in servers.items():
            for row in behaviours(home, server, command):
                table.add_row(*row)
        table.add_row("fdatasync of 512 B", "the disk", f"{fdatasyncs(home, 1.0):,.0f}/s")
    Console(file=sys.stdout, width=180).print(table)


if __name__ == "__main__":
    main(sys.argv[1])
