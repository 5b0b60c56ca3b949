"""What a report knows beside its totals: signs of lost data, halves of windows, other tests, evidence seen before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from analysis.assignment_check import elsewhere
from analysis.moments import add_up
from analysis.neighbours import Ran
from analysis.novelty import Halves
from experiments.clock import moment
from experiments.experiment import Experiment
from experiments.metric import metric

__all__ = ["Observed", "observe"]


@dataclass(frozen=True, slots=True)
class Observed:
    """Whatever is None was not looked at, and its check is left out.

    Parameters
    ----------
    start, until : of the report, aware UTC times.
    signs : sign -> readers looked at and readers marked, per phase and arm (:class:`experiments.events.lake_checks.Sign`).
    different, shown : readers whose logged arm is not the one the plan assigns, of how many.
    halves : of readers' windows; None before the planned end.
    ahead, tried : readers whose covariates change when nothing after their first exposure is known, of how many.
    assignment : the last monthly run (:meth:`analysis.assignment_check.Reassigned.to_dict`).
    others : every other test of the installation.
    articles : which articles every arm showed (:class:`experiments.events.lake_articles.Shown`); None before the planned end.
    reads : arm -> articles its readers opened since their first exposure, "" for everybody else; empty before the planned end.
    most_evidence : check -> the largest log E of earlier reports.
    """

    start: datetime | None = None
    until: datetime | None = None
    signs: Mapping[str, Any] | None = None
    different: int = 0
    shown: int = 0
    halves: Halves | None = None
    ahead: int = 0
    tried: int = 0
    assignment: Mapping[str, Any] | None = None
    others: Sequence[Ran] = ()
    articles: Any = None
    reads: Mapping[str, int] = field(default_factory=dict)
    most_evidence: Mapping[str, float] = field(default_factory=dict)


def observe(
    home: Path, experiment: Experiment, *, until_us: int, source: str, shares: Mapping[int, Mapping[str, float]], ended: bool, **known: Any
) -> Observed:
    """Ask the engine for everything the trust checks need beside the totals.

    Parameters
    ----------
    until_us : data cut, UTC microseconds, exclusive.
    shares : phase -> arm -> share in force.
    ended : only then effects are looked at, and what needs a second pass over all events.
    known : ``start``, ``assignment``, ``others``, ``most_evidence`` of :class:`Observed`.
    """
    from experiments.events import lake, lake_articles, lake_checks

    seen = lake_checks.seen(home, experiment, until_us=until_us, source=source)
    counted: dict[str, Any] = {
        "until": moment(until_us),
        "signs": seen.signs,
        "different": elsewhere(experiment, seen.shown, shares),
        "shown": len(set(seen.shown[0])),
    }
    goal = metric(experiment.goal)
    if ended:
        counted["articles"] = lake_articles.articles_shown(home, experiment, until_us=until_us, source=source)
        counted["reads"] = lake_articles.reads_of_arms(home, experiment, until_us=until_us, source=source)
    if not ended or any("most_read" in measure.where for measure in (goal.numerator, goal.denominator)):  # needs a list of its own
        return Observed(**counted, **known)
    rows = lake.reader_rows(home, experiment, [goal], until_us=until_us, source=source)
    parts = lake_checks.halves(home, experiment, rows, goal)
    ahead, tried = lake_checks.looked_ahead(home, experiment, rows, goal)
    return Observed(**counted, **known, halves=Halves(add_up(parts.rows), parts.early, parts.late), ahead=ahead, tried=tried)
