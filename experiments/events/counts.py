"""Who was exposed, who has matured, and what was left out: counted per arm, so that nothing is dropped in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Counts", "ExposureGroup", "ReaderGroup", "count_up"]

ReaderGroup = tuple[str, int, bool, bool, int, int]  # arm, phase, matured, seen in more than one arm, readers, sessions
ExposureGroup = tuple[str, str, str, int, int, int]  # arm, outcome, reason, bot, late, rows


@dataclass(frozen=True, slots=True)
class Counts:
    """What the trust checks need, per arm unless said; every arm of the plan has an entry.

    Parameters
    ----------
    exposed, matured : readers, under their first arm.
    exposed_by_phase : phase -> arm -> readers.
    sessions : counted sessions of matured readers.
    exposures, fallbacks, degraded : rows that enter the analysis, and those of them with that outcome.
    bots, late, forced : exposure rows left out, by reason.
    crossed : readers seen in more than one arm. unknown_arms : arm -> exposure rows of arms the plan does not have.
    clicks_without_exposure : clicks of the experiment on pages without an exposure.
    views_per_day : article views of the whole site per day since the first exposure; 0 before it.
    snapshot_seq : last event of the store that was read.
    """

    exposed: Mapping[str, int]
    matured: Mapping[str, int]
    exposed_by_phase: Mapping[int, Mapping[str, int]]
    sessions: Mapping[str, int]
    exposures: Mapping[str, int]
    fallbacks: Mapping[str, int]
    degraded: Mapping[str, int]
    bots: Mapping[str, int]
    late: Mapping[str, int]
    forced: Mapping[str, int]
    crossed: int
    unknown_arms: Mapping[str, int]
    clicks_without_exposure: int
    views_per_day: float
    snapshot_seq: int


def count_up(
    arms: Sequence[str],
    readers: Sequence[ReaderGroup],
    groups: Sequence[ExposureGroup],
    *,
    clicks_without_exposure: int,
    views_per_day: float,
    snapshot_seq: int,
) -> Counts:
    """Return the counts of one experiment.

    Parameters
    ----------
    arms : of the plan, in its order.
    readers : exposed readers, grouped. groups : exposure rows, grouped.
    """
    matured = [group for group in readers if group[2]]
    phases = sorted({group[1] for group in readers})
    left_out = {name: [group for group in groups if _left_out(group) == name] for name in ("bot", "late", "forced", "")}

    def rows(name: str, outcome: str = "") -> dict[str, int]:
        return _per_arm(arms, ((group[0], group[5]) for group in left_out[name] if outcome in ("", group[1])))

    return Counts(
        exposed=_per_arm(arms, ((group[0], group[4]) for group in readers)),
        matured=_per_arm(arms, ((group[0], group[4]) for group in matured)),
        exposed_by_phase={phase: _per_arm(arms, ((g[0], g[4]) for g in readers if g[1] == phase)) for phase in phases},
        sessions=_per_arm(arms, ((group[0], int(group[5])) for group in matured)),
        exposures=rows(""),
        fallbacks=rows("", "fallback"),
        degraded=rows("", "degraded"),
        bots=rows("bot"),
        late=rows("late"),
        forced=rows("forced"),
        crossed=sum(group[4] for group in readers if group[3]),
        unknown_arms=dict(sum((Counter({group[0]: group[5]}) for group in groups if group[0] not in arms), Counter())),
        clicks_without_exposure=clicks_without_exposure,
        views_per_day=views_per_day,
        snapshot_seq=snapshot_seq,
    )


def _left_out(group: ExposureGroup) -> str:
    """The first reason why exposure rows do not enter an analysis; empty if they do."""
    _, _, reason, bot, late, _ = group
    return "bot" if bot else "late" if late else "forced" if reason == "forced" else ""


def _per_arm(arms: Sequence[str], pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for arm, n in pairs:
        total[arm] += n
    return {arm: total[arm] for arm in arms}
