"""Files as columns, judged by their content and not by their name."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from experiments.errors import DataError
from recsys.importers.lines import Bools, Lines, Numbered, each_line, numbered

__all__ = ["Source", "check_readable", "column_names", "integers", "read_source", "texts"]


@dataclass(frozen=True, slots=True)
class Source:
    """The columns of a file.

    Parameters
    ----------
    table : pyarrow.Table; text columns when the file was CSV.
    lines : (n,) int64, line of each row (CSV, header = 1) or its row number (Parquet, first = 1). Of several files they go on from
        one file to the next; :func:`recsys.importers.lines.place` takes them apart.
    refused : (line, reason) of rows that are not even rows.
    files : (lines before it, name) of each file when there are several.
    """

    table: Any
    lines: Lines
    refused: tuple[tuple[int, str], ...] = ()
    files: tuple[tuple[int, str], ...] = ()


def read_source(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> Source:
    """Read the named columns of a Parquet file, a CSV file, a zip of CSV files or a folder of CSV files.

    Raises
    ------
    DataError
        No such file, a web page, a binary file, or a missing column (with the nearest names).
    """
    found = [(name, _part(name, content, (columns, optional))) for name, content in _files(path)]
    if len(found) == 1:
        return found[0][1]
    names, parts = [name for name, _ in found], [part for _, part in found]
    last = [max([*part.lines[-1:].tolist(), *(line for line, _ in part.refused)], default=0) for part in parts]
    before = np.cumsum([0, *last[:-1]]).tolist()
    table = pa.concat_tables([part.table for part in parts], promote_options="default")
    lines = np.concatenate([part.lines + start for part, start in zip(parts, before, strict=True)])
    refused = tuple((line + start, reason) for part, start in zip(parts, before, strict=True) for line, reason in part.refused)
    return Source(table, lines, refused, tuple(zip(before, names, strict=True)))


def column_names(path: Path) -> list[str]:
    """Return the columns of a file (of the first one in a zip or folder), without reading its rows."""
    if path.is_dir() and (found := sorted(path.glob("users_interactions*"))):
        path = found[0]
    name, content = next(_files(path))
    head = content[:512] if isinstance(content, bytes) else _head(content)
    check_readable(name, head)
    return list(pq.read_schema(content).names) if head.startswith(b"PAR1") else _header(content)


def _files(path: Path) -> Iterator[tuple[str, bytes | Path]]:
    if not path.exists():
        raise DataError(f"{path}: there is no such file.")
    files = sorted(p for p in path.iterdir() if p.suffix in {".csv", ".parquet"}) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path}: the folder holds no .csv and no .parquet file.")
    for file in files:
        with file.open("rb") as opened:
            head = opened.read(512)
        if not head.startswith(b"PK\x03\x04"):
            yield file.name, file
            continue
        yield from _unzipped(file)


def _unzipped(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith(".csv") and "__MACOSX" not in name)
            found = [(name, archive.read(name)) for name in names]
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:  # cut, damaged, or with a password
        raise DataError(f"{path}: the zip cannot be unpacked: {error}.", "Fetch it again, or unpack it first.") from error
    if not found:
        raise DataError(f"{path}: the zip holds no .csv file.")
    yield from found


def _part(name: str, content: bytes | Path, columns: tuple[Sequence[str], Sequence[str]]) -> Source:
    wanted, optional = columns
    head = content[:512] if isinstance(content, bytes) else _head(content)
    check_readable(name, head)
    if head.startswith(b"PAR1"):
        return _parquet(name, cast(Path, content), wanted, optional)
    return _csv(name, content, wanted, optional)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(512)


def check_readable(name: str, head: bytes) -> None:
    """Refuse in words what is no table: a web page, gzip, a binary file, an empty one."""
    if head.startswith(b"PAR1"):
        return
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise DataError(f"{name}: this is a web page, not a table.", "The download probably led to a login or error page.")
    if head.startswith(b"\x1f\x8b"):
        raise DataError(f"{name}: this is gzip.", "Unpack it first.")
    if b"\0" in head:
        raise DataError(
            f"{name}: this is neither CSV nor Parquet (it holds zero bytes).",
            'A spreadsheet\'s "Unicode text" is UTF-16: save it as CSV in UTF-8.',
        )
    if not head.strip():
        raise DataError(f"{name}: the file is empty, not even a header.")


def _missing(name: str, known: Sequence[str], wanted: Sequence[str]) -> None:
    faults = []
    for column in wanted:
        if column not in known:
            close = get_close_matches(column, known, n=1)
            faults.append(f"column '{column}' is missing" + (f"; is it '{close[0]}'?" if close else ""))
        elif known.count(column) > 1:
            raise DataError(f"{name}: {known.count(column)} columns are called '{column}'.", "Rename all but the one that is meant.")
    if faults:
        raise DataError(f"{name}: {len(faults)} column(s) missing; the file has {', '.join(map(repr, known[:20]))}.", faults=faults)


def _parquet(name: str, path: Path, wanted: Sequence[str], optional: Sequence[str]) -> Source:
    try:
        file = pq.ParquetFile(path)
        known = file.schema_arrow.names
        _missing(name, known, wanted)
        table = file.read([c for c in (*wanted, *optional) if c in known])
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{name}: not readable as Parquet: {error}.") from error
    return Source(table, np.arange(1, table.num_rows + 1))


def _csv(name: str, content: bytes | Path, wanted: Sequence[str], optional: Sequence[str]) -> Source:
    invalid: list[tuple[int, str]] = []

    def note(row: Any) -> str:
        invalid.append((int(row.number), f"{row.actual_columns} columns instead of {row.expected_columns}"))
        return "skip"

    known = _header(content)
    _missing(name, known, wanted)
    keep = [c for c in (*wanted, *optional) if c in known]
    written = [_written(content)[known.index(c)] for c in keep]  # blanks around a name are no part of it, but Arrow keeps them
    options = pacsv.ConvertOptions(
        column_types={c: pa.string() for c in written}, include_columns=written, strings_can_be_null=True, null_values=[""]
    )
    source = pa.BufferReader(content) if isinstance(content, bytes) else pa.memory_map(str(content))  # a path's suffix would be believed
    text = np.frombuffer(source.read_buffer(), np.uint8)
    if not (text == ord("\n")).any():  # a header alone, whose line has no end, is no table to Arrow
        return Source(pa.table({name: pa.array([], pa.string()) for name in keep}), np.zeros(0, np.int64))
    # else a row that is open where a block ends is closed there, and the lines in between are lost
    quotes = bool((text == ord('"')).any())
    parsing = pacsv.ParseOptions(invalid_row_handler=note, newlines_in_values=quotes)
    source.seek(0)
    try:
        table = pacsv.read_csv(source, read_options=pacsv.ReadOptions(use_threads=False), parse_options=parsing, convert_options=options)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:  # the latter: a header Arrow reads otherwise
        hints = {"UTF8": "Save it in UTF-8.", "straddling": "A row is longer than a megabyte; is a quote left open?"}
        hint = next((says for word, says in hints.items() if word in str(error)), "")
        raise DataError(f"{name}: not readable as CSV: {error}.", hint) from error
    rows = numbered(content, table.num_rows, invalid, header=1)
    return _without_broken(table.rename_columns(keep), rows) if quotes else Source(table.rename_columns(keep), rows.lines, rows.bad)


def _without_broken(table: Any, rows: Numbered) -> Source:
    """Refuse rows whose own values hold a line end: an id or a time does not. Where lines could not be told, a row has as many as it holds."""
    held = np.sum([np.asarray(pc.fill_null(pc.count_substring(column, "\n"), 0)) for column in table.columns], axis=0)
    broken = np.flatnonzero(held)
    if not len(broken):
        return Source(table, rows.lines, rows.bad)
    last = np.where(rows.last > rows.lines, rows.last, rows.lines + held)
    bad = [each for at in broken for each in each_line(int(rows.lines[at]), int(last[at]), "an id or a time holds a line end")]
    kept = np.delete(np.arange(len(rows.lines)), broken)
    return Source(table.take(pa.array(kept)), rows.lines[kept], (*rows.bad, *bad))


def _header(content: bytes | Path) -> list[str]:
    """Names of the columns."""
    return [word.strip().strip('"') for word in _written(content)]


def _written(content: bytes | Path) -> list[str]:
    """Names of the columns with the blanks around them, as Arrow reads them."""
    if isinstance(content, bytes):
        first = content.split(b"\n", 1)[0]
    else:
        with content.open("rb") as file:
            first = file.readline()
    words = first.decode("utf-8-sig", "replace").rstrip("\r\n").split(",")
    return [word[1:-1] if word[:1] == word[-1:] == '"' else word for word in words]


def texts(column: Any, name: str) -> Any:
    """Return ids as a text array, null where there is none; a float column is refused, because it cannot hold 64-bit ids."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_floating(array.type):
        raise DataError(
            f"column '{name}' holds decimal numbers; ids must be whole numbers or text.", "Decimals cannot hold 64-bit ids exactly."
        )
    if pa.types.is_integer(array.type):
        return pc.cast(array, pa.string())
    trimmed = pc.utf8_trim_whitespace(_words(array, f"column '{name}'"))
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)


def _words(array: Any, name: str) -> Any:
    try:
        return pc.cast(array, pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise DataError(f"{name} holds {array.type}, which is neither text nor numbers.", "Write it as text or whole numbers.") from error


def integers(column: Any) -> tuple[npt.NDArray[np.int64], Bools]:
    """Return whole numbers of at most 18 digits and which rows hold one (0 elsewhere); no row passes through a float.

    Examples
    --------
    >>> values, good = integers(pa.array(["100000000000000001", "1.5", None]))
    >>> values.tolist(), good.tolist()
    ([100000000000000001, 0, 0], [True, False, False])
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not pa.types.is_integer(array.type):
        text = pc.utf8_trim_whitespace(_words(array, "the column of times"))
        whole = pc.fill_null(pc.match_substring_regex(text, r"^-?[0-9]{1,18}$"), False)
        array = pc.cast(pc.if_else(whole, text, pa.scalar(None, pa.string())), pa.int64())
    good = pc.is_valid(array).to_numpy(zero_copy_only=False)
    values = pc.fill_null(pc.cast(array, pa.int64(), safe=False), 0).to_numpy(zero_copy_only=False)
    return values, good
