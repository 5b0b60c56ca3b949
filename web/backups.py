"""What the health page says about the last copy and the last restore that was tested."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from experiments.clock import Clock, moment
from experiments.events.backup import copies, taken_at
from experiments.files import read_json
from experiments.settings import Settings
from web.formatting import duration, when
from web.jobs import job_named, timetable

__all__ = ["backup_checks"]

PERIODS = 2  # after which a copy, or a test of one, is too old


def backup_checks(settings: Settings, clock: Clock) -> Iterator[dict[str, str]]:
    """Yield the lines ``last backup`` and ``last tested restore``: how long ago, and a warning when that is over two periods.

    Where the jobs run on request (in the demo) nothing is due, so nothing is too old.
    """
    now = moment(clock())
    taken, tested = (read_json(settings.home / f"{name}.json") for name in ("backup", "drill"))
    folder = settings.backups if taken is None else Path(taken["path"]).parent
    kept = copies(folder)
    if taken is None:
        says, warns = "No backup was taken yet: presslab backup", _late(settings, "backup", None, now)
    elif not Path(taken["path"]).exists():
        says, warns = "Take another: presslab backup", f"The last backup is gone from {taken['path']}."
    else:
        at = moment(taken["at_us"])
        words = "1 copy is" if len(kept) == 1 else f"{len(kept)} copies are"
        says, warns = f"Taken {_ago(at, now)}; {words} kept in {folder}.", _late(settings, "backup", at, now)
    yield _line("last backup", says, warns)
    if tested is None:
        says, warns = (
            "No restore was tested yet: presslab backup --drill",
            _late(settings, "drill", taken_at(kept[0]) if kept else now, now),
        )
    else:
        at = moment(tested["at_us"])
        says = f"The copy of {when(moment(tested['backup_us']))} was restored aside {_ago(at, now)}: every event was accounted for."
        warns = _late(settings, "drill", at, now)
    yield _line("last tested restore", says, warns)


def _late(settings: Settings, job: str, at: datetime | None, now: datetime) -> str:
    """Why something of this age is a warning; empty when it is none."""
    due = job_named(timetable(settings), job)
    if due.schedule() == "on request" or (at is not None and now - at <= PERIODS * timedelta(seconds=due.every_s)):
        return ""
    what = "backup" if job == "backup" else "tested restore"
    return f"There is no {what} of the last {duration(PERIODS * due.every_s)}; one is due {due.schedule()}."


def _ago(at: datetime, now: datetime) -> str:
    return f"{duration((now - at).total_seconds())} ago ({when(at)})"


def _line(name: str, says: str, warns: str) -> dict[str, str]:
    return {"name": name, "state": "warn" if warns else "ok", "says": f"{warns} {says}".strip()}
