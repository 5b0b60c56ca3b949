"""How commands talk: results on standard output, everything else on standard error, one object with ``--json``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["print_json", "print_marked", "print_table", "say", "short_time", "tell"]


def print_json(value: Any) -> None:
    """Write one JSON object; NaN and infinity are refused."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table; columns whose name ends in a blank are right-aligned numbers.

    Where the terminal is so narrow that words would break, every row becomes a block of lines instead, without what is empty.
    """
    out = Console(file=sys.stdout, highlight=False)
    cells = [[str(cell) for cell in row] for row in rows]
    out.print(Text(title, style="italic"))
    if rows and _narrowest(columns, cells) > out.width:
        for row in cells:
            _print_block(out, columns, row)
        return
    table = Table(header_style="bold", box=None, pad_edge=False)
    for name in columns:
        table.add_column(name.strip(), justify="right" if name.endswith(" ") else "left", overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    out.print(table)


def _narrowest(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Return the width that holds the longest word of every column, two blanks between columns.

    Examples
    --------
    >>> _narrowest(("arm", "share "), [("status quo", "50%")])
    13
    """
    words = [max(len(word) for row in (columns, *rows) for word in [*row[i].split(), ""]) for i in range(len(columns))]
    return sum(words) + 2 * (len(columns) - 1)


def _print_block(out: Console, columns: Sequence[str], row: Sequence[str]) -> None:
    block = Table.grid(padding=(0, 2))
    for name, cell in zip(columns[1:], row[1:], strict=True):
        if cell.strip() not in ("", "–"):
            block.add_row(Text(f"  {name.strip()}"), Text(cell))
    out.print(Text(row[0], style="bold"))
    if block.row_count:
        out.print(block)


def print_marked(rows: Sequence[tuple[str, str]]) -> None:
    """Write sentences behind their marks; a long one goes on under its own beginning."""
    grid = Table.grid(padding=(0, 1))
    for mark, text in rows:
        grid.add_row(f"  {mark}", Text(text))
    Console(file=sys.stdout, highlight=False).print(grid)


def short_time(iso: str | None) -> str:
    """Return a stored UTC time as a table shows it.

    Examples
    --------
    >>> short_time("2026-11-26T11:14:05+00:00"), short_time(None)
    ('2026-11-26 11:14', '–')
    """
    return (iso or "–")[:16].replace("T", " ")


def say(text: str) -> None:
    """Tell a person something that is not the result."""
    Console(stderr=True, highlight=False).print(text, markup=False)


def tell(text: str) -> None:
    """Write a line of the result."""
    Console(file=sys.stdout, highlight=False, soft_wrap=True).print(text, markup=False)
