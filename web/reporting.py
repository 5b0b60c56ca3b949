"""Reports: built from the stores, written as one JSON file per experiment; pages and commands read that file."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from analysis.bayes import Prior
from analysis.boundaries import FIRST_DAY
from analysis.cut_short import cut_short
from analysis.fat_tails import learnt_prior
from analysis.looks import Taken
from analysis.neighbours import Ran
from analysis.observed import observe
from analysis.report import Report, build_report
from analysis.totals import totals
from experiments.clock import moment, to_us
from experiments.errors import BusyError, ExperimentError
from experiments.events.store import balance, last_seq, read_store, store_path
from experiments.experiment import Experiment, Phase
from experiments.files import read_json, replace_json
from experiments.lifecycle import Record, Step, caps_of, experiment_named, experiments, looks_of, record_caps, record_looks
from experiments.settings import Settings
from experiments.tables import control_engine
from web.job_entry import job_entry

__all__ = ["ASSIGNMENT", "current_report", "learnt", "store_report", "write_reports"]

ASSIGNMENT = Path("checks") / "assignment.json"  # what the monthly job of assigning readers anew found


def current_report(home: Path, record: Record, *, until_us: int, source: str) -> Report:
    """Return the report of an experiment as of now, of its stop or of its planned end, whichever came first; begun anew once when sealed events are rewritten meanwhile."""
    try:
        return _report(home, record, until_us=until_us, source=source)
    except BusyError:
        return _report(home, record, until_us=until_us, source=source)


def _report(home: Path, record: Record, *, until_us: int, source: str) -> Report:
    if record.started_at is None:
        raise ExperimentError(f"experiment '{record.experiment.name}' is a draft; it has no readers yet.", "Start it first.")
    end = record.started_at + timedelta(days=record.experiment.planned_days)  # decided once: what readers do later changes nothing
    cut = min(until_us, to_us(end), to_us(record.stopped_at or end))
    phases = [Phase(int(p["number"]), datetime.fromisoformat(p["at"]), tuple(p["shares"].items())) for p in record.phases]
    ended = record.stopped_at is not None or moment(cut) - record.started_at >= timedelta(days=record.experiment.planned_days)
    observed = observe(
        home, record.experiment, until_us=cut, source=source, shares={p.number: dict(p.shares) for p in phases}, ended=ended,
        start=record.started_at, assignment=read_json(home / ASSIGNMENT), others=_others(home, record.experiment.name),
        most_evidence=(read_json(report_path(home, record.experiment.name)) or {}).get("evidence", {}),
    )  # fmt: skip
    plan = replace(record.experiment, caps={**caps_of(control_engine(home), record.experiment.name), **record.experiment.caps})
    report = build_report(
        plan,
        totals(home, plan, until_us=cut, source=source, start_us=to_us(record.started_at)),
        balance(home),
        start=record.started_at,
        until=moment(cut),
        state=record.state,
        snapshot=_high_water(home),
        phases=phases,
        taken=[Taken.from_dict(look) for look in looks_of(control_engine(home), record.experiment.name)],
        observed=observed,
        prior=learnt(home, plan),
    )
    return replace(report, checks=(*report.checks, *cut_short(plan, phases, until=moment(cut))))


def learnt(home: Path, plan: Experiment) -> Prior:
    """Return what the finished tests of this installation say about effects on the same goal; ours while they are few.

    Decided tests count whose numbers could be used and whose readers kept their arms; a test never teaches itself.
    """
    found: dict[str, list[tuple[float, float]]] = {"interest": [], "learning": []}
    for record in experiments(control_engine(home)):
        stored = read_json(report_path(home, record.experiment.name)) if record.state == "decided" else None
        if (
            stored is None
            or _lost(record)
            or record.experiment.name == plan.name
            or stored["goal"] != plan.goal
            or stored["verdict"]["key"] == "do_not_use"
        ):
            continue
        for key, effect in ((stored.get("belief") or {}).get("measured") or {}).items():
            found[key].append((effect["log_ratio"], effect["variance"]))
    return learnt_prior(found["interest"], found["learning"])


def _lost(record: Record) -> bool:
    """Whether an arm was taken from its readers while the test ran."""
    return bool(record.phases) and not all(record.phases[-1]["shares"].values())


def _others(home: Path, name: str) -> list[Ran]:
    """Every other test that has begun."""
    known = [r for r in experiments(control_engine(home)) if r.experiment.name != name]
    return [
        Ran(r.experiment.name, r.experiment.slot, r.experiment.layer, r.experiment.salt, r.started_at, r.stopped_at)
        for r in known
        if r.started_at is not None
    ]


def _high_water(home: Path) -> str:
    """The number of the last event that went in: the name of the data cut."""
    with closing(read_store(store_path(home))) as store:
        return str(last_seq(store))


def store_report(home: Path, report: Report, *, computed_us: int, look_day: int = 0) -> Path:
    """Write the report where pages look for it; returns the path."""
    path = report_path(home, report.experiment.name)
    _keep_caps(home, report, moment(computed_us))
    look_day = look_day or int((read_json(path) or {}).get("look_day", 0))
    computed_at = moment(computed_us).isoformat(timespec="seconds")
    replace_json(path, {**report.to_dict(), "computed_at": computed_at, "look_day": look_day})
    return path


def _keep_caps(home: Path, report: Report, at: datetime) -> None:
    """Freeze ceilings with the first report that shows a result, before anybody sees it."""
    new = {name: cap for name, cap in report.totals.caps.items() if name not in report.experiment.caps}
    if new and (report.shown or report.progress.days >= FIRST_DAY):
        record_caps(
            control_engine(home), report.experiment.name, new, Step("timetable", at, "ceiling of a reader's total, all arms together")
        )


def look_daily(home: Path, record: Record, *, until_us: int, source: str) -> int:
    """Take the look of the last whole day, if the plan permits one, and store it before anybody sees it; returns the day.

    The data are cut at the end of that day, so that it does not matter when the job runs. A day is looked at once: what
    was tried is kept in the stored report.
    """
    engine, plan = control_engine(home), record.experiment
    day = int((moment(until_us) - record.started_at) / timedelta(days=1)) if record.started_at and record.state == "running" else 0
    recorded = [int(look["day"]) for look in looks_of(engine, plan.name)]
    tried = max([int((read_json(report_path(home, plan.name)) or {}).get("look_day", 0)), *recorded])
    if record.started_at is None or not max(tried + 1, FIRST_DAY) <= day < plan.planned_days:
        return max(day, tried)
    cut = to_us(record.started_at + timedelta(days=day))
    report = current_report(home, record, until_us=cut, source=source)
    _keep_caps(home, report, moment(until_us))
    looks = report.look()
    if looks:
        step = Step("timetable", moment(until_us), f"look at the end of day {day}")
        record_looks(engine, plan.name, [look.to_dict() for look in looks], step)
    return day


def report_path(home: Path, name: str) -> Path:
    return home / "reports" / f"{name}.json"


def write_reports(home: Path, *, until_us: int, source: str) -> list[str]:
    """Write the report of every experiment that is running or waits for its decision; returns their names."""
    engine, written = control_engine(home), []
    for record in experiments(engine):
        if record.state in ("running", "stopped"):
            day = look_daily(home, record, until_us=until_us, source=source)
            store_report(home, current_report(home, record, until_us=until_us, source=source), computed_us=until_us, look_day=day)
            written.append(record.experiment.name)
    return written


def named_report(home: Path, name: str, *, source: str, until_us: int) -> dict[str, Any]:
    """Compute and store the report called ``name``; returns its JSON."""
    record = experiment_named(control_engine(home), name)
    report = current_report(home, record, until_us=until_us, source=source)
    store_report(home, report, computed_us=until_us)
    return report.to_dict()


def _all(settings: Settings, until_us: int) -> dict[str, Any]:
    names = write_reports(settings.home, until_us=until_us, source=settings.source)
    return {"says": f"reports of {', '.join(names)}" if names else "no experiment to report on", "reports": names}


if __name__ == "__main__":
    raise SystemExit(job_entry(_all))
