"""Ids that make every metric a set union, and tokens that say which page a reader really got.

Ids are computed from what happened, never drawn anew for a retry: the same click sent three times is one event.
Tokens are signed, so that arm, experiment and slate never come from a request body.
"""

from __future__ import annotations

import hmac
import re
import secrets
import threading
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import Literal

import msgspec

from experiments.errors import ConfigError, PresslabError

__all__ = ["SLOTS", "LinkClaims", "PageClaims", "PageViews", "TokenError", "Tokens", "conversion_id", "event_id"]

SLOTS = ("article.related",)  # well-known slots take one byte in a link; others are spelled out
TOKEN_LIFE_US = 7 * 86_400_000_000
LINK_LIFE_US = 86_400_000_000  # what comes later counts for no arm (EVENTS 6), and the first click's day may be sealed by then
KEY_ID = re.compile(r"[A-Za-z0-9]{1,8}")
PAGE_VIEW = re.compile(r"[0-9a-f]{32}")
LINK_MAC_BYTES = 10
MAC_BYTES = 16
TO_URL, FROM_URL = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_+/=", b"+/!!!")  # what is no URL spelling decodes to nothing
RANDOM_BITS = 74  # of a UUIDv7: 12 before the variant, 62 after it

Reason = Literal["bad", "foreign", "expired"]


class TokenError(PresslabError):
    """A token cannot be trusted; ``reason`` is ``bad``, ``foreign`` or ``expired`` and goes into the dead letter."""

    code = "P061"

    def __init__(self, reason: Reason) -> None:
        self.reason = reason
        super().__init__(f"the token is {reason}.", "The view still counts; what the token carried does not.")


class PageViews:
    """Gives out page view ids: UUIDv7 as 32 hex characters, growing within a process.

    Examples
    --------
    >>> page_view = PageViews()
    >>> first, second = page_view(1_700_000_000_000_000), page_view(1_700_000_000_000_000)
    >>> first < second, len(first), first[12]
    (True, 32, '7')
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = (0, 0)

    def __call__(self, at_us: int) -> str:
        """Return the id of a page issued at ``at_us`` (UTC microseconds); never smaller than the one before."""
        millisecond = at_us // 1000
        with self._lock:
            before, chance = self._last
            if millisecond > before:
                self._last = (millisecond, secrets.randbits(RANDOM_BITS - 1))
            else:
                # Same or earlier millisecond: step by chance, so that forked processes with the same state part ways.
                self._last = (before, chance + 1 + secrets.randbits(32))
            return _uuid7(*self._last)


def _uuid7(millisecond: int, chance: int) -> str:
    high, low = chance >> 62, chance & ((1 << 62) - 1)
    return f"{(millisecond & (1 << 48) - 1) << 80 | 0x7 << 76 | (high & 0xFFF) << 64 | 0b10 << 62 | low:032x}"


def event_id(page_view: str, kind: str, key: str = "") -> bytes:
    """Return the 16-byte id of an event: the page view's time, then a hash of what happened.

    The time prefix keeps inserts at the right edge of the index; a plain hash costs 3 to 5 times as much.

    Parameters
    ----------
    page_view : 32 hex characters.
    kind : of the event.
    key : what tells two events of one kind and page view apart (EVENTS: event kinds).

    Examples
    --------
    >>> event_id("0" * 32, "view") == event_id("0" * 32, "view"), len(event_id("0" * 32, "click", "slot|a"))
    (True, 16)
    """
    return bytes.fromhex(page_view)[:6] + blake2b(f"{page_view}|{kind}|{key}".encode(), digest_size=10).digest()


def conversion_id(at_us: int, name: str, order: str) -> bytes:
    """Return the 16-byte id of a conversion: when it was ordered (UTC microseconds), then a hash of its name and order.

    Examples
    --------
    >>> conversion_id(0, "subscription", "A-17") == conversion_id(0, "subscription", "A-18"), len(conversion_id(0, "x", "y"))
    (False, 16)
    """
    return (at_us // 1000).to_bytes(6, "big") + blake2b(f"conversion\0{name}\0{order}".encode(), digest_size=10).digest()


class PageClaims(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a page token says about the page it was issued with; a token holds it as an array in this order.

    Parameters
    ----------
    page_view : 32 hex characters.
    reader_hash : 16 hex characters, :meth:`Tokens.reader_hash` of the reader; never the id itself.
    source : ``live`` or ``simulated``.
    issued_at : UTC microseconds.
    config, experiment, arm : of the slot; empty without one.
    articles : what the slot showed, in order. article : the open one; empty on other pages.
    """

    page_view: str
    reader_hash: str
    source: str
    issued_at: int
    config: str = ""
    experiment: str = ""
    arm: str = ""
    articles: tuple[str, ...] = ()
    article: str = ""


