"""What waits in outbox files, read and decoded; while much waits, by a second process that is one file ahead of the loader.

Nothing is decided there: it looks into outboxes only, and its answer is what the loader would read at that moment itself.
When it dies, hangs or cannot answer, the loader reads for itself.
"""

from __future__ import annotations

import logging
import marshal
import os
import socket
import sqlite3
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from experiments.events.outbox_file import read_part
from experiments.events.rows import Decoded, decoded
from experiments.events.wire import COLUMNS

__all__ = ["Found", "ReadingAhead", "Request", "read"]

ONE_CORE = (os.cpu_count() or 1) < 2  # on which two processes only take turns
LONGEST_S = 10.0  # that an answer may take: 20,000 entries take 0.2 s
SIZE = 8  # bytes before a message that say how long it is
log = logging.getLogger("presslab.loader")


class Request(NamedTuple):
    """Which entries of an outbox file to read.

    Parameters
    ----------
    path : of the file. after, chain : number and checksum of the last entry that is stored.
    most : entries. at_once : of them that are decoded into one group.
    final : nobody will write to the file any more; asked before it is read, so that what is read is all there will ever be.
    """

    path: str
    after: int
    chain: int
    most: int
    at_once: int
    final: bool


class Found(NamedTuple):
    """What was there, all of one snapshot.

    Parameters
    ----------
    entries : how many were read. good : how many of them come before the first gap or damage. chain : checksum of the last of these.
    tally : the writer's counts per kind and arm. sealed : number of the last entry, if the writer said that nothing follows.
    groups : what the good entries say; it can be asked once.
    """

    entries: int
    good: int
    chain: int
    tally: dict[tuple[str, str], int]
    sealed: int | None
    groups: Iterable[Decoded]


# Of what is said: the program on the disk may be newer than the one that runs.
SHAPE = " ".join((*Request._fields, *Found._fields, *COLUMNS))


def read(request: Request) -> Found:
    """Return what a file holds; entries are decoded as their groups are asked for.

    Raises
    ------
    sqlite3.Error, OSError
        The file is damaged, gone, or cannot be opened now.
    """
    part = read_part(Path(request.path), after=request.after, most=request.most)
    good, chain = _chained(part.rows, request)
    return Found(len(part.rows), good, chain, part.tally, part.sealed, decoded(part.rows[:good], at_once=request.at_once))


def _chained(rows: Sequence[tuple[int, bytes, int]], request: Request) -> tuple[int, int]:
    """Return how many entries there are up to the first gap or damage, and the checksum of the last of these."""
    good, chain = 0, request.chain
    for seq, (number, body, check) in enumerate(rows, request.after + 1):
        if number != seq or crc32(body, chain) != check:
            break
        good, chain = good + 1, check
    return good, chain


class ReadingAhead:
    """Reads for the loader, and while there is a backlog lets a second process read what comes next.

    Parameters
    ----------
    backlog : entries of one file, with more behind them, from which on it pays to start a process.
    """

    def __init__(self, *, backlog: int) -> None:
        self._backlog = backlog
        self._alone = ONE_CORE
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._asked: deque[Request] = deque()

    def ask(self, request: Request | None) -> None:
        """Let the second process, if there is one, read this; call :meth:`take` for it later."""
        if request is not None and self._link is not None:
            try:
                _send(self._link, tuple(request))
                self._asked.append(request)
            except OSError as error:
                self._give_up(error)

    def take(self, request: Request) -> Found:
        """Return what :func:`read` returns, which see for errors; by the second process if it was asked and answers."""
        found = self._answer(request) or read(request)
        if found.entries == request.most >= self._backlog and self._link is None and not self._alone:
            self._start()
        return found

    def end(self) -> None:
        """End the second process; with the next backlog there may be another."""
        self._stop()
        self._alone = ONE_CORE

    def _start(self) -> None:
        self._link, its = socket.socketpair()
        self._link.settimeout(LONGEST_S)
        command = [sys.executable, "-m", "experiments.events.reading_ahead", SHAPE]
        with its:
            try:
                self._process = subprocess.Popen(command, stdin=its.fileno(), stdout=subprocess.DEVNULL, start_new_session=True)
            except OSError as error:
                self._give_up(error)

    def _answer(self, request: Request) -> Found | None:
        """What the second process found; None if it was not asked, cannot read the file, or does not answer."""
        while self._link is not None and request in self._asked:
            try:
                answer = _receive(self._link)
            except (OSError, EOFError, ValueError, TypeError) as error:  # the last two are of what is no message
                self._give_up(error)
                return None
            if self._asked.popleft() == request:
                return answer and Found._make((*answer[0], map(marshal.loads, answer[1])))
        return None

    def _give_up(self, error: Exception) -> None:
        self._stop()
        self._alone = True
        log.warning("the process that reads ahead does not answer (%s); the loader reads for itself until it has caught up", error)

    def _stop(self) -> None:
        if self._link is not None:
            self._link.close()
        if self._process is not None:
            self._process.kill()  # it only reads
            self._process.wait()
        self._link = self._process = None
        self._asked.clear()


def _send(link: socket.socket, message: Any) -> None:
    said = marshal.dumps(message)
    link.sendall(len(said).to_bytes(SIZE, "big"))
    link.sendall(said)


def _receive(link: socket.socket) -> Any:
    return marshal.loads(_bytes(link, int.from_bytes(_bytes(link, SIZE), "big")))


def _bytes(link: socket.socket, size: int) -> bytearray:
    got, at = bytearray(size), 0
    while at < size:
        more = link.recv_into(memoryview(got)[at:])
        if not more:
            raise EOFError("it has ended")
        at += more
    return got


def main() -> None:
    """Answer the loader at the other end of the standard input until it is gone."""
    with socket.socket(fileno=sys.stdin.fileno()) as link, suppress(EOFError, ConnectionError):
        while sys.argv[1:] == [SHAPE]:
            _send(link, _found(Request(*_receive(link))))


def _found(request: Request) -> tuple[Any, ...] | None:
    try:
        found = read(request)
        groups: Iterable[Any] = found.groups
    except (sqlite3.Error, OSError):
        return None  # the loader reads for itself, and meets the same
    return found[:-1], [marshal.dumps(group) for group in groups]


if __name__ == "__main__":
    main()
