"""A reader's right to be forgotten: nothing of them is left.

Erasing is done by whoever holds the loader (the worker): a second writer could corrupt the store.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.errors import BusyError, DataError
from experiments.events.engine import ADD_OUTCOME, Store
from experiments.events.erased_readers import refuse
from experiments.events.loader import Loader
from experiments.events.outbox import request_rotation
from experiments.events.outbox_file import outbox_files
from experiments.events.salvage import named_in
from experiments.events.sealed import Partition, damaged, faults, locked, partitions, sealed_folder, sweep
from experiments.events.store import OutcomeKey

__all__ = ["Erased", "erase_reader", "erase_readers"]

OUTBOX_WAIT_S = 5.0
PAUSE_S = 0.05
LETTERS = "SELECT outbox, seq, kind, arm, payload FROM dead_letter WHERE instr(payload, ?) > 0"
AT_ONCE = 500  # readers in one statement


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure removed, and what it could not reach yet.

    Parameters
    ----------
    rows : events deleted from the store and from sealed files. dead_letters : payloads deleted. imported : rows deleted from partitions.
    outboxes_left : files that may still hold the reader, because their owner did not start a new one in time.
    wiped : False when somebody who reads the store kept old pages from being overwritten; run it again.
    """

    rows: int
    dead_letters: int
    imported: int
    outboxes_left: int
    wiped: bool

    def sure(self) -> Erased:
        """Return this, or raise BusyError when old pages, or outbox files, may still hold the readers."""
        if self.outboxes_left:
            files = f"{self.outboxes_left} outbox file{'' if self.outboxes_left == 1 else 's'}"
            raise BusyError(
                f"{files} may still hold what was erased everywhere else: a web process writes there, or could not write and waits for its end.",
                "Restart `presslab serve`, then erase again; what readers asked for themselves, the worker repeats.",
            )
        if not self.wiped:
            raise BusyError(
                "somebody who reads the events keeps old pages from being overwritten.",
                "Erase again in a minute; what readers asked for themselves, the worker repeats.",
            )
        return self


def erase_reader(home: Path, reader: str, *, until_us: int, loader: Loader | None = None) -> Erased:
    """Delete a reader everywhere and refuse their later events; as :func:`erase_readers`."""
    return erase_readers(home, [reader], until_us=until_us, loader=loader)


def erase_readers(home: Path, readers: Collection[str], *, until_us: int, loader: Loader | None = None) -> Erased:
    """Delete readers everywhere and refuse their later events.

    Store and sealed files are written anew once for all of them: many who ask keep the loader about as long as one.

    Parameters
    ----------
    until_us : now, UTC microseconds; kept beside the keyed hash of each reader.
    loader : of the process that runs one; None takes the lease for the time of the erasure.

    Raises
    ------
    BusyError
        No ``loader`` was given and another process runs one; or another machine seals the days of a shared store.
    DataError
        Nobody is named, or somebody by an empty name; or sealed files are missing or damaged, and may hold the readers:
        everywhere else they are erased.
    """
    readers = sorted(set(readers))
    if not readers or not readers[0]:
        raise DataError("no reader was named.", "Readers who object have no id; their counts cannot be traced back.")
    with nullcontext(loader) if loader is not None else Loader(home, clock=lambda: until_us) as own:
        with own.transaction() as store:
            if not store.leads():
                raise BusyError("another machine that shares this store holds the sealed days of this reader.", "Erase the reader there.")
        own.drain()
        refuse(home, own, readers)
        left = _empty_outboxes(home, own)
        rows, dead = _delete(own, readers)
        sealed, unread = _remove_sealed(home, own, readers)
        wiped = own.wipe()
    imported = _remove_imported(home, readers)
    damaged(unread)
    return Erased(rows + sealed, dead, imported, left, wiped)


def _empty_outboxes(home: Path, loader: Loader) -> int:
    """Have every outbox file of this moment loaded and removed; return how many are left after a while."""
    folder = home / "outbox"
    before = set(outbox_files(folder))
    request_rotation(folder)
    deadline = time.monotonic() + OUTBOX_WAIT_S
    loader.drain()
    while (left := before & set(outbox_files(folder))) and time.monotonic() < deadline:
        time.sleep(PAUSE_S)
        loader.drain()
    return len(left)


def _delete(loader: Loader, readers: list[str]) -> tuple[int, int]:
    rows: list[tuple[str, str, int]] = []
    dead = Counter[OutcomeKey]()
    with loader.transaction() as store:
        for start in range(0, len(readers), AT_ONCE):
            some = readers[start : start + AT_ONCE]
            theirs = f"reader IN ({', '.join('?' * len(some))})"
            rows += store.execute(f"SELECT kind, arm, count(*) FROM fresh WHERE {theirs} GROUP BY kind, arm", some).fetchall()
            store.execute(f"DELETE FROM event WHERE {theirs}", some)
        for reader in readers:
            written = (json.dumps(reader)[1:-1].encode(),)  # as it stands in an entry
            for outbox, seq, kind, arm, payload in store.execute(LETTERS, written).fetchall():
                if reader not in named_in(payload):
                    continue  # an id as short as "1" stands in letters of others, too
                store.execute("DELETE FROM dead_letter WHERE outbox = ? AND seq = ?", (outbox, seq))
                dead[kind, arm] += 1
        store.executemany(ADD_OUTCOME, [(kind, arm, "erased", n) for kind, arm, n in (*rows, *((*key, n) for key, n in dead.items()))])
    return sum(row[2] for row in rows), dead.total()


def _remove_sealed(home: Path, loader: Loader, readers: list[str]) -> tuple[int, list[Partition]]:
    """Write the sealed files that hold any of the readers again without them; whatever a kill left behind goes too.

    Returns how many events went, and the files that are missing or damaged: who is in them, nobody knows.
    """
    if not sealed_folder(home).exists():
        return 0, []
    from experiments.events.sealed_files import without  # Arrow is loaded only where sealed files exist

    removed = 0
    with locked(home):
        with loader.transaction() as store:
            found = partitions(store, home)
        unread = [one for one in found if faults([one])]
        for one in (one for one in found if one not in unread):
            left = without(one, readers, home=home)
            if left is not None:
                manifest, gone = left
                with loader.transaction() as store:
                    _replace(store, one, manifest, gone)
                removed += gone.total()
        with loader.transaction() as store:
            sweep(store, home)
    return removed, unread


def _replace(store: Store, one: Partition, manifest: Mapping[str, Any], gone: Counter[OutcomeKey]) -> None:
    key = (one.day, one.source)
    store.execute(
        "UPDATE sealed SET file = ?, bytes = ?, sha256 = ? WHERE day = ? AND source = ?",
        (manifest["file"], manifest["bytes"], manifest["sha256"], *key),
    )
    store.executemany(
        "UPDATE sealed_count SET n = n - ? WHERE day = ? AND source = ? AND kind = ? AND arm = ?",
        [(n, *key, *cell) for cell, n in gone.items()],
    )
    store.executemany(ADD_OUTCOME, [(*cell, "erased", n) for cell, n in gone.items()])


def _remove_imported(home: Path, readers: list[str]) -> int:
    if not (home / "lake").exists():
        return 0
    from experiments.events.lake import remove_reader  # Arrow is loaded only where partitions exist

    return sum(remove_reader(home, reader) for reader in readers)
