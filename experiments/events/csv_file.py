"""CSV files of others: what is really inside, how values are divided, and the line in which a row begins."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from experiments.errors import DataError

__all__ = ["CsvFile", "begins", "inside", "line_breaks", "line_ends", "no_text", "open_csv", "records"]

DELIMITERS = ",;\t|"
BLOCK = 500_000  # bytes without a line end are no row of a table; DuckDB leaves out lines of many megabytes without a word
OTHER = {
    b"PAR1": "a Parquet file",
    b"\x1f\x8b": "a gzip file",
    b"PK\x03\x04": "a zip file or a spreadsheet",
    b"ARROW1": "an Arrow file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}


@dataclass(frozen=True, slots=True)
class CsvFile:
    """A CSV file with a header.

    Parameters
    ----------
    header : names of the columns, without spaces around them. lines : how many, empty ones too.
    """

    path: Path
    delimiter: str
    header: tuple[str, ...]
    lines: int


def inside(path: Path) -> str:
    """Return what the first bytes say is in a file: of another format its name, else nothing."""
    with path.open("rb") as file:
        begin = file.read(8)
    return next((name for magic, name in OTHER.items() if begin.startswith(magic)), "")


def open_csv(path: Path) -> CsvFile:
    """Return how a CSV file is laid out.

    Raises
    ------
    DataError
        It is none: of another format, empty, with a zero byte or an endless line, without UTF-8 names in its first line, or
        with two columns of one name.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    if found := inside(path):
        raise DataError(f"{path}: inside it is {found}, whatever its suffix says.", "Save it as CSV, UTF-8.")
    lines = _lines(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            delimiter = max(DELIMITERS, key=first.count)
            file.seek(0)
            header = tuple(name.strip() for name in next(csv.reader(file, delimiter=delimiter), []))
    except UnicodeDecodeError as error:
        raise no_text(path, error) from error
    except csv.Error as error:
        raise DataError(f"{path}: its first line is none of names: {error}.") from error
    if not any(header):
        raise DataError(f"{path}: {'line 1 is empty' if lines else 'the file is empty'}.", "The first line must name the columns.")
    _once(path, header)
    return CsvFile(path, delimiter, header, lines)


def no_text(path: Path, error: UnicodeDecodeError) -> DataError:
    """Return what is said of a file that is no UTF-8 text."""
    return DataError(f"{path}: inside it is no UTF-8 text: {error}.", "Save it as UTF-8.")


def records(file: CsvFile) -> Iterator[tuple[int, list[str]]]:
    """Yield every row below the header with the line it begins in; empty lines are none.

    Raises
    ------
    DataError
        A quote is never closed, a value is longer than 131,072 characters, or it is no UTF-8 text.
    """
    end = 1
    try:
        with file.path.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.reader(opened, delimiter=file.delimiter, strict=True)
            next(reader)
            end = reader.line_num
            for row in reader:
                begin, end = end + 1, reader.line_num
                if row:
                    yield begin, row
    except UnicodeDecodeError as error:
        raise no_text(file.path, error) from error
    except csv.Error as error:
        raise DataError(f"{file.path}: the row that begins in line {end + 1} is not readable: {error}.") from error


def begins(file: CsvFile, *, left_out: Collection[int]) -> list[int]:
    """Return the line in which each row begins that has as many values as the header, and is not left out; [] if unknown.

    Parameters
    ----------
    left_out : lines.
    """
    try:
        return [line for line, row in records(file) if len(row) == len(file.header) and line not in left_out]
    except DataError:
        return []


def line_breaks(text: bytes) -> int:
    """Return how many lines end in a text, whichever of CR LF, LF and CR they end in.

    Examples
    --------
    >>> line_breaks(b"a\\r\\nb\\r\\n"), line_breaks(b"a\\rb\\r"), line_breaks(b"a\\nb")
    (2, 2, 1)
    """
    return max(text.count(b"\n"), text.count(b"\r"))


def line_ends(path: Path) -> list[str]:
    """Return in which of CR LF, LF and CR lines of a file end."""
    text = path.read_bytes()
    both = text.count(b"\r\n")
    found = {"CR LF": both, "LF": text.count(b"\n") - both, "CR": text.count(b"\r") - both}
    return [name for name, n in found.items() if n]


def _lines(path: Path) -> int:
    """How many lines a file has; each must be text and end."""
    line_feeds = returns = 0
    last = b""
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            line = max(line_feeds, returns) + 1
            if b"\0" in block:
                at = line + line_breaks(block[: block.index(b"\0")])
                raise DataError(f"{path}, line {at}: there is a zero byte.", "The file is damaged or no UTF-8 text.")
            here, back = block.count(b"\n"), block.count(b"\r")
            if not here + back and len(block) == BLOCK:
                raise DataError(f"{path}, line {line}: it is longer than {BLOCK:,} bytes.", "Is it a CSV file?")
            line_feeds, returns, last = line_feeds + here, returns + back, block[-1:]
    return (line_feeds or returns) + (last not in (b"", b"\n", b"\r"))


def _once(path: Path, header: tuple[str, ...]) -> None:
    folded = [name.casefold() for name in header]
    twice = sorted({name for name in header if header.count(name) > 1})
    alike = sorted({name for name in header if folded.count(name.casefold()) > 1} - set(twice))
    faults = [f"line 1: the column '{name}' is named twice." for name in twice]
    faults += [f"line 1: the columns {' and '.join(repr(name) for name in alike)} differ in capitals only."] if alike else []
    if faults:
        raise DataError(f"{path}: {faults[0]}") if len(faults) == 1 else DataError(f"{path} cannot be read:", faults=faults)
