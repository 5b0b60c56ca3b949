"""``from analysis import analyse``: the engine of the reports for those who work in a notebook."""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, overload

from analysis.bayes import Prior
from analysis.observed import observe
from analysis.own.data import Analysis
from analysis.own.data import analyse as analyse_file
from analysis.own.events import Given, given
from analysis.report import Report, build_report
from analysis.totals import totals
from experiments.clock import moment, system_clock, to_us
from experiments.errors import DataError, listed
from experiments.events.loader import Loader
from experiments.events.outbox import Outbox, OutboxLimits
from experiments.events.store import balance, last_seq, read_store, store_path
from experiments.experiment import Experiment

__all__ = ["analyse"]

AT_ONCE = 5_000


@overload
def analyse(what: Experiment, data: Any, *, until: datetime, **options: Any) -> Report: ...
@overload
def analyse(what: Path | str, data: Any, **options: Any) -> Analysis: ...
def analyse(what: Experiment | Path | str, data: Any, **options: Any) -> Report | Analysis:
    """Return the report of an experiment from its events, or of somebody's own file.

    Parameters
    ----------
    what : an :class:`Experiment`; or the path of a file (then see :func:`analysis.own.data.analyse`).
    data : events: the home folder of an installation, or a frame, an Arrow table, an Ibis table or the path of a Parquet
        or CSV file with the columns kind, page_view (32 hex characters), reader, issued_at (UTC microseconds or times)
        and, as far as they are known, id, received_at, experiment, arm, body (the fields of the kind, an object or JSON),
        source, device, bot and config. For a file of readers: the metrics.
    options : ``until`` (aware time of the data cut); ``start`` (of the test; else the first exposure), ``source`` (``live``
        unless given; a report reads one), ``prior``, ``seed``.

    Raises
    ------
    DataError
        A column is missing or unknown, or events cannot be accepted; reasons are counted.
    """
    if isinstance(what, Experiment):
        return _of_events(what, data, **options)
    return analyse_file(Path(what), data, **options)


def _of_events(
    experiment: Experiment,
    data: Any,
    *,
    until: datetime,
    start: datetime | None = None,
    source: str = "live",
    prior: Prior = Prior(),
    seed: int = 1,
) -> Report:
    for name, at in (("until", until), ("start", start)):
        if at is not None and (not isinstance(at, datetime) or at.tzinfo is None):
            raise DataError(f"{name} is {at!r}, not a time with a zone.", "For instance datetime(2026, 3, 31, tzinfo=UTC).")
    asked: dict[str, Any] = {"until": until, "start": start, "source": source, "prior": prior, "seed": seed}
    if isinstance(data, str | Path) and Path(data).is_dir():
        return _report(Path(data), experiment, assigned=True, **asked)
    with tempfile.TemporaryDirectory(prefix="presslab-") as name:
        _store(Path(name), given(data))
        return _report(Path(name), experiment, assigned=False, **asked)


def _report(
    home: Path,
    experiment: Experiment,
    *,
    until: datetime,
    start: datetime | None,
    source: str,
    prior: Prior,
    seed: int,
    assigned: bool,
) -> Report:
    """``assigned``: the split is ours, so every reader's arm can be computed again."""
    from experiments.events.lake_shown import first_exposure
    from experiments.events.tail import open_tail

    cut = {"until_us": to_us(until), "source": source}
    with open_tail(home, experiment=experiment.name, **cut) as tail:  # type: ignore[arg-type]
        first = first_exposure(tail)
    begun = start or (until if first is None else moment(first))
    until = min(until, begun + timedelta(days=experiment.planned_days))  # a test is decided once, by what was known at its planned end
    cut["until_us"], ended = to_us(until), until - begun >= timedelta(days=experiment.planned_days)
    seen = observe(home, experiment, shares={0: experiment.shares}, ended=ended, start=begun, **cut)  # type: ignore[arg-type]
    found = totals(home, experiment, start_us=to_us(begun), **cut)  # type: ignore[arg-type]
    with closing(read_store(store_path(home))) as store:
        snapshot = str(last_seq(store))
    return build_report(
        experiment, found, balance(home), start=begun, until=until, state="running", snapshot=snapshot, prior=prior, seed=seed,
        observed=seen if assigned else replace(seen, different=0, shown=0),
    )  # fmt: skip


def _store(home: Path, found: Given) -> None:
    """Take the events through outbox and loader, so that every rule about doubled, late and bad events holds here too."""
    events, bad = found.events()
    if bad:
        raise DataError("some events cannot be accepted; nothing was analysed:", faults=listed(bad))
    outbox = Outbox(home / "outbox", clock=system_clock, limits=OutboxLimits(reserve_bytes=0))
    for begun in range(0, len(events), AT_ONCE):
        outbox.append(events[begun : begun + AT_ONCE], timeout_s=600)
    outbox.close()
    with Loader(home, clock=system_clock) as loader:
        loader.drain()
