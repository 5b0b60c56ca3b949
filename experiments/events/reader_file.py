"""Reading somebody's CSV or Parquet file into DuckDB: every fault is named with its row before anything is computed."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.errors import DataError, nearest

__all__ = [
    *("WHOLE", "check_suffix", "first_rows", "label", "literal", "load_file", "load_text", "quoted", "refuse", "unreadable"),
    "value_faults",
]

MOST_FAULTS = 20
SUFFIXES = (".csv", ".parquet", ".pq")
INTEGER = r"\s*[+-]?\d{1,18}\s*"  # a cast to BIGINT would round 1.6 to 2
DELIMITERS = ",;\t|"
WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT")
FLOATS = ("FLOAT", "DOUBLE")
NUMBERS = (*WHOLE, *FLOATS, "DECIMAL", "BOOLEAN")
ARM = "coalesce(nullif(nullif(trim(arm), ''), 'nan'), 'no arm')"
LARGEST = 1e60  # of a float: squares and cubes of it are numbers too


def quoted(name: str) -> str:
    """Return a column name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def refuse(path: Path, faults: Sequence[str]) -> None:
    """Raise when there are faults, naming the first twenty."""
    if len(faults) == 1:
        raise DataError(f"{path}: {faults[0]}")
    if faults:
        more = [f"... and more: only the first {MOST_FAULTS} are listed."] if len(faults) > MOST_FAULTS else []
        raise DataError(f"{path} cannot be analysed:", faults=[*faults[:MOST_FAULTS], *more])


def check_suffix(path: Path) -> None:
    """Refuse a file that is missing, of an unknown suffix, or not what its suffix says."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: the suffix '{path.suffix}' is not known; {nearest(path.suffix, SUFFIXES)}")
    with path.open("rb") as file:
        parquet = file.read(4) == b"PAR1"
    if parquet != (path.suffix.lower() != ".csv"):
        inside = "a Parquet file" if parquet else "no Parquet file"
        raise DataError(f"{path}: inside it is {inside}, whatever its suffix says.", "Rename it.")


def label(name: str) -> str:
    """The column of :func:`load_file`'s relations that holds a column of groups as text."""
    return f"group:{name}"


def load_file(connection: Any, path: Path, *, reader: str, arm: str, measured: Sequence[str], labels: Sequence[str] = ()) -> dict[str, str]:
    """Make the relation ``file`` (reader, arm, the measured columns, labels) and ``numbered`` (the same with ``row``, from 1).

    Parameters
    ----------
    labels : columns that are read as text, under the name :func:`label`.

    Returns
    -------
    DuckDB type per measured column.

    Raises
    ------
    DataError
        A column is missing or no number, or a line is cut.
    """
    make = _load_csv if path.suffix.lower() == ".csv" else _load_parquet
    return make(connection, path, (reader, arm), measured, labels)


def unreadable(path: Path, error: Exception) -> DataError:
    """Return what is said of a file that cannot be read to its end."""
    if isinstance(error, UnicodeDecodeError):
        return DataError(f"{path}: inside it is no UTF-8 text: {error}.", "Save it as UTF-8.")
    if path.suffix.lower() == ".csv" and _mixed_line_ends(path):
        return DataError(f"{path}: some lines end in CR LF, others in LF.", "Save it with one kind of line end.")
    return DataError(f"{path}: not readable: {str(error).splitlines()[0]}")


