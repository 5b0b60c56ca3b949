"""Rows on their way into the store: the first of each id is kept, every other is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from experiments.errors import DataError
from experiments.events.engine import Store
from experiments.events.wire import COLUMNS, RefusedError, StoredRow, decode, decode_all, payload

__all__ = ["Outcome", "decoded", "insert_new"]

ID, KIND, ARM, LATE = (COLUMNS.index(name) for name in ("id", "kind", "arm", "late"))
AT_ONCE = 250  # entries that are decoded at once, or one by one if any of them is refused
Entries = Sequence[tuple[int, bytes]]  # number and what was written
Outcome = tuple[str, str, str]  # kind, arm, what became of an event
Decoded = tuple[list[StoredRow], list[tuple[int, str, bytes]]]  # rows; number, reason and what was written of those that are refused


def decoded(entries: Entries, *, at_once: int) -> Iterator[Decoded]:
    """Yield what entries say, ``at_once`` at a time."""
    for start in range(0, len(entries), at_once):
        yield _decoded(entries[start : start + at_once])


def _decoded(entries: Entries) -> Decoded:
    rows: list[StoredRow] = []
    dead: list[tuple[int, str, bytes]] = []
    for start in range(0, len(entries), AT_ONCE):
        some = entries[start : start + AT_ONCE]
        try:
            rows += decode_all([body for _, body in some])
        except RefusedError:
            for seq, body in some:
                try:
                    rows.append(decode(body))
                except RefusedError as refused:
                    dead.append((seq, str(refused), body))
    return rows, dead


def insert_new(store: Store, rows: Sequence[StoredRow]) -> tuple[int, int, Counter[Outcome]]:
    """Store the rows whose id is new, in their order; call it inside a transaction.

    Returns
    -------
    how many were stored, how many of these are late, and the others per kind, arm and ``duplicate`` or ``conflict``.
    """
    stored = late = 0
    others: Counter[Outcome] = Counter()
    for start in range(0, len(rows), store.most_rows):
        new = rows[start : start + store.most_rows]
        if not store.insert(new):  # an event came again: rare enough to look for it only now
            new, again = _sorted_out(store, new)
            others += again
            if new and not store.insert(new):
                raise DataError("the store refuses events whose ids are new.", "Look at its log.")
        stored += len(new)
        late += sum(row[LATE] for row in new)
    return stored, late, others


def _sorted_out(store: Store, rows: Sequence[StoredRow]) -> tuple[list[StoredRow], Counter[Outcome]]:
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
