"""From the outboxes into the store, exactly once: rows, offsets and counts change in one transaction.

Killed at any instruction, the loader continues where its last commit was. A file is removed only after the offset
behind its last entry is durable, so "offset final, file missing" is a normal state, the reverse cannot happen.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import compress, zip_longest
from pathlib import Path

from experiments.errors import BusyError
from experiments.events.engine import ADD_OUTCOME, ADD_TALLY, EPOCH, FOLD_TALLY, SET_OFFSET, Store
from experiments.events.outbox_file import acknowledged, is_damage, outbox_files, owner_alive, remove, sweep, wal_tail
from experiments.events.reading_ahead import Found, ReadingAhead, Request
from experiments.events.rows import Decoded, Letter, Outcome, insert_new, keep_dead
from experiments.events.sealed import late_for_their_day
from experiments.events.store import OutcomeKey, erase_key, open_store, reader_key, store_path
from experiments.events.wire import COLUMNS, Columns, kind_and_arm, reader_of

__all__ = ["Loaded", "Loader"]

CHECKPOINT_BYTES = 16 << 20
MOST = 20_000
KIND, READER, ARM = (COLUMNS.index(name) for name in ("kind", "reader", "arm"))


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a pass did, in events; ``alarms`` counts files that are damaged and kept, ``pending_files`` those with more to read.

    Examples
    --------
    >>> (Loaded(stored=2) + Loaded(stored=1, dead=1)).moved
    4
    """

    stored: int = 0
    duplicate: int = 0
    conflict: int = 0
    dead: int = 0
    erased: int = 0
    late: int = 0
    alarms: int = 0
    pending_files: int = 0

    def __add__(self, other: Loaded) -> Loaded:
        return Loaded(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Loaded)))

    @property
    def moved(self) -> int:
        """Entries taken out of outboxes; late ones are among the stored."""
        return self.stored + self.duplicate + self.conflict + self.dead + self.erased


