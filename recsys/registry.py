"""MLflow: runs, versions and aliases of everything that was published. The only module that imports mlflow.

The site serves its own pointer (``home/models/<arm>/current.json``); MLflow mirrors it. ``python -m recsys.registry --home H``
brings in whatever is missing. A failure is told, stored in ``home/mlflow/state.json`` and stops nobody.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from experiments.clock import system_clock
from experiments.errors import ArtefactError
from experiments.files import locked_file, replace_json
from experiments.serving.artefacts import MANIFEST, current, read_bundle, versions
from experiments.serving.packed import ARRAYS

__all__ = ["list_models", "main", "mirror", "prepare"]

DEFAULTS = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",  # seconds; a registry that never answers is told of long before the job's time is over
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}
TAG = "manifest_sha256"
LIVE, PREVIOUS = "live", "previous"


def _client(home: Path) -> Any:
    """Open the registry: ``MLFLOW_TRACKING_URI`` when set, else SQLite and a folder under ``home``."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    folder = home.absolute() / "mlflow"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries mlflow loads
        from mlflow.tracking import MlflowClient  # the fluent API is not thread-safe (mlflow#9235)

        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def prepare(home: Path) -> None:
    """Create the tables of a new registry, which takes seconds, so that no training has to wait for them."""
    _client(home).search_experiments(max_results=1)


