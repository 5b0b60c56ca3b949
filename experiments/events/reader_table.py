"""Somebody's own file, one row per reader or per event, as exact sums per arm: checked first, then added up by DuckDB.

Values are added as integers, so the order of rows and the number of threads change no digit: whole numbers and decimals
as they are, money in hundredths, other floats rounded to 45 binary digits of the column's largest distance from its middle.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb

from experiments.errors import DataError
from experiments.events.reader_file import (
    WHOLE,
    check_suffix,
    first_rows,
    label,
    literal,
    load_file,
    quoted,
    refuse,
    unreadable,
    value_faults,
)

__all__ = ["UNKNOWN", "Columns", "Measured", "ReaderTable", "open_reader_table"]

UNKNOWN = "not known"
SMALLEST = 1e-60  # a column of floats that are all nearer to zero is zero
BITS = 45  # of a value; products of two of them, added up over 2**37 rows, fit 128 bits


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns that say who and where, and of those that are measured.

    Parameters
    ----------
    reader, arm : text or whole numbers.
    sums : added up over a reader's rows. before : known before exposure, the same in all rows of a reader.
    never_negative : of ``sums``, those that count something.
    segments : groups of readers, known before exposure like ``before``; empty ones are of the group :data:`UNKNOWN`.
    """

    reader: str
    arm: str
    sums: tuple[str, ...]
    before: tuple[str, ...] = ()
    never_negative: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()

    @property
    def measured(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.sums, *self.before)))


@dataclass(frozen=True, slots=True)
class Measured:
    """Exact sums of one arm over its ``n`` readers, of columns that were shifted and scaled to integers.

    Parameters
    ----------
    sums, products : of (value - shift) / unit, as whole numbers, per column and per pair of columns (each pair once).
    group : of readers; empty where all of the arm are added up.
    """

    arm: str
    n: int
    sums: Mapping[str, int]
    products: Mapping[tuple[str, str], int]
    group: str = ""


@dataclass(frozen=True, slots=True)
class Scale:
    """A value is ``shift + unit * whole number`` (floats: up to half a unit away); ``furthest`` is the largest whole number.

    ``cast`` is a type that holds values and differences; in smaller and unsigned ones differences overflow.
    """

    shift: float
    unit: float
    furthest: float
    cast: str = "BIGINT"

    def mean(self, total: int, n: int) -> float:
        """Return the mean of ``n`` values whose whole numbers add up to ``total``, rounded once."""
        unit = Fraction(1, 100) if self.unit == 0.01 else Fraction(self.unit)
        return float(Fraction(self.shift) + unit * total / n)


