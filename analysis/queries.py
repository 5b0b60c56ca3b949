"""What a report needs beyond moments: ceilings of totals, groups of readers, values of single events, the most read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from analysis.moments import Distinct, Totals, add_up
from analysis.winsor import cap_of
from experiments.experiment import Experiment
from experiments.metric import Metric

__all__ = ["Asked", "ask", "beyond", "distinct_of", "groups_of", "with_ceilings"]

NOTHING_READ = "no article was read in the seven days before the test, so none is among the most read"


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """The readers of a plan with all columns its metrics need.

    Parameters
    ----------
    rows : of matured readers; totals with a ceiling are cut.
    caps : metric -> ceiling of a reader's total.
    uncut : metric with a ceiling -> distinct rows as they were.
    events : quantile metric -> values of its events per (arm, phase).
    missing : metric -> why it cannot be measured at all.
    """

    rows: Any
    caps: Mapping[str, int] = field(default_factory=dict)
    uncut: Mapping[str, tuple[Distinct, ...]] = field(default_factory=dict)
    events: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


def ask(home: Path, experiment: Experiment, metrics: Sequence[Metric], *, rows: Any, start_us: int | None, **cut: Any) -> Asked:
    """Return the readers of a plan with what their rows do not hold yet.

    Parameters
    ----------
    metrics : of the plan.
    rows : from :func:`experiments.events.lake.reader_rows` for all metrics but those of :func:`beyond`.
    start_us : of the test, UTC microseconds; the first exposure when left out.
    cut : until_us, source, session_of_exposure.
    """
    from experiments.events import lake_values

    missing: dict[str, str] = {}
    wanted = {measure.key: measure for m in metrics if beyond(m) for measure in m.measures if measure.key not in rows.keys}
    exposed = rows.table["exposed_at"].to_numpy()
    if wanted and len(exposed):
        top = lake_values.most_read(home, before_us=int(exposed.min()) if start_us is None else start_us, source=cut["source"])
        if top.articles:
            again = {"top": top, "session_of_exposure": cut["session_of_exposure"]}
            rows = lake_values.with_measures(home, experiment, rows, wanted, **again)
    missing = {m.name: NOTHING_READ for m in metrics if any(measure.key not in rows.keys for measure in m.measures)}
    events = {m.name: lake_values.values_of_events(home, experiment, m.numerator, **cut) for m in metrics if m.quantile is not None}
    rows, caps, uncut = with_ceilings(rows, metrics, experiment.caps)
    return Asked(rows, caps, uncut, events, missing)


def beyond(metric: Metric) -> bool:
    """Whether a metric asks if an article was among the most read."""
    return any("most_read" in measure.where for measure in metric.measures)


def with_ceilings(rows: Any, metrics: Sequence[Metric], frozen: Mapping[str, int]) -> tuple[Any, dict[str, int], dict[str, Any]]:
    """Cut totals at a ceiling that is the same for all arms; found here where the plan has none yet.

    Returns rows, caps and uncut rows as :class:`Asked` has them; ``frozen`` are the ceilings of the plan.
    """
    from experiments.events.lake_values import with_ceiling

    caps: dict[str, int] = {}
    uncut: dict[str, tuple[Distinct, ...]] = {}
    for m in metrics:
        if m.cap_share is None:
            continue
        uncut[m.name] = distinct_of(rows, m)
        cap = frozen.get(m.name) or cap_of(uncut[m.name], share=m.cap_share)
        if cap is not None and cap > 0:
            caps[m.name], rows = cap, with_ceiling(rows, m.numerator.key, cap)
    return rows, caps, uncut


def distinct_of(rows: Any, metric: Metric) -> tuple[Distinct, ...]:
    """Return the distinct pairs of numerator and denominator per arm and phase, with how many readers have them."""
    from experiments.events.lake import distinct_rows

    keys = (metric.numerator.key, metric.denominator.key)
    return tuple(
        Distinct(str(a), int(n), int(d), int(c), phase) for phase, part in _phases(rows) for a, n, d, c in distinct_rows(part, *keys)
    )


def _phases(rows: Any) -> Iterator[tuple[int, Any]]:
    phase = rows.table["phase"].to_numpy()
    for number in sorted(set(phase.tolist())):
        yield number, replace(rows, table=rows.table.filter(phase == number))


def groups_of(rows: Any, name: str, metric: Metric, *, distinct: bool) -> dict[str, Totals]:
    """Return the totals of every group of a segment, for one metric.

    Parameters
    ----------
    name : a segment of the plan.
    distinct : also the distinct rows, which arms of very unequal size need.
    """
    from experiments.events.lake import moments
    from experiments.events.lake_values import by_segment

    keys = tuple(dict.fromkeys(measure.key for measure in metric.measures))
    groups, part = by_segment(rows, name, keys)
    sums, number = moments(part, by_bucket=True), part.table["bucket"].to_numpy()
    return {
        group: Totals(
            add_up(row for row in sums if row.bucket == i),
            None,
            {metric.name: distinct_of(replace(part, table=part.table.filter(number == i)), metric)} if distinct else {},
        )
        for i, group in enumerate(groups)
    }
