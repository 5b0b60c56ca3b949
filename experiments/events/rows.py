"""Rows on their way into the store: the first of each id is kept, every other is counted."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from functools import cache

from experiments.events.wire import COLUMNS, StoredRow, payload

__all__ = ["Outcome", "insert_new"]

ID, KIND, ARM, LATE = (COLUMNS.index(name) for name in ("id", "kind", "arm", "late"))
MOST_ROWS = 250  # in one statement: half the work of a statement per row, and more of them are no faster
Outcome = tuple[str, str, str]  # kind, arm, what became of an event


def insert_new(store: sqlite3.Connection, rows: Sequence[StoredRow]) -> tuple[int, int, Counter[Outcome]]:
    """Store the rows whose id is new, in their order; call it inside a transaction.

    Returns
    -------
    how many were stored, how many of these are late, and the others per kind, arm and ``duplicate`` or ``conflict``.
    """
    stored = late = 0
    others: Counter[Outcome] = Counter()
    for start in range(0, len(rows), MOST_ROWS):
        new = rows[start : start + MOST_ROWS]
        if not _inserted(store, new):  # an event came again: rare enough to look for it only now
            new, again = _sorted_out(store, new)
            others += again
            if new and not _inserted(store, new):
                raise sqlite3.IntegrityError("the store refuses rows whose ids are new")
        stored += len(new)
        late += sum(row[LATE] for row in new)
    return stored, late, others


def _inserted(store: sqlite3.Connection, rows: Sequence[StoredRow]) -> bool:
    """Insert all rows, or none and return False when an id is stored already or comes twice."""
    values: list[object] = []
    for row in rows:
        values.append(bytearray(row[ID]))  # the sqlite3 module looks for an adapter of every bytes, and of no bytearray
        values += row[1:]
    try:
        store.execute(_insert(len(rows)), values)
    except sqlite3.IntegrityError:
        return False
    return True


@cache
def _insert(rows: int) -> str:
    row = f"({', '.join('?' * len(COLUMNS))})"
    return f"INSERT INTO event({', '.join(COLUMNS)}) VALUES {', '.join([row] * rows)}"


def _sorted_out(store: sqlite3.Connection, rows: Sequence[StoredRow]) -> tuple[list[StoredRow], Counter[Outcome]]:
    query = f"SELECT {', '.join(COLUMNS)} FROM event WHERE id IN ({', '.join('?' * len(rows))})"
    known = {row[ID]: payload(row) for row in store.execute(query, [row[ID] for row in rows])}
    new: list[StoredRow] = []
    again: Counter[Outcome] = Counter()
    for row in rows:
        first = known.get(row[ID])
        if first is None:
            known[row[ID]] = payload(row)
            new.append(row)
        else:
            again[row[KIND], row[ARM], "duplicate" if first == payload(row) else "conflict"] += 1
    return new, again
