"""The weekly restore of the last copy, aside: ``python -m web.drill_job --home DIR --until MICROSECONDS``."""

from __future__ import annotations

from typing import Any

from experiments.events.backup import copies
from experiments.events.restoring import drill
from experiments.settings import Settings
from web.formatting import count
from web.job_entry import job_entry


def _job(settings: Settings, until_us: int) -> dict[str, Any]:
    kept = copies(settings.backups)
    if not kept:
        return {"says": f"there is no copy in {settings.backups} yet"}
    found = drill(kept[-1], at_us=until_us, tested=settings.home)
    return {"says": f"{kept[-1].name} was restored aside: {count(found.last_seq)} events, all accounted for"}


if __name__ == "__main__":
    raise SystemExit(job_entry(_job))
