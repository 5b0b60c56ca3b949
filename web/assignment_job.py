"""The monthly job that assigns stored readers anew, again and again: does assigning alone ever make a difference?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analysis.assignment_check import Reassigned, reassign
from experiments.clock import moment
from experiments.events.lake_checks import activity
from experiments.files import replace_json
from experiments.settings import Settings
from web.job_entry import job_entry
from web.reporting import ASSIGNMENT

__all__ = ["assign_anew"]

DAYS = 28  # of reading that are compared
DAY_US = 86_400_000_000


def assign_anew(home: Path, *, until_us: int, source: str, **how: Any) -> Reassigned:
    """Assign the readers of the last 28 days anew and store what came of it; ``how``: see :func:`reassign`."""
    who = activity(home, since_us=until_us - DAYS * DAY_US, until_us=until_us, source=source)
    found = reassign(who.readers, who.views, who.sessions, at=moment(until_us), **how)
    replace_json(home / ASSIGNMENT, found.to_dict())
    return found


def _job(settings: Settings, until_us: int) -> dict[str, Any]:
    return assign_anew(settings.home, until_us=until_us, source=settings.source).to_dict()


if __name__ == "__main__":
    raise SystemExit(job_entry(_job))
