"""The monthly job that assigns stored readers anew, again and again: does assigning alone ever make a difference?"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from analysis.assignment_check import Reassigned, reassign
from experiments.clock import moment, system_clock
from experiments.errors import PresslabError
from experiments.events.lake_checks import activity
from experiments.files import replace_json
from experiments.settings import load_settings
from web.reporting import ASSIGNMENT, source_of

__all__ = ["assign_anew"]

DAYS = 28  # of reading that are compared
DAY_US = 86_400_000_000


def assign_anew(home: Path, *, until_us: int, source: str, **how: Any) -> Reassigned:
    """Assign the readers of the last 28 days anew and store what came of it; ``how``: see :func:`reassign`."""
    who = activity(home, since_us=until_us - DAYS * DAY_US, until_us=until_us, source=source)
    found = reassign(who.readers, who.views, who.sessions, at=moment(until_us), **how)
    replace_json(home / ASSIGNMENT, found.to_dict())
    return found


def main() -> int:
    """Job entry: ``python -m web.assignment_job --home DIR --until MICROSECONDS``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--until", type=int, default=0)
    asked = parser.parse_args()
    try:
        settings = load_settings(asked.home)
        found = assign_anew(settings.home, until_us=asked.until or system_clock(), source=source_of(settings.profile))
    except PresslabError as error:
        sys.stdout.write(json.dumps({"reason": str(error)}) + "\n")
        return error.exit_status
    sys.stdout.write(json.dumps(found.to_dict()) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
