"""What waits in outbox files whose owners died, and the processes that read it ahead of a loader."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from msgspec.structs import replace

from experiments.events.event import Event
from experiments.events.outbox_file import OutboxFile
from experiments.events.store import balance
from experiments.events.wire import encode
from tests.events.story import view

FILES, ENTRIES = 4, 25


def events(first: int) -> Iterator[Event]:
    """Good ones, one in ten that is refused, and some that come again, the same or changed."""
    for n in range(FILES * ENTRIES):
        event = view(first + n % 90, arm="als")
        yield replace(event, kind="click") if n % 10 == 3 else replace(event, body={"page_type": "front"}) if n == 94 else event


def backlog(home: Path, first: int = 0) -> None:
    """Leave files behind as killed web workers do."""
    (home / "outbox").mkdir(parents=True, exist_ok=True)
    some = events(first)
    for number in range(FILES):
        file = OutboxFile(home / "outbox", f"dead-{first}-{number}")
        for event in islice(some, ENTRIES):
            file.write([encode(event)], {(event.kind, event.arm): 1})
        os.close(file._lock)  # the kernel does it when a process is killed
        file._connection.close()


def readers(process: int) -> list[int]:
    """The processes that read ahead for this loader."""
    found = []
    with suppress(FileNotFoundError):  # one of them ends in this instant
        for path in Path(f"/proc/{process}/task").glob("*/children"):
            for child in path.read_text().split():
                if b"reading_ahead" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(int(child))
    return found


def exact(home: Path) -> bool:
    """Whether everything has arrived and is accounted for."""
    return all(row.exact and not row.pending for row in balance(home))
