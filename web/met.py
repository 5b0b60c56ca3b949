"""What readers of a test met, counted from what is new in the event store: each reader once per arm, and once again of a new version.

The counts lie in a small database of their own, written in one transaction with the number of the last event they hold:
a restart goes on where it was, and no event counts twice. Readers are kept as keyed hashes.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.failing import Met
from experiments.events.engine import Store
from experiments.events.store import erase_key, reader_key

__all__ = ["FOLDER", "MetCounts", "Since", "counts_of", "forget", "kept_counts", "remove"]

AT_ONCE = 100_000  # events
FOLDER, SUFFIX = "ladder", ".db"
LAYOUT = 2
SCHEMA = f"""
BEGIN;
DROP TABLE IF EXISTS met;
DROP TABLE IF EXISTS counted;
CREATE TABLE met(lately INTEGER NOT NULL, arm TEXT NOT NULL, what TEXT NOT NULL, reader BLOB NOT NULL, PRIMARY KEY(lately, arm, what, reader))
WITHOUT ROWID;
CREATE TABLE counted(since INTEGER NOT NULL, seq INTEGER NOT NULL, version_since INTEGER NOT NULL, version INTEGER NOT NULL);
INSERT INTO counted VALUES (-1, 0, 0, 0);
PRAGMA user_version={LAYOUT};
COMMIT;
"""
FIRST = "SELECT min(seq) FROM event WHERE kind = ? AND issued_at >= ?"
# joined to nothing, `kind` uses no index: SQLite would read every event since the beginning to find those few
NEW = """SELECT kind, arm, reader, issued_at, body FROM event WHERE seq > ? AND seq <= ? AND experiment = ? AND source = ?
AND kind || '' IN ('exposure', 'impression') AND bot = 0 AND late = 0 AND issued_at >= ?"""
Counted = tuple[bool, str, str]  # lately, arm, what


@dataclass(frozen=True, slots=True)
class Since:
    """From when readers count (UTC microseconds).

    Parameters
    ----------
    arm_us : of the arm and those it is compared with; another moment than last time begins anew.
    version_us : of a version of its model that came after that. Another moment is another version; 0 says nothing of a new one.
    """

    arm_us: int
    version_us: int = 0


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
        if self._kept.execute("PRAGMA user_version").fetchone()[0] != LAYOUT:  # counts of another layout are taken anew
            self._kept.executescript(SCHEMA)
        self._counts = self._counted()

    def close(self) -> None:
        self._kept.close()

    @property
    def version(self) -> int:
        """How many new versions of the arm's model began to serve since readers count; the latest is counted by itself as well."""
        number: int = self._kept.execute("SELECT version FROM counted").fetchone()[0]
        return number

    def catch_up(self, store: Store, *, experiment: str, source: str, since: Since, gone: Mapping[str, int]) -> None:
        """Count what is new.

        Parameters
        ----------
        experiment : whose readers count; empty for those that no test chose for, who are all counted as of the arm ``""``.
        gone : withdrawn article -> moment (UTC microseconds) from which no page may show it.
        """
        (seq, version_us), last = self._begun(store, since, "exposure" if experiment else "impression"), store.last_seq()
        for start in range(seq, last, AT_ONCE):
            end = min(start + AT_ONCE, last)
            rows = store.execute(NEW, (start, end, experiment, source, since.arm_us))
            self._add(_met(rows, gone, version_us), end)

    def _begun(self, store: Store, since: Since, kind: str) -> tuple[int, int]:
        """Forget what does not count any more; returns the number of the last event that was counted, and since when a version serves."""
        since_us, seq, version_us, version = self._kept.execute("SELECT * FROM counted").fetchone()
        if since_us != since.arm_us or seq > store.last_seq():  # the latter: the store was restored from a copy
            first = store.execute(FIRST, (kind, since.arm_us)).fetchone()[0]
            seq = store.last_seq() if first is None else first - 1
            self._forget("DELETE FROM met", (since.arm_us, seq, 0, 0))
            version_us = version = 0
        if since.version_us not in (0, version_us):
            version_us = since.version_us
            self._forget("DELETE FROM met WHERE lately", (since.arm_us, seq, version_us, version + 1))
        return int(seq), int(version_us)

    def _forget(self, counts: str, counted: tuple[int, int, int, int]) -> None:
        with self._kept:
            self._kept.execute(counts)
            self._kept.execute("UPDATE counted SET (since, seq, version_since, version) = (?, ?, ?, ?)", counted)
        self._counts = self._counted()

    def met(self, arms: Collection[str], *, lately: bool = False) -> Met:
        """Return what readers of these arms met, together; ``lately``: since the latest version serves."""
        return sum((self._met_of(arm, lately) for arm in arms), Met())

    def forget(self, reader: str) -> None:
        """Remove an erased reader."""
        with self._kept:
            self._kept.execute("DELETE FROM met WHERE reader = ?", (reader_key(self._key, reader),))
        self._kept.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _add(self, found: Mapping[Counted, set[str]], seq: int) -> None:
        new = Counter[Counted]()
        with self._kept:
            for what, readers in found.items():
                rows = [(*what, reader_key(self._key, reader)) for reader in readers]
                new[what] = self._kept.executemany("INSERT OR IGNORE INTO met VALUES (?, ?, ?, ?)", rows).rowcount
            self._kept.execute("UPDATE counted SET seq = ?", (seq,))
        self._counts.update(new)  # not before they are written: what failed is counted again

    def _met_of(self, arm: str, lately: bool) -> Met:
        seen, own = self._counts[lately, arm, "seen"], self._counts[lately, arm, "own"]
        bad = {what: self._counts[lately, arm, what] for what in ("withdrawn", "failed", "late", "fallback")}
        return Met(readers=seen, nothing=max(0, seen - own), **bad)

    def _counted(self) -> Counter[Counted]:
        rows = self._kept.execute("SELECT lately, arm, what, count(*) FROM met GROUP BY lately, arm, what")
        return Counter({(bool(lately), arm, what): n for lately, arm, what, n in rows})


