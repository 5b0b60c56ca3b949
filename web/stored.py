"""What the console shows: stored results, read as they are. Nothing is computed here but ages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from experiments.clock import Clock, moment
from experiments.decided import decisions
from experiments.errors import ExperimentError, PresslabError
from experiments.files import read_json
from experiments.lifecycle import Record, Step, audit_faults, decide, experiments, notes_of, publish_plan, start, stop, trail, unready
from experiments.serving.artefacts import MANIFEST, current, versions
from experiments.settings import Settings
from experiments.tables import JobRunRow, control_engine
from web.climbing import climbing
from web.follow_up import followed, told
from web.jobs import SET_BACK, Job, job_named, last_runs, request_run, timetable
from web.worker_state import worker_state

__all__ = ["Stored", "advised", "meanwhile"]

WORKER_SILENT_S = 30
MOST_NAME_BYTES = 240  # of a test, in the name of its report's file
PLANNED = ("control", "goal", "guardrails", "planned_days", "audience", "smallest_uplift", "value_per_view", "currency")
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]")


class Stored:
    """Results on disk of one home folder."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings, self.home, self.clock = settings, Path(settings.home), clock

    @cached_property
    def engine(self) -> Engine:
        return control_engine(self.home)

    def report(self, name: str) -> dict[str, Any] | None:
        """Return the last report of an experiment, as :meth:`analysis.report.Report.to_dict` wrote it, and what happened since."""
        report = written(self.home, name)
        record = next((r for r in experiments(self.engine) if r.experiment.name == name), None)
        if report is None or record is None:  # a report that came with a copied folder
            return report
        job = job_named(timetable(self.settings), "report")
        since = followed(report, record, trail(self.engine, name), now=moment(self.clock()), job=job, silent=self.worker_silence())
        return since | {"meanwhile": meanwhile(self.engine, record)}

    def record(self) -> dict[str, Any]:
        """Return every step anybody took, the newest first, and what is wrong with the chain of hashes over them."""
        return {"faults": audit_faults(self.engine), "rows": [told(row) for row in reversed(trail(self.engine))]}

    def start(self, name: str, *, who: str, reason: str) -> None:
        """Let readers in, at the planned shares."""
        step = self._step(who, reason)
        if waits := _proposed(self.engine, name):
            raise ExperimentError(
                f"experiment '{name}' waits for the approval of '{waits['arm']}'.",
                f"Somebody else than its author says: presslab arm step {waits['arm']} --approve {waits['proposal']} --reason '...'",
            )
        with _once(self.engine, name, "start", step):
            start(self.engine, name, step)
        publish_plan(self.home, self.engine, at=step.at)

    def stop(self, name: str, *, who: str, reason: str) -> None:
        """Stop letting readers in, and have the last report written; the record says that a page was used."""
        step = self._step(who, reason)
        with _once(self.engine, name, "stop", step):
            stop(self.engine, name, step)
            request_run(self.engine, job_named(timetable(self.settings), "report"), at=step.at)
        publish_plan(self.home, self.engine, at=step.at)

    def decide(self, name: str, arm: str, *, who: str, reason: str) -> None:
        """Record a decision; the slot shows the arm to every reader it may serve."""
        step = self._step(who, reason)
        with _once(self.engine, name, "decide", step, arm=arm):
            decide(self.engine, name, arm, step, advice=advised(self.home, name))
        publish_plan(self.home, self.engine, at=step.at)

    def _step(self, who: str, reason: str) -> Step:
        name = _plain(who)
        if not name:
            raise ExperimentError("a step in the record needs a name.", "Say who you are.")
        return Step(f"{name} (named on the page)", moment(self.clock()), _plain(reason))

    def reports(self) -> list[dict[str, Any]]:
        """Return one summary per experiment, also of those that have no report yet; the newest first."""
        found, way = [], {row["experiment"]: row for row in climbing(self.home, self.engine)}
        for record in experiments(self.engine):
            report = written(self.home, record.experiment.name) or {}
            plan = record.experiment
            planned_end = None if record.started_at is None else record.started_at + timedelta(days=plan.planned_days)
            found.append(
                {
                    "name": plan.name,
                    "question": plan.question,
                    "state": record.state,
                    "owner": plan.owner,
                    "started_at": _iso(record.started_at),
                    "planned_end": _iso(planned_end),
                    "stopped_at": _iso(record.stopped_at),
                    "decided_arm": record.decided_arm,
                    "verdict": report.get("verdict"),
                    "snapshot": report.get("snapshot"),
                    "control": plan.control,
                    "plan": {key: getattr(plan, key) for key in PLANNED} | {"costs": {a.name: (a.build, a.per_day) for a in plan.arms}},
                    "proposed": _proposed(self.engine, plan.name) if record.state == "draft" else None,
                    "unready": unready(plan) if record.state == "draft" else [],
                    "ladder": way.get(plan.name),
                    "arms": report.get("arms") or [{"name": a.name, "kind": a.kind, "planned_share": a.share} for a in plan.arms],
                }
            )
        return found

    def jobs(self) -> list[dict[str, Any]]:
        """Return the timetable with the last runs; *overdue* is computed here, so that a dead scheduler is seen."""
        now, runs = moment(self.clock()), last_runs(self.engine)
        silent = self.worker_silence()
        rows = [self._loader_row(silent)]
        for job in timetable(self.settings):
            rows.append(_job_row(job, runs.get(job.name, []), now, silent))
        return rows

    def worker_silence(self) -> str:
        """Say in words that the worker does not report, or return an empty string."""
        state = worker_state(self.home)
        if state is None:
            return "The worker has never reported. Start it: presslab worker"
        if state["age_s"] > WORKER_SILENT_S:
            return f"The worker (process {state['pid']}) has not reported for {_age(state['age_s'])}. Start it: presslab worker"
        return ""

    def _loader_row(self, silent: str) -> dict[str, Any]:
        state = worker_state(self.home) or {}
        fault = silent or state.get("faults", {}).get("loader", "")
        loaded = state.get("loaded", {})
        return {
            "name": "loader",
            "says": "Events from the outboxes into the store",
            "schedule": "always",
            "state": "failed" if fault else "running",
            "last_started": None,
            "last_seconds": None,
            "next_due": None,
            "overdue": bool(silent),
            "reason": fault or f"{loaded.get('stored', 0):,} events loaded since the worker started",
            "log": "",
            "durations": [],
        }

    def run_job(self, name: str) -> str:
        """Ask the worker to run a job now."""
        job = job_named(timetable(self.settings), name)
        silent = self.worker_silence()
        if silent:
            raise PresslabError(f"job '{name}' cannot run: nobody would run it.", silent)
        request_run(self.engine, job, at=moment(self.clock()))
        return f"{name} starts within a second."

    def models(self) -> list[dict[str, Any]]:
        """Return every published version of every arm, as its manifest says, the newest first."""
        found = []
        for folder in sorted((self.home / "models").glob("*"), reverse=True):
            pointer = current(self.home, folder.name)
            for version in reversed(versions(folder)):
                manifest = read_json(folder / version / MANIFEST) or {}
                live = pointer is not None and pointer.version == version
                found.append({"arm": folder.name, "version": version, **manifest, "live": live})
        return found

    def registry(self) -> dict[str, Any] | None:
        """Return what MLflow last said, or the words of its failure."""
        state: dict[str, Any] | None = read_json(self.home / "mlflow" / "state.json")
        return state

    def drift(self) -> dict[str, Any] | None:
        profile: dict[str, Any] | None = read_json(self.home / "drift" / "current.json")
        return profile

    def explanation(self) -> dict[str, Any] | None:
        summary: dict[str, Any] | None = read_json(self.home / "explanations" / "ranked.json")
        return summary


