"""Events on their way into the store, column by column: the first of each id is kept, every other is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from experiments.errors import DataError
from experiments.events.engine import Store
from experiments.events.wire import COLUMNS, Columns, RefusedError, StoredRow, decode, decode_all, payload

__all__ = ["Decoded", "Entries", "Letter", "Outcome", "decoded", "insert_new", "keep_dead"]

ID, KIND, ARM, LATE = (COLUMNS.index(name) for name in ("id", "kind", "arm", "late"))
AT_ONCE = 250  # entries that are decoded at once, or one by one if any of them is refused
Entries = Sequence[tuple[Any, ...]]  # number, what was written, and what else is known of it
Outcome = tuple[str, str, str]  # kind, arm, what became of an event
Letter = tuple[str, int, int, str, str, str, bytes]  # a row of dead_letter
Decoded = tuple[Columns, list[tuple[int, str, bytes]]]  # what is good; of what is refused its number, the reason and what was written


def decoded(entries: Entries, *, at_once: int) -> Iterator[Decoded]:
    """Yield what entries say, ``at_once`` at a time."""
    for start in range(0, len(entries), at_once):
        some = entries[start : start + at_once]
        parts, dead = zip(*[_decoded(some[first : first + AT_ONCE]) for first in range(0, len(some), AT_ONCE)], strict=True)
        yield _one_below_the_other(parts), list(chain.from_iterable(dead))


def _decoded(entries: Entries) -> Decoded:
    rows: list[StoredRow] = []
    dead: list[tuple[int, str, bytes]] = []
    try:
        return decode_all([entry[1] for entry in entries]), dead
    except RefusedError:
        for seq, body, *_ in entries:
            try:
                rows.append(decode(body))
            except RefusedError as refused:
                dead.append((seq, str(refused), body))
    return _columns(rows), dead


def _columns(rows: Sequence[StoredRow]) -> Columns:
    return list(zip(*rows, strict=True)) if rows else [()] * len(COLUMNS)


def _one_below_the_other(parts: Sequence[Columns]) -> Columns:
    return parts[0] if len(parts) == 1 else [list(chain.from_iterable(column)) for column in zip(*parts, strict=True)]


def insert_new(store: Store, columns: Columns) -> tuple[int, int, Counter[Outcome]]:
    """Store the rows whose id is new, in their order, at most ``store.most_rows``; call it inside a transaction.

    Returns
    -------
    how many were stored, how many of these are late, and the others per kind, arm and ``duplicate`` or ``conflict``.
    """
    others: Counter[Outcome] = Counter()
    if columns[ID] and not store.insert(columns):  # an event came again: rare enough to look for it only now
        columns, others = _sorted_out(store, columns)
        if columns[ID] and not store.insert(columns):
            raise DataError("the store refuses events whose ids are new.", "Look at its log.")
    return len(columns[ID]), sum(columns[LATE]), others


def keep_dead(store: Store, letters: Sequence[Letter]) -> Counter[Outcome]:
    """Keep the dead letters of one outbox, in their order; return those that were there: its file has come back, with a backup, say."""
    if not letters:
        return Counter()
    outbox, first, last = letters[0][0], letters[0][1], letters[-1][1]
    query = "SELECT seq FROM dead_letter WHERE outbox = ? AND seq BETWEEN ? AND ?"
    known = {seq for (seq,) in store.execute(query, (outbox, first, last))}
    store.executemany("INSERT INTO dead_letter VALUES (?, ?, ?, ?, ?, ?, ?)", [letter for letter in letters if letter[1] not in known])
    return Counter((kind, arm, "duplicate") for _, seq, _, _, kind, arm, _ in letters if seq in known)


def _sorted_out(store: Store, columns: Columns) -> tuple[Columns, Counter[Outcome]]:
    query = f"SELECT {', '.join(COLUMNS)} FROM event WHERE id IN ({', '.join('?' * len(columns[ID]))})"
    known = {row[ID]: payload(row) for row in store.execute(query, columns[ID])}
    new: list[StoredRow] = []
    again: Counter[Outcome] = Counter()
    for row in zip(*columns, strict=True):
        first = known.get(row[ID])
        if first is None:
            known[row[ID]] = payload(row)
            new.append(row)
        else:
            again[row[KIND], row[ARM], "duplicate" if first == payload(row) else "conflict"] += 1
    return _columns(new), again
