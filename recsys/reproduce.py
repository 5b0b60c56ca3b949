"""Train a published version again, from the same reads with the same seed, and compare every bit; publishes nothing.

``python -m recsys.reproduce ARM --home H --version V`` prints one JSON line.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any

from experiments.errors import ArmError, NotFoundError
from experiments.serving.artefacts import current, read_bundle, write_bundle
from experiments.serving.packed import ARRAYS
from experiments.serving.recommender import arm_class
from recsys.judging import judge
from recsys.one_line import tell
from recsys.source import Source, read_source

__all__ = ["main", "reproduce"]


def reproduce(arm: str, home: Path, version: str = "") -> dict[str, Any]:
    """Return ``{arm, version, same, published_sha256, sha256, changed}`` of a version (of the one in force when it is empty).

    ``changed`` names what is no longer as it was (the reads, a library); where it is empty and the arrays differ, the
    recipe itself is not reproducible.

    Raises
    ------
    NotFoundError
        There is no such version, or it was led on from one that is no longer kept.
    """
    kind: Any = arm_class(arm)
    if not hasattr(kind, "trainer"):
        raise ArmError(f"arm '{arm}' is not trained: it has no `trainer`.", "Only versions of models can be reproduced.")
    pointer = current(home, arm)
    chosen = version or (pointer.version if pointer else "")
    if not chosen:
        raise NotFoundError(f"arm '{arm}' has no version yet.", f"Train it first: presslab model train {arm}")
    path = home / "models" / arm / chosen
    if not chosen.isdecimal() or not path.is_dir():
        raise NotFoundError(f"arm '{arm}' has no version '{chosen}'.", "See `presslab model list`.")
    _, manifest = read_bundle(path)
    until_us, seed = int(manifest["until"]), int(manifest["seed"])
    source = read_source(home, until_us=until_us, agreed_only=kind.audience == "agreed", texts=getattr(kind, "uses_texts", True))
    trainer = importlib.import_module(kind.trainer).Trainer(source.reads, source.site, until=until_us / 1e6, seed=seed)
    _begin(trainer, source, manifest, folder=path.parent)
    arrays, _ = trainer.fit(until_us / 1e6)
    with tempfile.TemporaryDirectory() as folder:
        found = write_bundle(Path(folder) / arm, arrays, {}).content_sha256
    was = str(manifest["files"][ARRAYS]["sha256"])
    return {"arm": arm, "version": chosen, "same": found == was, "published_sha256": was, "sha256": found, "changed": _changed(manifest, source.data_sha256)}  # fmt: skip


def _begin(trainer: Any, source: Source, manifest: Mapping[str, Any], *, folder: Path) -> None:
    """Put the trainer where it was: at the version it was led on from, or at the fit that was judged."""
    arm, began = str(manifest["arm"]), manifest.get("began") or {}
    version = began.get("version", "") if isinstance(began, Mapping) else ""
    if not version:
        judge(trainer, source, arm, until=manifest["until"] / 1e6, against=manifest["gate"]["against"], seed=int(manifest["seed"]))
        return
    if not (folder / version).is_dir():
        raise NotFoundError(
            f"this version of '{arm}' was led on from version {version}, which is no longer kept here.",
            f"Every version's bundle is in MLflow (`presslab mlflow-ui`): put that one's back under models/{arm}/{version}, then try again.",
        )
    arrays, before = read_bundle(folder / version)
    if before["files"][ARRAYS]["sha256"] != began["sha256"]:
        raise NotFoundError(
            f"version {version} of '{arm}' is not the one this version was led on from.", "Put the bundle from MLflow back."
        )
    trainer.lead_on(arrays, before)


def _changed(manifest: Mapping[str, Any], data_sha256: str) -> list[str]:
    """What went in then and is different now."""
    libraries = [f"{name} {was}, now {now}" for name, was in manifest["libraries"].items() if (now := library_version(name)) != was]
    reads = ["the reads up to that time (erased, past their retention, or loaded late)"] if data_sha256 != manifest["data_sha256"] else []
    return reads + libraries


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns 0 when every bit is the same, 4 when not, 5 when there is no such version, 3 when it cannot be tried."""
    parser = argparse.ArgumentParser(prog="recsys.reproduce", description="Train a published version again and compare every bit.")
    parser.add_argument("arm")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--version", default="", help="the one in force unless given")
    given = parser.parse_args(argv)
    status = 0

    def work() -> dict[str, Any]:
        nonlocal status
        try:
            found = reproduce(given.arm, given.home, given.version)
        except NotFoundError as error:
            status = error.exit_status
            raise
        same, status = found["same"], 0 if found["same"] else 4
        why = f"; changed: {', '.join(found['changed'])}" if found["changed"] else ""
        says = f"version {found['version']} " + ("comes out the same, bit for bit" if same else "comes out differently" + why)
        return {"says": says, **found}

    refused = tell(work)
    return status or refused


if __name__ == "__main__":
    sys.exit(main())
