"""Versions of a model that readers get or got: what a new one may lead on from, and what is known of how they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any

from experiments.errors import ArtefactError
from experiments.serving.artefacts import current, read_bundle
from experiments.serving.packed import Arrays

__all__ = ["Served", "libraries", "served"]

LIBRARIES = ("numpy", "scipy", "implicit", "scikit-learn")


@dataclass(frozen=True, slots=True)
class Served:
    """A published version.

    Parameters
    ----------
    version : its number. until : unix seconds, it saw nothing at or after them. arrays, manifest : as published.
    """

    version: str
    until: float
    arrays: Arrays
    manifest: Mapping[str, Any]


def libraries() -> dict[str, str]:
    """Return the versions of the libraries that a model's bits depend on."""
    return {name: library_version(name) for name in LIBRARIES}


def served(home: Path, arm: str, *, seed: int) -> Iterator[Served]:
    """Yield the version in force, then those in force before it, newest first.

    Left out are what was trained with another seed or other libraries, what does not say until when it learned, and what cannot be
    read: a broken version must not keep the next one from being trained.
    """
    try:
        pointer = current(home, arm)
    except ArtefactError:
        return
    for version in (pointer.version, *pointer.previous) if pointer else ():
        sha256 = pointer.sha256 if pointer and version == pointer.version else None
        try:
            arrays, manifest = read_bundle(home / "models" / arm / version, sha256=sha256)
        except (ArtefactError, OSError):
            continue
        if (manifest.get("seed"), manifest.get("libraries")) == (seed, libraries()) and isinstance(manifest.get("until"), int):
            yield Served(version, manifest["until"] / 1e6, arrays, manifest)
