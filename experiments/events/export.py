"""A reader's right to see what is held: every stored event, as it stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from experiments.events.store import read_store, store_path
from experiments.events.wire import COLUMNS

__all__ = ["export_reader"]


def export_reader(home: Path, reader: str) -> list[dict[str, Any]]:
    """Return every stored event of a reader as JSON values, in the order it happened."""
    if not reader or not store_path(home).exists():
        return []
    connection = read_store(store_path(home))
    try:
        rows = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM event WHERE reader = ? ORDER BY issued_at, seq", (reader,)).fetchall()
    finally:
        connection.close()
    return [_plain(dict(zip(COLUMNS, row, strict=True))) for row in rows]


def _plain(event: dict[str, Any]) -> dict[str, Any]:
    return event | {"id": event["id"].hex(), "bot": bool(event["bot"]), "late": bool(event["late"]), "body": json.loads(event["body"])}
