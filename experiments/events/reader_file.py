"""Reading somebody's CSV or Parquet file into DuckDB: every fault is named with its row before anything is computed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from experiments.errors import DataError, listed, nearest
from experiments.events.csv_file import begins, inside, line_breaks, line_ends, no_text, open_csv

__all__ = [
    *("WHOLE", "Loaded", "check_suffix", "first_rows", "label", "literal", "load_file", "load_text", "quoted", "refuse", "unreadable"),
    "value_faults",
]

SUFFIXES = (".csv", ".parquet", ".pq")
INTEGER = r"\s*[+-]?\d{1,18}\s*"  # a cast to BIGINT would round 1.6 to 2
NUMBER = r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*"  # a cast to DOUBLE would read 1_000 as a thousand
WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT")
FLOATS = ("FLOAT", "DOUBLE")
NESTED = re.compile(r"\[|^(STRUCT|MAP|UNION|VARIANT)")
NUMBERS = (*WHOLE, *FLOATS, "DECIMAL", "BOOLEAN")
NO_ARM = "(arm IS NULL OR lower(trim(arm)) IN ('', 'nan'))"
NO_READER = "trim(reader) = '' OR lower(trim(reader)) IN ('nan', 'null', 'none')"  # as programs write that they know none
RESERVED = ("reader", "arm")  # what the relations call their own columns, beside row
PLACE = "coalesce(getvariable('place'), 'row')"  # what a row is counted in
LARGEST = 1e60  # of a float: squares and cubes of it are numbers too


def quoted(name: str) -> str:
    """Return a column name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def refuse(path: Path, faults: Sequence[str]) -> None:
    """Raise when there are faults, naming the first twenty."""
    if len(faults) == 1:
        raise DataError(f"{path}: {faults[0]}")
    if faults:
        raise DataError(f"{path} cannot be analysed:", faults=listed(faults))


@dataclass(frozen=True, slots=True)
class Loaded:
    """DuckDB type per measured column, and the faults that were met on the way."""

    types: Mapping[str, str]
    faults: Sequence[str] = ()


def check_suffix(path: Path) -> None:
    """Refuse a file that is missing, of an unknown suffix, or not what its suffix says."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: the suffix '{path.suffix}' is not known; {nearest(path.suffix, SUFFIXES)}")
    found = inside(path)
    if (found == "a Parquet file") != (path.suffix.lower() != ".csv"):
        raise DataError(f"{path}: inside it is {found or 'no Parquet file'}, whatever its suffix says.", "Rename it, or save it as that.")


def label(name: str) -> str:
    """The column of :func:`load_file`'s relations that holds a column of groups as text."""
    return f"group:{name}"


def load_file(connection: Any, path: Path, *, reader: str, arm: str, measured: Sequence[str], labels: Sequence[str] = ()) -> Loaded:
    """Make the relation ``file`` (reader, arm, the measured columns, labels) and ``numbered`` (the same with ``row``).

    ``row`` counts rows of Parquet from 1; of CSV it is the line in which a row begins.

    Parameters
    ----------
    labels : columns that are read as text, under the name :func:`label`.

    Returns
    -------
    Types, and in words which lines are cut and which values are no numbers: raise them together with :func:`value_faults`.

    Raises
    ------
    DataError
        A column is missing, holds no numbers, or has a name that cannot be used.
    """
    taken = [f"a column that is measured cannot be called '{name}' here; rename it." for name in measured if name.lower() in RESERVED]
    refuse(path, taken)
    make = _load_csv if path.suffix.lower() == ".csv" else _load_parquet
    return make(connection, path, (reader, arm), measured, labels)


def unreadable(path: Path, error: Exception) -> DataError:
    """Return what is said of a file that cannot be read to its end."""
    if isinstance(error, UnicodeDecodeError):
        return no_text(path, error)
    if path.suffix.lower() == ".csv" and len(ends := line_ends(path)) > 1:
        return DataError(f"{path}: some lines end in {ends[0]}, others in {' or '.join(ends[1:])}.", "Save it with one kind of line end.")
    return DataError(f"{path}: not readable: {str(error).splitlines()[0]}")


def _missing(path: Path, names: Sequence[str], found: Sequence[str]) -> None:
    absent = [f"there is no column '{name}'; {nearest(name, found)}" for name in dict.fromkeys(names) if name not in found]
    refuse(path, [*absent, *(f"a column cannot be called '{name}' here; rename it." for name in names if name.lower() == "row")])


def _as_text(names: Sequence[str]) -> list[str]:
    return [f"{quoted(name)}::VARCHAR AS {quoted(label(name))}" for name in names]


