"""A day of events goes into one Parquet file per source, two days later: written, compared, made durable, then named by the store.

Killed anywhere, a day is either still in the store or in its file, never in both and never in neither: what counts is
the catalogue, which changes in one transaction. Rows of the store go afterwards, in chunks.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.events.engine import ADD_OUTCOME, Store
from experiments.events.loader import Loader
from experiments.events.sealed import (
    OF_THE_DAY,
    Partition,
    damaged,
    faults,
    locked,
    of_the_day,
    partitions,
    present,
    sealed_folder,
    sweep,
)

__all__ = ["ELSEWHERE_DONE", "adopt", "clear", "seal"]

CHUNK = 20_000
ELSEWHERE_DONE = "another machine that shares this store seals and deletes days"


def seal(home: Path, *, until_us: int, loader: Loader, write: Callable[[int], object] | None = None) -> str:
    """Seal every day that is over for two days; returns one sentence.

    Parameters
    ----------
    until_us : now, UTC microseconds.
    loader : of the worker, the only writer of the store.
    write : writes the files that are due; without it :mod:`experiments.events.sealed_days` does, in this process.

    Raises
    ------
    DataError
        A sealed file is not what it was, or a new one differs from the store.
    """
    with loader.transaction() as store:
        if not store.leads():
            return ELSEWHERE_DONE
        present(partitions(store, home))  # no day goes into this home while others lie elsewhere
    with locked(home):
        if loader.drain().alarms or _unread(home, loader):
            return "nothing was sealed: events are waiting in files that could not be read; presslab data salvage finishes with them"
        adopt(home, loader)
        if write:
            write(until_us)
        else:
            _write_here(home, until_us)
        days = adopt(home, loader)
        clear(loader)
        with loader.transaction() as store:
            sweep(store, home)
            found = partitions(store, home)
        damaged(found)
    rows = sum(one.rows for one in found if one.says in days)
    what = f"{', '.join(days)}: {rows:,} events" if days else "no day was due"
    files = f"{len(found)} file{'' if len(found) == 1 else 's'}"
    return f"{what}; {files} checked, {sum(one.rows for one in found):,} events in all"


def _unread(home: Path, loader: Loader) -> bool:
    """Whether events wait in damaged outbox files: what is salvaged of them must still find its day open."""
    with loader.transaction() as store:
        mine, kept = store.prefix, [name for (name,) in store.execute("SELECT outbox FROM outbox_offset WHERE state = 'kept'")]
    return any(not name.startswith(mine) or (home / "outbox" / f"{name.removeprefix(mine)}.db").exists() for name in kept)


def adopt(home: Path, loader: Loader) -> list[str]:
    """Put written files into the catalogue; one that no longer matches the store is removed. Returns the days."""
    days = []
    for path in sorted(sealed_folder(home).glob("*.json")):
        try:
            manifest = json.loads(path.read_text("utf-8"))
        except ValueError:  # damaged; what the catalogue names needs none, all else is in the store
            path.unlink()
            continue
        one = Partition(manifest["day"], manifest["source"], path.with_suffix(".parquet"), manifest["bytes"], manifest["sha256"], 0, 0)
        with loader.transaction() as store:
            known = store.execute("SELECT file FROM sealed WHERE day = ? AND source = ?", (one.day, one.source)).fetchone()
            if known and known[0] == manifest["file"]:
                continue
            good = known is None and _still_true(store, manifest) and not faults([one])
            if good:
                _name(store, manifest)
        if good:
            days.append(one.says)
        else:
            path.unlink()
            one.path.unlink(missing_ok=True)
    return days


def clear(loader: Loader) -> int:
    """Delete rows that are in sealed files, in chunks, and load what arrives between them; returns how many."""
    deleted = 0
    while True:
        with loader.transaction() as store:
            row = store.execute("SELECT day, source, through_seq FROM sealed WHERE cleared = 0 ORDER BY day LIMIT 1").fetchone()
            if row is None:
                return deleted
            gone = store.execute(
                f"DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE {OF_THE_DAY} LIMIT {CHUNK})", of_the_day(*row)
            ).rowcount
            if gone < CHUNK:
                store.execute("UPDATE sealed SET cleared = 1 WHERE day = ? AND source = ?", row[:2])
            deleted += gone
        loader.load()  # events that came meanwhile do not wait for the last chunk


def _write_here(home: Path, until_us: int) -> None:
    from experiments.events.sealed_days import write_days  # Arrow and DuckDB stay out of the worker

    write_days(home, until_us)


def _still_true(store: Store, manifest: dict[str, Any]) -> bool:
    """Whether the store still holds exactly the events of a file: none erased, none arrived since; nor one of each."""
    query = f"SELECT kind, arm, count(*) FROM event WHERE {OF_THE_DAY} GROUP BY 1, 2 ORDER BY 1, 2"
    for through in (manifest["through_seq"], 2**62):
        of = of_the_day(manifest["day"], manifest["source"], through)
        if [list(row) for row in store.execute(query, of)] != manifest["stored"]:
            return False
    return True


def _name(store: Store, manifest: dict[str, Any]) -> None:
    key = (manifest["day"], manifest["source"])
    values = (manifest["file"], manifest["bytes"], manifest["sha256"], manifest["through_seq"], manifest["last_received"])
    store.execute("INSERT INTO sealed VALUES (?, ?, ?, ?, ?, ?, ?, 0)", (*key, *values))
    store.executemany("INSERT INTO sealed_count VALUES (?, ?, ?, ?, ?)", [(*key, *row) for row in manifest["rows"]])
    kept = {(kind, arm): n for kind, arm, n in manifest["rows"]}
    merged = [(kind, arm, "compacted", n - kept.get((kind, arm), 0)) for kind, arm, n in manifest["stored"]]
    store.executemany(ADD_OUTCOME, [row for row in merged if row[3]])
