"""On which line of its file a row lies, so that a person finds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["Bools", "Lines", "Numbered", "each_line", "numbered", "place"]

Lines = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def place(line: int, files: Sequence[tuple[int, str]]) -> tuple[int, str]:
    """Return the line within its file, and what to write before the reason: the file's name when there are several.

    Examples
    --------
    >>> place(5, ()), place(5, ((0, "a.csv"), (3, "b.csv")))
    ((5, ''), (2, 'b.csv: '))
    """
    before, name = max(((start, name) for start, name in files if start < line), default=(0, ""))
    return line - before, f"{name}: " if name else ""


@dataclass(frozen=True, slots=True)
class Numbered:
    """Where rows lie in their file.

    Parameters
    ----------
    lines, last : (n,) first and last line of each row that was read, first line of the file = 1.
    bad : (line, reason) of each line of each row that was not.
    """

    lines: Lines
    last: Lines
    bad: tuple[tuple[int, str], ...]


def numbered(content: bytes | Path, rows: int, invalid: Sequence[tuple[int, str]], *, header: int, quoted: bool = True) -> Numbered:
    """Return the lines of each row that was read and of each that was not; Arrow counts rows and passes over blank lines.

    Parameters
    ----------
    rows : read. invalid : (number as Arrow counts, reason). header : lines before the first row. quoted : a text in quotes spans lines.
    """
    total = rows + len(invalid) + header
    first = last = np.arange(1, total + 1)
    text = np.frombuffer(content, np.uint8) if isinstance(content, bytes) else np.memmap(content, np.uint8, "r")
    found = _records(text, quoted=quoted)
    if len(found[0]) == total:  # else a quote stands where it opens nothing: then rows are counted, not lines
        first, last = found
    places = np.array([number - 1 for number, _ in invalid], np.int64)
    bad = tuple(
        line for at, (_, reason) in zip(places.tolist(), invalid, strict=True) for line in each_line(int(first[at]), int(last[at]), reason)
    )
    aside = [*range(header), *places]
    return Numbered(np.delete(first, aside), np.delete(last, aside), bad)


def each_line(first: int, last: int, reason: str) -> list[tuple[int, str]]:
    """The reason for every line of a row: each is lost, however few rows they were read as."""
    if last > first:
        reason = f"{reason}: lines {first} to {last} were read as one row; is a quote left open?"
    return [(line, reason) for line in range(first, last + 1)]


def _records(text: npt.NDArray[np.uint8], *, quoted: bool) -> tuple[Lines, Lines]:
    """Return the first and last lines of what lies between line ends outside quotes and is more than a line end, first = 1.

    >>> [lines.tolist() for lines in _records(np.frombuffer(b'a\\n\\r\\n\\n"b\\r\\n"\\nc', np.uint8), quoted=True)]
    [[1, 4, 6], [1, 5, 6]]
    """
    ends = np.flatnonzero(text == ord("\n"))
    if len(text) and text[-1] != ord("\n"):
        ends = np.append(ends, len(text))
    outside = np.arange(len(ends))
    if quoted and len(quotes := np.flatnonzero(text == ord('"'))):
        outside = np.flatnonzero((np.searchsorted(quotes, ends) % 2 == 0) | (outside == len(ends) - 1))
    last, ends = outside + 1, ends[outside]
    length = np.diff(ends, prepend=-1) - 1
    returned = (length > 0) & (text[ends - 1] == ord("\r"))
    filled = length > returned
    return (np.append(0, last[:-1]) + 1)[filled], last[filled]
