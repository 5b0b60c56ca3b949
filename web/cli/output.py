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
    """Write a table; columns whose name ends in a blank are right-aligned numbers."""
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for name in columns:
        table.add_column(name.strip(), justify="right" if name.endswith(" ") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console(file=sys.stdout, highlight=False).print(table)


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
    Console(stderr=True, highlight=False).print(text)


def tell(text: str) -> None:
    """Write a line of the result."""
    Console(file=sys.stdout, highlight=False, soft_wrap=True).print(text, markup=False)
