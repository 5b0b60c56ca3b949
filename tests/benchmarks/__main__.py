"""``make bench``: our figures beside a peer and beside the machine's limit, in one run; what counts are the ratios."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from flask import Flask, render_template_string
from rich.console import Console
from rich.table import Table

from experiments.assignment import allocation, assign, assign_many, reader_key
from experiments.events.event import Event
from experiments.events.ids import PageViews, event_id
from experiments.events.outbox import Outbox
from experiments.experiment import Arm, Experiment
from tests.benchmarks.moments import moment_rows, statistics_row
from tests.web.site_fixture import PHONE, Stand

AGENT = {"User-Agent": PHONE["User-Agent"]}


def per_second(call: Callable[[], object], *, times: int, each: int = 1) -> float:
    """Median over five rounds of how often something is done in a second."""
    rates = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(times):
            call()
        rates.append(times * each / (time.perf_counter() - start))
    return statistics.median(rates)


def fdatasyncs(folder: Path) -> float:
    descriptor = os.open(folder / "limit", os.O_RDWR | os.O_CREAT)

    def once() -> None:
        os.write(descriptor, bytes(512))
        os.fdatasync(descriptor)

    try:
        return per_second(once, times=100)
    finally:
        os.close(descriptor)


def appends(folder: Path, *, batch: int) -> float:
    outbox, page_views = Outbox(folder / f"outbox{batch}", clock=lambda: time.time_ns() // 1000), PageViews()

    def once() -> None:
        now = time.time_ns() // 1000
        events = []
        for _ in range(batch):
            page_view = page_views(now)
            events.append(Event(event_id(page_view, "view"), "view", page_view, "r", now, now, {"page_type": "article", "article": "a"}))
        outbox.append(events)

    try:
        return per_second(once, times=100, each=batch)
    finally:
        outbox.close()


def pages(folder: Path) -> tuple[float, float]:
    """Article pages with a heuristic slate and durable exposures, and a bare Flask page of the same size."""
    stand = Stand(folder / "home")
    client = stand.reader_in("front")
    path = f"/en/article/{stand.article}"
    text = client.get(path, headers=AGENT).text
    ours = per_second(lambda: client.get(path, headers=AGENT), times=60)
    stand.site.close()
    bare = Flask("bare")
    bare.add_url_rule("/", "page", lambda: render_template_string("{{ text|safe }}", text=text))
    other = bare.test_client()
    return ours, per_second(lambda: other.get("/"), times=200)


def assignments() -> tuple[float, float]:
    import numpy as np

    arms = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5))
    plan = allocation(Experiment("bench", "?", "status_quo", arms))
    keys = [reader_key(str(i)) for i in range(10_000)]
    array = np.array(keys * 100, np.uint64)
    return per_second(lambda: [assign(plan, key) for key in keys], times=10, each=len(keys)), per_second(
        lambda: assign_many(plan, array), times=3, each=len(array)
    )


def main() -> None:
    """Print the table."""
    table = Table("what", "per second", "limit or peer", "per second ", "ratio", box=None, header_style="bold")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        limit = fdatasyncs(folder)
        rows = [
            (f"durable append, {batch} event(s) a call", appends(folder, batch=batch), "fdatasync of 512 B", limit) for batch in (1, 50)
        ]
        rows.append(("article page, slate, durable exposure", *_interleaved(pages(folder), "bare Flask page of the same size")))
        rows.append(("assign, vectorised", *_interleaved(assignments()[::-1], "assign, one by one")))
        rows += moment_rows(folder)
    rows.append(statistics_row())
    for what, ours, peer, theirs in rows:
        table.add_row(what, f"{ours:,.0f}", peer, f"{theirs:,.0f}", f"{ours / theirs:.2f}")
    Console(file=sys.stdout).print(table)


def _interleaved(pair: tuple[float, float], peer: str) -> tuple[float, str, float]:
    return pair[0], peer, pair[1]


if __name__ == "__main__":
    main()
