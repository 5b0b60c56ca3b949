"""A reader's right to see what is held: every event, wherever it is, as it stands."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from experiments.errors import DataError
from experiments.events.outbox_file import Reading, outbox_files
from experiments.events.reading import WHOLE_STORE_S
from experiments.events.salvage import named_in
from experiments.events.sealed import Partition, partitions, present
from experiments.events.store import read_store, store_path
from experiments.events.wire import COLUMNS, RefusedError, decode

__all__ = ["export_reader"]

STORED = ("seq", *COLUMNS)
Held = list[dict[str, Any]]
LETTERS = "SELECT kind, arm, at, reason, payload FROM dead_letter WHERE instr(payload, ?) > 0"


def export_reader(home: Path, reader: str) -> Held:
    """Return everything held about a reader as JSON values, in the order it happened.

    ``state`` says where a value is: ``stored``, ``pending`` (acknowledged, not loaded yet), ``refused`` (a dead letter) or
    ``imported`` (a read of somebody's log).

    Raises
    ------
    DataError
        A file of sealed events is missing or was cut.
    """
    if not reader:
        return []
    with suppress(FileNotFoundError, DataError):  # an erasure has just written a sealed file anew: look again
        return _exported(home, reader)
    return _exported(home, reader)


def _exported(home: Path, reader: str) -> Held:
    held = {event["id"]: event for event in _pending(home, reader)}  # first: what is loaded meanwhile is in both
    letters: Held = []
    if store_path(home).exists():
        with closing(read_store(store_path(home), longest_s=WHOLE_STORE_S)) as store:
            store.snapshot()
            rows = store.execute(f"SELECT {', '.join(STORED)} FROM fresh WHERE reader = ?", (reader,)).fetchall()
            events = [*_sealed(present(partitions(store, home)), reader), *(dict(zip(STORED, row, strict=True)) for row in rows)]
            letters = [_letter(*row) for row in store.execute(LETTERS, (json.dumps(reader)[1:-1].encode(),)) if reader in named_in(row[-1])]
        held |= {event["id"]: event | {"state": "stored"} for event in sorted(events, key=lambda event: event["seq"])}
    found = [*map(_plain, held.values()), *letters, *_imported(home, reader)]
    return sorted(found, key=lambda event: event["issued_at"])


def _pending(home: Path, reader: str) -> Iterator[dict[str, Any]]:
    """Events in outbox files that the loader has not read yet; of a damaged file what can be read."""
    offsets: dict[str, int] = {}
    if store_path(home).exists():
        with closing(read_store(store_path(home))) as store:
            known = store.execute("SELECT outbox, seq FROM outbox_offset").fetchall()
            offsets = {name.removeprefix(store.prefix): seq for name, seq in known}
    for path in outbox_files(home / "outbox"):
        with suppress(FileNotFoundError, sqlite3.Error), Reading(path) as file:
            query = "SELECT CAST(body AS BLOB) FROM entry WHERE seq > ? AND instr(body, ?) > 0"
            for (body,) in file.execute(query, (offsets.get(path.stem, 0), json.dumps(reader)[1:-1].encode())):
                with suppress(RefusedError):
                    event = dict(zip(COLUMNS, decode(body), strict=True))
                    if event["reader"] == reader:
                        yield event | {"state": "pending"}


def _sealed(found: Sequence[Partition], reader: str) -> Held:
    if not found:
        return []
    from experiments.events.sealed_files import events_of  # Arrow is loaded only where sealed files exist

    return [event for one in found for event in events_of(one, reader)]


def _letter(kind: str, arm: str, at: int, reason: str, payload: bytes) -> dict[str, Any]:
    return {
        "state": "refused",
        "kind": kind,
        "arm": arm,
        "issued_at": at,
        "reason": reason,
        "body": {"written": payload.decode(errors="replace")},
    }


def _imported(home: Path, reader: str) -> Iterator[dict[str, Any]]:
    files = sorted(path.with_suffix(".parquet") for path in (home / "lake").glob("*.json"))
    if not files:
        return
    import pyarrow.parquet as pq  # Arrow is loaded only where logs were imported

    for path in files:
        for row in pq.read_table(path, filters=[("reader", "=", reader)]).to_pylist():
            body = {name: row[name] for name in ("article", "session", "weight") if row.get(name) is not None}
            yield {"state": "imported", "kind": "view", "reader": reader, "issued_at": row["at"], "log": path.stem, "body": body}


def _plain(event: dict[str, Any]) -> dict[str, Any]:
    event.pop("seq", None)
    return event | {"id": event["id"].hex(), "bot": bool(event["bot"]), "late": bool(event["late"]), "body": json.loads(event["body"])}
