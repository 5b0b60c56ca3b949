"""What a job of a fresh process prints: one JSON line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from experiments.errors import PresslabError

__all__ = ["tell"]


def tell(work: Callable[[], Mapping[str, Any]]) -> int:
    """Do the work and print what it found (state ``done``, exit 0), or why it was refused (exit 3).

    Examples
    --------
    >>> tell(lambda: {"says": "nothing moved"})
    {"state": "done", "says": "nothing moved"}
    0
    """
    try:
        told, status = {"state": "done", **work()}, 0
    except PresslabError as error:
        told, status = {"state": "refused", "reason": str(error)}, 3
    sys.stdout.write(json.dumps(told, allow_nan=False) + "\n")
    return status
