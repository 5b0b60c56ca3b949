"""Two arms in one list: each reader compares them at once, so far fewer readers are needed than for an A/B test.

It says which of two rankings readers prefer to click. It cannot measure views per session or euros.
Radlinski, Kurup, Joachims, How does clickthrough data reflect retrieval quality?, CIKM 2008 (team-draft interleaving).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import bdtr, betaincinv, ndtri

from experiments.serving.recommender import Ranking
from recsys.comparison import mcnemar

__all__ = ["Draft", "Preference", "Team", "credit", "power_of", "preference", "readers_needed", "team_draft"]

Team = Literal["a", "b", ""]


@dataclass(frozen=True, slots=True)
class Draft:
    """A mixed list.

    Parameters
    ----------
    articles : positions in the catalogue, in the order shown. teams : who picked each place; empty for a pin, and from where
        one arm might have nothing left: what the other adds then has no rival.
    """

    articles: tuple[int, ...]
    teams: tuple[Team, ...]


@dataclass(frozen=True, slots=True)
class Preference:
    """How readers decided.

    Parameters
    ----------
    a, b : readers with more clicks on what that arm picked. ties : readers with equal credit, who say nothing.
    share : of the deciding readers who preferred ``a``, with its exact 95 % interval (Clopper and Pearson 1934), which leaves one
        half out exactly when p is below 0.05; None without a deciding reader.
    p : chance of a split at least this uneven when readers do not care (exact sign test); None without a deciding reader.
    """

    a: int
    b: int
    ties: int
    share: float | None
    low: float | None
    high: float | None
    p: float | None


def team_draft(a: Ranking, b: Ranking, *, n: int, seed: int, pins: Mapping[int, int] | None = None) -> Draft:
    """Return at most ``n`` articles drafted in turns; in each round a coin decides who picks first.

    Parameters
    ----------
    seed : of the slate. pins : place (0-based) -> article, shown there whoever drafts, credited to nobody.

    Examples
    --------
    >>> a, b = (Ranking.best_first(order, [2.0, 1.0], "heat") for order in ([1, 2], [3, 1]))
    >>> team_draft(a, b, n=3, seed=0).articles in ((1, 3, 2), (3, 1, 2))
    True
    """
    pinned = dict(pins or {})
    rng = np.random.default_rng(seed)
    left: dict[Team, list[int]] = {"a": a.articles.tolist()[::-1], "b": b.articles.tolist()[::-1]}
    used = set(pinned.values())
    articles: list[int] = []
    teams: list[Team] = []
    turns: list[Team] = []
    rivals = True
    while len(articles) < n:
        if len(articles) in pinned:
            articles.append(pinned[len(articles)])
            teams.append("")
            continue
        if not any(left.values()):
            break
        if not turns:
            turns, rivals = (["a", "b"] if rng.random() < 0.5 else ["b", "a"]), rivals and _both_answer(left, used)
        team = turns.pop(0)
        best = _next(left[team], used)
        if best is not None:
            used.add(best)
            articles.append(best)
            teams.append(team if rivals else "")
    return Draft(tuple(articles), tuple(teams))


def _both_answer(left: Mapping[Team, list[int]], used: set[int]) -> bool:
    """Whether each arm has an article for this round whoever picks first: else the coin alone would decide who is credited."""
    a, b = ([article for article in side if article not in used] for side in (left["a"], left["b"]))
    return bool(a and b and set(a) - {b[-1]} and set(b) - {a[-1]})


def _next(left: list[int], used: set[int]) -> int | None:
    """Take an arm's best article that is not used yet."""
    while left:
        if (best := left.pop()) not in used:
            return best
    return None


def credit(draft: Draft, clicked: Iterable[int]) -> tuple[int, int]:
    """Return the clicks on what ``a`` and on what ``b`` picked; an article counts once, a pin for nobody.

    Examples
    --------
    >>> credit(Draft((1, 9, 3), ("a", "", "b")), [1, 9, 9, 7])
    (1, 0)
    """
    opened = set(clicked)
    won = [team for article, team in zip(draft.articles, draft.teams, strict=True) if article in opened]
    return won.count("a"), won.count("b")


def preference(credits: Mapping[str, Sequence[tuple[int, int]]]) -> Preference:
    """Return which arm readers prefer; each reader counts once, whatever the number of their slates.

    Parameters
    ----------
    credits : reader -> credit of each of their slates.

    Examples
    --------
    >>> found = preference({"r": [(1, 0), (2, 1)], "s": [(0, 1)], "t": [(1, 1)], "u": []})
    >>> (found.a, found.b, found.ties, found.share, found.p)
    (1, 1, 2, 0.5, 1.0)
    """
    gaps = [sum(a - b for a, b in slates) for slates in credits.values()]
    wins, losses = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
    deciding = wins + losses
    if not deciding:
        return Preference(0, 0, len(gaps), None, None, None, None)
    low = float(betaincinv(wins, losses + 1, 0.025)) if wins else 0.0
    high = float(betaincinv(wins + 1, losses, 0.975)) if losses else 1.0
    return Preference(wins, losses, len(gaps) - deciding, wins / deciding, low, high, mcnemar(wins, losses))


def readers_needed(share: float, *, power: float = 0.8, level: float = 0.95) -> int:
    """Return how many deciding readers tell a preference of ``share`` from indifference.

    Parameters
    ----------
    share : above 0 and below 1, not one half. power, level : above 0 and below 1.

    References
    ----------
    Normal approximation of the sign test, ``(z_level/2 + 2 z_power sqrt(s(1-s)))² / (2s - 1)²``.

    Examples
    --------
    >>> readers_needed(0.55)
    783
    """
    spread = 2 * np.sqrt(share * (1 - share))
    root = (ndtri(0.5 + level / 2) + ndtri(power) * spread) / (2 * share - 1)
    return int(np.ceil(root**2))


def power_of(readers: int, share: float, *, level: float = 0.95) -> float:
    """Return the exact power of the two-sided sign test with that many deciding readers.

    Examples
    --------
    >>> round(power_of(783, 0.55), 2)
    0.79
    """
    most = next((k for k in range(readers // 2 + 1) if mcnemar(k, readers - k) > 1 - level), 0) - 1
    return float(bdtr(most, readers, share) + bdtr(most, readers, 1 - share)) if most >= 0 else 0.0