class Loader:
    """The one writer of the event store; safe to share between threads of the worker.

    Parameters
    ----------
    home : its ``outbox`` is read, its ``events.db`` written (and created).
    clock : UTC microseconds, stamps dead letters.
    backlog : entries of one file, with more behind them, that start a second process which reads ahead.

    Raises
    ------
    BusyError
        Another loader lives.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as home, Loader(Path(home), clock=lambda: 0) as loader:
    ...     loader.drain().moved
    0
    """

    def __init__(self, home: Path, *, clock: Callable[[], int], backlog: int = MOST) -> None:
        self._home = home
        self._outbox = home / "outbox"
        self.clock = clock
        self._turn = threading.RLock()
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(home / "loader.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._store = open_store(store_path(home), create=True)
        except BaseException as error:
            os.close(self._lock)
            if isinstance(error, BlockingIOError):
                raise BusyError(f"another loader works in {home}.", "Stop the other worker first.") from None
            raise
        self._lease = (f"{self._store.prefix}loader",)
        self._store.execute("INSERT INTO lease VALUES (?, 1) ON CONFLICT(name) DO UPDATE SET epoch = lease.epoch + 1", self._lease)
        self._epoch = self._store.execute(EPOCH, self._lease).fetchone()[0]
        self._refused, self._key = set[bytes](), b""
        self._ahead = ReadingAhead(backlog=backlog)

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store after the transaction that runs, and let another loader work."""
        with self._turn:
            if self._lock >= 0:
                self._ahead.end()
                self._store.close()
                os.close(self._lock)
                self._lock = -1

    def load(self, *, most: int = MOST) -> Loaded:
        """Make one pass over all outboxes, at most ``most`` entries of each; call it in a loop.

        Each pass over a file recovers its log anew, and each file is one transaction: fewer entries cost more a row, more
        of them hold up whoever else writes (20,000 take about 0.3 s).

        Raises
        ------
        BusyError
            Another loader took over while this one was stopped; nothing was written.
        """
        with self._turn:
            total = Loaded()
            sweep(self._outbox)
            requests = list(self._requests(most))
            for request, following in zip_longest(requests, requests[1:]):
                self._ahead.ask(following)
                total += self._load_file(request)
            if not total.pending_files:
                self._ahead.end()
            self._retire()
            self._checkpoint(idle=not total.moved)
            return total

    def drain(self) -> Loaded:
        """Load until nothing is pending."""
        total = Loaded()
        while (part := self.load()).moved or part.pending_files:
            total += part
        return total + part

    @contextmanager
    def transaction(self) -> Iterator[Store]:
        """A fenced write transaction on the store: whoever lost the lease, or was closed, cannot write."""
        with self._turn:
            if self._lock < 0:
                raise BusyError("this loader was closed.", "Another one goes on where it was.")
            store = self._store
            store.begin()
            try:
                if store.execute(EPOCH, self._lease).fetchone()[0] != self._epoch:
                    raise BusyError("another loader took over.", "This one must stop.")
                yield store
            except BaseException:
                store.rollback()
                raise
            store.commit()

    def wipe(self) -> bool:
        """Rewrite the store without its deleted rows; False when a reader kept the log from being emptied."""
        with self._turn:
            return self._store.wipe()

    def _requests(self, most: int) -> Iterator[Request]:
        """What to read of each file; removes those that are done."""
        query = "SELECT seq, chain, state FROM outbox_offset WHERE outbox = ?"
        for path in outbox_files(self._outbox):
            seq, chain, state = self._store.execute(query, (self._name(path),)).fetchone() or (0, 0, "open")
            if state == "done":  # killed between the commit and the removal
                remove(path)
            elif state == "open":
                yield Request(str(path), seq, chain, most, self._store.most_rows, final=not owner_alive(path))

    def _load_file(self, request: Request) -> Loaded:
        try:
            found = self._ahead.take(request)
        except FileNotFoundError:
            return Loaded(alarms=1)
        except sqlite3.Error as error:  # out of descriptors, say: the next pass tries again
            return self._keep(request, f"damaged: {error}") if is_damage(error) else Loaded(alarms=1)
        if not found.entries and not request.final:
            return Loaded()
        return self._store_found(Path(request.path), request, found)

    def _store_found(self, path: Path, request: Request, found: Found) -> Loaded:
        name, last, more = self._name(path), request.after + found.good, found.entries == request.most
        final = request.final and not more
        alarm = "" if found.good == found.entries else f"entry {last + 1} is missing or damaged"
        with self.transaction() as store:
            if not self._is_next(store, request):
                return Loaded(pending_files=1)
            loaded, counts = self.insert(store, name, found.groups)
            store.executemany(ADD_TALLY, [(name, *key, found.tally.get(key, 0), counts[key]) for key in {*found.tally, *counts}])
            if final and not alarm:
                alarm = self._doubt(store, path, found, last)
            state = "kept" if alarm else "done" if final else "open"
            store.execute(SET_OFFSET, (name, last, found.chain, state, alarm))
        if state == "done":
            remove(path)
        return loaded + Loaded(alarms=int(bool(alarm)), pending_files=int(more and not alarm))

    def _is_next(self, store: Store, request: Request) -> bool:
        """Whether a file's offset is still that of the request: a commit whose answer was lost may come through after it was read."""
        row = store.execute("SELECT seq FROM outbox_offset WHERE outbox = ?", (self._name(Path(request.path)),)).fetchone()
        return bool((row or [0])[0] == request.after)

    def insert(self, store: Store, outbox: str, groups: Iterable[Decoded]) -> tuple[Loaded, Counter[OutcomeKey]]:
        """Store entries, each group at most ``store.most_rows``; return what became of them, and how many there were per kind and arm."""
        if store.execute("SELECT count(*) FROM erased").fetchone()[0] != len(self._refused):  # another machine erases, too
            self._refused = {key for (key,) in store.execute("SELECT key FROM erased")}
            self._key = erase_key(self._home)
        total, counts, others = Loaded(), Counter[OutcomeKey](), Counter[Outcome]()
        for columns, refused in groups:
            dead = [(outbox, seq, self.clock(), reason, *kind_and_arm(body), body) for seq, reason, body in refused]
            counts.update(zip(columns[KIND], columns[ARM], strict=True))
            counts.update((kind, arm) for _, _, _, _, kind, arm, _ in dead)
            erased, kept, dead = self._without_erased(columns, dead)
            stored, late, again = insert_new(store, late_for_their_day(store, kept))
            known = keep_dead(store, dead)
            others.update(erased + again + known)
            total += Loaded(stored=stored, dead=len(dead) - known.total(), late=late)
        store.executemany(ADD_OUTCOME, [(*key, n) for key, n in others.items()])
        named = Counter(duplicate=0, conflict=0, erased=0)
        for (_, _, name), n in others.items():
            named[name] += n
        return total + Loaded(**named), counts

    def _without_erased(self, columns: Columns, dead: list[Letter]) -> tuple[Counter[Outcome], Columns, list[Letter]]:
        """Count what is of readers whose events are erased on arrival; return all else, too."""
        if not self._refused:
            return Counter(), columns, dead
        refused = {reader for reader in set(columns[READER]) if self.is_refused(reader)}
        wanted = [reader not in refused for reader in columns[READER]]
        rows = zip(columns[KIND], columns[ARM], wanted, strict=True)
        erased = Counter((kind, arm, "erased") for kind, arm, is_wanted in rows if not is_wanted)
        gone = [self.is_refused(reader_of(letter[-1])) for letter in dead]
        erased.update((letter[4], letter[5], "erased") for letter, is_gone in zip(dead, gone, strict=True) if is_gone)
        left = [letter for letter, is_gone in zip(dead, gone, strict=True) if not is_gone]
        return erased, [list(compress(column, wanted)) for column in columns], left

    def is_refused(self, reader: str) -> bool:
        return reader != "" and reader_key(self._key, reader) in self._refused

    def _name(self, path: Path) -> str:
        """Of an outbox in the store, which several machines may share."""
        return self._store.prefix + path.stem

    def _keep(self, request: Request, alarm: str) -> Loaded:
        with self.transaction() as store:
            if self._is_next(store, request):
                store.execute(SET_OFFSET, (self._name(Path(request.path)), request.after, request.chain, "kept", alarm))
        return Loaded(alarms=1)

    def _doubt(self, store: Store, path: Path, found: Found, last: int) -> str:
        """Why a final file cannot be taken for complete; empty if it can."""
        uneven = store.execute("SELECT count(*) FROM tally WHERE outbox = ? AND received <> loaded", (self._name(path),)).fetchone()[0]
        if uneven:
            return "the writer's tally differs from the entries"
        if found.sealed is not None:
            return "" if found.sealed == last else f"sealed at entry {found.sealed}, ends at {last}"
        if tail := wal_tail(path):
            return f"{tail} bytes behind the last commit"
        said = acknowledged(path)
        return f"{said} entries were acknowledged, the file ends at {last}" if said > last else ""

    def _retire(self) -> None:
        """Fold the counts of removed files into one row per kind and arm."""
        done = [name for (name,) in self._store.execute("SELECT outbox FROM outbox_offset WHERE state = 'done'")]
        mine = {name: self._outbox / f"{name.removeprefix(self._store.prefix)}.db" for name in done if name.startswith(self._store.prefix)}
        gone = [name for name, path in mine.items() if not path.exists()]
        if gone:
            with self.transaction() as store:
                for name in gone:
                    store.execute(FOLD_TALLY, (name,))
                    store.execute("DELETE FROM tally WHERE outbox = ?", (name,))
                    store.execute("DELETE FROM outbox_offset WHERE outbox = ?", (name,))

    def _checkpoint(self, *, idle: bool) -> None:
        log = self._home / "events.db-wal"
        size = log.stat().st_size if log.exists() else 0
        if size and (idle or size > CHECKPOINT_BYTES):
            self._store.copy_log(empty=idle)
