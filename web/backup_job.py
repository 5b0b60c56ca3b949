"""The daily copy of a home: ``python -m web.backup_job --home DIR --until MICROSECONDS``."""

from __future__ import annotations

from typing import Any

from experiments.events.backup import back_up
from experiments.settings import Settings
from web.formatting import count, size
from web.job_entry import job_entry


def _job(settings: Settings, until_us: int) -> dict[str, Any]:
    made = back_up(settings.home, settings.backups, at_us=until_us, most=settings.backup_copies)
    return {"says": f"{made.path}: {count(made.files)} files, {size(made.bytes)}, events up to number {count(made.last_seq)}"}


if __name__ == "__main__":
    raise SystemExit(job_entry(_job))
