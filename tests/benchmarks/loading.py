"""The loader beside bare SQLite, and durable ingest over HTTP beside fdatasync: ``python -m tests.benchmarks.loading [EVENTS]``.

Loader and bare inserts take turns over the same rows, 60,000 at a time, so that both meet the same machine and both
stores grow alike. On a shared machine the seconds of CPU say more than those of the clock; both are printed. There the loader
is one process; with a million pending a second one reads ahead, and the busier of the two is what free cores would wait for.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.events.event import Event, Source
from experiments.events.ids import PageViews, event_id
from experiments.events.loader import CHECKPOINT_BYTES, Loader
from experiments.events.outbox_file import OutboxFile, outbox_files, read_part
from experiments.events.rows import AT_ONCE
from experiments.events.store import open_store, store_path
from experiments.events.wire import COLUMNS, decode_all, encode
from tests.benchmarks.serving import AGENT, TOGETHER, TOKEN, beacons, free_port, ingested, served, site_process
from tests.benchmarks.syncs import quantiles, sync_waits
from tests.web.site_fixture import Stand

START = 1_767_225_600_000_000  # 2026-01-01
FILE, TURN = 30_000, 60_000
INSERT = f"INSERT INTO event({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
LIVE: Source = "live"
Row = tuple[str, float, str, float]
Spent = tuple[float, float]  # seconds of the clock, of CPU


def loading_rows(events: int = 1_000_000) -> list[Row]:
    """The loader in turns with bare inserts, the last tenth beside the first, and the whole backlog at once."""
    with tempfile.TemporaryDirectory() as name:
        spent = turns(Path(name), events)
        ours, bare = spent["loader"], spent["bare"]
        n = TURN * len(ours)
        parts = [(f"    {part}", n / _cpu(spent[part])) for part in ("reading the outboxes", "decoding and checking")]
        rest = _cpu(ours) - sum(_cpu(spent[part.strip()]) for part, _ in parts)
        tenth = max(1, len(ours) // 10)
        rows: list[Row] = [
            (f"loader alone, {n:,} mixed events", n / _clock(ours), "bare INSERT of these rows, same schema", n / _clock(bare)),
            ("  per second of CPU", n / _cpu(ours), "bare INSERT of these rows, same schema", n / _cpu(bare)),
            *((part, per_second, "bare INSERT", n / _cpu(bare)) for part, per_second in [*parts, ("    storing and counting", n / rest)]),
            ("  per second of CPU, last tenth", tenth * TURN / _cpu(ours[-tenth:]), "first tenth", tenth * TURN / _cpu(ours[:tenth])),
        ]
    with tempfile.TemporaryDirectory() as name:
        waits = sync_waits(Path(name), 1.0)
        clock, own, other = catch_up(Path(name), 1_000_000)
    says = f"1,000,000 pending after a kill: {clock:.1f} s; CPU: {own:.1f} s, and {other:.1f} s of the process that reads ahead"
    return [
        *rows,
        (says, 1_000_000 / clock, "what 15 s would take", 1_000_000 / 15),
        ("  per second of CPU of the busier one", 1_000_000 / max(own, other), "bare INSERT of such rows", n / _cpu(bare)),
        sync_row(waits),
    ]


def turns(folder: Path, events: int) -> dict[str, list[Spent]]:
    """What each turn took: the loader, two of its parts by themselves, and bare inserts."""
    spent: dict[str, list[Spent]] = {"reading the outboxes": [], "decoding and checking": [], "loader": [], "bare": []}
    source = mixed_events()
    other = open_store(folder / "bare" / "events.db", create=True)
    log = folder / "bare" / "events.db-wal"
    with Loader(folder / "home", clock=lambda: START, backlog=2 * TURN) as loader:  # one process alone
        for number in range(max(1, events // TURN)):
            write(folder / "home" / "outbox", islice(source, TURN), f"{number:06d}")
            files = outbox_files(folder / "home" / "outbox")
            begun = _now()
            entries = [body for path in files for _, body, _ in read_part(path, after=0, most=TURN).rows]
            spent["reading the outboxes"].append(_since(begun))
            begun = _now()
            columns = [decode_all(entries[start : start + AT_ONCE]) for start in range(0, TURN, AT_ONCE)]
            spent["decoding and checking"].append(_since(begun))
            rows = [row for some in columns for row in zip(*some, strict=True)]
            del entries, columns
            begun = _now()
            loader.drain()
            spent["loader"].append(_since(begun))
            begun = _now()
            for start in range(0, TURN, 20_000):
                other.execute("BEGIN IMMEDIATE")
                other.executemany(INSERT, rows[start : start + 20_000])
                other.execute("COMMIT")
            if log.stat().st_size > CHECKPOINT_BYTES:
                other.execute("PRAGMA wal_checkpoint(PASSIVE)")
            spent["bare"].append(_since(begun))
    assert last_row(store_path(folder / "home")) == last_row(folder / "bare" / "events.db") == TURN * len(spent["bare"])
    other.close()
    return spent


def catch_up(folder: Path, events: int) -> tuple[float, float, float]:
    """What it takes to load what two killed web workers left behind: seconds of the clock, of CPU here and in the second process."""
    home = folder / "home"
    written = write(home / "outbox", islice(mixed_events(), events), "dead", killed=2)
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), _now()
    with Loader(home, clock=lambda: START) as loader:
        assert loader.drain().stored == written == events
    clock, own = _since(begun)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, own, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ingest_rows() -> list[Row]:
    """Durable events over HTTP from four clients, 50 in a request, on the real server with two workers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stand = Stand(folder / "home")
        client = stand.reader_in("front")
        found = [TOKEN.search(client.get(f"/en/article/{stand.article}", headers={"User-Agent": AGENT}).text) for _ in range(TOGETHER)]
        cookie = client.get_cookie("pl_id")
        stand.site.close()
        assert cookie is not None
        requests = beacons([token[1] for token in found if token], f"pl_id={cookie.value}")
        port, commits = free_port(), folder / "commits"
        commits.mkdir()
        os.environ["PRESSLAB_PROFILE"] = "demo"
        with site_process("tests.benchmarks.timed_site", str(commits), "serve", "--home", str(stand.home), "--port", str(port)):
            served(port, "/-/ready")
            of = ingested(folder, stand.home, port, requests)
    says = f"events over HTTP, {TOGETHER} a request, 4 clients; 99 in 100 in {of.p99:.1f} ms"
    tails = [(f"of {disk}: {beside.p99:.1f} ms", 1e3 / beside.p99) for disk, beside in of.disk.items()]
    return [(says, of.per_second, "events to reach", 20_000), *(("  99th percentile, requests", 1e3 / of.p99, *tail) for tail in tails)]


