"""docs/running.md's proxies in front of a real site: each block of the page is run as it stands, but for ports and certificates."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path

import pytest

from experiments.events.store import balance
from tests.faults.harness import ROOT
from tests.faults.site import AGENT, ARTICLES, TOKEN, answers, free_port, wait_until, with_experiment

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl (not installed)")]
NAME = "news.example"
THREADS = 4
HALF = f"POST /e HTTP/1.1\r\nHost: {NAME}\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{"


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", (ROOT / "docs/running.md").read_text(), re.DOTALL)
    assert found
    return found[1]


def nginx(folder: Path, port: int, site: int) -> tuple[str, list[str]]:
    text = _placed(block("nginx"), folder, site).replace("listen 443", f"listen 127.0.0.1:{port}")
    logs = f"pid {folder}/pid; error_log {folder}/error.log; daemon off;"
    paths = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return f"{logs} events {{}} http {{ access_log off; {paths}\n{text} }}", ["nginx", "-c", f"{folder}/proxy", "-e", f"{folder}/error.log"]


def haproxy(folder: Path, port: int, site: int) -> tuple[str, list[str]]:
    return _placed(block("haproxy"), folder, site).replace("bind :443", f"bind 127.0.0.1:{port}"), [
        "haproxy",
        "-db",
        "-f",
        f"{folder}/proxy",
    ]


def caddy(folder: Path, port: int, site: int) -> tuple[str, list[str]]:
    text = _placed(block("caddy"), folder, site).replace(f"{NAME} {{", f"{NAME} {{\n    tls {folder}/both.pem {folder}/both.pem", 1)
    head = f"{{\n admin off\n auto_https disable_redirects\n https_port {port}\n storage file_system {folder}\n}}\n"
    return head + text, ["caddy", "run", "--adapter", "caddyfile", "--config", f"{folder}/proxy"]


def caddy_version() -> tuple[int, ...]:
    said = subprocess.run(["caddy", "version"], check=True, capture_output=True, text=True).stdout
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", said)
    assert found, said
    return tuple(map(int, found.groups()))


def _placed(text: str, folder: Path, site: int) -> str:
    text = text.replace("127.0.0.1:8750", f"127.0.0.1:{site}")
    return re.sub(r"/etc/ssl/news\.example\.(pem|key)", f"{folder}/both.pem", text)


@dataclass
class Fronted:
    """A site behind a proxy."""

    home: Path
    port: int
    site: subprocess.Popen[bytes]

    def ask(self, method: str, path: str, body: str | None = None, headers: Mapping[str, str] = {}) -> tuple[HTTPResponse, str]:
        with closing(HTTPConnection(NAME, timeout=20)) as connection:
            connection.sock = self.connected()
            connection.request(method, path, body, {**AGENT, "Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            return answer, answer.read().decode()

    def connected(self) -> ssl.SSLSocket:
        unchecked = ssl.create_default_context()
        unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE  # the certificate is our own
        return unchecked.wrap_socket(socket.create_connection(("127.0.0.1", self.port), timeout=20), server_hostname=NAME)

    def answers(self) -> bool:
        try:
            return self.ask("GET", "/-/live")[0].status == 200
        except (HTTPException, OSError):
            return False


@contextmanager
def process(*command: object) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen([*map(str, command)], cwd=ROOT)
    try:
        yield started
    finally:
        started.terminate()
        started.wait(30)


@pytest.fixture(params=[nginx, haproxy, caddy], ids=lambda proxy: proxy.__name__)
def fronted(request: pytest.FixtureRequest, home: Path, tmp_path: Path) -> Iterator[Fronted]:
    with in_front(request.param, home, tmp_path) as made:
        yield made


@contextmanager
def in_front(
    proxy: Callable[[Path, int, int], tuple[str, list[str]]], home: Path, tmp_path: Path, *, without: str = "^$"
) -> Iterator[Fronted]:
    """Run a site behind a proxy, whose lines that match ``without`` somebody left out."""
    if not shutil.which(proxy.__name__):
        pytest.skip(f"needs {proxy.__name__} (not installed)")
    if proxy is caddy and (version := caddy_version()) < (2, 8):
        pytest.skip(f"needs Caddy 2.8 or newer, as docs/running.md says (installed: {'.'.join(map(str, version))})")
    with_experiment(home)
    (home / "presslab.toml").write_text(
        f'trusted_hosts = ["127.0.0.1", "{NAME}"]\nsecure_cookies = true\nthreads = {THREADS}\nconsole_port = {free_port()}\n'
    )
    certificate = ["-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
    files = ["-keyout", tmp_path / "key.pem", "-out", tmp_path / "certificate.pem"]
    subprocess.run(["openssl", "req", *certificate, *files], check=True, capture_output=True)
    (tmp_path / "both.pem").write_text((tmp_path / "certificate.pem").read_text() + (tmp_path / "key.pem").read_text())
    port, site = free_port(), free_port()
    text, command = proxy(tmp_path, port, site)
    (tmp_path / "proxy").write_text("".join(line for line in text.splitlines(keepends=True) if not re.search(without, line)))
    with process(sys.executable, "-m", "web", "serve", "--home", home, "--port", site) as served, process(*command):
        made = Fronted(home, port, served)
        assert wait_until(lambda: answers(site))
        assert wait_until(made.answers)
        yield made


def test_the_proxies_of_the_page_do_what_the_page_says(fronted: Fronted) -> None:
    answer, text = fronted.ask("GET", f"/en/article/{ARTICLES[0]}")
    cookie = answer.getheader("Set-Cookie") or ""
    found = TOKEN.search(text)
    assert answer.status == 200
    assert "; Secure" in cookie
    assert found
    check_beacon(fronted, found[1], cookie.partition(";")[0])
    assert fronted.ask("GET", "/console/en/")[0].status == 404
    assert fronted.ask("POST", "/e", "x" * 70_000)[0].status == 413
    answer, text = fronted.ask("GET", "/en/", headers={"Host": "elsewhere.example"})
    assert answer.status == 400 or not text  # Caddy has nothing to say under other names
    check_halves(fronted)
    check_away(fronted)


ODD_PATHS = (
    "/console/en/jobs",
    "//console/en/jobs",
    "/%63onsole/en/jobs",
    "/./console/en/jobs",
    "/en/../console/en/jobs",
    "/console%2fen%2fjobs",
)


@pytest.mark.parametrize(
    ("proxy", "without"),
    [
        (nginx, "proxy_set_header (Host|X-Forwarded)"),
        (nginx, "location /console|proxy_set_header X-Forwarded"),
        (nginx, "location /console|proxy_set_header"),
        (nginx, "location /console|proxy_set_header|proxy_http_version"),
        (haproxy, "X-Forwarded"),
        (haproxy, "path_beg /console|X-Forwarded"),
    ],
)
def test_no_path_leads_to_the_console_where_somebody_left_out_lines(
    proxy: Callable[[Path, int, int], tuple[str, list[str]]], without: str, home: Path, tmp_path: Path
) -> None:
    with in_front(proxy, home, tmp_path, without=without) as made:
        assert made.ask("GET", "/en/")[0].status == 200
        for headers in ({}, {"Host": "127.0.0.1"}, {"SCRIPT_NAME": "/x"}):
            found = {path: made.ask("GET", path, headers=headers)[0].status for path in (*ODD_PATHS, "/x/console/en/jobs")}
            assert {path: status for path, status in found.items() if status not in (308, 400, 404)} == {}


def check_beacon(fronted: Fronted, token: str, cookie: str) -> None:
    """Browsers without Sec-Fetch-Site are believed by name and scheme."""
    body = json.dumps({"token": token, "active_ms": 1_000, "depth": 10})
    for origin, status in ((f"https://{NAME}", 202), (f"http://{NAME}", 403), ("https://elsewhere.example", 403)):
        answer, text = fronted.ask("POST", "/e", body, {"Cookie": cookie, "Origin": origin})
        assert answer.status == status, text


def check_halves(fronted: Fronted) -> None:
    """Forty requests that are never finished, five times as many as the site has threads: pages come while all of them are open."""
    with ExitStack() as stack:
        halves = [stack.enter_context(closing(fronted.connected())) for _ in range(40)]
        for half in halves:
            half.sendall(HALF.encode())
        for article in ARTICLES[:8]:
            assert fronted.ask("GET", f"/en/article/{article}")[0].status == 200
        assert all(map(unanswered, halves))


def unanswered(half: ssl.SSLSocket) -> bool:
    """Whether the proxy still waits for the rest; it gives up after ten seconds, and what held up the site lets go."""
    half.setblocking(False)
    try:
        half.recv(1)
    except ssl.SSLWantReadError:
        return True
    return False


def check_away(fronted: Fronted) -> None:
    """While the site is down a reader gets words; what was acknowledged before is counted."""
    fronted.site.kill()
    fronted.site.wait()
    answer, text = fronted.ask("GET", "/en/")
    assert (answer.status, answer.getheader("Retry-After")) == (503, "5")
    assert "away for a moment" in text
    assert all(row.exact for row in balance(fronted.home))
