"""Somebody's own events, in a frame, a table or a file: every one is checked, and what cannot be accepted is named by its row."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from experiments.clock import to_us
from experiments.errors import DataError, nearest
from experiments.events.csv_file import open_csv, records
from experiments.events.event import Event
from experiments.events.ids import event_id
from experiments.events.reader_file import check_suffix, refuse, unreadable
from experiments.events.wire import RefusedError, decode, encode

__all__ = ["Given", "given"]

NEEDED = ("kind", "page_view", "reader", "issued_at")
KNOWN = (*NEEDED, "id", "received_at", "experiment", "arm", "body", "source", "device", "bot", "config")
SLOTTED = ("exposure", "impression", "click")
BOTS = {"": False, "none": False, "false": False, "0": False, "true": True, "1": True}
EARLIEST, LATEST = 631_152_000_000_000, 7_258_118_400_000_000  # 1990 and 2200: a time in seconds or nanoseconds is neither


@dataclass(frozen=True, slots=True)
class Given:
    """Events as plain values, and what their rows are called: ``row`` from 1, of CSV the ``line`` they begin in."""

    rows: Sequence[Mapping[str, Any]]
    place: str = "row"
    numbers: Sequence[int] = ()

    def events(self) -> tuple[list[Event], list[str]]:
        """Return the events, and why others are none, each with its row."""
        good, bad = [], []
        tested = {str(row["page_view"]) for row in self.rows if row["kind"] == "exposure"}
        for number, row in zip(self.numbers or range(1, len(self.rows) + 1), self.rows, strict=True):
            try:
                event = _event(row, tested)
                decode(encode(event))  # as the loader will
                good.append(event)
            except (ValueError, TypeError, OverflowError, RefusedError) as error:
                bad.append(f"{self.place} {number}: {error}")
        return good, bad


def given(data: Any) -> Given:
    """Return the events of a frame, an Arrow or Ibis table, or the path of a Parquet or CSV file.

    Raises
    ------
    DataError
        It is none of these, a column is missing, unknown or named twice, or there is no event.
    """
    found = _of_file(Path(data)) if isinstance(data, str | Path) else Given(_plain(data))
    if not found.rows:
        raise DataError("there is no event to analyse.")
    return found


def _of_file(path: Path) -> Given:
    """Of CSV all values are texts, so that reader 007 does not become reader 7."""
    if not path.exists():
        raise DataError(f"{path} is neither a home folder nor a Parquet or CSV file.", "Give a path that exists.")
    check_suffix(path)
    if path.suffix.lower() == ".csv":
        file = open_csv(path)
        _check(file.header)
        rows = list(records(file))
        refuse(path, [f"line {n}: {len(row)} values, {len(file.header)} columns" for n, row in rows if len(row) != len(file.header)])
        return Given([dict(zip(file.header, row, strict=True)) for _, row in rows], "line", [n for n, _ in rows])
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except (OSError, ValueError) as error:  # as Arrow says that a file is damaged
        raise unreadable(path, error) from error
    return Given(_plain(table))


def _plain(data: Any) -> list[dict[str, Any]]:
    table = data.to_pyarrow() if hasattr(data, "to_pyarrow") else data
    if hasattr(table, "to_pylist") and hasattr(table, "column_names"):
        _check(table.column_names)
        return table.to_pylist()  # type: ignore[no-any-return]
    if not (hasattr(table, "columns") and hasattr(table, "notna")):
        raise DataError(f"events cannot be read from a {type(data).__name__}.", "Give a frame, an Arrow or Ibis table, or a path.")
    _check([str(name) for name in table.columns])
    return table.astype(object).where(table.notna(), None).to_dict("records")  # type: ignore[no-any-return]


def _check(columns: Sequence[str]) -> None:
    faults = [f"the column '{name}' is missing." for name in NEEDED if name not in columns]
    faults += [f"'{name}' is unknown; {nearest(name, KNOWN)}" for name in columns if name not in KNOWN]
    faults += [f"the column '{name}' is named twice." for name in sorted(set(columns)) if list(columns).count(name) > 1]
    if faults:
        raise DataError("these events cannot be read:", faults=faults)


def _event(row: Mapping[str, Any], tested: Set[str]) -> Event:
    """Return the event of a row; a slot outside of any test names none, on pages without an exposure (``tested`` have one)."""
    kind, page_view, reader = (_text(row, name) for name in ("kind", "page_view", "reader"))
    if row["reader"] is None:
        raise ValueError("the reader is missing; an empty text is one who objects to being measured")
    if not row.get("experiment") and (kind == "exposure" or (kind in SLOTTED and page_view in tested)):
        raise ValueError(f"'{kind}' needs the experiment of its slot")
    issued = _us(row["issued_at"])
    received = issued if row.get("received_at") in (None, "") else _us(row["received_at"])
    body = _body(row.get("body"))
    identity = _id(row.get("id")) or event_id(page_view, kind, json.dumps([row.get("experiment") or "", body], sort_keys=True))
    words: dict[str, Any] = {name: _text(row, name) for name in ("experiment", "arm", "device", "config")}
    words |= {"source": _text(row, "source") or "live", "bot": _bot(row.get("bot"))}
    return Event(identity, kind, page_view, reader, issued, received, body, **words)


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str | None):
        raise ValueError(f"{name} is {value!r:.40}, not a text")
    return value or ""


def _id(value: Any) -> bytes:
    if not isinstance(value, str | bytes | None):
        raise ValueError(f"the id {value!r:.40} is neither 16 bytes nor their 32 hex characters")
    return bytes.fromhex(value) if isinstance(value, str) else value or b""


def _body(value: Any) -> dict[str, Any]:
    body = json.loads(value) if isinstance(value, str) and value else value or {}
    if not isinstance(body, Mapping):
        raise ValueError(f"the body {body!r:.40} is no object")
    return dict(body)


def _bot(value: Any) -> bool:
    word = str(value).lower()
    if word not in BOTS:
        raise ValueError(f"bot is {value!r:.40}, neither true nor false")
    return BOTS[word]


def _us(at: Any) -> int:
    """UTC microseconds of a time or of a whole number of them."""
    if isinstance(at, str):
        at = int(at) if re.fullmatch(r"[0-9]{1,19}", at) else _time(at)
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise ValueError(f"the time {at.isoformat()} has no zone")
        at = to_us(at)
    if isinstance(at, bool) or not isinstance(at, int | float) or at != at // 1:
        raise ValueError(f"{at!r:.40} is no time: give UTC microseconds or times with a zone")
    if not EARLIEST <= at < LATEST:
        raise ValueError(f"the time {at!r:.40} is not between 1990 and 2200: give UTC microseconds")
    return int(at)


def _time(text: str) -> datetime | str:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return text
