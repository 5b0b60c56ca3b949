"""The connection the demo's readers use to speak with the site."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import pytest

from web.demo.connection import Connection, ConnectionBroken

ASKED = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
WELL = b"HTTP/1.1 202 Accepted\r\nSet-Cookie: a=1; Path=/\r\nset-cookie: b=2\r\nContent-Length: 5\r\n\r\nhello"


@contextmanager
def answering(*answers: bytes, close: bool = False) -> Iterator[tuple[int, Callable[[], int]]]:
    """A server that gives these answers in turn; yields its port and how many connections it has seen."""
    seen, left = 0, iter(answers)
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            nonlocal seen
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                seen += 1
                with connection, suppress(ConnectionError):  # a client that leaves bytes unread resets the connection
                    while connection.recv(65_536):
                        connection.sendall(next(left))
                        if close:
                            break

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], lambda: seen
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)  # only it closes what it reads from: closed under its hands, reading would raise in a thread


def test_two_requests_share_a_connection_and_every_cookie_is_seen() -> None:
    with answering(WELL, WELL) as (port, seen), closing(Connection("127.0.0.1", port)) as connection:
        connection.send(ASKED)
        answer = connection.send(ASKED)
        assert (answer.status, answer.body, answer.all("set-cookie"), seen()) == (202, b"hello", ["a=1; Path=/", "b=2"], 1)


@pytest.mark.parametrize("cut", [b"", WELL[:30], WELL[:-1], b"SSH-2.0-x\r\n"], ids=["nothing", "half a header", "half a body", "not HTTP"])
def test_half_an_answer_is_an_error_and_the_next_request_opens_a_new_connection(cut: bytes) -> None:
    with answering(cut, WELL, close=True) as (port, seen), closing(Connection("127.0.0.1", port)) as connection:
        with pytest.raises(ConnectionBroken):
            connection.send(ASKED)
        assert (connection.send(ASKED).body, seen()) == (b"hello", 2)


def test_a_connection_that_the_server_wants_closed_is_not_used_again() -> None:
    last = WELL.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with answering(last, WELL, close=True) as (port, seen), closing(Connection("127.0.0.1", port)) as connection:
        connection.send(ASKED)
        assert (connection.send(ASKED).status, seen()) == (202, 2)
