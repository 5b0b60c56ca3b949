"""From a file of ten million readers to moments, beside the query one would write by hand and beside tea-tasting."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import numpy as np

from analysis.effect import arm_value, compare
from analysis.moments import Moments
from experiments.events.reader_table import Columns, open_reader_table

READERS = 10_000_000
GROUPS = (("orders", "orders_before"), ("revenue", "revenue_before"), ("views", "visits", "views_before"))
MEASURED = ("orders", "revenue", "views", "visits", "orders_before", "revenue_before", "views_before")
TEA = """
import sys, time, ibis, tea_tasting as tt
table = ibis.duckdb.connect().read_parquet(sys.argv[1])
test = tt.Experiment(orders=tt.Mean("orders", "orders_before"), revenue=tt.Mean("revenue", "revenue_before"),
                     depth=tt.RatioOfMeans("views", "visits", "views_before"))
start = time.perf_counter()
test.analyze(table)
print(time.perf_counter() - start)
"""


def fewest(*calls: Callable[[], object], times: int = 3) -> list[float]:
    """Fewest seconds of each call over a few rounds in turns: what the machine can do when nobody disturbs it."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(times):
        for call, found in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call()
            found.append(time.perf_counter() - start)
    return [min(found) for found in seconds]


def write_readers(path: Path, n: int = READERS) -> None:
    """Write a Parquet file of readers in two arms."""
    duckdb.connect().execute(f"""COPY (SELECT i AS reader, (hash(i) % 2)::INTEGER AS variant, (hash(i, 1) % 5)::BIGINT AS orders,
        round((hash(i, 2) % 100000) / 100.0, 2)::DOUBLE AS revenue, (hash(i, 3) % 40)::BIGINT AS views, (1 + hash(i, 4) % 6)::BIGINT AS visits,
        (hash(i, 5) % 5)::BIGINT AS orders_before, round((hash(i, 6) % 100000) / 100.0, 2)::DOUBLE AS revenue_before,
        (hash(i, 7) % 40)::BIGINT AS views_before FROM range({n}) t(i)) TO '{path}' (FORMAT parquet)""")


def by_hand(path: Path) -> str:
    """Return the query of somebody in a hurry who knows not to add squares."""
    pairs = [(a, b) for group in GROUPS for i, a in enumerate(group) for b in group[i:]]
    wanted = ", ".join([*(f"avg({a})" for a in MEASURED), *(f"covar_samp({a}, {b})" for a, b in pairs)])
    return f"SELECT variant, count(*), {wanted} FROM '{path}' GROUP BY variant"


def moment_rows(folder: Path) -> Iterator[tuple[str, float, str, float]]:
    """Yield (what, readers a second, peer, readers a second)."""
    path = folder / "readers.parquet"
    write_readers(path)
    connection = duckdb.connect()
    query = by_hand(path)
    columns = Columns("reader", "variant", MEASURED[:4], MEASURED[4:], ("visits",))

    def checked() -> None:
        with open_reader_table(path, columns) as opened:
            opened.sums(GROUPS)

    with open_reader_table(path, columns) as table:
        hand, sums, whole = fewest(lambda: connection.execute(query).fetchall(), lambda: table.sums(GROUPS), checked)
    ours = READERS / sums
    yield "moments of a file, exact", ours, "the same query by hand", READERS / hand
    yield "the same with every check of the file", READERS / whole, "the same query by hand", READERS / hand
    peer = os.environ.get("TEA_TASTING", "")
    if peer:
        seconds = min(
            float(subprocess.run([peer, "-c", TEA, str(path)], capture_output=True, text=True, check=True).stdout.split()[-1])
            for _ in range(2)
        )
        yield "moments of a file, exact", ours, "tea-tasting on the same file", READERS / seconds


def statistics_row() -> tuple[str, float, str, float]:
    """Ten metrics, three arms and six segments after the moments, against the limit of 50 ms."""
    rng = np.random.default_rng(1)
    keys = (*(f"m{i}" for i in range(10)), "visits")
    cells = [{(arm, 0): Moments.from_rows(1.0 + rng.poisson(3, (500, 11)), keys) for arm in "abc"} for _ in range(6)]

    def all_of_them() -> None:
        for segment in cells:
            values = {
                (m, arm): arm_value(segment, arm, numerator=m, denominator="visits", shares={0: 1.0}) for m in keys[:10] for arm in "abc"
            }
            for m in keys[:10]:
                for arm, against in (("b", "a"), ("c", "a"), ("c", "b")):
                    compare(values[m, arm], values[m, against], level=0.95)

    return "statistics of 10 metrics x 3 arms x 6 segments", 1 / fewest(all_of_them)[0], "in 50 ms", 20.0