def mixed_events(seed: int = 1) -> Iterator[Event]:
    """Page views of readers of three arms: view, exposure, impression, and what came back of them."""
    chance, page_views, at = random.Random(seed), PageViews(), START
    while True:
        at += chance.randrange(200_000)
        page_view, reader, arm = page_views(at), f"{chance.randrange(200_000):032x}", chance.choice(["status_quo", "front", "ranked"])
        articles = [f"a{chance.randrange(400)}" for _ in range(6)]
        common: dict[str, Any] = {
            "page_view": page_view,
            "reader": reader,
            "issued_at": at,
            "source": LIVE,
            "device": "phone",
            "config": "12",
        }
        slotted = {**common, "received_at": at + 30, "experiment": "related", "arm": arm}
        page = {"page_type": "article", "article": articles[0], "section": "city", "referrer": "internal", "agreed": 1}
        yield Event(event_id(page_view, "view"), "view", received_at=at + 30, body=page, **common)
        exposure = {
            "slot": "article.related",
            "phase": 0,
            "bucket": chance.randrange(10_000),
            "audience": "all",
            "reason": "assigned",
            "outcome": "served",
        }
        yield Event(event_id(page_view, "exposure", "related"), "exposure", body=exposure, **slotted)
        shown = {"slot": "article.related", "articles": articles, "propensities": [1.0] * 3 + [0.25] * 3, "rungs": [0] * 6, "policy": "p3"}
        yield Event(event_id(page_view, "impression", "article.related"), "impression", body=shown, **slotted)
        for seconds in (10, 40, 90)[: chance.randrange(4)]:
            dwell = {"active_ms": seconds * 1000, "depth_percent": chance.randrange(101)}
            later = {"received_at": at + seconds * 1_000_000, "client_at": at, "sent_at": at}
            yield Event(event_id(page_view, "dwell", f"{seconds}"), "dwell", body=dwell, **common, **later)


def write(folder: Path, events: Iterator[Event], name: str, *, killed: int = 0) -> int:
    """Fill outbox files as web workers do, a request at a time; the last ``killed`` are left as a kill leaves them."""
    folder.mkdir(parents=True, exist_ok=True)
    files: list[OutboxFile] = []
    while some := list(islice(events, TOGETHER)):
        if not files or files[-1].last_seq >= FILE:
            files.append(OutboxFile(folder, f"{name}-{len(files):06d}", synchronous="OFF"))
        files[-1].write(map(encode, some), Counter((event.kind, event.arm) for event in some))
    for file in files[: len(files) - killed]:
        file.seal()
    for file in files[len(files) - killed :]:
        os.close(file._lock)  # the kernel does it when a process is killed
    return sum(file.last_seq for file in files)


def last_row(path: Path) -> int:
    store = open_store(path)
    try:
        return int(store.execute("SELECT max(seq) FROM event").fetchone()[0])
    finally:
        store.close()


def sync_row(waits: Sequence[float]) -> Row:
    """The disk's own limit, of milliseconds that :func:`sync_waits` returned."""
    return "  fdatasync of 512 B, before it", 1e3 * len(waits) / sum(waits), "its 99th percentile", 1e3 / quantiles(waits)["p99"]


def _now() -> Spent:
    return time.perf_counter(), time.process_time()


def _since(begun: Spent) -> Spent:
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def _clock(spent: Sequence[Spent]) -> float:
    return sum(one[0] for one in spent)


def _cpu(spent: Sequence[Spent]) -> float:
    return sum(one[1] for one in spent)


def main() -> None:
    """Print the table."""
    table = Table("what", "per second", "limit or peer", "per second ", "ratio", box=None, header_style="bold")
    for what, ours, peer, theirs in [*loading_rows(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000), *ingest_rows()]:
        table.add_row(what, f"{ours:,.0f}", peer, f"{theirs:,.0f}", f"{ours / theirs:.2f}")
    Console(file=sys.stdout).print(table)


if __name__ == "__main__":
    main()
