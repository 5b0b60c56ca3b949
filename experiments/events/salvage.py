"""The end of a damaged outbox file: what can still be read of it is loaded, what cannot is counted, and the file goes.

An entry that its check confirms goes the way of every entry. One that it does not becomes a dead letter with its payload,
which a replay takes for an event only where nothing says that it was changed: the entry before it is missing.
One that the writer counted and nobody can read becomes a dead letter without: it is lost, and the balance says so exactly.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from zlib import crc32

from experiments.events.engine import ADD_TALLY, SET_OFFSET
from experiments.events.loader import Loaded, Loader
from experiments.events.outbox_file import BODY, Reading, acknowledged, owner_alive, remove, sweep
from experiments.events.rows import decoded
from experiments.events.store import OutcomeKey
from experiments.events.wire import kind_and_arm, reader_of
from experiments.files import replace_file

__all__ = ["Salvaged", "copied", "named_in", "salvage"]

READER_ID = re.compile(rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
UNKNOWN: OutcomeKey = ("?", "")  # as an entry is counted that does not say its kind
UNSURE, LOST = "damaged in its outbox file", "lost with its outbox file"
TOLD = "SELECT kind, arm, received, loaded FROM tally WHERE outbox = ?"
MOST = 1_000_000  # entries a file is searched for: a damaged number must not make it endless


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What became of a damaged file's entries that had not been loaded.

    Parameters
    ----------
    outbox : the file's name. alarm : what was wrong with it.
    stored, duplicate, conflict, erased : as in the balance. dead : refused by the loader's rules.
    unsure : readable, but not as they were written: dead letters with their payload.
    lost : counted by the writer, not readable: dead letters without one.
    busy : somebody still writes the file; nothing was done.
    """

    outbox: str
    alarm: str
    stored: int = 0
    duplicate: int = 0
    conflict: int = 0
    erased: int = 0
    dead: int = 0
    unsure: int = 0
    lost: int = 0
    busy: bool = False


@dataclass(slots=True)
class _Found:
    """What a damaged file still says."""

    good: list[tuple[int, bytes]] = field(default_factory=list)
    unsure: list[tuple[int, bytes, bool]] = field(default_factory=list)  # the last says that it was changed
    tally: Counter[OutcomeKey] = field(default_factory=Counter)
    acknowledged: int = 0


def salvage(home: Path, loader: Loader) -> list[Salvaged]:
    """Finish with every damaged outbox file of the loader's home, and with every one that somebody removed before it was loaded."""
    sweep(home / "outbox")
    with loader.transaction() as store:
        prefix = store.prefix
        rows = store.execute("SELECT outbox, seq, chain, state, alarm FROM outbox_offset WHERE state <> 'done' ORDER BY outbox").fetchall()
    done = []
    for name, seq, chain, state, alarm in rows:
        path = home / "outbox" / f"{name.removeprefix(prefix)}.db"
        if not name.startswith(prefix) or (state == "open" and path.exists()):
            continue
        if path.exists() and owner_alive(path):
            done.append(Salvaged(name, alarm, busy=True))
            continue
        done.append(_finish(loader, (name, seq, chain), path, alarm or "the file was removed"))
        remove(path)
    return done


def copied(files: Sequence[Path], folder: Path) -> list[Path]:
    """Copy damaged files, each with its log, into a folder; returns the copies. Call it where nobody has the files open."""
    parts = [part for path in files if not owner_alive(path) for part in (path, path.with_suffix(".db-wal")) if part.exists()]
    for part in parts:
        replace_file(folder / part.name, part.read_bytes())
    return [folder / part.name for part in parts]


