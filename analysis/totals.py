"""The totals of a plan, asked of the engine; with :mod:`analysis.queries` the only queries of this folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.moments import LOPSIDED, Totals, add_up
from analysis.queries import ask, beyond, distinct_of, groups_of
from experiments.errors import MetricError
from experiments.experiment import Experiment
from experiments.metric import Metric, metric

__all__ = ["metrics_of", "pre_columns", "totals"]


def metrics_of(experiment: Experiment) -> tuple[Metric, ...]:
    """Return goal, secondary and guardrail metrics of a plan, each once, in this order.

    Raises
    ------
    MetricError
        A metric is unknown, or the goal is a quantile, which has no second computation to be held against.
    """
    names = dict.fromkeys((experiment.goal, *experiment.secondary, *experiment.guardrails))
    if metric(experiment.goal).quantile is not None:
        raise MetricError(f"'{experiment.goal}' is a quantile and cannot decide a test.", "Name it as a guardrail or as secondary.")
    return tuple(metric(name) for name in names)


def pre_columns(metric: Metric) -> tuple[str, ...]:
    """Return the columns that say what a metric was before the first exposure, and whether anything was.

    Examples
    --------
    >>> from experiments.metric import metric
    >>> pre_columns(metric("bounce_rate"))
    ('pre:count_bounce', 'pre:count_session', 'has_pre')
    """
    return tuple(dict.fromkeys((f"pre:{metric.numerator.key}", f"pre:{metric.denominator.key}", "has_pre")))


def totals(
    home: Path, experiment: Experiment, *, until_us: int, source: str, session_of_exposure: bool = False, start_us: int | None = None
) -> Totals:
    """Ask the engine once for the rows of a plan and return their moments and counts.

    Parameters
    ----------
    home : PRESSLAB_HOME.
    until_us : data cut, UTC microseconds, exclusive; only readers whose window has ended by then count.
    source : ``live`` or ``simulated``.
    session_of_exposure : also count the session in which a reader's first exposure fell, though it started earlier.
    start_us : of the test, UTC microseconds; the first exposure when left out.
    """
    from experiments.events import lake

    wanted = metrics_of(experiment)
    cut: dict[str, Any] = {"until_us": until_us, "source": source, "session_of_exposure": session_of_exposure}
    rows, counted = lake.rows_and_counts(home, experiment, [m for m in wanted if not beyond(m)], **cut)
    asked = ask(home, experiment, wanted, rows=rows, start_us=start_us, **cut)
    found = Totals(
        add_up(lake.moments(asked.rows)), counted,
        caps=asked.caps, uncut=asked.uncut, events=asked.events, missing=asked.missing, audience_share=rows.audience_share,
    )  # fmt: skip
    lopsided = _lopsided(found.readers())
    chosen = [m for m in (wanted if lopsided else wanted[:1]) if m.name not in asked.missing and m.quantile is None]
    named = () if experiment.goal in asked.missing else experiment.segments
    segments = {name: groups_of(asked.rows, name, wanted[0], distinct=lopsided) for name in named}
    return replace(found, distinct={m.name: distinct_of(asked.rows, m) for m in chosen}, segments=segments)


def _lopsided(readers: Mapping[str, int]) -> bool:
    return len(readers) > 1 and max(readers.values()) > LOPSIDED * min(readers.values())
