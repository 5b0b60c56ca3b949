"""Write the events of a day and source into a Parquet file and hold it against the store: a process of its own."""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from experiments.errors import DataError
from experiments.events.engine import Store
from experiments.events.event import KINDS
from experiments.events.reading import WHOLE_STORE_S
from experiments.events.sealed import DAY_US, OF_THE_DAY, of_the_day, sealed_folder, spill_folder
from experiments.events.sealed_files import ENVELOPE, facts_of, publish, schema, write
from experiments.events.store import read_store, store_path
from experiments.events.wire import COLUMNS

__all__ = ["write_days"]

AT_ONCE = 65_536
LATEST = 2  # days a day waits: whatever is counted arrives within 24 hours of its page
# Visible time is cumulative: of one page view the largest is kept, the rest is counted as compacted.
SAME_PAGE = "page_view, reader, issued_at, experiment, arm, bot, late"
MERGED = f"""SELECT seq, {", ".join(COLUMNS[:-1])}, json_set(body, '$.active_ms', most, '$.depth_percent', deepest) AS body FROM (
    SELECT *, max(active) OVER page AS most, max(depth) OVER page AS deepest,
        row_number() OVER (PARTITION BY {SAME_PAGE} ORDER BY active DESC, depth DESC, id) AS place
    FROM (SELECT *, json_extract(body, '$.active_ms') AS active, json_extract(body, '$.depth_percent') AS depth FROM event WHERE {{where}})
    WINDOW page AS (PARTITION BY {SAME_PAGE})) WHERE place = 1"""


def write_days(home: Path, until_us: int) -> list[dict[str, Any]]:
    """Write the file of every day and source that is due, the oldest first, and return their manifests."""
    with closing(read_store(store_path(home), longest_s=WHOLE_STORE_S)) as store:
        store.snapshot()
        through = store.execute("SELECT coalesce(max(seq), 0) FROM event").fetchone()[0]
        due = store.execute(
            f"""SELECT DISTINCT issued_at / {DAY_US}, source FROM fresh WHERE issued_at < ?
            EXCEPT SELECT day, source FROM sealed ORDER BY 1, 2""",
            ((until_us // DAY_US - LATEST + 1) * DAY_US,),
        ).fetchall()
        return [_write_day(store, home, day=day, source=source, through=through) for day, source in due]


def _write_day(store: Store, home: Path, *, day: int, source: str, through: int) -> dict[str, Any]:
    of = of_the_day(day, source, through)
    hidden = sealed_folder(home) / ".sealing.tmp"
    with store.copied(OF_THE_DAY, of, spill_folder(home)) as events:
        write(hidden, _batches(events, of))
        _compare(events, of, hidden)
    raw = store.execute(f"SELECT kind, arm, count(*) FROM event WHERE {OF_THE_DAY} GROUP BY 1, 2 ORDER BY 1, 2", of).fetchall()
    with duckdb.connect() as engine:
        rows = engine.execute("SELECT kind, arm, count(*) FROM read_parquet(?) GROUP BY ALL ORDER BY ALL", [str(hidden)]).fetchall()
        first, last, received = engine.execute(
            "SELECT min(seq), max(seq), max(received_at) FROM read_parquet(?)", [str(hidden)]
        ).fetchall()[0]
    facts = {"day": day, "source": source, "through_seq": through, "first_seq": first, "last_seq": last, "last_received": received}
    name = f"{date(1970, 1, 1) + timedelta(days=day)}-{source}"
    return publish(hidden, name, {**facts, "rows": rows, "stored": raw})


def _batches(store: sqlite3.Connection, of: dict[str, Any]) -> Iterator[Any]:
    layout = schema()
    for kind in sorted(KINDS):
        facts = facts_of(kind)
        columns = [
            *("seq", "shard_of(reader) AS shard", *COLUMNS),
            *(facts[name].sql if name in facts else "NULL" for name in layout.names[len(ENVELOPE) :]),
        ]
        rows = store.execute(f"SELECT {', '.join(columns)} FROM ({_events(kind)}) ORDER BY shard, reader, issued_at, seq", of)
        while some := rows.fetchmany(AT_ONCE):
            yield pa.record_batch(list(map(pa.array, zip(*some, strict=True), layout.types)), schema=layout)


def _events(kind: str) -> str:
    where = f"kind = '{kind}' AND {OF_THE_DAY}"
    return MERGED.format(where=where) if kind == "dwell" else f"SELECT * FROM event WHERE {where}"


def _compare(store: sqlite3.Connection, of: dict[str, Any], path: Path) -> None:
    """Compare counts, sums of numbers and lengths of texts per kind and arm, as the store and as the file have them."""
    whole = {field.name: field.type == pa.int64() for field in schema() if field.name not in ("kind", "arm", "id")}
    mine = []
    for kind in sorted(KINDS):
        facts = facts_of(kind)
        known = {name: "shard_of(reader)" if name == "shard" else facts[name].sql if name in facts else name for name in whole}
        held = [known[name] if name in ENVELOPE or name in facts else "NULL" for name in whole]
        sums = [
            f"sum({sql} % 1000003)" if is_whole else f"sum(length(CAST({sql} AS BLOB)))"
            for sql, is_whole in zip(held, whole.values(), strict=True)
        ]
        mine += store.execute(
            f"SELECT kind, arm, count(*), {', '.join(sums)} FROM ({_events(kind)}) GROUP BY 1, 2 ORDER BY 1, 2", of
        ).fetchall()
    sums = [f"sum({name} % 1000003)" if is_whole else f"sum(strlen({name}))" for name, is_whole in whole.items()]
    with duckdb.connect() as engine:
        query = f"SELECT kind, arm, count(*), {', '.join(sums)} FROM read_parquet(?) GROUP BY ALL ORDER BY 1, 2"
        found = engine.execute(query, [str(path)]).fetchall()
    for left, right in zip_longest(mine, found):
        if left != right:
            kind, arm = (left or right)[:2]
            raise DataError(
                f"{path} does not hold the same events of kind '{kind}', arm '{arm}' as the store.", "Nothing was changed; report it."
            )


def main() -> None:
    """Write the files that are due (a process of its own: its memory goes with it)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--until", type=int, required=True)
    given = parser.parse_args()
    sys.stdout.write(json.dumps({"files": [manifest["file"] for manifest in write_days(given.home, given.until)]}) + "\n")


if __name__ == "__main__":
    main()
