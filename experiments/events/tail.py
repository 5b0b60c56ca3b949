"""Rows of the event store as plain columns: what the lake reads with SQLite and hands on (DuckDB cannot read SQLite)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from experiments.events.store import read_store, store_path

__all__ = ["FACTS", "Column", "Tail", "open_tail"]

SLOT_KINDS = frozenset({"exposure", "impression", "click"})


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a kind: its name, the SQL that yields it, and its type."""

    name: str
    sql: str
    type: Literal["text", "whole"]


def _text(name: str) -> Column:
    return Column(name, f"CAST(coalesce(json_extract(body, '$.{name}'), '') AS TEXT)", "text")


def _whole(name: str) -> Column:
    return Column(name, f"CAST(coalesce(json_extract(body, '$.{name}'), 0) AS INTEGER)", "whole")


_PAGE = (Column("page_view", "page_view", "text"), Column("reader", "reader", "text"))
_ISSUED = Column("issued_at", "issued_at", "whole")
_AGREED = Column("agreed", "CAST(coalesce(json_extract(body, '$.agreed'), -1) AS INTEGER)", "whole")  # -1: the page did not say
_VIEW = (*map(_text, ("page_type", "article", "section", "referrer")), _whole("prefetch"), _AGREED, Column("seq", "seq", "whole"))
_EXPOSURE = (Column("arm", "arm", "text"), *map(_whole, ("phase", "bucket")), *map(_text, ("outcome", "slot", "reason", "audience")))
FACTS: Mapping[str, Sequence[Column]] = {
    "view": (*_PAGE, _ISSUED, *_VIEW),
    "exposure": (*_PAGE, _ISSUED, *_EXPOSURE),
    # a blank slot is logged too (the status quo), but it is no impression of anything; bodies are canonical JSON, no need to parse
    "impression": (*_PAGE, _text("slot"), _whole("latency_us"), Column("filled", """instr(body, '"articles":[]') = 0""", "whole")),
    "click": (*_PAGE, _text("slot")),
    "dwell": (*_PAGE, *map(_whole, ("active_ms", "depth_percent"))),
    "conversion": (Column("reader", "reader", "text"), _ISSUED, _whole("value")),
}
# What an analysis never sees: bots, readers who object, and what came more than 24 h after its page.
COUNTED = "bot = 0 AND late = 0 AND reader <> ''"
# The page went out as in the status quo because its events were late; those may be stored all the same, as another exposure.
DEGRADED = """instr(body, '"outcome":"degraded"') > 0"""


@dataclass(frozen=True, slots=True)
class Tail:
    """One snapshot of the store. ``until_us`` is exclusive; ``source`` None means every source but canaries."""

    connection: sqlite3.Connection | None
    until_us: int
    source: str | None
    experiment: str = ""

    @property
    def last_seq(self) -> int:
        """Highest sequence number of the snapshot, 0 for an empty store."""
        return self._number("SELECT coalesce(max(seq), 0) FROM event", ())

    def facts(self, kind: str, names: Sequence[str]) -> dict[str, Sequence[Any]]:
        """Return the named columns of one kind (:data:`FACTS`), in no particular order of rows."""
        where, values = self._once(kind)
        columns = [column.sql for column in FACTS[kind] if column.name in names]
        query = f"SELECT {', '.join(columns)} FROM event WHERE {where} AND {COUNTED}"
        rows = self.connection.execute(query, values).fetchall() if self.connection else []
        return dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(names, ())

    def exposure_groups(self) -> list[tuple[str, str, str, int, int, int]]:
        """Return (arm, outcome, reason, bot, late, rows) of the experiment; a page with two rows is degraded, not both."""
        where, values = self._once("exposure")
        query = f"""SELECT arm, json_extract(body, '$.outcome'), json_extract(body, '$.reason'), bot, late, count(*)
            FROM event WHERE {where} AND reader <> '' GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5"""
        return self.connection.execute(query, values).fetchall() if self.connection else []

    def clicks_without_exposure(self) -> int:
        """Return how many counted clicks of the experiment name a page view on which this reader had no exposure."""
        where, values = self._where("click")
        shown, shown_values = self._where("exposure")
        query = f"""SELECT count(*) FROM event WHERE {where} AND {COUNTED}
            AND (page_view, reader) NOT IN (SELECT page_view, reader FROM event WHERE {shown})"""
        return self._number(query, (*values, *shown_values))

    def article_views(self, *, since_us: int) -> int:
        """Return the number of counted article views from ``since_us`` on."""
        where, values = self._where("view")
        page = "json_extract(body, '$.page_type') = 'article' AND coalesce(json_extract(body, '$.prefetch'), 0) = 0"
        return self._number(f"SELECT count(*) FROM event WHERE {where} AND {COUNTED} AND issued_at >= ? AND {page}", (*values, since_us))

    def _once(self, kind: str) -> tuple[str, tuple[Any, ...]]:
        """As :meth:`_where`; of a page stored as served and as degraded only the degraded exposure."""
        where, values = self._where(kind)
        if kind != "exposure":
            return where, values
        twice = f"SELECT page_view, experiment FROM event WHERE {where} AND {DEGRADED}"
        return f"{where} AND ((page_view, experiment) NOT IN ({twice}) OR {DEGRADED})", (*values, *values)

    def _where(self, kind: str) -> tuple[str, tuple[Any, ...]]:
        source, values = ("source = ?", (self.source,)) if self.source else ("source <> 'canary'", ())
        if kind in SLOT_KINDS and self.experiment:
            return f"kind = ? AND issued_at < ? AND {source} AND experiment = ?", (kind, self.until_us, *values, self.experiment)
        return f"kind = ? AND issued_at < ? AND {source}", (kind, self.until_us, *values)

    def _number(self, query: str, values: Sequence[Any]) -> int:
        return int(self.connection.execute(query, values).fetchone()[0]) if self.connection else 0


@contextmanager
def open_tail(home: Path, *, until_us: int, source: str | None, experiment: str = "") -> Iterator[Tail]:
    """Yield one consistent snapshot of the store; empty while there is no store."""
    if not store_path(home).exists():
        yield Tail(None, until_us, source, experiment)
        return
    connection = read_store(store_path(home))
    try:
        connection.execute("BEGIN")
        yield Tail(connection, until_us, source, experiment)
    finally:
        connection.close()
