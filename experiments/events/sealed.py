"""The catalogue of sealed days: which Parquet file holds the events of a day and source, and whether it is still whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, timedelta
from hashlib import file_digest
from pathlib import Path
from typing import Any
from zlib import crc32

from experiments.errors import DataError
from experiments.events.engine import Store
from experiments.events.event import KINDS
from experiments.events.wire import COLUMNS, Columns
from experiments.files import locked_file

__all__ = [
    *("DAY_US", "OF_THE_DAY", "SHARDS", "SPILLED", "Partition", "damaged", "faults", "late_for_their_day", "locked", "of_the_day"),
    *("partitions", "present", "sealed_folder", "shard_of", "spill_folder", "sweep"),
]

DAY_US = 86_400_000_000
OF_THE_DAY = f"kind IN ({', '.join(repr(kind) for kind in KINDS)}) AND issued_at >= :start AND issued_at < :end AND source = :source AND seq <= :through"
ISSUED, SOURCE, LATE = map(COLUMNS.index, ("issued_at", "source", "late"))
SPILLED = "spill-"  # begins the name of a folder of a process, whose number follows
SHARDS = 64  # parts into which readers are divided inside a file; a reader is always in the same one
MEND = "Copy each, and its .json, from lake/events of the last backup to where it was."


@dataclass(frozen=True, slots=True)
class Partition:
    """The events of one source issued on one day (days since 1970, UTC).

    Parameters
    ----------
    rows : events in the file. through_seq : last event of the store when it was written.
    """

    day: int
    source: str
    path: Path
    bytes: int
    sha256: str
    rows: int
    through_seq: int

    @property
    def says(self) -> str:
        return f"{date(1970, 1, 1) + timedelta(days=self.day)} ({self.source})"


def sealed_folder(home: Path) -> Path:
    """Where the sealed events of a home lie."""
    return home / "lake" / "events"


def shard_of(reader: str) -> int:
    """Return the part (0 to 63) a reader is in.

    Examples
    --------
    >>> shard_of("anna"), shard_of("")
    (55, 0)
    """
    return crc32(reader.encode()) % SHARDS


def of_the_day(day: int, source: str, through: int) -> dict[str, Any]:
    """Return the values of :data:`OF_THE_DAY`: the rows of the store of one day and source, up to a sequence number."""
    return {"start": day * DAY_US, "end": (day + 1) * DAY_US, "source": source, "through": through}


def partitions(store: Store, home: Path) -> tuple[Partition, ...]:
    """Return the partitions of a home in order of days; a day whose file was dropped after its time has none."""
    query = """SELECT day, source, file, bytes, sha256,
        CAST(coalesce((SELECT sum(n) FROM sealed_count c WHERE c.day = s.day AND c.source = s.source), 0) AS BIGINT), through_seq
        FROM sealed s WHERE file <> '' ORDER BY day, source"""
    folder = sealed_folder(home)
    return tuple(Partition(day, source, folder / file, *rest) for day, source, file, *rest in store.execute(query))


def present(found: Sequence[Partition]) -> tuple[Partition, ...]:
    """Return the same partitions.

    Raises
    ------
    DataError
        A file is missing or has another size than the catalogue says; every such file is named.
    """
    _complain([fault for one in found if (fault := _fault(one))])
    return tuple(found)


def damaged(found: Sequence[Partition]) -> None:
    """Raise a :class:`DataError` that names every file whose content is not what was sealed; reads every byte."""
    _complain(faults(found))


def faults(found: Sequence[Partition]) -> list[str]:
    """Return what is wrong with files, in words, each by its name; reads every byte."""
    return [fault for one in found if (fault := _fault(one) or _changed(one))]


def locked(home: Path) -> AbstractContextManager[None]:
    """Hold the right to write or remove sealed files; waits for whoever has it."""
    return locked_file(sealed_folder(home) / "lock")


def spill_folder(home: Path) -> Path:
    """Where this process may put what does not fit into memory."""
    return home / "lake" / f"{SPILLED}{os.getpid()}"


def sweep(store: Store, home: Path) -> int:
    """Remove files a kill left behind: those the catalogue does not name, and spilled memory. Call it under :func:`locked`.

    Returns
    -------
    how many sealed files.
    """
    for folder in (home / "lake").glob(f"{SPILLED}*"):
        if not _alive(int(folder.name.removeprefix(SPILLED))):
            shutil.rmtree(folder)
    named = {file.removesuffix(".parquet") for (file,) in store.execute("SELECT file FROM sealed WHERE file <> ''")}
    stray = [path for path in sealed_folder(home).iterdir() if path.name != "lock" and path.name.partition(".")[0] not in named]
    for path in stray:
        path.unlink()
    return len(stray)


def late_for_their_day(store: Store, columns: Columns) -> Columns:
    """Return the same rows, those of sealed days marked late: they are kept and counted, and enter no analysis."""
    oldest = min(columns[ISSUED], default=0) // DAY_US
    closed = set(store.execute("SELECT day, source FROM sealed WHERE day >= ?", (oldest,)))
    if not closed:
        return columns
    rows = zip(columns[LATE], columns[ISSUED], columns[SOURCE], strict=True)
    late = [1 if (issued // DAY_US, source) in closed else already for already, issued, source in rows]
    return (*columns[:LATE], late, *columns[LATE + 1 :])


def _fault(one: Partition) -> str:
    if not one.path.exists():
        return f"{one.path}: the file is missing"
    size = one.path.stat().st_size
    return "" if size == one.bytes else f"{one.path}: {size} bytes, {one.bytes} were sealed"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _changed(one: Partition) -> str:
    with one.path.open("rb") as file:
        return "" if file_digest(file, "sha256").hexdigest() == one.sha256 else f"{one.path}: other bytes than were sealed"


def _complain(faults: Sequence[str]) -> None:
    if faults:
        raise DataError(f"{len(faults)} sealed day(s) of events cannot be read.", MEND, faults)
