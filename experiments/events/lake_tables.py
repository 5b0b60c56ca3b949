"""Tables of events for the rules of counting: their shape for Ibis, and DuckDB to run a rule over sealed and fresh events alike."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pyarrow as pa

from experiments.errors import DataError
from experiments.events.sealed import DAY_US, SHARDS, shard_of, spill_folder
from experiments.events.tail import FACTS, SLOT_KINDS, Tail

__all__ = ["arrow", "bound", "compiled", "evaluate", "query", "run", "sql"]

MEMORY = "2GB"  # of DuckDB; beyond it intermediate results go to disk
EVENTS_AT_ONCE = 4_000_000  # more are worked through in parts, each with some of the readers: what a part takes is used again by the next
MARKS = ("experiment", "bot", "late")


def bound(kind: str) -> Any:
    """The table of one kind, as an Ibis expression."""
    return ibis.table({column.name: "string" if column.type == "text" else "int64" for column in FACTS[kind]}, name=kind)


def compiled(rule: Any) -> str:
    """Return the SQL of an expression."""
    return _compiled(rule.op())


@lru_cache(maxsize=64)
def _compiled(rule: Any) -> str:
    return str(ibis.to_sql(rule.to_expr(), dialect="duckdb"))


def evaluate(tail: Tail, rule: Any, needs: Mapping[str, Collection[str]]) -> Any:
    """Return the result of an expression over the events of a snapshot as an Arrow table, in no particular order.

    Parameters
    ----------
    rule : over :func:`bound` tables, an expression or its SQL. Every row of its result must depend on the events of one reader alone: many events
        are worked through in parts, each with some of the readers.
    needs : kinds of events, and the columns of each that the rule looks at (all if empty).
    """
    text, parts = rule if isinstance(rule, str) else compiled(rule), _parts(tail)
    while not (found := _in_parts(tail, text, needs, parts)):
        parts *= 2
    return _narrow(pa.concat_tables(found))


def _in_parts(tail: Tail, text: str, needs: Mapping[str, Collection[str]], parts: int) -> list[Any]:
    """The result of every part; nothing when they do not fit the memory and smaller ones might."""
    width, found = SHARDS // parts, []
    with _engine(tail, needs, sharded=parts > 1) as engine:
        for first in range(0, SHARDS, width):
            _define(engine, tail, needs, shards=(first, first + width - 1) if parts > 1 else None)
            try:
                found.append(engine.sql(text).to_arrow_table())
            except duckdb.OutOfMemoryException:
                if width == 1:
                    raise
                return []
    return found


def query(tail: Tail, text: str, needs: Mapping[str, Collection[str]]) -> list[tuple[Any, ...]]:
    """Return the rows of an SQL query over the events of a snapshot.

    Beside the table of a kind there is ``all_<kind>``, with bots and late events, and their columns ``experiment``,
    ``bot`` and ``late``.
    """
    with _engine(tail, needs) as engine:
        _define(engine, tail, needs, shards=None)
        return engine.sql(text).fetchall()  # type: ignore[no-any-return]


def arrow(tail: Tail, kind: str, names: Collection[str] = ()) -> Any:
    """One kind as an Arrow table; columns not among ``names`` (all if empty) stay blank, reading them costs."""
    with _engine(tail, {kind: names}) as engine:
        _define(engine, tail, {kind: names}, shards=None)
        return _narrow(engine.sql(f'SELECT {", ".join(column.name for column in FACTS[kind])} FROM "{kind}"').to_arrow_table())


def run(rule: Any, tables: Mapping[str, Any]) -> Any:
    """Return the result of an expression, or of its SQL, over Arrow tables as an Arrow table."""
    with _cursor() as engine:
        for name, table in tables.items():
            engine.register(name, table)
        return _narrow(engine.sql(rule if isinstance(rule, str) else compiled(rule)).to_arrow_table())


def sql(query: str, rows: Any) -> list[tuple[Any, ...]]:
    """Return the result of a query over the Arrow table ``rows`` as Python values (128-bit integers stay exact)."""
    with _cursor() as engine:
        engine.register("rows", rows)
        return engine.sql(query).fetchall()  # type: ignore[no-any-return]


def _parts(tail: Tail) -> int:
    """Into how many parts readers are divided, a power of two."""
    n, events = 1, tail.size()
    while n < SHARDS and events > n * EVENTS_AT_ONCE:
        n *= 2
    return n


def _cursor(spill: Path | None = None) -> Any:
    """A connection with tables and views of its own; with ``spill``, events are read through it."""
    return _opened(spill, MEMORY).cursor()


@lru_cache(maxsize=2)
def _opened(spill: Path | None, memory: str) -> Any:
    """DuckDB, opened once for many queries: opening it costs 25 ms of CPU, a cursor 0.1 ms. A cursor keeps to global settings only."""
    engine = duckdb.connect()
    engine.execute("SET enable_progress_bar = false")
    if spill:
        engine.execute(f"SET memory_limit = '{memory}'; SET preserve_insertion_order = false; SET temp_directory = {_quoted(str(spill))}")
        engine.execute("SET GLOBAL parquet_metadata_cache = true")  # for every part, kind and query: the footers are the same
    return engine


@contextmanager
def _engine(tail: Tail, needs: Mapping[str, Collection[str]], *, sharded: bool = False) -> Iterator[Any]:
    """DuckDB with the fresh events; when it cannot read a file, the damaged one is named."""
    with _cursor(spill_folder(tail.home)) as engine:
        for kind, names in needs.items():
            engine.register(f"fresh_{kind}", _fresh(tail, kind, [*_columns(kind, names), *(["shard"] if sharded else [])]))
        try:
            yield engine
        except duckdb.Error as error:
            _opened.cache_clear()  # some errors leave an engine that answers nothing any more
            tail.unreadable()
            raise DataError(f"the events could not be read: {error}", "Free memory or disk space, then try again.") from error


def _columns(kind: str, names: Collection[str]) -> list[str]:
    """Columns of a kind that are read, and those that hold the marks of an event."""
    own = [column.name for column in FACTS[kind] if not names or column.name in names]
    needed = {"exposure": ("page_view", "reader", "outcome")}.get(kind, ())
    return list(dict.fromkeys((*own, *needed, *MARKS)))


def _fresh(tail: Tail, kind: str, columns: list[str]) -> Any:
    """The fresh events of a kind with at least these columns, kept while the snapshot is open: a report asks dozens of times."""
    kept = tail.kept.get(kind)
    if kept is None or not set(columns) <= set(kept.column_names):
        text = {column.name for column in FACTS[kind] if column.type == "text"} | {"experiment"}
        names = list(dict.fromkeys([*(kept.column_names if kept is not None else ()), *columns]))
        facts = tail.fresh(kind, names)
        kept = tail.kept[kind] = pa.table({name: pa.array(facts[name], pa.string() if name in text else pa.int64()) for name in names})
    return kept


def _define(engine: Any, tail: Tail, needs: Mapping[str, Collection[str]], *, shards: tuple[int, int] | None) -> None:
    """Make the views: ``all_<kind>``, and ``<kind>`` as analyses see it, columns that are not needed blank."""
    for kind, names in needs.items():
        columns = _columns(kind, names)
        engine.execute(f"CREATE OR REPLACE TEMP VIEW all_{kind} AS {_union(tail, kind, columns, shards)}")
        blank = {column.name: "''" if column.type == "text" else "0::BIGINT" for column in FACTS[kind]}
        chosen = [column.name if column.name in columns else f"{blank[column.name]} AS {column.name}" for column in FACTS[kind]]
        counted = "bot + late = 0"  # of two columns: DuckDB does not hold it against every group's statistics
        source = f"all_{kind}" if kind != "exposure" else ONCE
        engine.execute(f'CREATE OR REPLACE TEMP VIEW "{kind}" AS SELECT {", ".join(chosen)} FROM {source} WHERE {counted}')


# A page whose events were late went out as in the status quo, and may be stored as served all the same: then only the
# degraded exposure counts.
ONCE = """(SELECT s.* FROM all_exposure s ANTI JOIN (SELECT page_view, reader, experiment FROM all_exposure WHERE outcome = 'degraded' AND late = 0) d
    ON s.outcome <> 'degraded' AND s.page_view = d.page_view AND s.reader = d.reader AND s.experiment = d.experiment)"""


def _union(tail: Tail, kind: str, columns: list[str], shards: tuple[int, int] | None) -> str:
    part = [f"shard >= {shards[0]}", f"shard <= {shards[1]}"] if shards else []
    fresh = f"SELECT {', '.join(columns)} FROM fresh_{kind} WHERE {' AND '.join(part) or 'true'}"
    if not tail.partitions:
        return fresh
    in_body = {column.name: f"{column.sealed} AS {column.name}" for column in FACTS[kind] if column.sealed}
    sealed = ", ".join(in_body.get(name, name) for name in columns)
    files = ", ".join(_quoted(str(partition.path)) for partition in tail.partitions)
    where = " AND ".join([f"kind = '{kind}'", *part, *_further(tail, kind, shards)])
    return f"SELECT {sealed} FROM read_parquet([{files}]) WHERE {where} UNION ALL {fresh}"


def _further(tail: Tail, kind: str, shards: tuple[int, int] | None) -> list[str]:
    """What else sealed events are held against; only where some may fail: each costs 10 us per group of rows, file and part."""
    found = []
    if any((partition.day + 1) * DAY_US > tail.until_us for partition in tail.partitions):
        found.append(f"issued_at < {tail.until_us}")
    if not shards or shards[0] <= shard_of("") <= shards[1]:
        found.append("reader <> ''")
    if kind in SLOT_KINDS and tail.experiment:
        found.append(f"experiment = {_quoted(tail.experiment)}")
    return found


def _narrow(found: Any) -> Any:
    # DuckDB sums 64-bit integers into 128 bits; what does not fit back raises instead of wrapping
    whole = [f.with_type(pa.int64()) if pa.types.is_decimal(f.type) or pa.types.is_integer(f.type) else f for f in found.schema]
    return found.cast(pa.schema(whole))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
