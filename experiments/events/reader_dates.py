"""Dates in somebody's own file: nothing after the end of the test, and no covariate younger than its reader's exposure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from experiments.events.reader_file import check_suffix, first_rows, load_text, quoted, unreadable

__all__ = ["Dates", "date_faults"]

DAY = r"^\s*\d{4}[-/]\d{1,2}[-/]\d{1,2}"
EARLIEST = "1990-01-01"  # 1970, 1900 or year 1 is how programs write that they know no date


@dataclass(frozen=True, slots=True)
class Dates:
    """Which columns hold dates or times (ISO 8601; without a zone they are UTC), and what they must not pass.

    Parameters
    ----------
    column, until : of rows, and the last day of the test, included.
    exposed : when the reader was first exposed.
    covariates : covariate -> column that says when it was known.
    """

    column: str = ""
    until: date | None = None
    exposed: str = ""
    covariates: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for name in (self.column, self.exposed, *self.covariates.values()) if name))


def date_faults(path: Path, dates: Dates) -> list[str]:
    """Return what is no date, after the end, or known too late, with how many rows and the first of them.

    Raises
    ------
    DataError
        The file is none of its suffix, or has no such column.
    """
    if not dates.columns:
        return []
    check_suffix(path)
    with duckdb.connect() as connection:
        try:
            connection.execute("SET TimeZone = 'UTC'")
            cut = load_text(connection, path, dates.columns)
            return [*_faults(connection, dates), *cut]
        except (duckdb.Error, UnicodeDecodeError) as error:
            raise unreadable(path, error) from error


def _faults(connection: Any, dates: Dates) -> Iterator[str]:
    for name in dates.columns:
        yield from _found(connection, f"{_at(name)} IS NULL", f"'{name}' is no date")
        yield from _found(connection, f"{_at(name)} < '{EARLIEST}'", f"'{name}' is before {EARLIEST}, as if nobody knew it,")
    if dates.until is not None:
        yield from _found(
            connection, f"{_at(dates.column)}::DATE > DATE '{dates.until}'", f"'{dates.column}' is after the end, {dates.until} in UTC,"
        )
    for covariate, known in dates.covariates.items():
        says = f"'{covariate}' was known at or after the reader's first exposure ('{known}' against '{dates.exposed}')"
        yield from _found(connection, f"{_at(known)} >= {_at(dates.exposed)}", says)


def _at(name: str) -> str:
    """SQL of the time in a column; null for what does not begin with a day, such as 'epoch' or 'infinity'."""
    text = quoted(name)
    return f"CASE WHEN regexp_matches({text}, '{DAY}') THEN try_cast({text} AS TIMESTAMPTZ) END"


def _found(connection: Any, test: str, says: str) -> Iterator[str]:
    count = connection.execute(f"SELECT count(*) FROM text WHERE {test}").fetchone()[0]
    if count:
        yield f"{says} in {count:,} row{'s' * (count > 1)}: {first_rows(connection, test, 'text')}."
