"""Anybody's log: CSV or Parquet with a reader, an article and a time per row."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from experiments.errors import DataError, nearest
from recsys.importers.lines import Bools
from recsys.importers.rows import Columns, Parsed, assemble, untitled
from recsys.importers.source import Source, integers, read_source, texts

__all__ = ["Layout", "declared", "parse", "read_layout"]

Unit = Literal["", "s", "ms", "us"]
MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
ROLES = ("reader_id", "article_id", "ts", "session", "event")
HOW = "docs/import.md"
OFFSET = r"[T ]\d\d.*(?:Z|[+-]\d\d(?::?\d\d)?)\s*$"
READS = ("view", "read", "click", "page_view", "")  # events that are reads; the others are left out and counted


@dataclass(frozen=True, slots=True)
class Layout:
    """How to read a table.

    Parameters
    ----------
    columns : role -> column name, for roles named otherwise in the file (``reader_id``, ``article_id``, ``ts``, ``session``, ``event``).
    unit : of numeric times: ``s``, ``ms`` or ``us`` since the epoch; must be declared.
    zone : of written times without an offset, such as ``Europe/Paris``; must be declared.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    unit: Unit = ""
    zone: str = ""

    def __post_init__(self) -> None:
        for role in self.columns:
            if role not in ROLES:
                raise DataError(f"the mapping names the role '{role}'; {nearest(role, ROLES)}")
        if self.unit and self.unit not in MICROSECONDS:
            raise DataError(f"unit '{self.unit}' is unknown; {nearest(self.unit, MICROSECONDS)}")
        names = [self.columns.get(role, role) for role in ROLES if role in ROLES[:3] or role in self.columns]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(f"the mapping gives the column '{twice[0]}' more than one role.", f"Each role has its own column ({HOW}).")


def parse(path: Path, layout: Layout = Layout()) -> Parsed:
    """Read a table of reads; without a session column, sessions end after 30 minutes without a read.

    Rows whose ``event`` is something else than a read are left out and told in the notes.

    Raises
    ------
    DataError
        A column is missing, or times need a unit or a zone that was not declared.
    """
    names = {role: layout.columns.get(role, role if role in ROLES[:3] or role not in layout.columns.values() else "") for role in ROLES}
    try:
        source = read_source(path, [names[role] for role in ROLES[:3]], [names[role] for role in ROLES[3:]])
    except DataError as error:
        if not error.faults:  # what is missing has one per column
            raise
        raise DataError(error.what, f"Say by --mapping FILE which column is which ({HOW}).", faults=error.faults) from error
    source, notes = _reads_only(source, names["event"])
    at, timed, unsure = _times(source.table[names["ts"]], layout, path.name)
    reader, article = (texts(source.table[names[role]], names[role]) for role in ROLES[:2])
    session = texts(source.table[names["session"]], names["session"]) if names["session"] in source.table.column_names else None
    repeated = source.table.to_pandas().duplicated().to_numpy(bool)
    found = Columns(reader, session, article, at, timed, source.lines, None, repeated, source.refused, files=source.files, unsure=unsure)
    parsed = assemble(found)
    return replace(parsed, articles=untitled(parsed.table), notes=notes)


def _reads_only(source: Source, column: str) -> tuple[Source, tuple[str, ...]]:
    """Drop the rows of other events; say how many of which."""
    if column not in source.table.column_names:
        return source, ()
    events = pc.utf8_lower(pc.fill_null(texts(source.table[column], column), ""))
    kept = pc.is_in(events, pa.array(READS))
    left = pc.value_counts(events.filter(pc.invert(kept))).to_pylist()
    told = tuple(f"{entry['counts']:,} rows with the event '{entry['values']}' are not reads and were left out." for entry in left)
    return replace(source, table=source.table.filter(kept), lines=source.lines[np.asarray(kept)]), told


def read_layout(path: Path) -> Layout:
    """Read a mapping file: ``unit``, ``zone`` and a table ``columns`` with role = "column name".

    Raises
    ------
    DataError
        It is no TOML, or a key or role is unknown.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file.") from error
    except OSError as error:
        raise DataError(f"{path}: the mapping cannot be read: {error.strerror}.", "Give a TOML file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as TOML: {error}.") from error
    known = [f.name for f in fields(Layout)]
    faults = [f"unknown key '{key}'; {nearest(key, known)}" for key in values if key not in known]
    faults += [f"{key} must be text in quotes" for key in ("unit", "zone") if not isinstance(values.get(key, ""), str)]
    columns = values.get("columns", {})
    if not isinstance(columns, dict) or not all(isinstance(name, str) for name in columns.values()):
        faults.append('columns must be a table of role = "column of the file"')
    if faults:
        raise DataError(f"{path}: the mapping cannot be used.", faults=faults)
    return Layout(**values)


def declared(mapping: Path | None, *, unit: str = "", zone: str = "") -> Layout:
    """Return the layout of a mapping file with what was said beside it, which wins."""
    layout = read_layout(mapping) if mapping else Layout()
    return replace(layout, unit=unit or layout.unit, zone=zone or layout.zone)  # type: ignore[arg-type]


def _times(column: Any, layout: Layout, name: str) -> tuple[npt.NDArray[np.int64], Bools, Bools | None]:
    """UTC microseconds, which rows have them, and which have none because of the clocks."""
    if pa.types.is_timestamp(column.type) and column.type.tz:
        return *integers(pc.cast(pc.cast(column, pa.timestamp("us", "UTC"), safe=False), pa.int64())), None
    values, good = integers(column)
    if good.sum() > _dated(column, good) or not len(values):
        if not layout.unit and len(values):
            raise DataError(f"{name}: times are numbers and their unit was not declared.", "Give --unit s, ms or us.")
        factor = MICROSECONDS[layout.unit or "us"]
        return values.clip(-(1 << 62) // factor, (1 << 62) // factor) * factor, good, None
    return _written(column.to_pandas(), layout, name)


def _dated(column: Any, numbers: Bools) -> int:
    """How many rows begin with a date: where they are more than the numbers, a number is a time that was never set."""
    if numbers.all() or not numbers.any():
        return 0
    return int(pc.sum(pc.match_substring_regex(pc.cast(column, pa.string()), r"^\s*\d{4}-\d\d-\d\d")).as_py() or 0)


def _written(series: Any, layout: Layout, name: str) -> tuple[npt.NDArray[np.int64], Bools, Bools]:
    """Each row by its own words: an offset, or the declared zone where a row has none."""
    series = series.astype("string").str.upper()
    series = series.where(series.str.match(r"\s*\d").fillna(False))  # pandas takes "now" and "today" for times
    has = series.str.contains(OFFSET).fillna(False).astype(bool)
    local = pd.to_datetime(series.mask(has), errors="coerce", format="ISO8601")
    if local.notna().any() and not layout.zone:
        raise DataError(f"{name}: times have no offset and no zone was declared.", "Give --zone, for example --zone Europe/Paris.")
    here = local.dt.tz_localize(_zone(layout.zone or "UTC"), ambiguous="NaT", nonexistent="NaT").dt.tz_convert("UTC")
    parsed = pd.to_datetime(series.where(has), errors="coerce", format="ISO8601", utc=True).fillna(here)
    good = parsed.notna().to_numpy(bool)
    micros = parsed.dt.as_unit("us").astype("int64").to_numpy()
    return np.where(good, micros, 0), good, (local.notna() & here.isna()).to_numpy(bool)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise DataError(f"zone '{name}' is unknown.", "Give a name such as Europe/Paris or UTC.") from error
