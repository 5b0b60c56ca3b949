"""Bundles of arrays: written once, checked on every read, swapped by one atomic rename.

A bundle is a folder ``<version>/`` with ``manifest.json`` and ``arrays.npz``; ``current.json`` beside it points to the
version in force. The pointer holds the hash of the manifest and the manifest the hash of the arrays, so a changed byte
anywhere is refused with :class:`ArtefactError`. Nothing is ever unpickled.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from experiments.errors import ArmError, ArtefactError, NotFoundError
from experiments.files import replace_json, sync_folder
from experiments.serving.durable import read_limited, sweep, write_durably
from experiments.serving.packed import ARRAYS, MAX_UNPACKED_BYTES, Arrays, array_faults, unpack

__all__ = ["Bundle", "Pointer", "current", "load_current", "point", "publish", "read_bundle", "read_pointer", "rollback", "versions"]
__all__ += ["stays", "thaw", "write_bundle"]

LAYOUT = 1
MANIFEST, POINTER = "manifest.json", "current.json"
MAX_MANIFEST_BYTES = 64 << 20
KEEP = 3


@dataclass(frozen=True, slots=True)
class Bundle:
    """A written bundle.

    Parameters
    ----------
    version : name of its folder, a counting number as text.
    sha256 : of its manifest; what the pointer repeats.
    content_sha256 : of its arrays alone; equal for equal data, seed and libraries.
    path : its folder.
    """

    version: str
    sha256: str
    content_sha256: str
    path: Path


@dataclass(frozen=True, slots=True)
class Pointer:
    """The version in force.

    Parameters
    ----------
    sha256 : of its manifest. at : when it was pointed to (UTC µs). previous : what was in force before, newest first.
    frozen : why no newer version may follow until a person says so; empty when one may.
    """

    version: str
    sha256: str
    at: int
    previous: tuple[str, ...] = ()
    frozen: str = ""


def write_bundle(folder: Path, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> Bundle:
    """Write arrays and their manifest as the next version of ``folder``; returns it. The pointer stays as it is.

    Parameters
    ----------
    folder : of all versions, for example ``home/models/als``.
    arrays : name -> array; numbers or booleans, finite.
    meta : JSON values for the manifest (features, seed, scores, ...); the keys written here win.

    Raises
    ------
    ArtefactError
        An array holds objects or a number that is not finite, or is too large.
    """
    faults = [fault for name, array in arrays.items() for fault in array_faults(name, np.asarray(array))]
    if faults:
        raise ArtefactError(f"{folder.name}: the bundle is not written.", faults=faults)
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.ascontiguousarray(array) for name, array in arrays.items()})  # type: ignore[arg-type]
    digest = hashlib.sha256(content := buffer.getvalue()).hexdigest()
    shapes = {name: {"dtype": np.asarray(a).dtype.str, "shape": list(np.shape(a))} for name, a in arrays.items()}
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    sweep(folder)
    while True:
        version = str(max(map(int, versions(folder)), default=0) + 1)
        files = {ARRAYS: {"sha256": digest, "size": len(content)}}
        described = {**meta, "layout": LAYOUT, "version": version, "files": files, "arrays": shapes}
        manifest = json.dumps(described, indent=1, sort_keys=True, allow_nan=False)
        if _place(folder, version, {ARRAYS: content, MANIFEST: manifest.encode()}):
            return Bundle(version, hashlib.sha256(manifest.encode()).hexdigest(), digest, folder / version)


def _place(folder: Path, version: str, files: Mapping[str, bytes]) -> bool:
    """Rename a complete folder to its version; False when another writer took the number."""
    temporary = folder / f".{version}.{uuid4().hex}.tmp"
    temporary.mkdir(mode=0o700)
    for name, content in files.items():
        write_durably(temporary / name, content)
    sync_folder(temporary)
    try:
        os.rename(temporary, folder / version)
    except OSError:
        shutil.rmtree(temporary)
        if not (folder / version).exists():
            raise
        return False
    sync_folder(folder)
    return True


def read_bundle(path: Path, *, sha256: str | None = None) -> tuple[Arrays, dict[str, Any]]:
    """Return the arrays and the manifest of one version, after checking every byte.

    Parameters
    ----------
    path : folder of the version.
    sha256 : of the manifest, as the pointer has it; None trusts the manifest itself.

    Raises
    ------
    ArtefactError
        A file is missing, changed, too large when unpacked, or holds other arrays than the manifest says.
    """
    text = read_limited(path / MANIFEST, MAX_MANIFEST_BYTES)
    if sha256 is not None and hashlib.sha256(text).hexdigest() != sha256:
        raise ArtefactError(f"{path / MANIFEST} is not the one that was published (sha256 differs).")
    manifest = _manifest(path, text)
    try:
        entry = manifest["files"][ARRAYS]
        size, digest, described = int(entry["size"]), str(entry["sha256"]), dict(manifest["arrays"])
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"{path / MANIFEST} does not describe {ARRAYS}: {error!r}.") from error
    content = read_limited(path / ARRAYS, min(size, MAX_UNPACKED_BYTES))
    if len(content) != size or hashlib.sha256(content).hexdigest() != digest:
        raise ArtefactError(f"{path / ARRAYS} was changed after it was written (size or sha256 differs).")
    return unpack(path, content, described), manifest


def _manifest(path: Path, text: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(text)
    except ValueError as error:
        raise ArtefactError(f"{path / MANIFEST} is not JSON: {error}.") from error
    layout = manifest.get("layout") if isinstance(manifest, dict) else None
    if layout != LAYOUT:
        raise ArtefactError(f"{path / MANIFEST} has layout {layout!r}, this version reads {LAYOUT}.")
    return dict(manifest)


def versions(folder: Path) -> list[str]:
    """Return the versions of a folder, oldest first."""
    found = [entry.name for entry in folder.iterdir() if entry.name.isdecimal() and entry.is_dir()] if folder.is_dir() else []
    return sorted(found, key=int)


def read_pointer(folder: Path) -> Pointer | None:
    """Return what ``folder/current.json`` points to; None when nothing was published yet."""
    if not (folder / POINTER).exists():
        return None
    try:
        values = json.loads(read_limited(folder / POINTER, MAX_MANIFEST_BYTES))
        version = str(values["version"])
        if not version.isdecimal():  # it names a folder: never follow a path
            raise ValueError(f"version {version!r} is not a number")
        previous = tuple(v for v in map(str, values.get("previous", ())) if v.isdecimal())
        return Pointer(version, str(values["sha256"]), int(values["at"]), previous, str(values.get("frozen", "")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtefactError(f"{folder / POINTER} is not a pointer: {error!r}.", "Move it away, then `arm rollback --to`.") from error


def point(folder: Path, version: str, *, at_us: int) -> Pointer:
    """Put a checked version in force by one rename, and drop all but the newest three versions.

    Raises
    ------
    ArtefactError
        The version does not pass :func:`read_bundle`; the old pointer stays.
    ArmError
        Versions are frozen: somebody, or a guardrail, went back to an earlier one (exit status 3).
    """
    with _turn(folder):
        old = read_pointer(folder)
        if old is not None and old.frozen:
            raise ArmError(_stays(folder, old))
        before = (old.version, *old.previous) if old is not None else ()
        return _point(folder, version, tuple(v for v in before if v != version), at_us=at_us)


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """One process at a time moves a pointer: a training that ends must not undo the rollback of this moment."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / ".turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _point(folder: Path, version: str, previous: tuple[str, ...], *, at_us: int, frozen: str = "") -> Pointer:
    known = versions(folder)
    if version not in known:
        raise NotFoundError(f"{folder.name} has no version '{version}'; kept: {', '.join(known) or 'none'}.")
    read_bundle(folder / version)
    sha256 = hashlib.sha256(read_limited(folder / version / MANIFEST, MAX_MANIFEST_BYTES)).hexdigest()
    kept = {version, *[v for v in previous if v in known][: KEEP - 1]}
    kept |= set(sorted(set(known) - kept, key=int, reverse=True)[: max(0, KEEP - len(kept))])
    pointer = Pointer(version, sha256, at_us, tuple(v for v in previous if v in kept), frozen)
    replace_json(folder / POINTER, asdict(pointer))
    for name in known:
        if name not in kept and int(name) < max(map(int, kept)):  # a newer one may just be under way
            shutil.rmtree(folder / name)
    return pointer


