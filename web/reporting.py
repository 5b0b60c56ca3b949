"""Reports: built from the stores, written as one JSON file per experiment; pages and commands read that file."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from analysis.report import Report, build_report
from analysis.totals import totals
from experiments.clock import moment, system_clock, to_us
from experiments.errors import ExperimentError, PresslabError
from experiments.events.store import balance, read_store, store_path
from experiments.experiment import Phase
from experiments.files import replace_json
from experiments.lifecycle import Record, experiment_named, experiments
from experiments.settings import load_settings
from experiments.tables import control_engine

__all__ = ["current_report", "store_report", "write_reports"]


def current_report(home: Path, record: Record, *, until_us: int, source: str) -> Report:
    """Return the report of an experiment as of now, or as of its stop."""
    if record.started_at is None:
        raise ExperimentError(f"experiment '{record.experiment.name}' is a draft; it has no readers yet.", "Start it first.")
    cut = until_us if record.stopped_at is None else min(until_us, to_us(record.stopped_at))
    phases = [Phase(int(p["number"]), datetime.fromisoformat(p["at"]), tuple(p["shares"].items())) for p in record.phases]
    return build_report(
        record.experiment,
        totals(home, record.experiment, until_us=cut, source=source),
        balance(home),
        start=record.started_at,
        until=moment(cut),
        state=record.state,
        snapshot=_high_water(home),
        phases=phases,
    )


def _high_water(home: Path) -> str:
    """The number of the last event that went in: the name of the data cut."""
    with closing(read_store(store_path(home))) as store:
        return str(store.execute("SELECT coalesce(max(seq), 0) FROM event").fetchone()[0])


def store_report(home: Path, report: Report, *, computed_us: int) -> Path:
    """Write the report where pages look for it; returns the path."""
    path = home / "reports" / f"{report.experiment.name}.json"
    replace_json(path, {**report.to_dict(), "computed_at": moment(computed_us).isoformat(timespec="seconds")})
    return path


def write_reports(home: Path, *, until_us: int, source: str) -> list[str]:
    """Write the report of every experiment that is running or waits for its decision; returns their names."""
    engine, written = control_engine(home), []
    for record in experiments(engine):
        if record.state in ("running", "stopped"):
            store_report(home, current_report(home, record, until_us=until_us, source=source), computed_us=until_us)
            written.append(record.experiment.name)
    return written


def source_of(profile: str) -> str:
    """A report reads one source, never a mixture: simulated readers in the demo, live ones elsewhere."""
    return "simulated" if profile == "demo" else "live"


def named_report(home: Path, name: str, *, profile: str, until_us: int) -> dict[str, Any]:
    """Compute and store the report called ``name``; returns its JSON."""
    record = experiment_named(control_engine(home), name)
    report = current_report(home, record, until_us=until_us, source=source_of(profile))
    store_report(home, report, computed_us=until_us)
    return report.to_dict()


def main() -> int:
    """Job entry: ``python -m web.reporting --home DIR --until MICROSECONDS``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--until", type=int, default=0)
    asked = parser.parse_args()
    try:
        settings = load_settings(asked.home)
        names = write_reports(settings.home, until_us=asked.until or system_clock(), source=source_of(settings.profile))
    except PresslabError as error:
        sys.stdout.write(json.dumps({"reason": str(error)}) + "\n")
        return error.exit_status
    sys.stdout.write(
        json.dumps({"says": f"reports of {', '.join(names)}" if names else "no experiment to report on", "reports": names}) + "\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
