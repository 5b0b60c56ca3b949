"""``from analysis import analyse``: the engine of the reports for those who work in a notebook."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, overload

from analysis.bayes import Prior
from analysis.observed import observe
from analysis.own.data import Analysis
from analysis.own.data import analyse as analyse_file
from analysis.report import Report, build_report
from analysis.totals import totals
from experiments.clock import moment, system_clock, to_us
from experiments.errors import DataError, nearest
from experiments.events.event import Event
from experiments.events.ids import event_id
from experiments.events.loader import Loader
from experiments.events.outbox import Outbox, OutboxLimits
from experiments.events.store import balance, last_seq, read_store, store_path
from experiments.experiment import Experiment

__all__ = ["analyse"]

NEEDED = ("kind", "page_view", "reader", "issued_at")
KNOWN = (*NEEDED, "id", "received_at", "experiment", "arm", "body", "source", "device", "bot", "config")
AT_ONCE, MOST_FAULTS = 5_000, 20


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
    asked: dict[str, Any] = {"until": until, "start": start, "source": source, "prior": prior, "seed": seed}
    if isinstance(data, str | Path) and Path(data).is_dir():
        return _report(Path(data), experiment, assigned=True, **asked)
    with tempfile.TemporaryDirectory(prefix="presslab-") as name:
        _store(Path(name), _rows(data))
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
    ended = until - begun >= timedelta(days=experiment.planned_days)
    seen = observe(home, experiment, shares={0: experiment.shares}, ended=ended, start=begun, **cut)  # type: ignore[arg-type]
    found = totals(home, experiment, start_us=to_us(begun), **cut)  # type: ignore[arg-type]
    with closing(read_store(store_path(home))) as store:
        snapshot = str(last_seq(store))
    return build_report(
        experiment, found, balance(home), start=begun, until=until, state="running", snapshot=snapshot, prior=prior, seed=seed,
        observed=seen if assigned else replace(seen, different=0, shown=0),
    )  # fmt: skip


def _rows(data: Any) -> list[dict[str, Any]]:
    """Return events as plain values, whatever they came in."""
    import pyarrow as pa

    if isinstance(data, str | Path):
        import duckdb

        path = Path(data)
        reader = {".parquet": "read_parquet", ".csv": "read_csv"}.get(path.suffix)
        if reader is None or not path.exists():
            raise DataError(f"{path} is neither a home folder nor a Parquet or CSV file.", "Give a path that exists.")
        with duckdb.connect() as engine:
            table = engine.sql(f"SELECT * FROM {reader}(?)", params=[str(path)]).to_arrow_table()
    elif hasattr(data, "to_pyarrow"):
        table = data.to_pyarrow()
    else:
        with warnings.catch_warnings():  # pyarrow reads times with a zone in a way pandas 3.1 warns of
            warnings.simplefilter("ignore")
            table = data if isinstance(data, pa.Table) else pa.Table.from_pandas(data, preserve_index=False)
    missing, unknown = [c for c in NEEDED if c not in table.column_names], [c for c in table.column_names if c not in KNOWN]
    if missing or unknown:
        faults = [*(f"the column '{c}' is missing." for c in missing), *(f"'{c}' is unknown; {nearest(c, KNOWN)}" for c in unknown)]
        raise DataError("these events cannot be read:", faults=faults)
    return table.to_pylist()  # type: ignore[no-any-return]


def _store(home: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Take the events through outbox and loader, so that every rule about doubled, late and bad events holds here too."""
    outbox, bad = Outbox(home / "outbox", clock=system_clock, limits=OutboxLimits(reserve_bytes=0)), Counter[str]()
    for begun in range(0, len(rows), AT_ONCE):
        events = []
        for number, row in enumerate(rows[begun : begun + AT_ONCE], start=begun + 1):
            try:
                events.append(_event(row))
            except (ValueError, TypeError, KeyError) as error:
                bad[f"row {number}: {error}"] += 1
        if not bad:
            outbox.append(events, timeout_s=600)
    outbox.close()
    with Loader(home, clock=system_clock) as loader:
        loader.drain()
    with closing(read_store(store_path(home))) as store:
        bad.update(
            {f"{n:,} events: {reason}": n for reason, n in store.execute("SELECT reason, count(*) FROM dead_letter GROUP BY reason")}
        )
    if bad:
        raise DataError("some events cannot be accepted; nothing was analysed:", faults=list(bad)[:MOST_FAULTS])


def _event(row: Mapping[str, Any]) -> Event:
    body = row.get("body") or {}
    body = json.loads(body) if isinstance(body, str) else dict(body)
    issued = _us(row["issued_at"])
    received = issued if row.get("received_at") is None else _us(row["received_at"])
    kind, page_view = str(row["kind"]), str(row["page_view"])
    given = row.get("id")
    known = bytes.fromhex(given) if isinstance(given, str) else given
    identity = known or event_id(page_view, kind, json.dumps([row.get("experiment") or "", body], sort_keys=True))
    words: dict[str, Any] = {name: str(row.get(name) or "") for name in ("experiment", "arm", "device", "config")}
    words |= {"source": row.get("source") or "live", "bot": bool(row.get("bot"))}
    return Event(identity, kind, page_view, str(row["reader"]), issued, received, body, **words)


def _us(at: Any) -> int:
    """UTC microseconds of a time or of a whole number of them."""
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise ValueError(f"the time {at.isoformat()} has no zone")
        return to_us(at)
    if isinstance(at, int):
        return at
    raise ValueError(f"'{at!r:.40}' is no time: give UTC microseconds or times with a zone")