def _finish(loader: Loader, known: tuple[str, int, int], path: Path, alarm: str) -> Salvaged:
    name, seq, chain = known
    found = _read(path, after=seq, chain=chain)
    with loader.transaction() as store:
        told = {(kind, arm): (received, loaded) for kind, arm, received, loaded in store.execute(TOLD, (name,))}
        loaded, counts = loader.insert(store, name, decoded(found.good, at_once=store.most_rows))
        received = Counter[OutcomeKey]({key: one[0] for key, one in told.items()}) | found.tally
        short = received - counts - Counter({key: one[1] for key, one in told.items()})
        short[UNKNOWN] += max(0, found.acknowledged - seq - len(found.good) - max(short.total(), len(found.unsure)))
        unsure = [one for one in found.unsure if not _of_erased(loader, one[1])]
        letters = _letters(unsure, short, seq, taken={one[0] for one in found.good})
        store.executemany(
            "INSERT INTO dead_letter VALUES (?, ?, ?, ?, ?, ?, ?)", [(name, number, loader.clock(), *rest) for number, *rest in letters]
        )
        counts.update((kind, arm) for _, _, kind, arm, _ in letters)
        rows = [(name, *key, max(received[key], told.get(key, (0, 0))[1] + counts[key]), counts[key]) for key in {*received, *counts}]
        store.executemany(ADD_TALLY, rows)
        store.execute(SET_OFFSET, (name, max([seq, *(one[0] for one in (*found.good, *letters))]), 0, "done", alarm))
    return _said(name, alarm, loaded, unsure=len(unsure), lost=len(letters) - len(unsure))


def named_in(body: bytes) -> set[str]:
    """Return the readers that an entry names, also where only pieces of it can be read."""
    return {reader_of(body), *(found.decode() for found in READER_ID.findall(body))}


def _of_erased(loader: Loader, body: bytes) -> bool:
    """Whether an entry names a reader who was erased."""
    return any(map(loader.is_refused, named_in(body)))


def _letters(
    unsure: Sequence[tuple[int, bytes, bool]], short: Counter[OutcomeKey], after: int, *, taken: set[int]
) -> list[tuple[Any, ...]]:
    """Dead letters (number, reason, kind, arm, payload): of entries that are in doubt, then one for each the writer counted in vain.

    Kind and arm stand at the head of every payload, so that a replay counts it where it is counted now; alone there, they are no event's.
    """
    letters: list[tuple[Any, ...]] = []
    for number, body, changed in unsure:
        said = key = kind_and_arm(body)
        if not short[key] and (others := +short):
            key = min(others)
        short[key] -= 1
        letters.append((number, UNSURE, *key, _head(key) + body if changed or key != said else body))
    free = (number for number in count(after + 1) if number not in taken.union(one[0] for one in unsure))
    letters += [(next(free), LOST, *key, _head(key)) for key in sorted((+short).elements())]
    return letters


def _head(key: OutcomeKey) -> bytes:
    return json.dumps(key).encode() + b"\n"


def _read(path: Path, *, after: int, chain: int) -> _Found:
    """Read every entry that can be read, each by itself: a damaged page takes only its own with it."""
    found = _Found()
    with suppress(OSError):
        found.acknowledged = acknowledged(path)
    with suppress(OSError, sqlite3.Error), Reading(path) as file:
        for kind, arm, n in _tried(file, "SELECT CAST(kind AS TEXT), CAST(arm AS TEXT), n FROM tally"):
            found.tally[kind, arm] = n if isinstance(n, int) else 0
        ends = [*_tried(file, "SELECT max(seq) FROM entry"), *_tried(file, "SELECT max(last_seq) FROM sealed")]
        last = max([found.tally.total(), *(end for (end,) in ends if isinstance(end, int))])
        before: int | None = chain
        for number in range(after + 1, min(last, MOST) + 1):
            row = [*_tried(file, f"SELECT {BODY}, chain FROM entry WHERE seq = ?", number), (None, None)][0]
            if row[0] is not None:
                if before is not None and crc32(row[0], before) == row[1]:
                    found.good.append((number, row[0]))
                else:
                    found.unsure.append((number, row[0], before is not None))
            before = row[1] if isinstance(row[1], int) else None
    return found


def _tried(file: sqlite3.Connection, query: str, *values: int) -> list[Any]:
    """Rows of a query, none where the file is damaged."""
    try:
        return file.execute(query, values).fetchall()
    except sqlite3.Error:
        return []


def _said(name: str, alarm: str, loaded: Loaded, *, unsure: int, lost: int) -> Salvaged:
    return Salvaged(name, alarm, loaded.stored, loaded.duplicate, loaded.conflict, loaded.erased, loaded.dead, unsure, lost)
