"""Dead letters tried again: after an upgrade that knows a new kind, or a mended rule, some of them are good.

A dead letter goes the way of an entry that is read from its outbox now: stored, a duplicate, erased, or dead once more for
today's reason. It leaves the dead letters and arrives in one transaction, so it is counted exactly once.
"""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

from experiments.errors import BusyError
from experiments.events.loader import Loaded, Loader
from experiments.events.store import read_store, store_path
from experiments.files import read_json, replace_json

__all__ = ["DeadLetters", "Replayed", "answer_requests", "dead_letters", "replay", "replay_anywhere"]

AT_ONCE = 1_000  # letters a transaction; between two of them the loader takes what came in meanwhile
NEXT = """SELECT outbox, seq, at, payload FROM dead_letter
WHERE (outbox, seq) > (?, ?) AND ? IN ('', reason) ORDER BY outbox, seq LIMIT ?"""
Letter = tuple[str, int]  # outbox, seq
FIRST: Letter = ("", 0)
ANSWER = ".answer"
WAIT_S, LOOK_S = 60.0, 0.05
FORGOTTEN_S = 3_600  # after which nobody waits for an answer any more


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
            loaded += loader.insert(store, outbox, entries)[0]
        store.executemany(  # what is dead again has been dead since then
            "UPDATE dead_letter SET at = ? WHERE outbox = ? AND seq = ?", [(at, outbox, seq) for outbox, seq, at, _ in letters]
        )
        if dry_run:
            raise _UndoneError
    return loaded, last


def replay_anywhere(home: Path, *, at_us: int, reason: str = "", dry_run: bool = False, wait_s: float = WAIT_S) -> Replayed:
    """Try dead letters again here, or have the worker do it when one runs: only one process may write the store.

    Parameters
    ----------
    at_us : now, UTC microseconds. wait_s : for the worker, in seconds.

    Raises
    ------
    BusyError
        Whoever holds the loader did not answer in time; the request stays and is carried out when a worker comes to it.
    """
    try:
        with Loader(home, clock=lambda: at_us) as loader:
            return replay(loader, reason=reason, dry_run=dry_run)
    except BusyError:
        request = home / "replay" / f"{uuid4().hex}.json"
        replace_json(request, {"reason": reason, "dry_run": dry_run})
    deadline = time.monotonic() + wait_s
    while (answer := read_json(request.with_suffix(ANSWER))) is None:
        if time.monotonic() > deadline:
            raise BusyError(
                f"the worker of {home} did not answer within {wait_s:.0f} s.",
                "The request stays: it is carried out when a worker comes to it.",
            )
        time.sleep(LOOK_S)
    request.with_suffix(ANSWER).unlink()
    return Replayed(**answer)


def answer_requests(home: Path, loader: Loader) -> None:
    """Carry out what :func:`replay_anywhere` asked of the worker; killed before the answer, it is done once more, to no effect."""
    for request in sorted((home / "replay").glob("*.json")):
        asked = read_json(request)
        replace_json(request.with_suffix(ANSWER), asdict(replay(loader, reason=asked["reason"], dry_run=asked["dry_run"])))
        request.unlink()
        for answer in (home / "replay").glob(f"*{ANSWER}"):
            if answer.stat().st_mtime < time.time() - FORGOTTEN_S:
                answer.unlink()
