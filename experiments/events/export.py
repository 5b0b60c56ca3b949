"""A reader's right to see what is held: every stored event, as it stands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from experiments.errors import DataError
from experiments.events.reading import WHOLE_STORE_S
from experiments.events.sealed import Partition, partitions, present
from experiments.events.store import read_store, store_path
from experiments.events.wire import COLUMNS

__all__ = ["export_reader"]


def export_reader(home: Path, reader: str) -> list[dict[str, Any]]:
    """Return every stored event of a reader as JSON values, in the order it happened.

    Raises
    ------
    DataError
        A file of sealed events is missing or was cut.
    """
    if not reader or not store_path(home).exists():
        return []
    with suppress(FileNotFoundError, DataError):  # an erasure has just written a sealed file anew: look again
        return _exported(home, reader)
    return _exported(home, reader)


def _exported(home: Path, reader: str) -> list[dict[str, Any]]:
    with closing(read_store(store_path(home), longest_s=WHOLE_STORE_S)) as store:
        store.snapshot()
        rows = store.execute(f"SELECT seq, {', '.join(COLUMNS)} FROM fresh WHERE reader = ?", (reader,)).fetchall()
        events = [dict(zip(("seq", *COLUMNS), row, strict=True)) for row in rows] + _sealed(present(partitions(store, home)), reader)
    return [_plain(event) for event in sorted(events, key=lambda event: (event["issued_at"], event["seq"]))]


def _sealed(found: Sequence[Partition], reader: str) -> list[dict[str, Any]]:
    if not found:
        return []
    from experiments.events.sealed_files import events_of  # Arrow is loaded only where sealed files exist

    return [event for one in found for event in events_of(one, reader)]


def _plain(event: dict[str, Any]) -> dict[str, Any]:
    event.pop("seq")
    return event | {"id": event["id"].hex(), "bot": bool(event["bot"]), "late": bool(event["late"]), "body": json.loads(event["body"])}
