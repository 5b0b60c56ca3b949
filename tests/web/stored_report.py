"""What the report job leaves for the pages on a day of a small test that starts with the story."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.files import read_json
from tests.events.story import DAY, START
from web.reporting import report_path, write_reports


def stored(home: Path, day: float) -> dict[str, Any]:
    write_reports(home, until_us=START + round(day * DAY), source="live")
    found: dict[str, Any] | None = read_json(report_path(home, "related"))
    assert found is not None
    return found
