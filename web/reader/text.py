"""Article texts as HTML, counted words, and found words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from unicodedata import combining, normalize

from markdown_it import MarkdownIt
from markupsafe import Markup

__all__ = ["body_html", "curly", "pieces", "plain", "reading_minutes", "word_count", "words"]

WORDS_A_MINUTE = 230
OPENING = re.compile(r"(^|[\s(\[—–/])([\"'])")
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def body_html(markdown: str) -> Markup:
    """Return Markdown as HTML; raw HTML in it stays text, images and links are not made.

    Examples
    --------
    >>> body_html("Rain & <b>wind</b>.")
    Markup('<p>Rain &amp; &lt;b&gt;wind&lt;/b&gt;.</p>\\n')
    """
    parser = (
        MarkdownIt("commonmark", {"html": False, "typographer": True})
        .enable(["smartquotes", "replacements"])
        .disable(["link", "image", "autolink"])
    )
    html = parser.render(markdown)
    return Markup(html.replace("<h1>", "<h2>").replace("</h1>", "</h2>"))


@lru_cache(maxsize=4_096)
def curly(text: str) -> str:
    """Return a headline with typographic quotes; nothing else changes.

    Examples
    --------
    >>> curly('"Look at the lamp": jury out'), curly("It's a 'lamp'")
    ('“Look at the lamp”: jury out', 'It’s a ‘lamp’')
    """
    text = OPENING.sub(lambda match: match[1] + ("“" if match[2] == '"' else "‘"), text)
    return text.replace('"', "”").replace("'", "’")


def word_count(text: str) -> int:
    """Count words.

    Examples
    --------
    >>> word_count("It's 14:50 at St Brannoc's.")
    6
    """
    return len(WORD.findall(text))


def reading_minutes(text: str) -> int:
    """Return whole minutes, at least one."""
    return max(1, round(word_count(text) / WORDS_A_MINUTE))


def words(text: str) -> list[str]:
    """Return lower-case words without a possessive ending.

    Examples
    --------
    >>> words("Brannoc's Harbour")
    ['brannoc', 'harbour']
    """
    return [re.sub(r"['’]s$", "", word.lower()) for word in WORD.findall(text)]


def plain(word: str) -> str:
    """Return a word in small letters and without accents, as search compares them.

    Examples
    --------
    >>> plain("Élection"), plain("İzmir"), plain("北京")
    ('election', 'izmir', '北京')
    """
    small = word.lower()
    return small if small.isascii() else "".join(letter for letter in normalize("NFKD", small) if not combining(letter)) or small


def pieces(text: str, wanted: Iterable[str]) -> list[tuple[str, bool]]:
    """Split text into (piece, found): found pieces are words that begin with a wanted one; a template marks them.

    Examples
    --------
    >>> pieces("A whale, two whales", ["whale"]), pieces("Élections", ["election"])
    ([('A ', False), ('whale', True), (', two ', False), ('whales', True)], [('Élections', True)])
    """
    stems = tuple(map(plain, wanted))
    result: list[tuple[str, bool]] = []
    end = 0
    for match in WORD.finditer(text) if stems else ():
        if plain(match.group()).startswith(stems):
            result += [(text[end : match.start()], False)] if match.start() > end else []
            result.append((match.group(), True))
            end = match.end()
    return [*result, (text[end:], False)] if end < len(text) else result