def _load_parquet(connection: Any, path: Path, who: tuple[str, str], measured: Sequence[str], labels: Sequence[str]) -> Loaded:
    _named_once(connection, path)
    source = f"read_parquet({literal(str(path))}, file_row_number = true)"
    described = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    types = {name: str(kind).partition("(")[0] for name, kind, *_ in described if name != "file_row_number"}
    _missing(path, (*who, *measured, *labels), list(types))
    nested = [f"column '{name}' holds {types[name].lower()}, no names." for name in (*who, *labels) if NESTED.search(types[name])]
    refuse(
        path, [*nested, *(f"column '{name}' holds {types[name].lower()}, not numbers." for name in measured if types[name] not in NUMBERS)]
    )
    booleans = {name for name in measured if types[name] == "BOOLEAN"}
    values = [f"{quoted(name)}{'::TINYINT' if name in booleans else ''} AS {quoted(name)}" for name in measured]
    kept = ", ".join([f"{quoted(who[0])} AS reader", f"{quoted(who[1])}::VARCHAR AS arm", *values, *_as_text(labels)])
    connection.execute(f"CREATE TEMP VIEW file AS SELECT {kept} FROM read_parquet({literal(str(path))})")
    connection.execute(f"CREATE TEMP VIEW numbered AS SELECT file_row_number + 1 AS row, {kept} FROM {source}")
    return Loaded({name: "TINYINT" if name in booleans else types[name] for name in measured})


def _named_once(connection: Any, path: Path) -> None:
    """DuckDB gives the second of two columns that differ in capitals only, or not at all, another name."""
    root, *below = connection.execute(f"SELECT name, coalesce(num_children, 0) FROM parquet_schema({literal(str(path))})").fetchall()
    names, at = [], 0
    for _ in range(int(root[1])):
        names.append(str(below[at][0]))
        open_ = 1
        while open_:  # what is inside a column follows it
            open_, at = open_ - 1 + int(below[at][1]), at + 1
    folded = [name.lower() for name in names]
    alike = {name: [other for other in names if other.lower() == name] for name in folded if folded.count(name) > 1}
    refuse(path, [f"the columns {' and '.join(map(repr, same))} have one name but for capitals." for same in alike.values()])


def load_text(connection: Any, path: Path, names: Sequence[str]) -> list[str]:
    """Make the relation ``text``: ``row`` as in :func:`load_file`, and the named columns as text; return which lines are cut.

    Raises
    ------
    DataError
        A column is missing.
    """
    if path.suffix.lower() == ".csv":
        return _csv_as_text(connection, path, names)
    source = f"read_parquet({literal(str(path))}, file_row_number = true)"
    _missing(path, names, [str(column[0]) for column in connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()])
    kept = ", ".join(f"{quoted(name)}::VARCHAR AS {quoted(name)}" for name in dict.fromkeys(names))
    connection.execute(f"CREATE TEMP TABLE text AS SELECT file_row_number + 1 AS row, {kept} FROM {source}")
    return []


def _csv_as_text(connection: Any, path: Path, names: Sequence[str]) -> list[str]:
    file = open_csv(path)
    _missing(path, names, file.header)
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in file.header)
    layout = f"auto_detect = false, header = true, delim = {literal(file.delimiter)}, quote = '\"', escape = '\"', columns = {{{columns}}}"
    kept = ", ".join(quoted(name) for name in dict.fromkeys(names))
    connection.execute(f"CREATE TEMP TABLE text AS SELECT row_number() OVER () + 1 AS row, {kept} FROM "
                       f"read_csv({literal(str(path))}, {layout}, store_rejects = true, rejects_limit = 1000)")  # fmt: skip
    query = "SELECT line_byte_position, min(error_message) FROM reject_errors GROUP BY 1 ORDER BY 1"
    cut = [(_line_at(path, int(position)), str(says)) for position, says in connection.execute(query).fetchall()]
    rows, place = _count(connection, "true"), "line"
    if cut or rows + 1 != file.lines:  # lines are no rows: some are cut or empty, or texts hold line ends
        lines = begins(file, left_out={line for line, _ in cut})
        if len(lines) == rows:
            connection.register("begun", pa.table({"line": lines}))
            numbered = "SELECT line, row_number() OVER () + 1 AS place FROM begun"
            connection.execute(f"UPDATE text SET row = line FROM ({numbered}) WHERE row = place")
        else:
            place = "row"
            connection.execute("UPDATE text SET row = row - 1")
    connection.execute(f"SET VARIABLE place = '{place}'")
    return [f"line {line}: {says}" for line, says in cut]


def _line_at(path: Path, position: int) -> int:
    """The number of the line that holds a byte (counted from 1); after CR LF the byte named is the LF."""
    with path.open("rb") as file:
        before, here = file.read(position - 1), file.read(1)
    return line_breaks(before + here if here == b"\n" else before) + 1


