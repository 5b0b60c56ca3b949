"""Whoever sends a request by halves, or nothing at all, holds up no reader for ever: threads are few."""

from __future__ import annotations

import resource
import socket
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.faults.harness import verdict
from tests.faults.site import ARTICLES, Visitor, children, serving, wait_until, with_experiment

pytestmark = pytest.mark.long
THREADS = 8  # two processes of four
HOST = b"Host: 127.0.0.1\r\n"
POST = b"POST /e HTTP/1.1\r\n" + HOST + b"User-Agent: Mozilla/5.0\r\nSec-Fetch-Site: same-origin\r\nContent-Type: application/json\r\n"
HALVES = (
    b"GET /en/ HT",
    b"GET /en/ HTTP/1.1\r\n" + HOST,
    POST + b"Content-Length: 1000\r\n\r\n{",
    POST + b"Transfer-Encoding: chunked\r\n\r\n40\r\n{",
)


def test_readers_are_served_while_more_send_by_halves_than_there_are_threads(home: Path) -> None:
    with_experiment(home)
    with serving(home, worker_class="tests.faults.impatient.Impatient") as (_, port), ExitStack() as stack:
        silent, halves = (
            [stack.enter_context(closing(socket.create_connection(("127.0.0.1", port), timeout=20))) for _ in range(2 * THREADS)]
            for _ in range(2)
        )
        for n, connection in enumerate(halves):
            connection.sendall(HALVES[n % len(HALVES)])
        visitor = Visitor(port)
        for article in ARTICLES[:4]:
            visitor.read(article)
        said = {connection.recv(65_536).partition(b"\r\n")[0] for connection in halves}
        silent[0].sendall(b"GET /-/live HTTP/1.1\r\n" + HOST + b"\r\n")
        assert silent[0].recv(12) == b"HTTP/1.1 200"
    assert said == {b"", b"HTTP/1.1 400 BAD REQUEST"}
    found = verdict(home, visitor.acknowledged)
    assert (found.lost, found.exact, visitor.failed + visitor.errors) == (0, True, 0)
    assert len(visitor.acknowledged) == 12


def test_more_idle_connections_than_a_process_may_open_files_do_not_end_it(home: Path) -> None:
    with_experiment(home)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
        try:
            master, port = stack.enter_context(serving(home))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        web = children(master.pid)
        with ExitStack() as idle:
            for _ in range(300):
                idle.enter_context(closing(socket.create_connection(("127.0.0.1", port), timeout=20)))
            assert wait_until(lambda: sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in web) > 128)
        visitor = Visitor(port)
        visitor.read(ARTICLES[0])
        assert (children(master.pid), visitor.failed + visitor.errors, len(visitor.acknowledged)) == (web, 0, 3)
