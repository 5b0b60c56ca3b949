"""The drawing of an article: the newspaper's own, or a neutral one for imported articles."""

from __future__ import annotations

from hashlib import blake2b

from experiments.serving.recommender import Article

__all__ = ["neutral", "picture"]

TONES = (
    ("#dfe6ee", "#b9c7d6", "#7f93a8"),
    ("#e9e4da", "#cfc5b2", "#a3967d"),
    ("#dde9e2", "#b5cdbf", "#7da08d"),
    ("#ece0e4", "#d3b8c1", "#a5828f"),
)


def picture(article: Article) -> str:
    """Return the SVG of an article, 16:9."""
    if article.imported:
        return neutral(article.id)
    from fixtures.newspaper.art import draw  # the demo newspaper's illustrator

    return draw(article)


def neutral(identity: str) -> str:
    """Return quiet folded paper in one of four tones; the same for the same id.

    Examples
    --------
    >>> neutral("a") == neutral("a"), neutral("a").startswith("<svg")
    (True, True)
    """
    digest = blake2b(identity.encode(), digest_size=8).digest()
    paper, fold, ink = TONES[digest[0] % len(TONES)]
    turn = 120 + digest[1] % 200
    columns = "".join(
        f'<rect x="{60 + 180 * c}" y="{110 + 22 * r}" width="{150 - (digest[2 + (r + c) % 6] % 60 if r == 6 else 0)}" height="8" rx="2"/>'
        for c in range(3)
        for r in range(7)
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 360" width="640" height="360">'
        f'<rect width="640" height="360" fill="{paper}"/><path d="M{turn} 0L640 {turn}V0z" fill="{fold}" opacity=".55"/>'
        f'<rect x="60" y="56" width="340" height="26" rx="3" fill="{ink}"/><g fill="{ink}" opacity=".55">{columns}</g>'
        f'<path d="M0 {300 - digest[3] % 30}L640 {270 + digest[4] % 60}V360H0z" fill="{fold}" opacity=".8"/></svg>'
    )
