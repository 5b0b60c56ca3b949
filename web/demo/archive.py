"""Every bundle the demo published, kept aside: the true effects are computed with the models that really served."""

from __future__ import annotations

import shutil
from pathlib import Path

from experiments.serving.artefacts import current

__all__ = ["Archive", "archived"]

ARMS = ("als", "ranked")


class Archive:
    """Copies a bundle when the pointer moves."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.seen: dict[str, str] = {}

    def keep(self) -> None:
        for arm in ARMS:
            pointer = current(self.home, arm)
            if pointer is None or self.seen.get(arm) == pointer.version:
                continue
            target = archived(self.home, arm) / f"{pointer.at:020d}-{pointer.version}"
            if not target.exists():
                shutil.copytree(self.home / "models" / arm / pointer.version, target)
            self.seen[arm] = pointer.version


def archived(home: Path, arm: str) -> Path:
    """Return the folder of an arm's kept bundles, named ``<published at, µs>-<version>``."""
    return home / "demo" / "models" / arm