def counts_of(home: Path, key: str) -> MetCounts:
    """Return the counts of an arm (:attr:`experiments.ladder.Ladder.key`), as far as they were taken."""
    return MetCounts(home / FOLDER / f"{key}{SUFFIX}", home)


def kept_counts(home: Path) -> Iterator[tuple[str, Path]]:
    """Yield key and file of all counts on the disk."""
    for path in sorted((home / FOLDER).glob(f"[0-9]*{SUFFIX}")):
        yield path.stem, path


def remove(path: Path) -> None:
    """Remove a database of counts that nobody has open."""
    for part in ("", "-wal", "-shm"):
        path.with_name(path.name + part).unlink(missing_ok=True)


def forget(home: Path, reader: str) -> None:
    """Remove an erased reader from all counts; nobody else may have them open."""
    for _, path in kept_counts(home):
        with closing(MetCounts(path, home)) as counts:
            counts.forget(reader)


def _met(rows: Iterable[Any], gone: Mapping[str, int], version_us: int) -> Mapping[Counted, set[str]]:
    """Return (lately, arm, what) -> readers; what was met since ``version_us`` (0: never) is lately as well."""
    found = defaultdict[Counted, set[str]](set)
    for kind, arm, reader, at_us, body in rows:
        for what in (*_whats(kind, at_us, body, gone), *(() if arm else _outside(body))):
            found[False, arm, what].add(reader)
            if 0 < version_us <= at_us:
                found[True, arm, what].add(reader)
    return found


def _outside(body: str) -> Iterator[str]:
    """What a page outside of tests, which has no exposure, says besides; the status quo is no answer of the arm."""
    if '"outcome":"served"' in body or '"outcome":"fallback"' in body:
        yield "seen"
    if '"outcome":"fallback"' in body:
        yield "fallback"


def _whats(kind: str, at_us: int, body: str, gone: Mapping[str, int]) -> Iterator[str]:
    """What one event says that its reader met. Bodies are canonical JSON: most need not be parsed."""
    if kind == "exposure" and '"reason":"forced"' not in body:
        yield "seen"
        if '"outcome":"fallback"' in body or '"outcome":"degraded"' in body:
            yield "fallback"
    elif kind == "impression":
        yield from (what for what in ("failed", "late") if f'"cause":"{what}"' in body)
        if '"own":0' not in body:  # also of earlier versions, which did not say
            yield "own"
        if gone and any(gone.get(article, at_us) < at_us for article in json.loads(body)["articles"]):
            yield "withdrawn"
