"""Plain arrays in one compressed file: unpacked within limits, never unpickled."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.errors import ArtefactError

__all__ = ["ARRAYS", "MAX_UNPACKED_BYTES", "Arrays", "array_faults", "unpack"]

ARRAYS = "arrays.npz"
MAX_UNPACKED_BYTES = 512 << 20
MAX_RATIO = 20  # unpacked : packed; 152 KB once became 152 MB
Arrays = dict[str, npt.NDArray[Any]]


def unpack(path: Path, content: bytes, described: Mapping[str, Any]) -> Arrays:
    """Return the arrays of a file's content; raises :class:`ArtefactError` unless they are those ``described``."""
    where = path / ARRAYS
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_UNPACKED_BYTES or unpacked > MAX_RATIO * max(len(content), 1):
            limits = f"{MAX_UNPACKED_BYTES:,} and {MAX_RATIO} times its packed size"
            raise ArtefactError(f"{where} would unpack to {unpacked:,} bytes; the limits are {limits}.")
        with np.load(io.BytesIO(content), allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in loaded.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise ArtefactError(f"{where} cannot be read as plain arrays: {error}.") from error
    faults = [f"'{name}' is in only one of manifest and file" for name in sorted(set(arrays) ^ set(described))]
    for name, array in arrays.items():
        if name in described and [array.dtype.str, list(array.shape)] != [described[name].get("dtype"), described[name].get("shape")]:
            faults.append(f"'{name}' is {array.dtype.str}{list(array.shape)}, the manifest says {described[name]}")
        faults.extend(array_faults(name, array))
    if faults:
        raise ArtefactError(f"{where} is not what its manifest says.", faults=faults)
    return arrays


def array_faults(name: str, array: npt.NDArray[Any]) -> list[str]:
    """Return why an array cannot be in a bundle, in words; empty when it can."""
    if array.dtype.kind not in "biuf":
        return [f"'{name}' has dtype {array.dtype}; only numbers and booleans are allowed"]
    if array.nbytes > MAX_UNPACKED_BYTES:
        return [f"'{name}' takes {array.nbytes:,} bytes; the limit is {MAX_UNPACKED_BYTES:,}"]
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return [f"'{name}' holds {int((~np.isfinite(array)).sum()):,} values that are not finite"]
    return []
