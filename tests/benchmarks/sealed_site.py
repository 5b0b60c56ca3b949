"""Sealed days of a large site, made by DuckDB: two weeks, three arms, readers who come back."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from experiments.events.loader import Loader
from experiments.events.sealed import DAY_US, sealed_folder, shard_of
from experiments.events.sealed_files import ROWS_A_GROUP, publish, schema, write
from experiments.events.sealing import _name
from experiments.experiment import Arm, Experiment

FIRST_DAY, DAYS = 20_454, 14  # 2026-01-01
UNTIL_US = (FIRST_DAY + DAYS) * DAY_US
PER_READER = 53.2  # events a reader leaves in two weeks
ARMS = ("status_quo", "front", "als")
PLAN = Experiment(
    "related",
    "Does it pay?",
    "status_quo",
    (Arm("status_quo", "status_quo", 0.3334), Arm("front", "heuristic", 0.3333), Arm("als", "model", 0.3333)),
    secondary=("bounce_rate", "dwell_per_view", "sessions_per_reader", "click_through", "read_to_end", "time_per_session", "returned"),
    window_days=7.0,
)

# One session a day for four readers in ten, of one to five pages some minutes apart; the test begins on the third day.
# Pages are sorted once, in the order of a sealed file; what is made of them keeps it.
PAGES = """CREATE OR REPLACE TABLE page AS
SELECT *, printf('%012x7%019x', issued_at // 1000, n) AS page_view FROM (
SELECT r.place, r.reader, r.shard, r.arm, r.bucket, {day}::BIGINT * 86400000000 + (hash(r.i, {day}, 1) % 80000)::BIGINT * 1000000
       + j * (60 + (hash(r.i, {day}, j, 2) % 180))::BIGINT * 1000000 + (hash(r.i, 3) % 1000000)::BIGINT AS issued_at,
   ({day}::BIGINT * 100000000 + r.i) * 8 + j AS n, hash(r.i, {day}, j, 4) AS dice, CASE WHEN hash(r.i, {day}, j, 5) % 5 = 0 THEN 'front' ELSE 'article' END AS page_type
FROM reader r, range(5) t(j)
WHERE hash(r.i, {day}) % 10 < 4 AND j <= hash(r.i, {day}, 6) % 5) ORDER BY place, issued_at"""
ENVELOPE = """n * 8 + {place} AS seq, shard, (issued_at // 1000 * 65536 + n % 65536)::UBIGINT::BIT::BLOB || hash(n, {place})::BIT::BLOB AS id,
   '{kind}' AS kind, page_view, reader, '{experiment}' AS experiment, {arm} AS arm, issued_at, issued_at + {delay} AS received_at,
   NULL AS client_at, NULL AS sent_at, 'live' AS source, CASE WHEN dice % 3 = 0 THEN 'desktop' ELSE 'phone' END AS device,
   (dice % 97 = 0)::BIGINT AS bot, '12' AS config, 1 AS schema, 0 AS late, {body} AS body"""
READERS = """CREATE TABLE reader AS
SELECT *, (hash(i, 7) % 200)::BIGINT AS bucket, row_number() OVER (ORDER BY shard, reader) AS place FROM given"""
SLOT = "'article.related'"
KINDS: dict[str, tuple[str, str, str, dict[str, str]]] = {  # rows, experiment, body, facts
    "view": (
        "true", "", """'{"article":"a' || dice % 900 || '","page_type":"' || page_type || '","prefetch":false,"referrer":"direct","section":"city"}'""",
        {"page_type": "page_type", "article": "'a' || dice % 900", "section": "'city'", "referrer": "'direct'", "prefetch": "0", "agreed": "-1"},
    ),
    "exposure": (
        "page_type = 'article' AND {started}", "related",
        """'{"audience":"all","bucket":' || bucket || ',"outcome":"served","phase":0,"reason":"assigned","slot":"article.related"}'""",
        {"phase": "0", "bucket": "bucket", "outcome": "'served'", "slot": SLOT, "reason": "'assigned'", "audience": "'all'"},
    ),
    "impression": (
        "page_type = 'article' AND {started}", "related",
        """'{"articles":["a' || dice % 900 || '","a' || dice % 800 || '","a' || dice % 700 || '"],"latency_us":' || dice % 9000 || ',"slot":"article.related"}'""",
        {"slot": SLOT, "latency_us": "dice % 9000", "filled": "(arm <> 'status_quo')::BIGINT"},
    ),
    "click": (
        "page_type = 'article' AND {started} AND arm <> 'status_quo' AND dice % 20 = 1", "related",
        """'{"article":"a' || dice % 900 || '","slot":"article.related"}'""", {"slot": SLOT, "article": "'a' || dice % 900"},
    ),
    "dwell": (
        "dice % 10 > 0", "", """'{"active_ms":' || dice % 120000 || ',"depth_percent":' || dice % 101 || '}'""",
        {"active_ms": "dice % 120000", "depth_percent": "dice % 101"},
    ),
}  # fmt: skip


def build(home: Path, events: int) -> int:
    """Make a home with about so many sealed events; returns how many there are."""
    sealed_folder(home).mkdir(parents=True)
    made = 0
    with Loader(home, clock=lambda: UNTIL_US) as loader, duckdb.connect() as engine:
        engine.execute(f"SET memory_limit = '4GB'; SET enable_progress_bar = false; SET temp_directory = '{home / 'spill'}'")
        engine.register("given", pa.Table.from_batches(_readers(round(events / PER_READER))))
        engine.execute(READERS)
        for day in range(FIRST_DAY, FIRST_DAY + DAYS):
            engine.execute(PAGES.format(day=day))
            hidden = sealed_folder(home) / ".making.tmp"
            write(hidden, _batches(engine, day))
            query = f"SELECT kind, arm, count(*) FROM read_parquet('{hidden}') GROUP BY ALL ORDER BY ALL"
            rows = engine.sql(query).fetchall()
            made += sum(row[2] for row in rows)
            facts = {"day": day, "source": "live", "through_seq": 2**61, "last_received": (day + 1) * DAY_US, "rows": rows, "stored": rows}
            manifest = publish(hidden, f"{day}-live", facts)
            with loader.transaction() as store:
                _name(store, manifest)
                store.execute("UPDATE sealed SET cleared = 1")
    return made


def _readers(n: int) -> Iterator[pa.RecordBatch]:
    for start in range(0, n, 100_000):
        names = [blake2b(i.to_bytes(8, "big"), digest_size=16).hexdigest() for i in range(start, min(n, start + 100_000))]
        arms = [ARMS[int(name[:8], 16) % 3] for name in names]
        columns = {"i": range(start, start + len(names)), "reader": names, "arm": arms, "shard": list(map(shard_of, names))}
        yield pa.RecordBatch.from_pydict(columns)


def _batches(engine: Any, day: int) -> Iterator[pa.RecordBatch]:
    for kind in sorted(KINDS):
        found = engine.sql(_rows(kind, day)).to_arrow_reader(ROWS_A_GROUP)
        yield from (batch.cast(schema()) for batch in found)


def _rows(kind: str, day: int) -> str:
    where, experiment, body, facts = KINDS[kind]
    started = str(day >= FIRST_DAY + 3).lower()
    place = list(KINDS).index(kind)
    own = {
        "place": place,
        "kind": kind,
        "experiment": experiment,
        "arm": "arm" if experiment else "''",
        "delay": place * 700_000,
        "body": body,
    }
    extra = [
        f"({facts.get(name, 'NULL')})::{'BIGINT' if schema().field(name).type == pa.int64() else 'VARCHAR'} AS {name}"
        for name in schema().names[19:]
    ]
    return f"SELECT {ENVELOPE.format(**own)}, {', '.join(extra)} FROM page WHERE {where.format(started=started)}"