_claims = msgspec.json.Decoder(PageClaims).decode


@dataclass(frozen=True, slots=True)
class LinkClaims:
    """What a link token says: the page view and the place a click came from."""

    page_view: str
    slot: str
    position: int


class Tokens:
    """Signs and checks tokens with the ``current`` key; the other keys only check (rotation).

    Parameters
    ----------
    keys : key id (1 to 8 letters or digits) -> secret of at least 16 bytes.
    current : id of the key that signs.

    Raises
    ------
    ConfigError
        ``current`` is not among the keys, a key is short, or a key id holds other characters.

    Examples
    --------
    >>> tokens = Tokens({"a": b"0123456789abcdef"}, "a")
    >>> tokens.unsign("cookie", tokens.sign("cookie", "hello"))
    'hello'
    >>> tokens.unsign("session", tokens.sign("cookie", "hello")) is None
    True
    """

    def __init__(self, keys: Mapping[str, bytes], current: str) -> None:
        if current not in keys:
            raise ConfigError(f"the signing key '{current}' is not among the keys.", f"Known: {', '.join(sorted(keys)) or 'none'}.")
        for name, key in keys.items():
            if not KEY_ID.fullmatch(name) or len(key) < 16:
                raise ConfigError(f"key '{name}' cannot sign.", "A key id is 1 to 8 letters or digits, a key at least 16 bytes.")
        self._keys = dict(keys)
        self._subkeys: dict[tuple[str, str], bytes] = {}  # purposes are few and our own
        self._signers: dict[tuple[str, str], hmac.HMAC] = {}
        self._current = current

    def reader_hash(self, reader: str, key: str | None = None) -> str:
        """Return the keyed hash of a reader id (16 hex characters) under key id ``key`` (the current one if None)."""
        return blake2b(reader.encode(), key=self._subkey(key or self._current, "reader"), digest_size=8).hexdigest()

    def page(self, claims: PageClaims) -> str:
        """Return the token of a page: key id, claims, 128-bit MAC; safe in URLs and attributes."""
        return self._sealed("page", msgspec.json.encode(claims))

    def read_page(self, token: str, *, reader: str, now_us: int) -> PageClaims:
        """Return what a page token claims.

        Raises
        ------
        TokenError
            ``bad``: not signed by us; ``foreign``: issued to another reader; ``expired``: older than 7 days.
        """
        (found,) = self.read_pages([token], reader=reader, now_us=now_us)
        if isinstance(found, TokenError):
            raise found
        return found

    def read_pages(self, tokens: Iterable[str], *, reader: str, now_us: int) -> list[PageClaims | TokenError]:
        """Return what each of one reader's page tokens claims, or why it cannot be trusted (:meth:`read_page`)."""
        hashes = {key: self.reader_hash(reader, key) for key in self._keys}
        found: list[PageClaims | TokenError] = []
        for token in tokens:
            opened = self._opened("page", token)
            claims = _claims(opened[1]) if opened else None
            if opened is None or claims is None:
                found.append(TokenError("bad"))
            elif not hmac.compare_digest(claims.reader_hash, hashes[opened[0]]):
                found.append(TokenError("foreign"))
            else:
                found.append(TokenError("expired") if now_us - claims.issued_at > TOKEN_LIFE_US else claims)
        return found

    def link(self, page_view: str, slot: str, position: int, article: str) -> str:
        """Return the token of a link in a slot (~40 characters); ``position`` counts from 0 to 255."""
        payload = _link_payload(page_view, slot, position)
        mac = self._mac(self._current, "link", payload + b"\0" + article.encode())[:LINK_MAC_BYTES]
        return f"{self._current}.{_text(mac + payload)}"

    def read_link(self, token: str, article: str, *, now_us: int) -> LinkClaims:
        """Return where the click on ``article`` came from.

        Raises
        ------
        TokenError
            ``bad``: not signed by us, or for another article; ``expired``: its page is older than 24 hours.
        """
        key, _, rest = token.partition(".")
        data = _data(rest)
        if key not in self._keys or data is None or len(data) < LINK_MAC_BYTES + 18:
            raise TokenError("bad")
        mac, payload = data[:LINK_MAC_BYTES], data[LINK_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(key, "link", payload + b"\0" + article.encode())[:LINK_MAC_BYTES]):
            raise TokenError("bad")
        if now_us - int.from_bytes(payload[:6], "big") * 1000 > LINK_LIFE_US:
            raise TokenError("expired")
        slot = SLOTS[payload[17] - 1] if payload[17] else payload[18:].decode()
        return LinkClaims(payload[:16].hex(), slot, payload[16])

    def sign(self, purpose: str, text: str) -> str:
        """Return ``text`` signed for one purpose, safe in a cookie; another purpose does not accept it."""
        return self._sealed(f"sign:{purpose}", text.encode())

    def unsign(self, purpose: str, signed: str) -> str | None:
        """Return the text, or None when it was not signed by us for this purpose."""
        opened = self._opened(f"sign:{purpose}", signed)
        return opened[1].decode() if opened else None

    def _sealed(self, purpose: str, payload: bytes) -> str:
        return f"{self._current}.{_text(payload)}.{_text(self._mac(self._current, purpose, payload)[:MAC_BYTES])}"

    def _opened(self, purpose: str, token: str) -> tuple[str, bytes] | None:
        key, _, rest = token.partition(".")
        body, _, mac = rest.partition(".")
        if key not in self._keys or not mac.isascii() or (payload := _data(body)) is None:
            return None
        good = hmac.compare_digest(mac, _text(self._mac(key, purpose, payload)[:MAC_BYTES]))
        return (key, payload) if good else None

    def _subkey(self, key: str, purpose: str) -> bytes:
        known = self._subkeys.get((key, purpose))
        if known is None:
            known = blake2b(purpose.encode(), key=sha256(self._keys[key]).digest(), digest_size=32).digest()
            self._subkeys[key, purpose] = known
        return known

    def _mac(self, key: str, purpose: str, message: bytes) -> bytes:
        signer = self._signers.get((key, purpose))
        if signer is None:
            signer = self._signers[key, purpose] = hmac.new(self._subkey(key, purpose), digestmod="sha256")
        mac = signer.copy()  # hmac.digest hands the interpreter to another thread at every call
        mac.update(message)
        return mac.digest()


def _link_payload(page_view: str, slot: str, position: int) -> bytes:
    if not PAGE_VIEW.fullmatch(page_view) or not 0 <= position <= 255:
        raise ConfigError(f"no link can be signed for page view '{page_view}', position {position}.", "Positions are 0 to 255.")
    code = SLOTS.index(slot) + 1 if slot in SLOTS else 0
    return bytes.fromhex(page_view) + bytes([position, code]) + (b"" if code else slot.encode())


def _text(data: bytes) -> str:
    return b2a_base64(data, newline=False).translate(TO_URL, b"=").decode()


def _data(text: str) -> bytes | None:
    """Decode base64; one spelling only, so that there is no second token for the same claims."""
    try:
        coded = text.encode("ascii").translate(FROM_URL) + b"=" * (-len(text) % 4)
        data = a2b_base64(coded, strict_mode=True)
    except ValueError:  # not ASCII, or not base64
        return None
    return data if b2a_base64(data, newline=False) == coded else None
