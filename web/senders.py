"""gunicorn's threads, with an end to the patience for requests that do not come whole."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import Any

from gunicorn.workers.gthread import _DEFER, TConn, ThreadWorker

__all__ = ["PatientWorker"]

SILENT_S = 0.05  # that a thread waits for the first byte of a connection


class PatientWorker(ThreadWorker):  # type: ignore[misc]
    """Lets nobody hold a thread who says nothing, and nobody for longer than ten seconds who says it by halves.

    gunicorn reads a request on the thread that answers it and waits for ever: as many half requests as there are
    threads, and no reader is served until they go away.
    """

    longest_s = 10.0  # from the first byte of a request to its last

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._since: dict[TConn, float] = {}  # of requests that may not be whole: when a thread was asked to read them

    def enqueue_req(self, conn: TConn) -> None:
        self._since[conn] = time.monotonic()
        super().enqueue_req(conn)

    def handle(self, conn: TConn) -> Any:
        """Read and answer a request; one that is new and has not said anything goes back to the others that wait."""
        try:
            return super().handle(conn) if conn.initialized or conn.wait_for_data(SILENT_S) else _DEFER
        finally:
            self._since.pop(conn, None)

    def handle_request(self, req: Any, conn: TConn) -> Any:
        """Answer a request whose headers are read; the body, if there is one, is read meanwhile."""
        if req.method in ("GET", "HEAD"):
            self._since.pop(conn, None)
        return super().handle_request(req, conn)

    def murder_pending(self) -> None:
        """Once a second: end the waiting for what does not come. A thread reads what is there, and then finds the end."""
        super().murder_pending()
        over = time.monotonic() - self.longest_s
        for conn in [conn for conn, since in tuple(self._since.items()) if since < over]:
            with suppress(OSError):  # closed in this instant
                conn.sock.shutdown(socket.SHUT_RD)
