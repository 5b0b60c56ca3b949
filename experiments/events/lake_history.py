"""Readers of the past as if a test had begun then, and of a running test whatever their arm: what planning needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
from ibis import _

from experiments.events.lake import ReaderRows, with_matured
from experiments.events.lake_rules import HAS_PRE, agreed_readers, entered, needed, pre
from experiments.events.lake_tables import bound, evaluate
from experiments.events.tail import open_tail
from experiments.experiment import Experiment
from experiments.metric import Metric

__all__ = ["Past", "past"]

PAGES = {"home": "front"}  # pages that hold a slot, where they are called otherwise


@dataclass(frozen=True, slots=True)
class Past:
    """Matured readers, one row each, and when every reader entered (UTC us, sorted, matured or not)."""

    rows: ReaderRows
    entered_us: tuple[int, ...]


def past(
    home: Path,
    experiment: Experiment,
    metrics: Sequence[Metric],
    *,
    until_us: int,
    source: str,
    since_us: int | None = None,
    most_read: Sequence[str] = (),
) -> Past:
    """Return readers counted by the rules of a report, from events before ``until_us``.

    Parameters
    ----------
    since_us : had the test begun then: a reader's first page of the slot's kind from then on counts as the first exposure,
        in the control's arm, whatever was really shown. None takes the real exposures of ``experiment``.
    metrics : their numerators and denominators become columns; those of the goal also as they were before.
    until_us : UTC microseconds, exclusive. source : one source.
    most_read : articles that were, before these readers came; without any, no column tells them from others.
    """
    told = [(metric.name, m) for metric in metrics for m in metric.measures if most_read or "most_read" not in m.where]
    measures = {m.key: m for _name, m in told}
    before = {m.key: m for name, m in told if name == experiment.goal}
    columns = dict(needed(measures.values()))
    columns |= {"view": columns["view"] | {"page_type", "agreed"}, "exposure": columns["exposure"] | {"audience"}}
    rule = entered(experiment, measures, session_of_exposure=False, before=before, most_read=most_read)
    if since_us is not None:
        shown = _first_pages(experiment, since_us).select(*bound("exposure").columns).cast(bound("exposure").schema())
        rule = rule.op().replace({bound("exposure").op(): shown.op()}).to_expr()
    with open_tail(home, until_us=until_us, source=source, experiment=experiment.name if since_us is None else "") as tail:
        found, seq = evaluate(tail, rule, columns).sort_by("reader"), tail.last_seq
    table = with_matured(found, experiment, until_us=until_us)
    keys = (*measures, *map(pre, before), *([HAS_PRE] if before else []))
    rows = table.filter(table["matured"]).drop_columns(["matured", "arms"])
    return Past(ReaderRows(rows, keys, 0, until_us, source, seq), tuple(sorted(table["exposed_at"].to_pylist())))


def _first_pages(experiment: Experiment, since_us: int) -> Any:
    """Exposures that a test beginning at ``since_us`` would have logged: one per reader, at the first page with the slot."""
    views = bound("view").filter((_.prefetch == 0) & (_.issued_at >= since_us))
    place = experiment.slot.partition(".")[0]
    views = views.filter(_.page_type == PAGES.get(place, place))
    if experiment.audience == "agreed":
        views = views.semi_join(agreed_readers(), "reader")
    first = views.group_by("reader").agg(page_view=_.page_view.argmin(_.issued_at), issued_at=_.issued_at.min())
    told = {"arm": experiment.control, "outcome": "served", "slot": experiment.slot, "reason": "assigned", "audience": experiment.audience}
    return first.mutate(phase=0, bucket=0, **{name: ibis.literal(value) for name, value in told.items()})