def _plain(typed: str) -> str:
    """What was typed, on one line, without signs that are not seen or turn the line around: an entry is read for ever."""
    return " ".join(UNSEEN.sub("", " ".join(typed.split())).split())


def _proposed(engine: Engine, name: str) -> dict[str, Any] | None:
    """The arm that waits for approval in a draft, and the number of its proposal."""
    notes = notes_of(engine, name, ("ship", "draft"))  # a draft that was planned anew has to be shipped anew
    return {"arm": notes[-1].detail["arm"], "proposal": notes[-1].number} if notes and notes[-1].action == "ship" else None


@contextmanager
def _once(engine: Engine, name: str, action: str, step: Step, **detail: str) -> Iterator[None]:
    """Let a step that is refused because it was just taken, word for word, end well: its form was sent twice.

    The plan is then published again: whoever took the step may have been killed before pages were told.
    """
    try:
        yield
    except ExperimentError:
        taken = [row for row in trail(engine, name)[-1:] if (row.action, row.actor, row.reason) == (action, step.actor, step.reason)]
        if not any(detail.items() <= row.detail.items() for row in taken):
            raise


def written(home: Path, name: str) -> dict[str, Any] | None:
    """Return the last report of an experiment as the job wrote it."""
    if not all(c.isalnum() or c in "_-" for c in name) or len(name.encode()) > MOST_NAME_BYTES:
        return None
    report: dict[str, Any] | None = read_json(home / "reports" / f"{name}.json")
    return report


def meanwhile(engine: Engine, record: Record) -> dict[str, str] | None:
    """Return what readers in the place of a decided experiment get instead: ``{test, arm}`` of the test that runs there now (its arms,
    ``arm`` is empty) or was decided later; None when they get what this one decided."""
    beside = [r for r in experiments(engine) if r.experiment.slot == record.experiment.slot and r.experiment.name != record.experiment.name]
    for running in (r for r in beside if r.state == "running"):
        return {"test": running.experiment.name, "arm": ""}
    for one in decisions(engine, beside):
        if record.decided_at is not None and one.made.at > record.decided_at and not one.taken_back:
            return {"test": one.record.experiment.name, "arm": one.made.detail["arm"]}
    return None


def advised(home: Path, name: str) -> str:
    """Return what the last report of an experiment advises; empty when there is none."""
    says: str = (written(home, name) or {"verdict": {"sentence": ""}})["verdict"]["sentence"]
    return says


def _job_row(job: Job, runs: Sequence[JobRunRow], now: datetime, silent: str) -> dict[str, Any]:
    last = runs[0] if runs else None
    on_request = job.schedule() == "on request"
    ahead = (
        f"Its last run began at {_iso(last.started_at)}, by a clock that was ahead." if last and last.started_at > now + SET_BACK else ""
    )
    due = None if on_request else job.latest_slot(now) if last is None or ahead else job.next_due(last.slot)
    late = due is not None and bool(ahead or now > due + timedelta(seconds=max(job.every_s, 120)))
    return {
        "name": job.name,
        "says": job.says,
        "schedule": job.schedule(),
        "state": "never ran" if last is None else last.state,
        "last_started": _iso(last.started_at) if last else None,
        "last_seconds": last.seconds if last else None,
        "next_due": _iso(due),
        "overdue": late,
        "reason": (silent if late and silent else "") or ahead or (last.reason if last else ""),
        "log": last.log if last else "",
        "durations": [r.seconds for r in reversed(runs) if r.seconds is not None],
    }


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")


def _age(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3600:.0f} h"
