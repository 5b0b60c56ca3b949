"""Who is reading, as far as we may know: a signed first-party id, choices, recent reads of those who agreed."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Literal

from flask import Request, Response

from experiments.events.ids import Tokens
from experiments.serving.recent import last_reads
from experiments.serving.shown import Shown
from web.cookies import CHOICE, ID, READS, SHOWN, Cookies
from web.site_protocol import Choices

__all__ = [
    "Identity",
    "Recent",
    "choices_text",
    "identify",
    "is_bot",
    "known_reader",
    "read_choices",
    "read_shown",
    "remember",
    "remember_shown",
    "short_id",
    "shown_text",
]

DAY_S = 86_400
ID_DAYS = 395  # 13 months, never renewed
SESSION_S = 30 * 60
SHOWN_S = 72 * 3_600
BROWSERS = re.compile(r"(?:Mozilla|Opera)/")  # every browser begins its name so; programs do not, or say what they are
BOTS = re.compile(
    r"(?<!cu)bot|crawl|spider|slurp|headless|preview|curl|wget|python-|feedfetcher|monitor"
    r"|externalhit|lighthouse|inspection|mediapartners|compatible;|nmap|scan|pingdom",
    re.IGNORECASE,
)
PURPOSES = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")  # the standard's, and those of older Chromes, Safaris and Firefoxes
AHEAD = re.compile("prefetch|preview")
TABLETS = re.compile(r"ipad|tablet|kindle|silk/|android(?!.*mobi)", re.IGNORECASE)
PHONES = re.compile(r"mobi|iphone", re.IGNORECASE)
Source = Literal["live", "simulated"]


def choices_text(choices: Choices) -> str:
    """Return choices as they stand in the cookie.

    Examples
    --------
    >>> choices_text(Choices(personal=True))
    'm1t1p1'
    """
    return f"m{int(choices.measured)}t{int(choices.tests)}p{'?' if choices.personal is None else int(choices.personal)}"


def read_choices(text: str | None) -> Choices:
    """Return choices from a cookie; anything else counts as "not asked yet"."""
    match = re.fullmatch(r"m([01])t([01])p([01?])", text or "")
    return Choices(match[1] == "1", match[2] == "1", None if match[3] == "?" else match[3] == "1") if match else Choices()


@dataclass(frozen=True, slots=True)
class Recent:
    """Reads of an agreed reader kept in the browser: short article ids, oldest first, and the place in the session."""

    articles: tuple[str, ...] = ()
    last_s: int = 0
    in_session: int = 0

    def text(self) -> str:
        return f"{self.last_s}.{self.in_session}.{''.join(self.articles)}"

    @classmethod
    def read(cls, text: str | None) -> Recent:
        match = re.fullmatch(r"(\d{1,12})\.(\d{1,4})\.([0-9a-f]*)", text or "")
        if match is None:
            return cls()
        joined = match[3]
        return cls(tuple(joined[i : i + 8] for i in range(0, len(joined) - 7, 8)), int(match[1]), int(match[2]))

    def before(self, now_s: int) -> int:
        """Article views this session had before one at ``now_s``; a pause of half an hour begins a new session.

        Examples
        --------
        >>> Recent(("89abcdef",), last_s=0, in_session=3).before(1_799), Recent(("89abcdef",), last_s=0, in_session=3).before(1_800)
        (3, 0)
        """
        return self.in_session if now_s - self.last_s < SESSION_S else 0

    def with_read(self, article: str, now_s: int) -> Recent:
        """Return the memory after one more read."""
        return Recent(last_reads((*self.articles, article)), now_s, self.before(now_s) + 1)

    def with_page(self, now_s: int) -> Recent:
        """Return the memory after a page that is no article: the session goes on."""
        return Recent(self.articles, now_s, self.before(now_s))

    def before_read(self, article: str) -> Recent:
        """Return the memory as it was when ``article`` was opened, if that was the last read."""
        if not self.articles or self.articles[-1] != article:
            return self
        return Recent(self.articles[:-1], self.last_s, self.in_session - 1)


def shown_text(shown: Shown) -> str:
    """Return what was shown as it stands in the cookie: pages and articles by short id, hours in hexadecimal."""
    return f"{''.join(shown.pages)}.{''.join(f'{article}{first:05x}{times:x}' for article, first, times in shown.entries)}"


def read_shown(text: str | None) -> Shown:
    """Return what was shown from a cookie; anything else counts as nothing shown.

    Examples
    --------
    >>> shown = Shown().with_page("0123abcd", ["89abcdef"], hour=497_000)
    >>> read_shown(shown_text(shown)) == shown
    True
    """
    match = re.fullmatch(r"((?:[0-9a-f]{8})*)\.((?:[0-9a-f]{14})*)", text or "")
    if match is None:
        return Shown()
    pages, entries = (re.findall(f".{{{size}}}", part) for size, part in zip((8, 14), match.groups(), strict=True))
    return Shown(tuple((e[:8], int(e[8:13], 16), int(e[13], 16)) for e in entries), tuple(pages))


@dataclass(frozen=True, slots=True)
class Identity:
    """The reader of one request.

    ``reader`` is empty for bots and for readers who object; ``new`` says that the cookie must be set. ``withdrew`` names a reader who
    had agreed to personal choice and whose browser now objects to everything.
    """

    reader: str
    new: bool
    issued_s: int
    source: Source
    choices: Choices
    recent: Recent
    shown: Shown
    bot: bool
    prefetch: bool
    device: str
    withdrew: str = ""

    @property
    def measured(self) -> bool:
        return bool(self.reader) and not self.bot and not self.prefetch

    @property
    def agreed(self) -> bool:
        return self.measured and self.choices.personal is True


def short_id(article: str) -> str:
    """Return eight hex characters that stand for an article in a cookie."""
    return blake2b(article.encode(), digest_size=4).hexdigest()


@lru_cache(maxsize=512)  # many readers, few browsers: looking through a name takes 30 us
def is_bot(agent: str) -> bool:
    """Return whether a program and no person asks, by the name it gives itself; what is not named like a browser is a program.

    Examples
    --------
    >>> is_bot("Mozilla/5.0 (compatible; Googlebot/2.1)"), is_bot("Mozilla/5.0 (iPad; CPU OS 19_0 like Mac OS X)"), is_bot("")
    (True, False, True)
    >>> is_bot("okhttp/5.1"), is_bot("Mozilla/5.0 (Linux; Android 15; CUBOT KINGKONG) Mobile Safari/537.36")
    (True, False)
    """
    return not BROWSERS.match(agent) or bool(BOTS.search(agent))


@lru_cache(maxsize=512)
def device_of(agent: str) -> str:
    """Return ``tablet``, ``phone`` or ``desktop``; an iPad that calls itself a Macintosh is a desktop.

    Examples
    --------
    >>> device_of("Mozilla/5.0 (iPad; CPU OS 19_0 like Mac OS X) Safari/604.1"), device_of("Mozilla/5.0 (Linux; Android 16; Pixel 9) Mobile")
    ('tablet', 'phone')
    """
    return "tablet" if TABLETS.search(agent) else "phone" if PHONES.search(agent) else "desktop"


def identify(
    request: Request, cookies: Cookies, *, now_s: int, regime: str, new_id: Callable[[], str] = lambda: secrets.token_hex(16)
) -> Identity:
    """Read the cookies of a request; objections and browser signals act before any id exists."""
    agent = request.headers.get("User-Agent", "")
    bot, device = is_bot(agent), device_of(agent)
    ahead = any(AHEAD.search(request.headers.get(name, "")) for name in PURPOSES)
    prefetch = ahead or request.method == "HEAD"  # nobody sees a page of which only the headers are sent
    choices, withdrew = read_choices(cookies.text(request, CHOICE)), ""
    source: Source = "live"
    if request.headers.get("Sec-GPC") == "1" or request.headers.get("DNT") == "1":
        if choices.personal and not bot and not prefetch:
            withdrew, _, source = known_reader(cookies.tokens, cookies.given(request, ID), now_s)
        choices = Choices(measured=False, tests=False, personal=False)
    if bot or not choices.measured or (regime == "strict" and choices.personal is not True):
        return Identity("", False, 0, source, choices, Recent(), Shown(), bot, prefetch, device, withdrew)
    reader, issued_s, source = known_reader(cookies.tokens, cookies.given(request, ID), now_s)
    new = not reader
    if new:
        simulated = cookies.tokens.unsign("simulated", request.headers.get("Presslab-Simulated", "")) == "1"
        reader, issued_s, source = new_id(), now_s, "simulated" if simulated else "live"
    recent = Recent.read(cookies.text(request, READS)) if choices.personal else Recent()
    shown = read_shown(cookies.text(request, SHOWN)) if choices.personal else Shown()
    return Identity(reader, new, issued_s, source, choices, recent, shown, bot, prefetch, device)


def known_reader(tokens: Tokens, cookie: str, now_s: int) -> tuple[str, int, Source]:
    """Return the reader that the value of a cookie ``pl_id`` names, when it was issued, and the source; without a reader if it is not ours or too old."""
    match = re.fullmatch(r"([0-9a-f]{32})\.(\d{1,12})\.([ls])", tokens.unsign("id", cookie) or "")
    if match is None or now_s - int(match[2]) > ID_DAYS * DAY_S:
        return "", 0, "live"
    return match[1], int(match[2]), "simulated" if match[3] == "s" else "live"


def remember(response: Response, identity: Identity, cookies: Cookies, *, now_s: int) -> None:
    """Set the cookies this request calls for: the id of a new reader, the reads of one who agreed."""
    if identity.measured and identity.new:
        cookies.keep(response, ID, f"{identity.reader}.{identity.issued_s}.{identity.source[0]}", ID_DAYS * DAY_S)
    if identity.agreed and identity.recent.articles:
        cookies.keep(response, READS, identity.recent.text(), max(0, identity.issued_s + ID_DAYS * DAY_S - now_s))


def remember_shown(response: Response, shown: Shown, cookies: Cookies) -> None:
    """Keep in an agreed reader's browser what was on screen; only an answer to ``/e`` sets this cookie."""
    cookies.keep(response, SHOWN, shown_text(shown), SHOWN_S)
