"""What an engine must do to hold the event store, and what the loader writes: one SQL text that every engine runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from experiments.events.wire import Columns

__all__ = ["ADD_OUTCOME", "ADD_TALLY", "EPOCH", "ERASED_READER", "FOLD_TALLY", "SET_OFFSET", "Rows", "Store"]

EPOCH = "SELECT epoch FROM lease WHERE name = ?"
SET_OFFSET = """INSERT INTO outbox_offset VALUES (?, ?, ?, ?, ?) ON CONFLICT(outbox)
DO UPDATE SET seq = excluded.seq, chain = excluded.chain, state = excluded.state, alarm = excluded.alarm"""
ADD_OUTCOME = "INSERT INTO outcome VALUES (?, ?, ?, ?) ON CONFLICT(kind, arm, name) DO UPDATE SET n = outcome.n + excluded.n"
ADD_TALLY = """INSERT INTO tally VALUES (?, ?, ?, ?, ?) ON CONFLICT(outbox, kind, arm) DO UPDATE SET loaded = tally.loaded + excluded.loaded,
received = CASE WHEN excluded.received > tally.received THEN excluded.received ELSE tally.received END"""
FOLD_TALLY = """INSERT INTO tally SELECT '', kind, arm, received, loaded FROM tally WHERE outbox = ? ON CONFLICT(outbox, kind, arm)
DO UPDATE SET received = tally.received + excluded.received, loaded = tally.loaded + excluded.loaded"""

# Made when the first reader of a test is erased: stores of before have none.
ERASED_READER = """CREATE TABLE erased_reader(experiment TEXT NOT NULL, source TEXT NOT NULL, phase BIGINT NOT NULL, arm TEXT NOT NULL,
n BIGINT NOT NULL, PRIMARY KEY(experiment, source, phase, arm))"""


class Rows(Protocol):
    """What a statement returns."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchmany(self, size: int = ..., /) -> list[Any]: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Store(Protocol):
    """A connection to the event store.

    Parameters
    ----------
    says : the engine and where it is, in words.
    mend : what to do when :meth:`check` finds something.
    prefix : before the names of this home's outboxes and of its lease; empty where the store belongs to one home.
    most_rows : that ``insert`` takes at once.
    """

    says: str
    mend: str
    prefix: str
    most_rows: int

    def execute(self, sql: str, values: Any = ..., /) -> Rows:
        """Run a statement; values stand as ``?`` or ``:name``."""

    def executemany(self, sql: str, values: Iterable[Any], /) -> object: ...
    def close(self) -> None: ...

    def snapshot(self) -> object:
        """Let everything that is read from now on be of one instant."""

    def begin(self) -> object:
        """Begin to write; nobody else writes until ``commit`` or ``rollback``."""

    def commit(self) -> object: ...
    def rollback(self) -> object: ...

    def leads(self) -> bool:
        """Whether this is the one connection that may seal and delete days (asking makes it so if nobody else is)."""

    def insert(self, columns: Columns) -> bool:
        """Store events under the next sequence numbers, in this order and without a gap; none and False if an id is not new."""

    def last_seq(self) -> int:
        """Return the number of the last event that was ever stored, 0 in an empty store."""

    def facts(self, columns: Sequence[str], where: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return columns (SQLite's SQL) of the events that are not sealed; ``where`` compares columns of the store only."""

    def has(self, table: str) -> bool:
        """Whether there is this table."""

    def copied(self, where: str, values: Any, folder: Path) -> AbstractContextManager[Any]:
        """Yield a SQLite connection whose table ``event`` holds (at least) these events; ``folder`` may be used for it."""

    def wipe(self) -> bool:
        """Rewrite what was deleted; False when somebody who reads kept old pages from being overwritten: who writes does not wait long."""

    def copy_log(self, *, empty: bool, wait_ms: int = 0) -> bool:
        """Copy a log beside the store into it, and empty it if asked to, so far as nobody reads it; False when somebody does."""

    def check(self) -> str:
        """Return what is wrong with the store, in words; "ok" if nothing is."""