def publish(home: Path, arm: str, version: str, *, at_us: int) -> Pointer:
    """Put a version of an arm's model in force; see :func:`point`."""
    return point(_models(home, arm), version, at_us=at_us)


def stays(home: Path, arm: str) -> str:
    """Return why no newer version of an arm's model may follow, and what to do; empty when one may."""
    pointer = current(home, arm)
    return _stays(_models(home, arm), pointer) if pointer is not None and pointer.frozen else ""


def _stays(folder: Path, pointer: Pointer) -> str:
    return (
        f"'{folder.name}' stays at version {pointer.version}: {pointer.frozen.rstrip('.')}."
        f" When that is mended: presslab arm resume {folder.name} --reason '...'"
    )


def current(home: Path, arm: str) -> Pointer | None:
    """Return which version of an arm's model is in force, or None."""
    return read_pointer(_models(home, arm))


def load_current(home: Path, arm: str) -> tuple[Arrays, dict[str, Any]] | None:
    """Return arrays and manifest of the version in force, checked; None when nothing was published."""
    pointer = current(home, arm)
    return None if pointer is None else read_bundle(_models(home, arm) / pointer.version, sha256=pointer.sha256)


def rollback(home: Path, arm: str, to: str | None = None, *, at_us: int, frozen: str = "") -> Pointer:
    """Go back to the version in force before (or to ``to``); going back twice goes back two versions.

    Parameters
    ----------
    frozen : why no newer version may follow; empty lets the next training put its version in force.

    Raises
    ------
    NotFoundError
        There is no earlier version, or no version ``to`` (exit status 5).
    """
    folder = _models(home, arm)
    none = NotFoundError(f"arm '{arm}' has no earlier version to go back to.", f"Kept: {', '.join(versions(folder)) or 'none'}.")
    if not folder.is_dir():
        raise none
    with _turn(folder):
        pointer = read_pointer(folder)
        earlier = [v for v in (pointer.previous if pointer else ()) if v in versions(folder)]
        target = to if to is not None else next(iter(earlier), None)
        if target is None:
            raise none
        rest = earlier[earlier.index(target) + 1 :] if target in earlier else earlier
        return _point(folder, target, tuple(rest), at_us=at_us, frozen=frozen)


def thaw(home: Path, arm: str) -> Pointer | None:
    """Let newer versions follow again; the version in force stays. None when nothing was published."""
    folder = _models(home, arm)
    pointer = read_pointer(folder)
    if pointer is not None and pointer.frozen:
        with _turn(folder):
            pointer = replace(read_pointer(folder) or pointer, frozen="")  # it may have moved before it was our turn
            replace_json(folder / POINTER, asdict(pointer))
    return pointer


def _models(home: Path, arm: str) -> Path:
    if not arm.isidentifier():
        raise NotFoundError(f"no arm can be called '{arm}'.")
    return home / "models" / arm
