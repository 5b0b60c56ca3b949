"""Dead letters tried again: after an upgrade that knows a new kind, or a mended rule, some of them are good.

A dead letter goes the way of an entry that is read from its outbox now: stored, a duplicate, erased, or dead once more for
today's reason. It leaves the dead letters and arrives in one transaction, so it is counted exactly once.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from experiments.events.loader import Loaded, Loader
from experiments.events.rows import decoded
from experiments.events.store import read_store, store_path

__all__ = ["DeadLetters", "Replayed", "dead_letters", "replay"]

AT_ONCE = 1_000  # letters a transaction; between two of them the loader takes what came in meanwhile
NEXT = """SELECT outbox, seq, at, payload FROM dead_letter
WHERE (outbox, seq) > (?, ?) AND ? IN ('', reason) ORDER BY outbox, seq LIMIT ?"""
Letter = tuple[str, int]  # outbox, seq
FIRST: Letter = ("", 0)


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """How many letters of one kind and arm are dead for one reason, and when (UTC microseconds) the first and last of them died."""

    reason: str
    kind: str
    arm: str
    n: int
    first_us: int
    last_us: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of the letters that were tried, in letters.

    Parameters
    ----------
    tried : all of them: the sum of the others.
    stored : now events. duplicate, conflict : their id was stored before. erased : of readers who were erased.
    dead : refused again.
    """

    tried: int = 0
    stored: int = 0
    duplicate: int = 0
    conflict: int = 0
    erased: int = 0
    dead: int = 0


class _UndoneError(Exception):
    """Rolls back what a dry run did."""


def dead_letters(home: Path) -> list[DeadLetters]:
    """Return the dead letters of a home by reason, kind and arm, the most frequent first; empty without a store."""
    if not store_path(home).exists():
        return []
    query = """SELECT reason, kind, arm, count(*), min(at), max(at) FROM dead_letter
    GROUP BY reason, kind, arm ORDER BY count(*) DESC, reason, kind, arm"""
    with closing(read_store(store_path(home))) as store:
        return [DeadLetters(*row) for row in store.execute(query)]


def replay(loader: Loader, *, reason: str = "", dry_run: bool = False) -> Replayed:
    """Try dead letters again and store those that are good now.

    Parameters
    ----------
    reason : only letters that are dead for exactly this reason; empty means all.
    dry_run : undo everything. Each thousand is undone by itself: of twins in two of them both count as stored.
    """
    total = Loaded()
    after: Letter | None = FIRST
    while after is not None:
        part, after = _some(loader, reason, after=after, dry_run=dry_run)
        total += part
        loader.load()
    return Replayed(total.moved, total.stored, total.duplicate, total.conflict, total.erased, total.dead)


def _some(loader: Loader, reason: str, *, after: Letter, dry_run: bool) -> tuple[Loaded, Letter | None]:
    """Try the next letters behind ``after``; return what became of them and the last of them, None when it was the last of all."""
    loaded, last = Loaded(), None
    with suppress(_UndoneError), loader.transaction() as store:
        letters = store.execute(NEXT, (*after, reason, AT_ONCE)).fetchall()
        last = letters[-1][:2] if len(letters) == AT_ONCE else None
        store.executemany("DELETE FROM dead_letter WHERE outbox = ? AND seq = ?", [letter[:2] for letter in letters])
        by_outbox: defaultdict[str, list[tuple[int, bytes]]] = defaultdict(list)
        for outbox, seq, _, entry in letters:
            by_outbox[outbox].append((seq, entry))
        for outbox, entries in by_outbox.items():
            loaded += loader.insert(store, outbox, decoded(entries, at_once=store.most_rows))[0]
        store.executemany(  # what is dead again has been dead since then
            "UPDATE dead_letter SET at = ? WHERE outbox = ? AND seq = ?", [(at, outbox, seq) for outbox, seq, at, _ in letters]
        )
        if dry_run:
            raise _UndoneError
    return loaded, last
