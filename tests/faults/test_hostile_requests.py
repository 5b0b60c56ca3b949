"""Requests that are wrong on the wire, sent to a real site: each is refused or cut, none is answered with a 500, and the site goes on."""

from __future__ import annotations

import gzip
import random
import socket
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.harness import verdict
from tests.faults.site import ARTICLES, TOKEN, Visitor, serving, with_experiment

pytestmark = pytest.mark.long
HOST = b"Host: 127.0.0.1\r\n"
POST = b"POST /e HTTP/1.1\r\n" + HOST + b"User-Agent: Mozilla/5.0\r\nSec-Fetch-Site: same-origin\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"
REQUESTS = {  # and how each is answered
    "a body longer than it says": (422, POST + b'Content-Length: 2\r\n\r\n{}{"events": []}'),
    "a length that is no number": (400, POST + b"Content-Length: two\r\n\r\n{}"),
    "a length below zero": (400, POST + b"Content-Length: -2\r\n\r\n{}"),
    "a length of forty digits": (413, POST + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n{}"),
    "two lengths": (400, POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    "a length and chunks": (400, CHUNKED + b"Content-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
    "chunks": (422, CHUNKED + b"\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"),
    "a chunk whose length is no number": (400, CHUNKED + b"\r\nxyz\r\n{}\r\n0\r\n\r\n"),
    "a chunk longer than it says": (400, CHUNKED + b"\r\n1\r\n{}\r\n0\r\n\r\n"),
    "a chunk of many petabytes": (400, CHUNKED + b"\r\nfffffffffffff\r\n{}\r\n0\r\n\r\n"),
    "blanks over the limit": (413, CHUNKED + b"\r\n12000\r\n{}" + b" " * 73_726 + b"\r\n0\r\n\r\n"),
    "chunks over the limit": (
        413,
        CHUNKED + b"\r\n" + b"1000\r\n" + b"x" * 4096 + b"\r\n" + (b"1000\r\n" + b"x" * 4096 + b"\r\n") * 20 + b"0\r\n\r\n",
    ),
    "an unknown coding": (400, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "a packed body": (400, POST + b"Content-Encoding: gzip\r\nContent-Length: 22\r\n\r\n" + gzip.compress(b"{}", mtime=0)[:22]),
    "a body that is awaited": (422, POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}"),
    "half a character": (400, POST + b'Content-Length: 12\r\n\r\n{"token": \xc3}'),
    "no host": (400, b"GET /en/ HTTP/1.1\r\n\r\n"),
    "an empty host": (400, b"GET /en/ HTTP/1.1\r\nHost: \r\n\r\n"),
    "no host before HTTP/1.1": (200, b"GET /en/ HTTP/1.0\r\n\r\n"),
    "two hosts": (400, b"GET /en/ HTTP/1.1\r\n" + HOST + b"Host: elsewhere\r\n\r\n"),
    "another host": (400, b"GET /en/ HTTP/1.1\r\nHost: elsewhere\r\n\r\n"),
    "no version": (400, b"GET /en/\r\n\r\n"),
    "version 9": (400, b"GET /en/ HTTP/9.9\r\n" + HOST + b"\r\n"),
    "the beginning of HTTP/2": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "the beginning of TLS": (0, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)),
    "an odd method": (405, b"BREW /en/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a method of controls": (400, b"G\x00T /en/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    "an address of controls": (404, b"GET /en/\x01\x7f HTTP/1.1\r\n" + HOST + b"\r\n"),
    "an address of 9,000 letters": (400, b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    "an address elsewhere": (200, b"GET http://elsewhere/en/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a header of controls": (400, b"GET /en/ HTTP/1.1\r\n" + HOST + b"User-Agent: a\x00b\r\n\r\n"),
    "a header without a name": (400, b"GET /en/ HTTP/1.1\r\n" + HOST + b": x\r\n\r\n"),
    "a header of 70,000 letters": (431, b"GET /en/ HTTP/1.1\r\n" + HOST + b"Cookie: " + b"a" * 70_000 + b"\r\n\r\n"),
    "five hundred headers": (431, b"GET /en/ HTTP/1.1\r\n" + HOST + b"X-A: b\r\n" * 500 + b"\r\n"),
    "a scheme that is contradicted": (400, b"GET /en/ HTTP/1.1\r\n" + HOST + b"X-Forwarded-Proto: https\r\nX-Forwarded-SSL: off\r\n\r\n"),
    "a folder that is not ours": (200, b"GET /en/ HTTP/1.1\r\n" + HOST + b"SCRIPT_NAME: /x\r\n\r\n"),
    "a folder before the console": (404, b"GET /x/console/en/jobs HTTP/1.1\r\n" + HOST + b"SCRIPT_NAME: /x\r\n\r\n"),
}


def sent(port: int, request: bytes) -> bytes:
    """Send bytes and nothing more; returns everything that is answered."""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=30)) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        try:
            return b"".join(iter(lambda: connection.recv(65_536), b""))
        except ConnectionResetError:  # cut while it was still being sent
            return b""


def status(answer: bytes) -> int:
    """The last status of an answer, 0 if the connection was cut without one."""
    return max((int(line[9:12]) for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.")), default=0)


def test_requests_that_are_wrong_on_the_wire_are_refused_and_the_site_goes_on(home: Path) -> None:
    with_experiment(home)
    with serving(home) as (_, port):
        visitor = Visitor(port)
        page = visitor.read(ARTICLES[0])
        assert {says: status(sent(port, request)) for says, (_, request) in REQUESTS.items()} == {
            says: answer for says, (answer, _) in REQUESTS.items()
        }
        check_mutants(port, page, visitor.cookie)
        visitor.read(ARTICLES[1])
    found = verdict(home, visitor.acknowledged)
    assert (found.lost, found.exact, visitor.failed + visitor.errors) == (0, True, 0)
    assert len(visitor.acknowledged) == 6


def check_mutants(port: int, page: str, cookie: str) -> None:
    """A good request with a few bytes changed, doubled or left out, two hundred times."""
    token = TOKEN.search(page)
    assert token
    body = f'{{"events": [{{"token": "{token[1]}", "active_ms": 7, "depth": 3}}]}}'.encode()
    good = POST + f"Cookie: {cookie}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
    assert status(sent(port, good)) == 202
    chance = random.Random(9)
    for _ in range(200):
        mutant = bytearray(good)
        for _ in range(chance.randrange(1, 6)):
            place = chance.randrange(len(mutant))
            mutant[place : place + chance.randrange(3)] = bytes(chance.randrange(256) for _ in range(chance.randrange(3)))
        assert status(sent(port, bytes(mutant))) < 500, bytes(mutant)
