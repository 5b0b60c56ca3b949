"""The site under load beside a bare Flask page on the same server, in turns: ``python -m tests.benchmarks.serving``.

Runs on a finished demo (PRESSLAB_BENCH_HOME names one; without it a small one is made first).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.assignment import assign, reader_key
from tests.benchmarks.syncs import quantiles, sync_waits, syncing
from tests.benchmarks.timed_site import commit_waits
from web.identity import choices_text
from web.keys import tokens_of
from web.published import refresh
from web.site_protocol import Choices

AGENT = "Mozilla/5.0 (iPhone) Mobile Safari"
TOKEN = re.compile(r'data-token="([^"]+)"')
ROUNDS, PAGE_ROUNDS, INGEST_ROUNDS, SECONDS = 3, 7, 7, 4.0
TOGETHER = 50  # events in a request
ANY_NUMBER = {"PRESSLAB_EVENTS_PER_SECOND": "1000000"}  # one reader sends what a whole site would get
Row = tuple[str, str, str]


def main() -> None:
    """Print the table."""
    table = Table("what", "figure", "beside", box=None, header_style="bold")
    with tempfile.TemporaryDirectory() as name:
        for row in measure(Path(name)):
            table.add_row(*row)
    Console(file=sys.stdout).print(table)


def measure(folder: Path) -> Iterator[Row]:
    """Yield one row per figure."""
    home = demo_home(folder)
    ours, bare, plain = free_port(), free_port(), free_port()
    commits = folder / "commits"
    commits.mkdir()
    with site_process("tests.benchmarks.timed_site", str(commits), "serve", "--home", str(home), "--port", str(ours)):
        served(ours, "/-/ready")
        readers = {arm: reader_cookie(home, ours, arm) for arm in ("front", "ranked")}
        text = folder / "page.html"
        text.write_text(get(ours, _article(home), readers["front"])[1], "utf-8")
        peers = site_process("tests.benchmarks.bare", str(bare), str(text)), site_process("tests.benchmarks.plain", str(plain), str(home))
        with peers[0], peers[1]:
            served(bare, "/")
            served(plain, "/-/live")
            yield from _pages(folder, home, (ours, bare, plain), readers)
            yield from _waits(folder, home, ours, readers["front"])
            yield from _ingest(folder, home, ours, readers["front"])


def _pages(folder: Path, home: Path, ports: tuple[int, int, int], readers: dict[str, str]) -> Iterator[Row]:
    jobs = {arm: (ports[0], [page(path, cookie) for path in articles(home)]) for arm, cookie in readers.items()}
    jobs["bare"] = (ports[1], [page("/", "")])
    jobs["plain"] = (ports[2], [page(path.replace("/en/article/", "/plain/"), "") for path in articles(home)])
    os.sync()  # what was written before is not this load's: a page waits for the disk, the bare one does not
    rounds = [
        {arm: load(folder, port, requests, connections=16)["per_second"] for arm, (port, requests) in jobs.items()}
        for _ in range(PAGE_ROUNDS)
    ]
    for arm in readers:
        words = {
            "bare": "a Flask page that is one constant template of that size",
            "plain": "the same page made by Flask at each request, without events",
        }
        beside = [f"{_ratios(rounds, arm, peer)} of {says}" for peer, says in words.items()]
        rate = statistics.median(one[arm] for one in rounds)
        yield f"article page, slate of {arm}, durable", f"{rate:,.0f}/s", f"{'; '.join(beside)}; {PAGE_ROUNDS} rounds"


def _ratios(rounds: Sequence[dict[str, float]], arm: str, peer: str) -> str:
    """The middle one of all rounds, the lowest and the highest, and what the peer did."""
    low, *_, high = ordered = sorted(one[arm] / one[peer] for one in rounds)
    peer_rate = statistics.median(one[peer] for one in rounds)
    return f"{statistics.median(ordered):.2f} ({low:.2f} to {high:.2f}, {peer_rate:,.0f}/s)"


def _waits(folder: Path, home: Path, port: int, cookie: str) -> Iterator[Row]:
    """Each round beside the disk of the same seconds: what others do on the machine must not count for one of them only."""
    requests = [page(path, cookie) for path in articles(home)]
    rounds = []
    for _ in range(ROUNDS):
        syncs = quantiles(sync_waits(home))
        found = load(folder, port, requests, connections=32, per_second=200)
        rounds.append((found["p99"] - 2 * syncs["p50"], found, syncs))
    above, found, syncs = sorted(rounds, key=lambda one: one[0])[ROUNDS // 2]
    yield (
        "99 in 100 pages at 200 requests/s",
        f"{found['p99']:.1f} ms",
        f"{above:.1f} ms above two fdatasync ({syncs['p50']:.2f} ms each, 99 in 100 {syncs['p99']:.1f}); half within {found['p50']:.1f} ms",
    )


def _ingest(folder: Path, home: Path, port: int, cookie: str) -> Iterator[Row]:
    tokens = [TOKEN.search(get(port, _article(home), cookie)[1]) for _ in range(TOGETHER)]
    found = ingested(folder, home, port, beacons([token[1] for token in tokens if token], cookie))
    yield (
        f"durable events over HTTP, {TOGETHER} a request, 4 clients",
        f"{found.per_second:,.0f}/s",
        f"half within {found.p50:.1f} ms, 99 in 100 within {found.p99:.1f}",
    )
    for disk, beside in found.disk.items():
        waits = f"{beside.p99:.1f} ms; half {beside.p50:.2f}"
        yield "", f"{beside.times:.1f} times", f"that of {disk} ({beside.least:.1f} to {beside.most:.1f}; {waits}; {INGEST_ROUNDS} rounds)"


@dataclass(frozen=True, slots=True)
class BesideDisk:
    """How many times the tail of waits for the disk the requests' tail is (middle round, least, most), and those waits' milliseconds."""

    times: float
    least: float
    most: float
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Ingested:
    """Events a second, milliseconds a request took, and what waited for the disk around it, in words; each the middle of all rounds."""

    per_second: float
    p50: float
    p99: float
    disk: dict[str, BesideDisk]


def beacons(tokens: Sequence[str], cookie: str) -> list[str]:
    """Requests that tell of all these pages, each with other times."""
    rows = [[{"token": token, "active_ms": 1_000 + n, "depth": 50} for token in tokens] for n in range(400)]
    return [post("/e", json.dumps({"events": events}), cookie) for events in rows]


def ingested(folder: Path, home: Path, port: int, requests: Sequence[str]) -> Ingested:
    """Send events to a timed site in several rounds: the 99th of a round's two hundred syncs is chance.

    Beside the disk three times: idle in the second before; under this very load as another process finds it that appends what a
    commit of the site appends; and as the site's own commits found it.
    """
    commits, outbox = folder / "commits", home / "outbox"
    before, since = _bytes(outbox), time.monotonic()
    load(folder, port, requests, connections=4)
    size = (_bytes(outbox) - before) // len(commit_waits(commits, since=since))
    rounds: list[dict[str, Any]] = []
    disk: dict[str, list[dict[str, float]]] = {}
    for _ in range(INGEST_ROUNDS):
        idle, since = sync_waits(home), time.monotonic()
        with syncing(home, size) as beside:
            rounds.append(load(folder, port, requests, connections=4))
        assert set(rounds[-1]["codes"]) == {"202"}, rounds[-1]["codes"]
        for says, waits in {
            "one fdatasync of 512 B on the idle disk before": idle,
            f"a bare fdatasync of {size:,} B, as much as a commit, under this load": beside,
            "the site's own commits under this load": commit_waits(commits, since=since),
        }.items():
            disk.setdefault(says, []).append(quantiles(waits))
    rate, p50, p99 = (statistics.median(one[name] for one in rounds) for name in ("per_second", "p50", "p99"))
    return Ingested(TOGETHER * rate, p50, p99, {says: _beside(rounds, waits) for says, waits in disk.items()})


def _beside(rounds: Sequence[dict[str, Any]], waits: Sequence[dict[str, float]]) -> BesideDisk:
    times = [one["p99"] / wait["p99"] for one, wait in zip(rounds, waits, strict=True)]
    half, tail = (statistics.median(wait[name] for wait in waits) for name in ("p50", "p99"))
    return BesideDisk(statistics.median(times), min(times), max(times), half, tail)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def load(folder: Path, port: int, requests: Sequence[str], *, connections: int, per_second: float = 0) -> dict[str, Any]:
    job = folder / "job.json"
    asked = {"port": port, "requests": requests, "connections": connections, "seconds": SECONDS, "per_second": per_second}
    job.write_text(json.dumps(asked), "utf-8")
    done = subprocess.run([sys.executable, "-m", "tests.benchmarks.client", str(job)], capture_output=True, check=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def demo_home(folder: Path) -> Path:
    made = folder / "home"
    if given := os.environ.get("PRESSLAB_BENCH_HOME"):
        shutil.copytree(given, made)
    else:
        command = [sys.executable, "-m", "web", "demo", "--exit", "--readers", "300", "--days", "7", "--home", str(made)]
        subprocess.run([*command, "--port", str(free_port())], check=True, stdout=subprocess.DEVNULL)
    return made


@contextmanager
def site_process(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    known = {k: v for k, v in os.environ.items() if k != "PRESSLAB_BENCH_HOME"} | ANY_NUMBER
    process = subprocess.Popen([sys.executable, "-m", *arguments], env=known)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def reader_cookie(home: Path, port: int, arm: str) -> str:
    """The cookies of a reader who gets ``arm`` and agreed to personal choice: others would be served the page without a slot."""
    published, tokens = refresh(home, None), tokens_of(home)
    live = next(x for x in published.experiments if arm in x.experiment.shares)
    for _ in range(200):
        cookie = get(port, "/en/", "")[0]
        reader = (tokens.unsign("id", cookie.partition("=")[2]) or "").partition(".")[0]
        given = assign(live.allocation, reader_key(reader))
        if given is not None and given.arm == arm:
            cookie += f"; pl_choice={tokens.sign('choice', choices_text(Choices(personal=True)))}"
            if 'class="slot"' in get(port, _article(home), cookie)[1]:
                return cookie
    raise SystemExit(f"no reader got a slate of {arm}")


def articles(home: Path) -> list[str]:
    published = refresh(home, None)
    newest = sorted(
        (a for a in published.catalogue.articles if a.published_at.timestamp() <= published.signals.at), key=lambda a: a.published_at
    )
    return [f"/en/article/{a.id}" for a in newest[-40:]]


def _article(home: Path) -> str:
    return articles(home)[-1]


def get(port: int, path: str, cookie: str) -> tuple[str, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"User-Agent": AGENT, "Cookie": cookie})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 200, (path, answer.status)
    return (answer.getheader("Set-Cookie") or "").partition(";")[0], text


def page(path: str, cookie: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: {AGENT}\r\nCookie: {cookie}\r\n\r\n"


def post(path: str, body: str, cookie: str) -> str:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: {AGENT}\r\nCookie: {cookie}\r\nSec-Fetch-Site: same-origin\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def served(port: int, path: str) -> None:
    for _ in range(600):
        try:
            get(port, path, "")
            return
        except (OSError, AssertionError):
            time.sleep(0.05)
    raise SystemExit(f"nothing answers on {port}{path}")


if __name__ == "__main__":
    main()
