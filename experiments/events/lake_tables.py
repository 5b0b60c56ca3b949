"""Tables of events for the rules of counting: their shape for Ibis, their rows as Arrow, and DuckDB to run a rule over them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import duckdb
import ibis
import pyarrow as pa

from experiments.events.tail import FACTS, Tail

__all__ = ["arrow", "bound", "run", "sql"]


def bound(kind: str) -> Any:
    """The table of one kind, as an Ibis expression."""
    return ibis.table({column.name: "string" if column.type == "text" else "int64" for column in FACTS[kind]}, name=kind)


def arrow(tail: Tail, kind: str, names: Collection[str] = ()) -> Any:
    """The same table with its rows, as Arrow; columns not among ``names`` (all if empty) stay blank, reading them costs."""
    columns = FACTS[kind]
    facts = tail.facts(kind, [column.name for column in columns if not names or column.name in names])
    rows = len(next(iter(facts.values())))
    table = {}
    for column in columns:
        kind_of = pa.string() if column.type == "text" else pa.int64()
        blank = pa.scalar("" if column.type == "text" else 0, kind_of)
        table[column.name] = pa.array(facts[column.name], kind_of) if column.name in facts else pa.repeat(blank, rows)
    return pa.table(table)


def run(expression: Any, tables: Mapping[str, Any]) -> Any:
    """Return the result of an expression over Arrow tables as an Arrow table."""
    with duckdb.connect() as engine:
        for name, table in tables.items():
            engine.register(name, table)
        found = engine.sql(str(ibis.to_sql(expression, dialect="duckdb"))).to_arrow_table()
    # DuckDB sums 64-bit integers into 128 bits; what does not fit back raises instead of wrapping
    whole = [f.with_type(pa.int64()) if pa.types.is_decimal(f.type) or pa.types.is_integer(f.type) else f for f in found.schema]
    return found.cast(pa.schema(whole))


def sql(query: str, rows: Any) -> list[tuple[Any, ...]]:
    """Return the result of a query over the Arrow table ``rows`` as Python values (128-bit integers stay exact)."""
    with duckdb.connect() as engine:
        engine.register("rows", rows)
        return engine.sql(query).fetchall()  # type: ignore[no-any-return]