@dataclass(frozen=True, slots=True)
class ReaderTable:
    """A checked file, one row per reader, and what was counted on the way.

    Parameters
    ----------
    rows : of the file. readers : per arm, without those seen in two.
    crossed, crossed_rows : readers seen in two arms, who are left out, and the first of their rows in words.
    scales : per measured column.
    """

    connection: Any
    columns: Columns
    rows: int
    readers: Mapping[str, int]
    crossed: int
    crossed_rows: str
    scales: Mapping[str, Scale]

    def sums(self, groups: Sequence[Sequence[str]], *, by: str = "''") -> list[Measured]:
        """Return one entry per arm and group of readers, sorted by name.

        Parameters
        ----------
        groups : columns whose products are wanted, a metric each; pairs across groups are not computed.
        by : SQL that names a reader's group (:meth:`groups`).
        """
        names = list(dict.fromkeys(name for group in groups for name in group))
        pairs = list(dict.fromkeys((a, b) for group in groups for i, a in enumerate(group) for b in group[i:]))
        place = {name: f"c{i}" for i, name in enumerate(names)}
        inner = ", ".join(["arm", f"{by} AS part", *(f"{self._whole(name)} AS {place[name]}" for name in names)])
        wanted = [f"sum({place[name]})" for name in names] + [self._product(a, b, place) for a, b in pairs]
        query = f"SELECT arm, part, count(*), {', '.join(wanted)} FROM (SELECT {inner} FROM readers) GROUP BY arm, part ORDER BY arm, part"
        found = []
        for arm, part, n, *values in self.connection.execute(query).fetchall():
            whole = [int(value) for value in values]
            found.append(Measured(arm, n, dict(zip(names, whole, strict=False)), dict(zip(pairs, whole[len(names) :], strict=True)), part))
        return found

    def groups(self, segment: str, *, most: int, rest: str) -> str:
        """Return SQL that names a reader's group: the ``most`` - 1 largest where there are more than ``most``, then ``rest``."""
        known = f"coalesce(nullif({quoted(label(segment))}, ''), '{UNKNOWN}')"
        sizes = self.connection.execute(f"SELECT {known}, count(*) FROM readers GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {most + 1}").fetchall()
        if len(sizes) <= most:
            return known
        kept = ", ".join(literal(name) for name, _ in sizes[: most - 1])
        return f"CASE WHEN {known} IN ({kept}) THEN {known} ELSE {literal(rest)} END"

    def _whole(self, name: str) -> str:
        scale = self.scales[name]
        if scale.unit == 1.0:
            return f"({quoted(name)}::{scale.cast} - {int(scale.shift)})::BIGINT"
        return f"round(({quoted(name)}::DOUBLE - {scale.shift!r}) * {1 / scale.unit!r})::BIGINT"

    def _product(self, a: str, b: str, place: Mapping[str, str]) -> str:
        wide = "" if self.scales[a].furthest * self.scales[b].furthest < 2**62 else "::HUGEINT"  # only where 64 bits might not do
        return f"sum({place[a]}{wide} * {place[b]})"

    def zero_or_one(self, name: str) -> frozenset[str]:
        """Return the arms in which every reader has 0 or 1: sums and squares cannot tell, where values need not be whole."""
        query = f"SELECT arm FROM readers GROUP BY arm HAVING bool_and({quoted(name)}::DOUBLE IN (0, 1))"
        return frozenset(arm for (arm,) in self.connection.execute(query).fetchall())

    def distinct(
        self, numerator: str, denominator: str = "", *, most: int = 2_000_000, of: str = "true"
    ) -> list[tuple[str, float, float, int]] | None:
        """Return (arm, numerator, denominator, readers) per distinct pair of values, sorted; None when there are more than ``most``.

        ``of`` is SQL that says whose.
        """
        below = quoted(denominator) if denominator else "1"
        query = f"SELECT arm, {quoted(numerator)}, {below}, count(*) FROM readers WHERE {of} GROUP BY ALL ORDER BY ALL LIMIT {most + 1}"
        found = self.connection.execute(query).fetchall()
        return None if len(found) > most else [(arm, _plain(top), _plain(bottom), int(n)) for arm, top, bottom, n in found]


def _plain(value: Any) -> float:
    return int(value) if float(value).is_integer() else float(value)


@contextmanager
def open_reader_table(path: Path, columns: Columns, *, faults: Sequence[str] = ()) -> Iterator[ReaderTable]:
    """Read and check a CSV or Parquet file and yield it with one row per reader.

    Rows of the same reader are added up. Readers seen in two arms are left out and counted.

    Parameters
    ----------
    faults : of the file, already known; they are raised together with those found here.

    Raises
    ------
    DataError
        Not a file of its suffix or damaged, columns that are missing or no numbers, values that are empty, not finite or beyond
        1e60, counts below zero, or a covariate that changes within a reader: all faults at once, with row numbers.
    """
    check_suffix(path)
    with duckdb.connect() as connection:
        try:
            yield _checked(connection, path, columns, faults)
        except (duckdb.Error, UnicodeDecodeError) as error:  # a damaged page of a Parquet file shows when it is read
            raise unreadable(path, error) from error


def _checked(connection: Any, path: Path, columns: Columns, known: Sequence[str]) -> ReaderTable:
    loaded = load_file(connection, path, reader=columns.reader, arm=columns.arm, measured=columns.measured, labels=columns.segments)
    types, rows = loaded.types, int(connection.execute("SELECT count(*) FROM file").fetchone()[0])
    faults = [*known, *loaded.faults]
    if not rows and not faults:
        raise DataError(f"{path}: the file has no row.")
    # a line that is cut shows when dates are read, too
    refuse(path, list(dict.fromkeys([*value_faults(connection, types, never_negative=columns.never_negative), *faults])))
    crossed = _gather(connection, path, columns, types)
    where = first_rows(connection, "arms > 1", "numbered JOIN all_readers USING (reader)") if crossed else ""
    readers = dict(connection.execute("SELECT arm, count(*) FROM readers GROUP BY arm ORDER BY arm").fetchall())
    if not readers:
        raise DataError(f"{path}: every reader is in more than one arm.", f"Is '{columns.reader}' the column of the reader?")
    return ReaderTable(connection, columns, rows, readers, crossed, where, _scales(connection, columns, types))


