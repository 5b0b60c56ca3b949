"""The site's cookies: what they are called, read and set. All are signed, and no script sees them."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Request, Response

from experiments.events.ids import Tokens

__all__ = ["CHOICE", "HELD", "ID", "PRIVACY", "READS", "SHOWN", "Cookies"]

ID, CHOICE, READS, SHOWN = "pl_id", "pl_choice", "pl_reads", "pl_shown"
HELD = "pl_held"  # the id of a reader who objects: only the privacy page is sent it, to show and erase what was counted before
PRIVACY = "/en/privacy"
PURPOSES = {ID: "id", HELD: "id", CHOICE: "choice", READS: "reads", SHOWN: "shown"}


@dataclass(frozen=True, slots=True)
class Cookies:
    """The cookies of a site.

    Parameters
    ----------
    secure : over TLS only, and under names that no other host of the domain can set (RFC 6265bis, 4.1.3).
    """

    tokens: Tokens
    secure: bool = False

    def called(self, name: str) -> str:
        """Return the name in the browser.

        Examples
        --------
        >>> from experiments.events.ids import Tokens
        >>> site = Cookies(Tokens({"1": bytes(32)}, "1"), secure=True)
        >>> site.called(ID), site.called(HELD), Cookies(site.tokens).called(ID)
        ('__Host-pl_id', '__Secure-pl_held', 'pl_id')
        """
        return f"{'__Host-' if _path(name) == '/' else '__Secure-'}{name}" if self.secure else name

    def given(self, request: Request, name: str) -> str:
        """Return a cookie as the browser sent it, signed; empty without one."""
        return request.cookies.get(self.called(name), "")

    def text(self, request: Request, name: str) -> str:
        """Return what a cookie says; empty without one, or when it is not ours."""
        return self.tokens.unsign(PURPOSES[name], self.given(request, name)) or ""

    def keep(self, response: Response, name: str, text: str, age_s: int) -> None:
        """Set a cookie."""
        self.keep_signed(response, name, self.tokens.sign(PURPOSES[name], text), age_s)

    def keep_signed(self, response: Response, name: str, value: str, age_s: int) -> None:
        """Set a cookie that is signed already."""
        response.set_cookie(self.called(name), value, max_age=age_s, path=_path(name), httponly=True, samesite="Lax", secure=self.secure)

    def forget(self, response: Response, *names: str) -> None:
        """Have the browser remove cookies."""
        for name in names:
            response.delete_cookie(self.called(name), path=_path(name), httponly=True, samesite="Lax", secure=self.secure)


def _path(name: str) -> str:
    return PRIVACY if name == HELD else "/"
