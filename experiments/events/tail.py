"""A snapshot of the events: which sealed files, and the rows of the store as plain columns (DuckDB reads neither engine)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from experiments.errors import BusyError, DataError
from experiments.events.engine import Store
from experiments.events.reading import WHOLE_STORE_S
from experiments.events.sealed import DAY_US, Partition, damaged, partitions, present
from experiments.events.store import last_seq, read_store, store_path

__all__ = ["FACTS", "Column", "Tail", "open_tail"]

SLOT_KINDS = frozenset({"exposure", "impression", "click"})


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a kind: its name, the SQL that yields it from the store, and its type.

    ``sealed`` is the SQL that yields it from a sealed file, for facts that are no column there but still in the body.
    """

    name: str
    sql: str
    type: Literal["text", "whole"]
    sealed: str = ""


def _text(name: str) -> Column:
    return Column(name, f"CAST(coalesce(json_extract(body, '$.{name}'), '') AS TEXT)", "text")


def _whole(name: str) -> Column:
    return Column(name, f"CAST(coalesce(json_extract(body, '$.{name}'), 0) AS INTEGER)", "whole")


_PAGE = (Column("page_view", "page_view", "text"), Column("reader", "reader", "text"))
_ISSUED = Column("issued_at", "issued_at", "whole")
_AGREED = Column("agreed", "CAST(coalesce(json_extract(body, '$.agreed'), -1) AS INTEGER)", "whole")  # -1: the page did not say
_DEVICE = Column("device", "device", "text")
_VIEW = (*map(_text, ("page_type", "article", "section", "referrer")), _whole("prefetch"), _AGREED, _DEVICE, Column("seq", "seq", "whole"))
_EXPOSURE = (Column("arm", "arm", "text"), *map(_whole, ("phase", "bucket")), *map(_text, ("outcome", "slot", "reason", "audience")))
# a blank slot is logged too (the status quo), but it is no impression of anything; bodies are canonical JSON, no need to parse
_FILLED = Column("filled", """instr(body, '"articles":[]') = 0""", "whole")
_ARTICLES = Column("articles", "json_extract(body, '$.articles')", "text", sealed="json_extract(body, '$.articles')::VARCHAR")
_NAME = Column("name", _text("name").sql, "text", sealed="coalesce(json_extract_string(body, '$.name'), '')")
FACTS: Mapping[str, Sequence[Column]] = {
    "view": (*_PAGE, _ISSUED, *_VIEW),
    "exposure": (*_PAGE, _ISSUED, *_EXPOSURE),
    "impression": (*_PAGE, _text("slot"), _whole("latency_us"), _FILLED, _ARTICLES),
    "click": (*_PAGE, _text("slot")),
    "dwell": (*_PAGE, *map(_whole, ("active_ms", "depth_percent"))),
    "conversion": (Column("reader", "reader", "text"), _ISSUED, _whole("value"), _NAME),
}


@dataclass(frozen=True, slots=True)
class Tail:
    """One snapshot of all events: the sealed days as files, the rest as rows of the store (both of the same instant).

    ``until_us`` is exclusive; ``source`` None means every source but canaries; ``experiment`` empty means any.
    ``kept`` holds what was read of a kind so far, for readers of this snapshot.
    """

    home: Path
    store: Store | None
    partitions: tuple[Partition, ...]
    until_us: int
    source: str | None
    experiment: str = ""
    kept: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def unreadable(self) -> None:
        """Say why a sealed file could not be read.

        Raises
        ------
        BusyError
            A file was written anew, or went, since this snapshot was taken: a reader was erased, or a day is past its time.
        DataError
            The content of a file is not what was sealed.
        """
        if self.store:
            with closing(read_store(store_path(self.home))) as store:
                named = {partition.path for partition in partitions(store, self.home)}
            if not named.issuperset(partition.path for partition in self.partitions):
                raise BusyError(
                    "sealed events were written anew while they were read (a reader was erased, or a day is past its time).", "Ask again."
                )
        damaged(self.partitions)

    @property
    def last_seq(self) -> int:
        """Number of the last event that was stored, 0 for an empty store."""
        return last_seq(self.store) if self.store else 0

    def fresh(self, kind: str, names: Collection[str]) -> dict[str, Sequence[Any]]:
        """Return the named columns of one kind (:data:`FACTS`, or of the event itself) of the events that are not sealed yet.

        Bots and late events are among them; readers who object are not.
        """
        where, values = self._where(kind)
        known = {"shard": "shard_of(reader)"} | {column.name: column.sql for column in FACTS[kind]}
        columns = [known.get(name, name) for name in names]
        rows = self.store.facts(columns, where, values) if self.store else []
        return dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(names, ())

    def size(self) -> int:
        """Return about how many events there are."""
        fresh = self.store.execute("SELECT count(*) FROM fresh").fetchone()[0] if self.store else 0
        return int(fresh) + sum(partition.rows for partition in self.partitions)

    def _where(self, kind: str) -> tuple[str, tuple[Any, ...]]:
        source, values = ("source = ?", (self.source,)) if self.source else ("source <> 'canary'", ())
        if kind in SLOT_KINDS and self.experiment:
            return f"kind = ? AND issued_at < ? AND reader <> '' AND {source} AND experiment = ?", (
                kind,
                self.until_us,
                *values,
                self.experiment,
            )
        return f"kind = ? AND issued_at < ? AND reader <> '' AND {source}", (kind, self.until_us, *values)


@contextmanager
def open_tail(home: Path, *, until_us: int, source: str | None, experiment: str = "") -> Iterator[Tail]:
    """Yield one consistent snapshot of the events; empty while there is no store.

    Raises
    ------
    DataError
        A file of sealed events is missing or was cut.
    BusyError
        A file was written anew at this moment.
    """
    if not store_path(home).exists():
        yield Tail(home, None, (), until_us, source, experiment)
        return
    with closing(read_store(store_path(home), longest_s=WHOLE_STORE_S)) as store:
        store.snapshot()
        sealed = [one for one in partitions(store, home) if one.day * DAY_US < until_us]
        chosen = tuple(one for one in sealed if (one.source == source if source else one.source != "canary"))
        tail = Tail(home, store, chosen, until_us, source, experiment)
        try:
            present(chosen)
        except DataError:
            tail.unreadable()
            raise
        yield tail
