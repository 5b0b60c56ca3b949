"""Do more readers meet failures of an arm than of the others? May be asked after every reader; only ever stops an arm.

Nothing but arithmetic: the worker asks every ten seconds and loads no statistics for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

__all__ = ["COUNT_ALPHA", "LEFT", "TOLERATED", "Met", "alpha_of", "apart_from_lateness", "failing", "failing_evidence", "part_of"]

FACTORS = (1.5, 2.0, 4.0, 8.0, 16.0, 32.0)
COUNT_ALPHA = 0.01  # chance of a false stop over all looks and all versions of a model, per count
TOLERATED = 0.01  # share of readers who may meet a failure where no other arm ranks to compare with
NEGLIGIBLE = 0.002  # share of readers who may meet a failure although no reader of the other arms does
HALF = 0.5  # of the readers may meet an error of the arm and what follows it, also where other arms fail alike
LEFT = 0.2  # share of readers who may find nothing of the arm's own; gate 5 allows as much
SAYS = {
    "failed": "met an error of the arm",
    "late": "met a list that was not ready in time",
    "fallback": "met a fallback or a degraded page",
    "nothing": "were shown nothing the arm chose itself",
}


@dataclass(frozen=True, slots=True)
class Met:
    """How many readers there are, and how many of them met what, each counted once.

    Parameters
    ----------
    withdrawn : were shown an article that had been withdrawn; one is too many.
    failed, late : an error, a missed deadline. fallback : any of these, a resting or missing arm, or a degraded page.
    nothing : on no page so far did the arm place a single article itself.
    """

    readers: int = 0
    withdrawn: int = 0
    failed: int = 0
    late: int = 0
    fallback: int = 0
    nothing: int = 0

    def __add__(self, other: Met) -> Met:
        return Met(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(Met)))


def failing(mine: Met, others: Met, share: float, *, alpha: float = COUNT_ALPHA) -> str:
    """Return why an arm must go, in words that follow "readers"; empty when it may stay.

    Parameters
    ----------
    mine, others : of the arm, and of all other arms that rank together (no reader where there is none).
    share : of the arm among all of these, as planned; 1 where there is no other.
    alpha : chance of a false stop, per count, that these looks may spend together (:func:`alpha_of`).

    Examples
    --------
    >>> failing(Met(150, fallback=12), Met(150, fallback=1), 0.5)
    '12 of 150 met a fallback or a degraded page; of other arms that rank 1 of 150'
    >>> failing(Met(150, fallback=12, late=12), Met(), 1.0)
    '12 of 150 met a list that was not ready in time; tolerated is 1 %'
    >>> failing(Met(150, failed=1, nothing=20), Met(150), 0.5)
    ''
    >>> failing(Met(150, failed=90, fallback=140), Met(150, failed=90, fallback=140), 0.5)
    '140 of 150 met an error of the arm or a fallback after one; at most half may, also where other arms fail alike'
    """
    if mine.withdrawn:
        return f"{mine.withdrawn:,} of {mine.readers:,} were shown a withdrawn article; none may be"
    for name, says in SAYS.items():
        bad, beside = getattr(mine, name), getattr(others, name)
        limit = LEFT if name == "nothing" else TOLERATED
        if bad <= NEGLIGIBLE * mine.readers:
            continue
        evidence = []
        if share < 1:
            evidence.append(failing_evidence(bad, bad + beside, share))
        if share == 1 or name == "nothing":  # an arm may leave some pages to the ladder, also where the others leave none
            evidence.append(failing_evidence(bad, mine.readers, limit))
        if min(evidence) > 1 / alpha:
            against = f"of other arms that rank {beside:,} of {others.readers:,}" if share < 1 else f"tolerated is {100 * limit:g} %"
            return f"{bad:,} of {mine.readers:,} {says}; {against}"
    return _broken(mine, alpha)


def _broken(mine: Met, alpha: float) -> str:
    """Where the arms fail alike, none is worse than the others. A machine that is too busy is no error of an arm, nor are degraded pages."""
    bad = max(mine.failed, mine.fallback) if mine.failed > max(mine.late, NEGLIGIBLE * mine.readers) else mine.failed
    if failing_evidence(bad, mine.readers, HALF) <= 1 / alpha:
        return ""
    return (
        f"{bad:,} of {mine.readers:,} met an error of the arm or a fallback after one; at most half may, also where other arms fail alike"
    )


def apart_from_lateness(met: Met) -> Met:
    """Return what readers met of an arm that nothing ranks beside, without what a machine that is too busy causes.

    Then lists are late for everybody at once, which no bound on chance covers, and readers would lose an arm that is sound. Where lists are
    late, and for more readers than met an error, fallbacks and pages without anything of the arm may come from that, too.

    Examples
    --------
    >>> apart_from_lateness(Met(100, late=9, fallback=20, nothing=30))
    Met(readers=100, withdrawn=0, failed=0, late=0, fallback=0, nothing=0)
    >>> apart_from_lateness(Met(100, failed=9, late=1, fallback=20))
    Met(readers=100, withdrawn=0, failed=9, late=0, fallback=20, nothing=0)
    """
    if met.late > max(met.failed, NEGLIGIBLE * met.readers):
        return replace(met, late=0, fallback=0, nothing=0)
    return replace(met, late=0)


def alpha_of(version: int) -> float:
    """Return the chance of a false stop, per count, that looks at one version of a model may spend.

    Parameters
    ----------
    version : how many new versions began to serve since readers count; 0 for all of them together, the first included.

    Returns
    -------
    Half of :data:`COUNT_ALPHA` for all together; the other half is shared by the new ones, ``1 / (k (k + 1))`` of it for the k-th. These
    shares add up to 1, so that a sound arm is stopped falsely with a chance of at most :data:`COUNT_ALPHA` per count, however many versions follow.

    Examples
    --------
    >>> [alpha_of(version) for version in (0, 1, 2)], sum(map(alpha_of, range(10_000))) < COUNT_ALPHA
    ([0.005, 0.0025, 0.0008333333333333334], True)
    """
    return COUNT_ALPHA / 2 / (version * (version + 1) or 1)


def part_of(week: int) -> float:
    """Return the part of :data:`COUNT_ALPHA` that a week of a decided arm may spend; the first is 0, and all of them add up to 1.

    Examples
    --------
    >>> [round(part_of(week), 3) for week in (0, 1, 2)], sum(map(part_of, range(10_000))) < 1
    ([0.5, 0.167, 0.083], True)
    """
    return 1 / ((week + 1) * (week + 2))


def failing_evidence(affected: int, of: int, share: float) -> float:
    """Return the evidence that ``affected`` of ``of`` are more than ``share``; 1 / alpha is enough to stop, at any time.

    Parameters
    ----------
    affected : of the arm's readers, met a fallback. of : affected readers of the arm and of those it is compared with,
        or, where there are none, all readers of the arm. share : of the arm's readers among all of these, or the tolerated one.

    References
    ----------
    OPERATIONS 3: mean over theta of theta^x1 / (1 + pi (theta - 1))^(x1 + x0), an e-process under the null.

    Examples
    --------
    >>> failing_evidence(0, 0, 0.5), round(failing_evidence(5, 5, 0.5)), failing_evidence(3, 300, 0.01) < 1
    (1.0, 14, True)
    """
    logs = [affected * math.log(factor) - of * math.log1p(share * (factor - 1)) for factor in FACTORS]
    top = max(logs)
    return math.exp(min(top, 700.0)) * math.fsum(math.exp(log - top) for log in logs) / len(FACTORS)
