"""Rankings of protocol C: each sees the log before a cut and scores the articles of that log."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from experiments.errors import ArmError, nearest
from recsys.collaborative import als, bm25, strengths
from recsys.like_minded import hyperbolic_heat, like_minded_heat
from recsys.weekly_log import Log, Ranking

__all__ = ["RANKINGS", "heat", "weekly_rankings"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
RANKINGS = ("newest", "heat", "hyperbolic_heat", "like_minded_heat", "popularity", "als", "bm25")
ELSEWHERE = {
    "co_read": "follows the article a reader has open, and a week begins with none",
    "co_read_heat": "follows the article a reader has open, and a week begins with none",
    "ranked": "is trained on next clicks within a session",
}


def weekly_rankings(names: Sequence[str]) -> dict[str, Ranking]:
    """Return the named rankings; ``heat_72`` is heat with a half-life of 72 hours, ``heat`` of 24.

    Raises
    ------
    ArmError
        A ranking is unknown, or belongs to another protocol.

    Examples
    --------
    >>> list(weekly_rankings(["newest", "heat_72"]))
    ['newest', 'heat_72']
    """
    known: dict[str, Ranking] = {
        "newest": lambda past, at, readers: past.first_seen(),  # noqa: ARG005
        "heat": heat(24.0),
        "hyperbolic_heat": hyperbolic_heat,
        "like_minded_heat": like_minded_heat,
        "popularity": heat(np.inf),
        "als": _modelled(als),
        "bm25": _modelled(bm25),
    }
    chosen: dict[str, Ranking] = {}
    for name in names:
        if name.startswith("heat_") and name[5:].replace(".", "", 1).isdecimal() and float(name[5:]) > 0:
            chosen[name] = heat(float(name[5:]))
        elif name in known:
            chosen[name] = known[name]
        elif name in ELSEWHERE:
            raise ArmError(f"'{name}' {ELSEWHERE[name]}; compare it with --protocol next-click.", f"Here: {', '.join(known)}.")
        else:
            raise ArmError(f"no ranking is called '{name}'; {nearest(name, known)}")
    return chosen


def heat(half_life_h: float) -> Ranking:
    """Return the ranking by event weights that halve every ``half_life_h`` hours; infinite counts all events alike."""

    def ranking(past: Log, at: float, readers: Ints) -> Floats:  # noqa: ARG001
        weight = past.weight * 0.5 ** ((at - past.day) * 24 / half_life_h)
        return np.asarray(np.bincount(past.article, weights=weight, minlength=past.shape[1]), np.float64)

    return ranking


def _modelled(model: Callable[..., Floats]) -> Ranking:
    def ranking(past: Log, at: float, readers: Ints) -> Floats:  # noqa: ARG001
        return model(strengths(past.reader, past.article, past.weight, shape=past.shape), rows=readers)

    return ranking
