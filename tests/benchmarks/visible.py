"""From an acknowledged event to one that can be read in the store: ``python -m tests.benchmarks.visible [EVENTS A SECOND] [SECONDS]``.

One process appends through the real outbox at a steady rate, ten events at a time, the real worker loads, and a reader of the
store looks every few milliseconds. What is printed is at most how long readers of the store wait for an acknowledged event.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.table import Table

from experiments.events.event import Event
from experiments.events.ids import PageViews, event_id
from experiments.events.outbox import Outbox
from experiments.events.store import balance, read_store, store_path
from experiments.migrate import migrate
from tests.benchmarks.loading import sync_row
from tests.benchmarks.serving import site_process
from tests.benchmarks.syncs import quantiles, sync_waits

PER_SECOND, QUIET, SECONDS, TOGETHER = 2_000, 20, 30.0, 10
LOOK_S, LONGEST_S = 0.005, 60.0
Row = tuple[str, float, str, float]
PAGE = {"page_type": "article", "article": "a", "section": "city", "referrer": "front", "prefetch": False, "agreed": 1}


def append(home: Path, per_second: float, seconds: float) -> list[tuple[str, float]]:
    """Append views; return the id of the last of each batch and when it was acknowledged."""
    outbox, page_views = Outbox(home / "outbox", clock=lambda: time.time_ns() // 1000), PageViews()
    acknowledged: list[tuple[str, float]] = []
    begun = time.monotonic()
    for number in range(int(per_second * seconds / TOGETHER)):
        time.sleep(max(0.0, begun + number * TOGETHER / per_second - time.monotonic()))
        at = time.time_ns() // 1000
        views = [page_views(at) for _ in range(TOGETHER)]
        outbox.append([Event(event_id(view, "view"), "view", view, "r", at, at, PAGE) for view in views], timeout_s=LONGEST_S)
        acknowledged.append((event_id(views[-1], "view").hex(), time.monotonic()))
    outbox.close()
    return acknowledged


def seen(home: Path, writer: subprocess.Popen[bytes], expected: int) -> dict[str, float]:
    """When each event was first read from the store."""
    found: dict[str, float] = {}
    last, deadline = 0, None
    with closing(read_store(store_path(home), longest_s=3_600)) as store:
        while len(found) < expected and (deadline is None or time.monotonic() < deadline):
            rows = store.execute("SELECT seq, id FROM event WHERE seq > ? AND kind = 'view' ORDER BY seq", (last,)).fetchall()
            now = time.monotonic()
            found.update((identity.hex(), now) for _, identity in rows)
            last = rows[-1][0] if rows else last
            if deadline is None and writer.poll() is not None:
                deadline = now + LONGEST_S
            time.sleep(LOOK_S)
    return found


def visible_rows(per_second: float = PER_SECOND, seconds: float = SECONDS) -> Iterator[Row]:
    """How long an acknowledged event waits until it can be read, beside the goal of two seconds."""
    yield from _rows(per_second, seconds, says="")
    yield from _rows(QUIET, seconds / 2, says=" beside a report", report=True)


def _rows(per_second: float, seconds: float, *, says: str, report: bool = False) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        home, told = Path(name) / "home", Path(name) / "acknowledged.json"
        migrate(home)
        waits = sync_waits(Path(name), 1.0)
        with site_process("web", "worker", "--home", str(home)):
            while not store_path(home).exists():
                time.sleep(LOOK_S)
            time.sleep(2.0)  # the worker's first jobs
            writer = subprocess.Popen([sys.executable, "-m", __spec__.name, "write", str(home), str(per_second), str(seconds), str(told)])
            with closing(read_store(store_path(home), longest_s=3_600)) as reading:
                if report:  # it reads what is stored now, and goes on
                    while not (rows := reading.execute("SELECT 1 FROM event LIMIT 1").fetchall()):
                        time.sleep(LOOK_S)
                    reading.snapshot()
                    assert rows == reading.execute("SELECT 1 FROM event LIMIT 1").fetchall()
                found = seen(home, writer, int(per_second * seconds / TOGETHER) * TOGETHER)
            assert writer.wait() == 0
        assert all(row.exact for row in balance(home))
        acknowledged = json.loads(told.read_text("utf-8"))
    late = quantiles(sorted(found[identity] - at for identity, at in acknowledged))
    ran = acknowledged[-1][1] - acknowledged[0][1]
    for share, what in (("p50", f"acknowledged to visible, {len(found) / ran:,.0f} events/s{says}: half"), ("p99", "  99 in 100")):
        yield f"{what} in {late[share]:.2f} s", 1 / late[share], "2 s", 0.5
    yield sync_row(waits)


def main() -> None:
    """Print the table, or be the writer."""
    if sys.argv[1:2] == ["write"]:
        home, per_second, seconds, told = sys.argv[2:]
        Path(told).write_text(json.dumps(append(Path(home), float(per_second), float(seconds))), "utf-8")
        return
    os.environ["PRESSLAB_PROFILE"] = "production"
    table = Table("what", "per second", "limit or peer", "per second ", "ratio", box=None, header_style="bold")
    for what, ours, peer, theirs in visible_rows(*map(float, sys.argv[1:])):
        table.add_row(what, f"{ours:,.1f}", peer, f"{theirs:,.1f}", f"{ours / theirs:.2f}")
    Console(file=sys.stdout).print(table)


if __name__ == "__main__":
    main()