def _load_csv(connection: Any, path: Path, who: tuple[str, str], measured: Sequence[str], labels: Sequence[str]) -> Loaded:
    """All columns are read as text; what is a whole number, a number or neither is decided by every row, not by a sample."""
    cut = _csv_as_text(connection, path, (*who, *measured, *labels))
    whole = {name: not _count(connection, f"NOT regexp_full_match({quoted(name)}, '{INTEGER}')") for name in measured}
    words = {name: fault for name in measured if not whole[name] and (fault := _not_numbers(connection, name))}
    types = {name: "VARCHAR" if name in words else "BIGINT" if whole[name] else "DOUBLE" for name in measured}
    values = ", ".join([*(f"{quoted(name)}::{kind} AS {quoted(name)}" for name, kind in types.items()), *_as_text(labels)])
    connection.execute(f"CREATE TEMP TABLE numbered AS SELECT row, {quoted(who[0])} AS reader, {quoted(who[1])} AS arm, {values} FROM text")
    connection.execute("CREATE TEMP VIEW file AS SELECT * FROM numbered")
    return Loaded(types, [*words.values(), *cut])


def _not_numbers(connection: Any, name: str) -> str:
    # what a cast reads as infinite or as no number is told apart by value_faults
    finite = f"coalesce(isfinite(try_cast({quoted(name)} AS DOUBLE)), true)"
    test = f"{quoted(name)} IS NOT NULL AND NOT regexp_full_match({quoted(name)}, '{NUMBER}') AND {finite}"
    count = _count(connection, test)
    if not count:
        return ""
    first = connection.execute(f"SELECT {PLACE}, row, {quoted(name)} FROM text WHERE {test} ORDER BY row LIMIT 3").fetchall()
    shown = ", ".join(f"{place} {row} has '{value[:40]}'" for place, row, value in first)
    return f"column '{name}' is no number in {count:,} row{'s' * (count > 1)}: {shown}."


def _count(connection: Any, test: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM text WHERE {test}").fetchall()[0][0])


def literal(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def value_faults(connection: Any, types: Mapping[str, str], *, never_negative: Sequence[str]) -> list[str]:
    """Return what is empty, not finite, too large or below zero, with counts per arm and the first rows."""
    return list(_value_faults(connection, types, never_negative))


def _value_faults(connection: Any, types: Mapping[str, str], never_negative: Sequence[str]) -> Iterator[str]:
    who = connection.execute("DESCRIBE SELECT reader FROM file").fetchone()[1]
    # not isnan: as a filter over a Parquet file DuckDB 2.0 finds none
    blank = {"VARCHAR": f" OR {NO_READER}"} | dict.fromkeys(FLOATS, " OR NOT isfinite(reader)")
    tests = {
        "the reader is empty": f"(reader IS NULL{blank.get(who, '')})",
        "the arm is empty": NO_ARM,
    }
    for name, kind in types.items():
        tests[f"'{name}' is empty"] = f"{quoted(name)} IS NULL"
        if kind in FLOATS:
            tests[f"'{name}' is not a finite number"] = f"NOT isfinite({quoted(name)})"
            tests[f"'{name}' is beyond {LARGEST:g}"] = f"isfinite({quoted(name)}) AND abs({quoted(name)}) > {LARGEST}"
        if name in never_negative and kind != "VARCHAR":
            tests[f"'{name}' is below zero"] = f"{quoted(name)} < 0"
    counts = ", ".join(f"count(*) FILTER (WHERE {test})" for test in tests.values())
    for (says, test), count in zip(tests.items(), connection.execute(f"SELECT {counts} FROM file").fetchone(), strict=True):
        if count:
            arms = connection.execute(
                f"SELECT CASE WHEN {NO_ARM} THEN 'no arm' ELSE trim(arm) END, count(*) FROM file WHERE {test} GROUP BY 1 ORDER BY 1"
            ).fetchall()
            per_arm = ", ".join(f"{arm}: {n:,}" for arm, n in arms)
            yield f"{says} in {count:,} row{'s' * (count > 1)} ({per_arm}): {first_rows(connection, test)}."


def first_rows(connection: Any, test: str, relation: str = "numbered") -> str:
    """Return the numbers of the first five rows of a relation that pass a test, in words.

    Examples
    --------
    >>> import duckdb
    >>> with duckdb.connect() as connection:
    ...     first_rows(connection, "row % 2 = 0", "(SELECT range AS row FROM range(1, 20))")
    'row 2, 4, 6, 8, 10, ...'
    """
    rows = connection.execute(f"SELECT {PLACE}, row FROM {relation} WHERE {test} ORDER BY row LIMIT 6").fetchall()
    return f"{rows[0][0]} {', '.join([*(str(row) for _, row in rows[:5]), *(['...'] if len(rows) > 5 else [])])}"
