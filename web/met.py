"""What readers of a test met, counted from what is new in the event store: each reader once per arm, for good.

The counts lie in a small database of their own, written in one transaction with the number of the last event they hold:
a restart goes on where it was, and no event counts twice. Readers are kept as keyed hashes.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from analysis.failing import Met
from experiments.events.engine import Store
from experiments.events.store import erase_key, reader_key

__all__ = ["FOLDER", "MetCounts", "counts_of", "forget", "kept_counts", "remove"]

AT_ONCE = 100_000  # events
FOLDER, SUFFIX = "ladder", ".db"
SCHEMA = """
BEGIN;
CREATE TABLE met(arm TEXT NOT NULL, what TEXT NOT NULL, reader BLOB NOT NULL, PRIMARY KEY(arm, what, reader)) WITHOUT ROWID;
CREATE TABLE counted(since INTEGER NOT NULL, seq INTEGER NOT NULL);
INSERT INTO counted VALUES (-1, 0);
PRAGMA user_version=1;
COMMIT;
"""
FIRST = "SELECT min(seq) FROM event WHERE kind = 'exposure' AND issued_at >= ?"
# joined to nothing, `kind` uses no index: SQLite would read every event since the beginning to find those few
NEW = """SELECT kind, arm, reader, issued_at, body FROM event WHERE seq > ? AND seq <= ? AND experiment = ? AND source = ?
AND kind || '' IN ('exposure', 'impression') AND bot = 0 AND late = 0 AND issued_at >= ?"""


class MetCounts:
    """The counts of one test.

    Parameters
    ----------
    path : of the database, made if it is not there. home : whose key hashes readers.
    """

    def __init__(self, path: Path, home: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._key = erase_key(home)
        try:
            self._open(path)
        except sqlite3.OperationalError:  # full or away: no damage
            raise
        except sqlite3.DatabaseError:  # everything can be counted anew
            self.close()
            remove(path)
            self._open(path)

    def _open(self, path: Path) -> None:
        self._kept = sqlite3.connect(path, check_same_thread=False)
        # a commit that is lost is read again from the store; an erased reader must not stay on the disk
        self._kept.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA secure_delete=ON;")
        if self._kept.execute("PRAGMA user_version").fetchone()[0] == 0:
            self._kept.executescript(SCHEMA)
        self._counts = self._counted()

    def close(self) -> None:
        self._kept.close()

    def catch_up(self, store: Store, *, experiment: str, source: str, since_us: int, gone: Mapping[str, int]) -> None:
        """Count what is new.

        Parameters
        ----------
        since_us : readers count from here on; another moment than last time begins anew.
        gone : withdrawn article -> moment (UTC microseconds) from which no page may show it.
        """
        since, seq = self._kept.execute("SELECT since, seq FROM counted").fetchone()
        last = store.last_seq()
        if since != since_us or seq > last:  # the latter: the store was restored from a copy
            first = store.execute(FIRST, (since_us,)).fetchone()[0]
            seq = last if first is None else first - 1
            with self._kept:
                self._kept.execute("DELETE FROM met")
                self._kept.execute("UPDATE counted SET since = ?, seq = ?", (since_us, seq))
            self._counts = Counter()
        for start in range(seq, last, AT_ONCE):
            end = min(start + AT_ONCE, last)
            rows = store.execute(NEW, (start, end, experiment, source, since_us))
            self._add(_met(rows, gone), end)

    def met(self, arms: Collection[str]) -> Met:
        """Return what readers of these arms met, together."""
        return sum((self._met_of(arm) for arm in arms), Met())

    def forget(self, reader: str) -> None:
        """Remove an erased reader."""
        with self._kept:
            self._kept.execute("DELETE FROM met WHERE reader = ?", (reader_key(self._key, reader),))
        self._kept.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _add(self, found: Mapping[tuple[str, str], set[str]], seq: int) -> None:
        new = Counter[tuple[str, str]]()
        with self._kept:
            for (arm, what), readers in found.items():
                rows = [(arm, what, reader_key(self._key, reader)) for reader in readers]
                new[arm, what] = self._kept.executemany("INSERT OR IGNORE INTO met VALUES (?, ?, ?)", rows).rowcount
            self._kept.execute("UPDATE counted SET seq = ?", (seq,))
        self._counts.update(new)  # not before they are written: what failed is counted again

    def _met_of(self, arm: str) -> Met:
        seen, own = self._counts[arm, "seen"], self._counts[arm, "own"]
        bad = {what: self._counts[arm, what] for what in ("withdrawn", "failed", "late", "fallback")}
        return Met(readers=seen, nothing=max(0, seen - own), **bad)

    def _counted(self) -> Counter[tuple[str, str]]:
        rows = self._kept.execute("SELECT arm, what, count(*) FROM met GROUP BY arm, what")
        return Counter({(arm, what): n for arm, what, n in rows})


def counts_of(home: Path, proposal: int) -> MetCounts:
    """Return the counts of the arm of a proposal, as far as they were taken."""
    return MetCounts(home / FOLDER / f"{proposal}{SUFFIX}", home)


def kept_counts(home: Path) -> Iterator[tuple[int, Path]]:
    """Yield proposal and file of all counts on the disk."""
    for path in sorted((home / FOLDER).glob(f"[0-9]*{SUFFIX}")):
        yield int(path.stem), path


def remove(path: Path) -> None:
    """Remove a database of counts that nobody has open."""
    for part in ("", "-wal", "-shm"):
        path.with_name(path.name + part).unlink(missing_ok=True)


def forget(home: Path, reader: str) -> None:
    """Remove an erased reader from all counts; nobody else may have them open."""
    for _, path in kept_counts(home):
        with closing(MetCounts(path, home)) as counts:
            counts.forget(reader)


def _met(rows: Iterable[Any], gone: Mapping[str, int]) -> Mapping[tuple[str, str], set[str]]:
    """Return (arm, what) -> readers. Bodies are canonical JSON: most need not be parsed."""
    found = defaultdict[tuple[str, str], set[str]](set)
    for kind, arm, reader, at_us, body in rows:
        if kind == "exposure" and '"reason":"forced"' not in body:
            found[arm, "seen"].add(reader)
            if '"outcome":"fallback"' in body or '"outcome":"degraded"' in body:
                found[arm, "fallback"].add(reader)
        elif kind == "impression":
            for what in ("failed", "late"):
                if f'"cause":"{what}"' in body:
                    found[arm, what].add(reader)
            if '"own":0' not in body:  # also of earlier versions, which did not say
                found[arm, "own"].add(reader)
            if gone and any(gone.get(article, at_us) < at_us for article in json.loads(body)["articles"]):
                found[arm, "withdrawn"].add(reader)
    return found
