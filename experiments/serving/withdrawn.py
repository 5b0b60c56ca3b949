"""A catalogue in which articles are withdrawn, without reading or computing it anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np

from experiments.serving.recommender import Catalogue

__all__ = ["withdrawn_in"]


def withdrawn_in(catalogue: Catalogue, articles: Iterable[str], *, keep: Iterable[Callable[..., Any]] = ()) -> Catalogue:
    """Return the catalogue with these articles withdrawn, too; the same object where they are already. Positions and version stay.

    Parameters
    ----------
    articles : ids; unknown ones are left out. keep : what may stay derived, since it does not look at whether an article is withdrawn.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from experiments.serving.recommender import Article
    >>> before = Catalogue([Article(one, "A", "", "", "city", "x", datetime(2026, 1, 1, tzinfo=UTC)) for one in "ab"])
    >>> after = withdrawn_in(before, ["b", "c"])
    >>> after.withdrawn.tolist(), after.articles[1].withdrawn, before.withdrawn.tolist(), withdrawn_in(after, ["b"]) is after
    ([False, True], True, [False, False], True)
    """
    gone = [at for at in catalogue.known(tuple(articles)).tolist() if not catalogue.withdrawn[at]]
    if not gone:
        return catalogue
    found, every = copy(catalogue), list(catalogue.articles)
    for at in gone:
        every[at] = replace(every[at], withdrawn=True)
    found.articles, found.withdrawn = tuple(every), catalogue.withdrawn.copy()
    found.withdrawn[gone] = True
    found.lasting = np.flatnonzero(found.evergreen & ~found.withdrawn).astype(np.int32)
    for array in (found.withdrawn, found.lasting):
        array.flags.writeable = False  # shared by all requests
    found._derived = {make: catalogue._derived[make] for make in keep if make in catalogue._derived}
    return found