def _mixed_line_ends(path: Path) -> bool:
    ends = {line.endswith(b"\r\n") for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")}
    return len(ends) > 1


def _missing(path: Path, names: Sequence[str], found: Sequence[str]) -> None:
    refuse(path, [f"there is no column '{name}'; {nearest(name, found)}" for name in dict.fromkeys(names) if name not in found])


def _as_text(names: Sequence[str]) -> list[str]:
    return [f"{quoted(name)}::VARCHAR AS {quoted(label(name))}" for name in names]


def _load_parquet(connection: Any, path: Path, who: tuple[str, str], measured: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    source = f"read_parquet({literal(str(path))}, file_row_number = true)"
    described = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    types = {name: str(kind).partition("(")[0] for name, kind, *_ in described if name != "file_row_number"}
    _missing(path, (*who, *measured, *labels), list(types))
    refuse(path, [f"column '{name}' holds {types[name].lower()}, not numbers." for name in measured if types[name] not in NUMBERS])
    booleans = {name for name in measured if types[name] == "BOOLEAN"}
    values = [f"{quoted(name)}{'::TINYINT' if name in booleans else ''} AS {quoted(name)}" for name in measured]
    kept = ", ".join([f"{quoted(who[0])} AS reader", f"{quoted(who[1])}::VARCHAR AS arm", *values, *_as_text(labels)])
    connection.execute(f"CREATE TEMP VIEW file AS SELECT {kept} FROM read_parquet({literal(str(path))})")
    connection.execute(f"CREATE TEMP VIEW numbered AS SELECT file_row_number + 1 AS row, {kept} FROM {source}")
    return {name: "TINYINT" if name in booleans else types[name] for name in measured}


def load_text(connection: Any, path: Path, names: Sequence[str]) -> None:
    """Make the relation ``text``: ``row``, from 1, and the named columns as text.

    Raises
    ------
    DataError
        A column is missing, or a line is cut.
    """
    if path.suffix.lower() == ".csv":
        _csv_as_text(connection, path, names)
        return
    source = f"read_parquet({literal(str(path))}, file_row_number = true)"
    _missing(path, names, [str(column[0]) for column in connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()])
    kept = ", ".join(f"{quoted(name)}::VARCHAR AS {quoted(name)}" for name in dict.fromkeys(names))
    connection.execute(f"CREATE TEMP TABLE text AS SELECT file_row_number + 1 AS row, {kept} FROM {source}")


def _csv_as_text(connection: Any, path: Path, names: Sequence[str]) -> None:
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
    delimiter = max(DELIMITERS, key=first.count)
    header = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
    twice = sorted({name for name in header if header.count(name) > 1})
    refuse(path, [f"column '{name}' is named twice." for name in twice])
    _missing(path, names, header)
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in header)
    layout = f"auto_detect = false, header = true, delim = {literal(delimiter)}, quote = '\"', escape = '\"', columns = {{{columns}}}"
    kept = ", ".join(quoted(name) for name in dict.fromkeys(names))
    connection.execute(f"CREATE TEMP TABLE text AS SELECT row_number() OVER () AS row, {kept} FROM "
                       f"read_csv({literal(str(path))}, {layout}, store_rejects = true, rejects_limit = 1000)")  # fmt: skip
    cut = connection.execute("SELECT line, min(error_message) FROM reject_errors GROUP BY line ORDER BY line").fetchall()
    refuse(path, [f"line {line}: {message}" for line, message in cut])


def _load_csv(connection: Any, path: Path, who: tuple[str, str], measured: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """All columns are read as text; what is a whole number, a number or neither is decided by every row, not by a sample."""
    _csv_as_text(connection, path, (*who, *measured, *labels))
    refuse(path, [fault for name in measured if (fault := _not_numbers(connection, name))])
    whole = {name: not _count(connection, f"NOT regexp_full_match({quoted(name)}, '{INTEGER}')") for name in measured}
    types = {name: "BIGINT" if whole[name] else "DOUBLE" for name in measured}
    values = ", ".join([*(f"{quoted(name)}::{kind} AS {quoted(name)}" for name, kind in types.items()), *_as_text(labels)])
    connection.execute(f"CREATE TEMP TABLE numbered AS SELECT row, {quoted(who[0])} AS reader, {quoted(who[1])} AS arm, {values} FROM text")
    connection.execute("CREATE TEMP VIEW file AS SELECT * FROM numbered")
    return types


def _not_numbers(connection: Any, name: str) -> str:
    test = f"{quoted(name)} IS NOT NULL AND try_cast({quoted(name)} AS DOUBLE) IS NULL"
    count = _count(connection, test)
    if not count:
        return ""
    first = connection.execute(f"SELECT row, {quoted(name)} FROM text WHERE {test} ORDER BY row LIMIT 3").fetchall()
    shown = ", ".join(f"line {row + 1} has '{value[:40]}'" for row, value in first)
    return f"column '{name}' is no number in {count:,} row{'s' * (count > 1)}: {shown}."


def _count(connection: Any, test: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM text WHERE {test}").fetchone()[0])


def literal(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def value_faults(connection: Any, types: Mapping[str, str], *, never_negative: Sequence[str]) -> list[str]:
    """Return what is empty, not finite, too large or below zero, with counts per arm and the first rows."""
    return list(_value_faults(connection, types, never_negative))


def _value_faults(connection: Any, types: Mapping[str, str], never_negative: Sequence[str]) -> Iterator[str]:
    who = connection.execute("DESCRIBE SELECT reader FROM file").fetchone()[1]
    # not isnan: as a filter over a Parquet file DuckDB 2.0 finds none
    blank = {"VARCHAR": " OR trim(reader) = ''"} | dict.fromkeys(FLOATS, " OR NOT isfinite(reader)")
    tests = {
        "the reader is empty": f"(reader IS NULL{blank.get(who, '')})",
        "the arm is empty": "(arm IS NULL OR trim(arm) IN ('', 'nan'))",
    }
    for name, kind in types.items():
        tests[f"'{name}' is empty"] = f"{quoted(name)} IS NULL"
        if kind in FLOATS:
            tests[f"'{name}' is not a finite number"] = f"NOT isfinite({quoted(name)})"
            tests[f"'{name}' is beyond {LARGEST:g}"] = f"isfinite({quoted(name)}) AND abs({quoted(name)}) > {LARGEST}"
        if name in never_negative:
            tests[f"'{name}' is below zero"] = f"{quoted(name)} < 0"
    counts = ", ".join(f"count(*) FILTER (WHERE {test})" for test in tests.values())
    for (says, test), count in zip(tests.items(), connection.execute(f"SELECT {counts} FROM file").fetchone(), strict=True):
        if count:
            arms = connection.execute(f"SELECT {ARM}, count(*) FROM file WHERE {test} GROUP BY 1 ORDER BY 1").fetchall()
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
    rows = [str(row) for (row,) in connection.execute(f"SELECT row FROM {relation} WHERE {test} ORDER BY row LIMIT 6").fetchall()]
    return f"row {', '.join([*rows[:5], *(['...'] if len(rows) > 5 else [])])}"
