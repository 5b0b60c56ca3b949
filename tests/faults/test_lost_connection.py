"""The connection to the database is lost while a commit is on its way: nobody knows what became of it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote
from uuid import uuid4

import pytest

from experiments.errors import StoreDownError
from experiments.events.loader import Loader
from experiments.events.outbox import Outbox
from experiments.events.store import balance, upgrade_store
from tests import postgres
from tests.events.story import SMALL, START, view

SOCKET = ".s.PGSQL.5432"
FATES = ("never sent", "done, unheard", "done later")


class Between:
    """Hands on what loader and server say; what becomes of the next commit, after ``spared`` others, is told by ``fate``.

    ``done later``: the server gets it when the next connection of the loader already waits for its turn to write.
    """

    def __init__(self, folder: Path, server: Path) -> None:
        self.fate, self.spared = "", 0
        self._server = server
        self._held: list[tuple[socket.socket, bytes]] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(folder / SOCKET))
        self._listening.listen()
        self._accepting = threading.Thread(target=self._accept)
        self._handing: list[threading.Thread] = []
        self._accepting.start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        for thread in self._handing:
            thread.join()

    def _accept(self) -> None:
        with self._listening, suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self._server / SOCKET))
                for ends in ((client, server, True), (server, client, False)):
                    self._handing.append(threading.Thread(target=self._hand_on, args=ends))
                    self._handing[-1].start()

    def _hand_on(self, source: socket.socket, target: socket.socket, is_asking: bool) -> None:
        with source, suppress(OSError):
            while said := source.recv(65_536):
                if is_asking and self.fate and b"COMMIT" in said:
                    if not self.spared:
                        self._lose(source, target, said)
                        return
                    self.spared -= 1
                target.sendall(said)
                if is_asking and b"FOR UPDATE" in said:
                    while self._held:
                        server, commit = self._held.pop()
                        server.sendall(commit)
                        server.shutdown(socket.SHUT_WR)
            target.shutdown(socket.SHUT_WR)

    def _lose(self, client: socket.socket, server: socket.socket, commit: bytes) -> None:
        fate, self.fate = self.fate, ""
        if fate == "done later":
            self._held.append((server, commit))
        client.shutdown(socket.SHUT_RDWR)
        if fate == "done, unheard":
            server.sendall(commit)
        if fate != "done later":
            server.shutdown(socket.SHUT_WR)


@pytest.fixture
def between(postgres_server: postgres.Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Between]:
    """A home (``tmp_path``) whose loader reaches its database through it."""
    with TemporaryDirectory(prefix="between-") as name:
        found = Between(Path(name), postgres_server.folder)
        url = postgres_server.url(f"s{uuid4().hex}").replace(quote(str(postgres_server.folder), safe=""), quote(name, safe=""))
        monkeypatch.setenv("PRESSLAB_DATABASE_URL", url)
        try:
            upgrade_store(tmp_path)
            yield found
        finally:
            found.close()


@pytest.mark.parametrize("fate", FATES)
def test_whatever_became_of_a_commit_every_event_is_counted_once(between: Between, tmp_path: Path, fate: str) -> None:
    outbox = Outbox(tmp_path / "outbox", clock=lambda: START, limits=SMALL)
    outbox.append([view(n) for n in (1, 2, 3, 1)])
    with Loader(tmp_path, clock=lambda: START) as loader:
        between.fate = fate
        with pytest.raises(StoreDownError):
            loader.load()
        outbox.close()
        loader.drain()
    assert [(row.received, row.stored, row.duplicate, row.pending) for row in balance(tmp_path)] == [(4, 3, 1, 0)]
    assert list((tmp_path / "outbox").iterdir()) == []


@pytest.mark.parametrize("fate", FATES)
def test_whatever_became_of_the_folding_of_a_removed_file_every_event_is_counted_once(between: Between, tmp_path: Path, fate: str) -> None:
    outbox = Outbox(tmp_path / "outbox", clock=lambda: START, limits=SMALL)
    outbox.append([view(n) for n in (1, 2, 3, 1)])
    outbox.close()
    with Loader(tmp_path, clock=lambda: START) as loader:
        between.fate, between.spared = fate, 1  # the first stores what the file holds
        with pytest.raises(StoreDownError):
            loader.load()
        assert list((tmp_path / "outbox").iterdir()) == []
        loader.drain()
        assert loader._store.execute("SELECT count(*) FROM outbox_offset").fetchone() == (0,)
    assert [(row.received, row.stored, row.duplicate, row.pending) for row in balance(tmp_path)] == [(4, 3, 1, 0)]