def mirror(home: Path, *, at_us: int) -> dict[str, Any]:
    """Bring every version on disk into MLflow and set the aliases ``live`` and ``previous`` as the pointers say.

    Returns
    -------
    ``{"at", "reason", "logged", "aliases", "unreadable"}``; ``reason`` is empty when MLflow holds everything. ``unreadable``: MLflow
    answers, but a version on disk cannot be read.
    """
    state: dict[str, Any] = {"at": at_us, "reason": "", "logged": [], "aliases": {}, "unreadable": False}
    faults: list[str] = []
    try:
        client = _client(home)
        with locked_file(home / "mlflow" / ".turn"):  # two that end together would each bring in both versions
            for folder in sorted((home / "models").glob("*")):
                if versions(folder):
                    state["logged"] += _mirror_arm(client, home, folder, faults)
                    state["aliases"][folder.name] = _set_aliases(client, home, folder)
        state["reason"] = "; ".join(faults)
        state["unreadable"] = bool(faults)
    except Exception as error:  # whatever MLflow, its database or its disk say: the site goes on without it
        state["reason"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no words'}"
    with suppress(OSError):  # the reason names it, and the version serves all the same
        replace_json(home / "mlflow" / "state.json", state)
    return state


def _mirror_arm(client: Any, home: Path, folder: Path, faults: list[str]) -> list[dict[str, str]]:
    """Bring in what MLflow does not hold, or no longer; a version that cannot be read is told and keeps no other from it."""
    known = {version.tags.get(TAG): version.run_id for version in _versions(client, folder.name)}
    logged = []
    for version in versions(folder):
        try:
            sha256 = _sha256(folder / version)
            if sha256 not in known or not client.list_artifacts(known[sha256], "bundle"):
                logged.append({"arm": folder.name, "version": version, "registry_version": _log(client, home, folder / version, sha256)})
        except ArtefactError as error:
            faults.append(str(error))
    return logged


def _log(client: Any, home: Path, path: Path, sha256: str) -> str:
    """Log one bundle as a run and a registered version; returns the registry's version number."""
    arm = path.parent.name
    _, manifest = read_bundle(path, sha256=sha256)
    run = client.create_run(_experiment(client, home, arm), run_name=f"{arm}-{path.name}", tags={"arm": arm, TAG: sha256})
    from mlflow.entities import Metric, Param

    params = [Param(name, str(value)[:500]) for name, value in _params(manifest)]
    metrics = [Metric(name, float(value), int(manifest.get("until", 0)) // 1_000, 0) for name, value in manifest.get("metrics", {}).items()]
    client.log_batch(run.info.run_id, metrics=metrics, params=params)
    for name in (MANIFEST, ARRAYS):
        client.log_artifact(run.info.run_id, str(path / name), "bundle")
    client.set_terminated(run.info.run_id, "FINISHED")
    if not client.search_registered_models(filter_string=f"name = '{arm}'", max_results=1):
        client.create_registered_model(arm)
    tags = {TAG: sha256, "version": path.name, "gate": "passed" if manifest.get("gate", {}).get("passed") else "waived"}
    source = f"{run.info.artifact_uri}/bundle"
    return str(client.create_model_version(arm, source, run.info.run_id, tags=tags).version)


def _experiment(client: Any, home: Path, arm: str) -> str:
    found = client.get_experiment_by_name(arm)
    if found is not None:
        return str(found.experiment_id)
    local = not os.environ.get("MLFLOW_TRACKING_URI")
    folder = home.absolute() / "mlflow" / "artefacts" / arm
    return str(client.create_experiment(arm, artifact_location=folder.as_uri() if local else None))


def _params(manifest: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in ("until", "seed", "data_sha256", "last_offset", "catalogue", "label", "fingerprint"):
        if manifest.get(name) not in (None, ""):
            yield name, manifest[name]
    for group in ("parameters", "rows", "libraries", "gate"):
        for name, value in manifest.get(group, {}).items():
            if value != "":
                yield f"{group}.{name}", value


def _set_aliases(client: Any, home: Path, folder: Path) -> dict[str, str]:
    """Point the aliases where the site points; an alias whose version is gone is taken away."""
    pointer = current(home, folder.name)
    wanted = {} if pointer is None else {LIVE: pointer.version, PREVIOUS: next(iter(pointer.previous), "")}
    by_hash = {version.tags.get(TAG): str(version.version) for version in _versions(client, folder.name)}
    told = {}
    for alias in (LIVE, PREVIOUS):
        version = wanted.get(alias, "")
        number = by_hash.get(_sha256(folder / version)) if version and (folder / version / MANIFEST).exists() else None
        if number is not None:
            client.set_registered_model_alias(folder.name, alias, number)
            told[alias] = number
        elif alias in (client.get_registered_model(folder.name).aliases or {}):
            client.delete_registered_model_alias(folder.name, alias)
    return told


def _versions(client: Any, arm: str) -> list[Any]:
    """Versions of an arm in MLflow, the newest last."""
    found = client.search_model_versions(filter_string=f"name = '{arm}'", max_results=1_000)
    return sorted(found, key=lambda version: int(version.version))


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256((path / MANIFEST).read_bytes()).hexdigest()
    except OSError as error:
        raise ArtefactError(f"{path / MANIFEST} cannot be read: {error.strerror}.") from error


def list_models(home: Path) -> list[dict[str, Any]]:
    """Return what MLflow holds: arm, registry version, our version, aliases, gate; the newest first."""
    client = _client(home)
    found = []
    for model in client.search_registered_models():
        aliases: dict[str, list[str]] = {}
        for alias, number in (model.aliases or {}).items():
            aliases.setdefault(str(number), []).append(alias)
        for version in _versions(client, model.name):
            number, tags = str(version.version), version.tags
            row = {"arm": model.name, "registry_version": number, "version": tags.get("version"), "gate": tags.get("gate")}
            found.append({**row, "aliases": sorted(aliases.get(number, [])), "run": version.run_id})
    return sorted(found, key=lambda row: (row["arm"], -int(row["registry_version"])))


def main(argv: Sequence[str] | None = None) -> int:
    """Mirror everything once; prints one JSON line and returns 0, or 1 when MLflow failed."""
    parser = argparse.ArgumentParser(prog="recsys.registry", description="Bring published models into MLflow.")
    parser.add_argument("--home", type=Path, required=True)
    given = parser.parse_args(argv)
    state = mirror(given.home, at_us=system_clock())
    state["says"] = f"{len(state['logged'])} version(s) brought into MLflow" if not state["reason"] else f"MLflow: {state['reason']}"
    sys.stdout.write(json.dumps(state) + "\n")
    return 1 if state["reason"] else 0


if __name__ == "__main__":
    sys.exit(main())