def _gather(connection: Any, path: Path, columns: Columns, types: Mapping[str, str]) -> int:
    """Make the relation ``readers``, one row each, and return how many readers were seen in two arms."""
    rows, readers = connection.execute("SELECT count(*), count(DISTINCT reader) FROM file").fetchone()
    if rows == readers:
        connection.execute("CREATE TEMP VIEW readers AS SELECT * FROM file")
        return 0
    unlike = {f"'{name}'": (f"min({quoted(name)}) <> max({quoted(name)})", "it") for name in columns.before}
    unlike |= {f"'{name}'": (f"count(DISTINCT coalesce({quoted(label(name))}, '')) > 1", "a group") for name in columns.segments}
    refuse(path, [fault for says, test in unlike.items() if (fault := _changed(connection, says, *test))])
    # a sum of floats depends on their order, so they are added from the smallest on
    sums = [
        f"sum({quoted(name)}{'' if types[name] in WHOLE else f' ORDER BY {quoted(name)}'}) AS {quoted(name)}"
        for name in columns.sums
        if name not in columns.before
    ]
    sums += [f"any_value({quoted(name)}) AS {quoted(name)}" for name in (*columns.before, *map(label, columns.segments))]
    query = f"SELECT reader, min(arm) AS arm, count(DISTINCT arm) AS arms, {', '.join(sums)} FROM file GROUP BY reader"
    connection.execute(f"CREATE TEMP TABLE all_readers AS {query}")
    connection.execute("CREATE TEMP VIEW readers AS SELECT * FROM all_readers WHERE arms = 1")
    return int(connection.execute("SELECT count(*) FROM all_readers WHERE arms > 1").fetchone()[0])


def _changed(connection: Any, says: str, test: str, what: str) -> str:
    """Say of how many readers a figure that was known before differs between rows, and where; nothing if of none."""
    found = f"(SELECT reader FROM file GROUP BY reader HAVING {test})"
    count = int(connection.execute(f"SELECT count(*) FROM {found}").fetchone()[0])
    if not count:
        return ""
    where = first_rows(connection, "true", f"numbered JOIN {found} USING (reader)")
    return f"{says} differs between rows of the same reader in {count:,} reader{'s' * (count > 1)} ({where}), {what} must be known before exposure."


def _scales(connection: Any, columns: Columns, types: Mapping[str, str]) -> dict[str, Scale]:
    names = columns.measured
    wanted = ", ".join(
        f"min({quoted(n)})::DOUBLE, max({quoted(n)})::DOUBLE, "
        + ("false" if types[n] in WHOLE else f"bool_and({_is_hundredths(quoted(n))})")
        for n in names
    )
    values = connection.execute(f"SELECT {wanted} FROM readers").fetchone()
    found = {}
    for i, name in enumerate(names):
        low, high = (float(v or 0.0) for v in values[3 * i : 3 * i + 2])
        shift = float(round((low + high) / 2))  # not near the mean: that of floats depends on their order
        furthest = max(high - shift, shift - low, 1.0 if types[name] in WHOLE else SMALLEST)
        if types[name] in WHOLE and furthest < 2**BITS:
            found[name] = Scale(shift, 1.0, furthest, "HUGEINT" if types[name] in ("UBIGINT", "HUGEINT") else "BIGINT")
        elif values[3 * i + 2] and furthest < 2 ** (BITS - 7):  # money: hundredths, exactly
            found[name] = Scale(shift, 0.01, furthest * 100)
        else:
            unit = 2.0 ** (math.frexp(furthest)[1] - BITS)
            found[name] = Scale(shift, unit, furthest / unit)
    return found


def _is_hundredths(value: str) -> str:
    """SQL that says whether a float is a whole number of hundredths; one that is merely small is not."""
    return f"abs({value} * 100 - round({value} * 100)) <= least(1e-6, abs({value}) * 1e-7)"
