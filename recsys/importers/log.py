"""Import a log from elsewhere: parse, judge, and write all of it or nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from experiments.content import add_articles
from experiments.errors import DataError, nearest
from experiments.events import lake, lake_partitions
from experiments.events.store import erase_key, read_store, reader_key, store_path
from recsys.importers import deskdrop, globo, mind, table
from recsys.importers.rows import Parsed
from recsys.importers.source import column_names
from recsys.importers.table import Layout

__all__ = ["Imported", "LogFile", "fingerprint", "import_log", "parse_log", "recognise"]

MAX_REJECTED = 0.01


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did.

    Parameters
    ----------
    read, kept : rows. refused : the first 20 (line, reason). reasons : reason -> rows refused.
    articles, readers : distinct. sha256 : of the file. notes : what else a person should know.
    """

    read: int
    kept: int
    refused: tuple[tuple[int, str], ...]
    reasons: dict[str, int]
    articles: int
    readers: int
    sha256: str
    notes: tuple[str, ...] = ()

    @property
    def rejected(self) -> int:
        """Rows refused, for whatever reason (:attr:`refused` lists only the first 20)."""
        return sum(self.reasons.values())


@dataclass(frozen=True)
class LogFile:
    """A log to be evaluated; it is read when it is asked for.

    Parameters
    ----------
    path : file or folder, of the format its columns tell. layout : how a ``table`` is written.
    """

    path: Path
    layout: Layout

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def parsed(self) -> Parsed:
        """What can be used of it.

        Raises
        ------
        DataError
            It is no log, or has no row that can be used.
        """
        found = parse_log(recognise(self.path), self.path, layout=self.layout)
        if not found.table.num_rows:
            why = [f"{count:,} times {reason}" for reason, count in sorted(found.reasons.items())]
            raise DataError(f"{self.name}: none of its {found.read:,} rows can be used.", faults=[*why, *found.notes])
        return found


def parse_log(format: str, path: Path, *, layout: Layout = Layout()) -> Parsed:
    """Read a log in one of the known formats without writing anything.

    Raises
    ------
    DataError
        The format is unknown or the file cannot be read as one.
    """
    parsers: dict[str, Callable[[Path], Parsed]] = {
        "globo": globo.parse,
        "deskdrop": deskdrop.parse,
        "mind": mind.parse,
        "table": lambda given: table.parse(given, layout),
    }
    if format not in parsers:
        raise DataError(f"no importer is called '{format}'; {nearest(format, parsers)}")
    return parsers[format](path)


def recognise(path: Path) -> str:
    """Return the format of a log from its columns: ``globo``, ``deskdrop``, ``mind``, else ``table``.

    Raises
    ------
    DataError
        There is no such file, or it is a web page or another kind of file.
    """
    if path.exists() and mind.looks_like(path):
        return "mind"
    names = set(column_names(path))
    if {"click_article_id", "click_timestamp"} <= names:
        return "globo"
    return "deskdrop" if {"contentId", "personId"} <= names else "table"


def import_log(
    format: str, path: Path, home: Path, *, max_rejected: float = MAX_REJECTED, layout: Layout = Layout(), replacing: bool = False
) -> Imported:
    """Write a log's articles and reads into ``home``; the same file again changes nothing, and a read of two files counts once.

    Parameters
    ----------
    max_rejected : largest share of rows that may be unusable, 0 to 1; above it nothing is written.
    replacing : remove earlier imports of the same file that was read in another way (unit, zone, columns, format).

    Raises
    ------
    DataError
        Too many rows are refused (the first 20 are listed by line), no row is left, or the file cannot be read.
    """
    parsed = parse_log(format, path, layout=layout)
    _enough(parsed, path, max_rejected)
    sha256, content = fingerprint(path, layout), fingerprint(path)[:12]
    others = lake_partitions.imports(home, but=sha256)
    twins = [one for one in others if one.stem.split("-")[-2:-1] == [content]]
    parsed = _without_erased(home, parsed)
    if lake_partitions.sealed_as(home, sha256) is None:
        known = lake_partitions.without_rows_of([one for one in others if one not in twins], parsed.table)
        parsed = _left_out(parsed, known, "the row came with an earlier import", "came with an earlier import", ": each read counts once")
    else:
        parsed = replace(parsed, notes=(*parsed.notes, "this file was imported already; nothing was changed."))
    if parsed.table.num_rows:
        lake.add_import(home, parsed.table, name=f"{format}-{content}", sha256=sha256)
        for reader in _erased(home, parsed.table):  # since they were looked for
            lake.remove_reader(home, reader)
        add_articles(home, parsed.articles)  # last: no reader sees an article of an import that did not come to its end
    notes = (*parsed.notes, *_twice(twins, replacing=replacing))
    counts = parsed.read, parsed.table.num_rows, parsed.refused, parsed.reasons, len(parsed.articles)
    return Imported(*counts, len(parsed.table["reader"].unique()), sha256, notes)


def _enough(parsed: Parsed, path: Path, max_rejected: float) -> None:
    bad = sum(parsed.reasons.values())
    lines = [f"line {line}: {reason}" for line, reason in parsed.refused]
    if parsed.read and bad / parsed.read > max_rejected:
        counts = "; ".join(f"{n:,} times {reason}" for reason, n in sorted(parsed.reasons.items()))
        told = f"{path.name}: {bad:,} of {parsed.read:,} rows cannot be used ({counts}); nothing was written."
        raise DataError(told, f"Mend the file, or allow more than {max_rejected:.0%} with --max-rejected.", lines)


def _twice(twins: Sequence[Path], *, replacing: bool) -> tuple[str, ...]:
    """Say that the same file was read another way before; remove what was read then if that is wanted."""
    if not twins:
        return ()
    if not replacing:
        named = ", ".join(one.stem for one in twins)
        return (
            f"this file was read another way before ({named}): its reads count twice. Import it again with --replace to keep this way only.",
        )
    for one in twins:
        lake_partitions.remove_import(one)
    return (f"earlier imports of this file that were removed: {len(twins)}.",)


def _erased(home: Path, table: Any) -> list[str]:
    """Readers of a table who were erased in this home."""
    if not store_path(home).exists():
        return []
    with closing(read_store(store_path(home))) as store:
        gone = {bytes(key) for (key,) in store.execute("SELECT key FROM erased")}
    key = erase_key(home) if gone else b""
    return [reader for reader in table["reader"].unique().to_pylist() if reader_key(key, reader) in gone] if gone else []


def _without_erased(home: Path, parsed: Parsed) -> Parsed:
    wanted = pc.invert(pc.is_in(parsed.table["reader"], pa.array(_erased(home, parsed.table), pa.string())))
    return _left_out(parsed, parsed.table.filter(wanted), "the reader was erased here", "of readers who were erased here")


def _left_out(parsed: Parsed, rest: Any, reason: str, says: str, why: str = "") -> Parsed:
    """Take what is left of a table and count what is not; these rows are no fault of the file."""
    count = parsed.table.num_rows - rest.num_rows
    if not count:
        return parsed
    note = f"{count:,} rows {says}{' and' if why else ''} were left out{why}."
    return replace(parsed, table=rest, reasons=parsed.reasons | {reason: count}, notes=(*parsed.notes, note))


def fingerprint(path: Path, layout: Layout = Layout()) -> str:
    """Return the sha256 of a file, or of a folder's files in the order of their names, and of how they are read."""
    digest = hashlib.sha256(repr((sorted(layout.columns.items()), layout.unit, layout.zone)).encode())
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()
