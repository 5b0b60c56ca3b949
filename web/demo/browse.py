"""Simulated browsers: cookies, links, beacons, over HTTP against the running site."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import local
from urllib.parse import quote, urlencode

from experiments.events.ids import Tokens
from fixtures.behaviour import Action, Beacon, Choose, Link, Object, Open, Place, Seen
from fixtures.readers import Reader
from web.demo.connection import Connection
from web.identity import Recent, choices_text, short_id
from web.site_protocol import Choices

__all__ = ["Browser", "Wire", "WireError", "browser_of"]

AGENTS = {
    "phone": "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Mobile/15E148 Safari/604.1",
    "tablet": "Mozilla/5.0 (iPad; CPU OS 19_0 like Mac OS X) Safari/604.1",
    "desktop": "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0",
}
BOT_AGENT = "ExampleBot/1.0 (+https://bot.example)"
PLACES: Mapping[str, Place] = {'class="lead"': "lead", 'class="most-read"': "most_read", 'class="cards': "front", 'class="slot"': "slot"}
MARK = re.compile(
    r'class="lead"|class="most-read"|class="cards|class="slot"|<details|<h[23]><a href="(/en/article/([^"?]+)[^"]*)"|<li><a href="(/en/article/([^"?]+)[^"]*)"'
)
TOKEN = re.compile(r'data-token="([^"]+)"')
TRIES = 6


class WireError(RuntimeError):
    """The site did not answer after several tries."""


@dataclass(slots=True)
class Browser:
    """One device: its cookies and the token of the page it shows."""

    reader: Reader
    cookies: dict[str, str] = field(default_factory=dict)
    token: str = ""
    page: str = ""
    last_us: int = 0


def browser_of(reader: Reader, tokens: Tokens, *, reader_id: str, issued_s: int, reads: tuple[str, ...] = (), last_s: int = 0) -> Browser:
    """Return a browser that knows the site: its id, what its reader chose, and what they read."""
    browser = Browser(reader)
    if reader.bot:
        return browser
    browser.cookies["pl_id"] = tokens.sign("id", f"{reader_id}.{issued_s}.s")
    if reader.agrees:
        browser.cookies["pl_choice"] = tokens.sign("choice", choices_text(Choices(personal=True)))
        if reads:
            browser.cookies["pl_reads"] = tokens.sign("reads", Recent(tuple(short_id(a) for a in reads[-20:]), last_s, 1).text())
    return browser


class Wire:
    """Connections to one site, one per thread, kept open; a request that fails is tried again a few times.

    Parameters
    ----------
    simulated : signed mark that these readers are simulated.
    """

    def __init__(self, host: str, port: int, *, simulated: str) -> None:
        self.host, self.port, self.simulated = host, port, simulated
        self.requests = self.retries = self.refused = 0
        self._local = local()

    def act(self, browser: Browser, action: Action) -> Seen | None:
        """Do on the site what the reader decided; returns what the page shows."""
        if isinstance(action, Open):
            return self._open(browser, action)
        if isinstance(action, Beacon):
            self.beacon(browser, action, token=browser.token)
        elif isinstance(action, Choose):
            self.send(browser, "POST", "/en/choose", urlencode({"personal": "yes" if action.personal else "no", "next": "/en/"}).encode())
        elif isinstance(action, Object):
            self.send(browser, "POST", "/en/privacy", urlencode({"tests": "yes"}).encode())
        return None

    def beacon(self, browser: Browser, action: Beacon, *, token: str) -> None:
        """Send visible time and depth of the page that carried ``token``; pages without one send nothing."""
        if token:
            body = json.dumps({"token": token, "active_ms": action.active_ms, "depth": action.depth_percent}).encode()
            status, _ = self.send(browser, "POST", "/e", body, kind="application/json")
            self.refused += status != 202

    def _open(self, browser: Browser, action: Open) -> Seen:
        path = {
            "front": "/en/",
            "section": f"/en/section/{quote(action.target)}",
            "article": action.href or f"/en/article/{quote(action.target)}",
        }[action.page]
        status, html = self.send(browser, "GET", path, referrer=action.referrer)
        if status >= 500:
            raise WireError(f"GET {path} answered {status}")
        token = TOKEN.search(html)
        browser.token, browser.page = token[1] if token else "", path
        return Seen(tuple(_links(html, action.page)), asks='class="ask"' in html)

    def send(
        self,
        browser: Browser,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        kind: str = "application/x-www-form-urlencoded",
        referrer: str = "internal",
    ) -> tuple[int, str]:
        """Return status and body; the browser keeps the cookies it is given."""
        headers = {"User-Agent": BOT_AGENT if browser.reader.bot else AGENTS[browser.reader.device], "Presslab-Simulated": self.simulated}
        if browser.cookies:
            headers["Cookie"] = "; ".join(
                f"{name}={value}" for name, value in dict(browser.cookies).items()
            )  # a beacon may change them meanwhile
        if referrer != "direct":
            headers["Referer"] = (
                "https://search.example/" if referrer == "external" else f"http://{self.host}:{self.port}{browser.page or '/en/'}"
            )
        if body is not None:
            headers |= {"Content-Type": kind, "Origin": f"http://{self.host}:{self.port}"}
        line = "".join(f"\r\n{name}: {value}" for name, value in headers.items())
        whole = f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}{line}\r\nContent-Length: {len(body or b'')}\r\n\r\n".encode()
        for attempt in range(TRIES):
            try:
                return self._once(browser, whole + (body or b""))
            except OSError:
                self.retries += 1
                time.sleep(0.05 * 2**attempt)
        raise WireError(f"{method} {path}: no answer from {self.host}:{self.port} after {TRIES} tries")

    def _once(self, browser: Browser, request: bytes) -> tuple[int, str]:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = Connection(self.host, self.port)
        answer = connection.send(request)
        self.requests += 1
        for cookie in answer.all("set-cookie"):
            name, _, rest = cookie.partition("=")
            value = rest.partition(";")[0].strip('"')
            if value and not browser.reader.bot:
                browser.cookies[name] = value
            else:
                browser.cookies.pop(name, None)
        return answer.status, answer.body.decode()


def _links(html: str, page: str) -> list[Link]:
    """Links to articles in reading order, with the place each stands in."""
    place: Place | None = None
    found = []
    for match in MARK.finditer(html):
        href, article = match[1] or match[3], match[2] or match[4]
        if href is None:
            place = PLACES.get(match[0], None if match[0] == "<details" else place)
            if place == "front" and page == "section":
                place = "section"
        elif place is not None:
            found.append(Link(article, href.replace("&amp;", "&"), place))
    return found
