"""Rows a slate is filled from: of an arm's ranking, of a section, of everything that is out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from experiments.serving.recommender import Catalogue, Context, Ints, Ranking

__all__ = ["Row", "ascending", "inside", "newest", "of_section", "scored_rows"]

Row = tuple[int, str, float, int]


def ascending(positions: Ints) -> Ints:
    """Return the distinct positions in ascending order (``np.unique`` takes ten times as long on a pool).

    Examples
    --------
    >>> ascending(np.array([7, 3, 7], np.int32)).tolist()
    [3, 7]
    """
    if (positions[1:] > positions[:-1]).all():
        return positions  # a pool nearly always is
    ordered = np.sort(positions)
    again = ordered[1:] == ordered[:-1]
    return np.delete(ordered, np.flatnonzero(again)) if again.any() else ordered


def inside(ranking: Ranking, pool: Ints) -> Ranking:
    """The ranking without articles that are not in the pool."""
    if not len(pool):
        return Ranking.empty()
    ordered = ascending(pool)
    among = ordered[np.minimum(ordered.searchsorted(ranking.articles), len(ordered) - 1)] == ranking.articles
    if among.all():
        return ranking
    sources = tuple(source for source, kept in zip(ranking.sources, among.tolist(), strict=True) if kept)
    return Ranking(ranking.articles[among], ranking.scores[among], sources)


def scored_rows(ranking: Ranking, *, rung: int) -> list[Row]:
    """Articles of a ranking with source, score and rung, best first."""
    scored = zip(ranking.articles.tolist(), ranking.scores.tolist(), ranking.sources, strict=True)
    return [(article, source, score, rung) for article, score, source in scored]


def of_section(context: Context) -> npt.NDArray[np.bool_]:
    """Which articles of the pool are of the open article's section; none without one."""
    if context.article is None:
        return np.zeros(len(context.pool), bool)
    section = context.signals.catalogue.section
    return np.asarray(section[context.pool] == section[context.article])


def newest(catalogue: Catalogue, at: float) -> Iterator[Row]:
    """Everything that is out and not withdrawn, the newest first."""
    out = int(np.searchsorted(catalogue.published_in_order, at, side="right"))
    for position in map(int, catalogue.newest_last[:out][::-1]):
        if not catalogue.withdrawn[position]:
            yield position, "newest", 0.0, 4
