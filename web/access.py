"""Who may call from another server: tokens with an end, of which only a hash is kept."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, get_args

from experiments.errors import ConfigError, NotFoundError
from experiments.files import locked_file, read_json, replace_json
from experiments.settings import API_TOKENS

__all__ = ["MOST_DAYS", "Use", "allowed", "grant", "granted", "revoke"]

MOST_DAYS = 90
DAY_S = 86_400
Use = Literal["conversions", "articles"]


def grant(home: Path, use: Use = "conversions", *, now_s: int, days: int = MOST_DAYS) -> str:
    """Return a new token ``pl_<id>_<secret>``; it cannot be shown again.

    Parameters
    ----------
    use : the one thing a server may do with it: report conversions, or publish articles.
    days : until it ends, 1 to 90.

    Raises
    ------
    ConfigError
        ``days`` lies outside, or there is no such use.

    Examples
    --------
    >>> import tempfile
    >>> home = Path(tempfile.mkdtemp())
    >>> token = grant(home, now_s=0, days=1)
    >>> [allowed(home, f"Bearer {token}", use, now_s=now_s) for use, now_s in (("conversions", 0), ("conversions", 86_400), ("articles", 0))]
    [True, False, False]
    """
    if use not in get_args(Use):
        raise ConfigError(f"no token is for '{use}'.", f"Known: {', '.join(get_args(Use))}.")
    if not 1 <= days <= MOST_DAYS:
        raise ConfigError(f"a token for {days} days: it may live 1 to {MOST_DAYS} days.", "Give --days, and make another before it ends.")
    identity, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    with _changing(home) as known:
        known[identity] = {"sha256": _hash(secret), "until_s": now_s + days * DAY_S, "use": use}
    return f"pl_{identity}_{secret}"


def granted(home: Path) -> dict[str, Any]:
    """Return the tokens that were not revoked: id -> hash, end (UTC seconds) and use."""
    known: dict[str, dict[str, Any]] = read_json(home / API_TOKENS) or {}
    return {identity: {"use": "conversions", **one} for identity, one in known.items()}  # of old there was no other use


def revoke(home: Path, identity: str) -> None:
    """Make a token invalid at once; raises :class:`NotFoundError` when there is none of this id."""
    with _changing(home) as known:
        if identity not in known:
            raise NotFoundError(f"no token is called '{identity}'.", f"Known: {', '.join(sorted(known)) or 'none'}.")
        del known[identity]


def allowed(home: Path, header: str, use: Use, *, now_s: int) -> bool:
    """Whether the header ``Authorization`` carries a token for this use that holds."""
    kind, _, token = header.partition(" ")
    prefix, _, rest = token.partition("_")
    identity, _, secret = rest.partition("_")
    known = granted(home).get(identity)
    if kind.lower() != "bearer" or prefix != "pl" or known is None or known["use"] != use:
        return False
    return hmac.compare_digest(known["sha256"], _hash(secret)) and now_s < known["until_s"]


def _hash(secret: str) -> str:
    return sha256(secret.encode(errors="replace")).hexdigest()


@contextmanager
def _changing(home: Path) -> Iterator[dict[str, Any]]:
    """The tokens, to be changed by one process at a time: what another revoked meanwhile must not come back."""
    with locked_file(home / f"{API_TOKENS}.lock"):
        tokens = granted(home)
        yield tokens
        replace_json(home / API_TOKENS, tokens)  # for its owner only, as every file of the home that is replaced
