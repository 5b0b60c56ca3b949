"""What jobs that run as ``python -m MODULE --home DIR --until MICROSECONDS`` share."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.clock import system_clock
from experiments.errors import PresslabError
from experiments.settings import Settings, load_settings

__all__ = ["job_entry"]


def job_entry(work: Callable[[Settings, int], Mapping[str, Any]]) -> int:
    """Do the work up to a time (now by default), print its result or its reason as one JSON line, return the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--until", type=int, default=0)
    asked = parser.parse_args()
    try:
        found = work(load_settings(asked.home), asked.until or system_clock())
    except PresslabError as error:
        sys.stdout.write(json.dumps({"reason": str(error)}) + "\n")
        return error.exit_status
    sys.stdout.write(json.dumps(found) + "\n")
    return 0
