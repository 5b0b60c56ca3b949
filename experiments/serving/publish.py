"""Signal snapshots on disk: a folder per version and a pointer that is replaced whole."""

from __future__ import annotations

import io
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from experiments.errors import ArtefactError
from experiments.files import read_json, replace_file, replace_json
from experiments.serving.recommender import Catalogue
from experiments.serving.signals import Signals, signals_from_arrays, signals_to_arrays

__all__ = ["current_signals", "publish_signals", "read_signals", "signal_versions"]


def publish_signals(home: Path, signals: Signals, *, keep: int = 3) -> str:
    """Write a snapshot and point to it; returns its version (the time it speaks of, in microseconds).

    Parameters
    ----------
    keep : versions left on disk (0 keeps all).
    """
    version = f"{round(signals.at * 1e6):020d}"
    buffer = io.BytesIO()
    np.savez(buffer, **signals_to_arrays(signals))  # type: ignore[arg-type]
    content = buffer.getvalue()
    replace_file(home / "signals" / f"{version}.npz", content)
    pointer = {"version": version, "sha256": sha256(content).hexdigest(), "catalogue": signals.catalogue.version, "at": signals.at}
    replace_json(home / "signals" / "current.json", pointer)
    if keep:
        for old in set(signal_versions(home)[:-keep]) - {version}:  # a clock that was ahead leaves versions that seem newer
            (home / "signals" / f"{old}.npz").unlink(missing_ok=True)
    return version


def signal_versions(home: Path) -> list[str]:
    """Return the versions on disk, the oldest first."""
    return sorted(path.stem for path in (home / "signals").glob("[0-9]*.npz"))


def current_signals(home: Path) -> dict[str, Any] | None:
    """Return the pointer, or None before the first snapshot."""
    pointer: dict[str, Any] | None = read_json(home / "signals" / "current.json")
    return pointer


def read_signals(home: Path, catalogue: Catalogue, version: str, *, digest: str = "") -> Signals:
    """Load one snapshot; raises :class:`ArtefactError` when a byte is wrong or it speaks of other articles."""
    path = home / "signals" / f"{version}.npz"
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ArtefactError(f"signals {version} are not on disk ({path}).") from error
    if digest and sha256(content).hexdigest() != digest:
        raise ArtefactError(f"{path}: the content does not match the pointer's sha256.", "Run `presslab jobs run signals`.")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return signals_from_arrays(dict(arrays), catalogue)
