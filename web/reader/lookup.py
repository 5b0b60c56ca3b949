"""Names of sections and authors from the desk; unknown slugs of imported articles become readable words."""

from __future__ import annotations

from web.site_protocol import AuthorLike, Desk, SectionLike

__all__ = ["author_name", "author_of", "own_path", "section_name", "section_of"]


def section_of(desk: Desk, slug: str) -> SectionLike | None:
    """Return the section, or None when the newspaper has none of that slug."""
    return next((section for section in desk.sections if section.slug == slug), None)


def section_name(desk: Desk, slug: str) -> str:
    """Return the name people see."""
    section = section_of(desk, slug)
    return section.name if section else slug.replace("-", " ").capitalize()


def author_of(desk: Desk, slug: str) -> AuthorLike | None:
    """Return the author, or None when the desk does not know them."""
    return next((author for author in desk.authors if author.slug == slug), None)


def author_name(desk: Desk, slug: str) -> str:
    """Return the name people see; who stands not on the desk is called what the article says."""
    author = author_of(desk, slug)
    return author.name if author else slug


def own_path(text: str, *, otherwise: str) -> str:
    """Return ``text`` if it is a path of this site, else ``otherwise`` (never somebody else's address).

    Examples
    --------
    >>> own_path("/en/section/city?page=2", otherwise="/en/"), own_path("//evil.example", otherwise="/en/")
    ('/en/section/city?page=2', '/en/')
    >>> own_path("/%5Cevil.example", otherwise="/en/"), own_path("https://evil.example", otherwise="/en/")
    ('/en/', '/en/')
    """
    safe = text.startswith("/") and not text.startswith("//") and "\\" not in text and "%5c" not in text.lower() and text.isprintable()
    return text if safe else otherwise
