"""The weekly drills: the last copy is restored aside, and the version before of every model is loaded.

``python -m web.drill_job --home DIR --until MICROSECONDS``; nothing that readers get changes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.content import load_catalogue
from experiments.errors import ArtefactError
from experiments.events.backup import copies
from experiments.events.restoring import drill
from experiments.serving.artefacts import current, read_bundle
from experiments.serving.recommender import discover
from experiments.settings import Settings
from web.formatting import count
from web.job_entry import job_entry

__all__ = ["ways_back"]


def _job(settings: Settings, until_us: int) -> dict[str, Any]:
    kept = copies(settings.backups)
    restored = f"there is no copy in {settings.backups} yet"
    if kept:
        found = drill(kept[-1], at_us=until_us, tested=settings.home)
        restored = f"{kept[-1].name} was restored aside: {count(found.last_seq)} events, all accounted for"
    back = ", ".join(ways_back(settings.home))
    return {"says": f"{restored}; {f'models could go back: {back}' if back else 'no model has an earlier version'}"}


def ways_back(home: Path) -> Iterator[str]:
    """Load what a trip would put in force; yields arm, version and how long it took, in words.

    Raises
    ------
    ArtefactError
        The earlier version of an arm cannot serve.
    """
    catalogue = load_catalogue(home)
    for name, kind in discover().items():
        pointer = current(home, name) if hasattr(kind, "load") else None
        if pointer is not None and pointer.previous:
            before, began = pointer.previous[0], time.monotonic()
            try:
                kind.load(*read_bundle(home / "models" / name / before), catalogue)  # type: ignore[attr-defined]
            except (ArtefactError, ValueError, KeyError, TypeError) as error:
                raise ArtefactError(
                    f"'{name}' could not go back to version {before}: {error}", f"Train it: presslab model train {name}"
                ) from error
            yield f"{name} to version {before} ({1000 * (time.monotonic() - began):.0f} ms)"


if __name__ == "__main__":
    raise SystemExit(job_entry(_job))
