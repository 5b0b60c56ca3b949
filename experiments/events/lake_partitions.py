"""Sealed Parquet partitions of imported logs: written once, listed by a manifest, rewritten only to erase a reader."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from experiments.errors import DataError
from experiments.events.outbox_file import fsync_folder

__all__ = ["READS", "imports", "remove_import", "remove_reader", "seal_import", "sealed_as", "sealed_reads", "without_rows_of"]

SAID = ("device", "referrer")  # of a page view, where the log says so
READS = pa.schema(
    [
        *(("reader", pa.string()), ("session", pa.string()), ("article", pa.string())),
        *(("at", pa.int64()), ("weight", pa.float64()), ("seq", pa.int64())),
        *((name, pa.string()) for name in SAID),
    ]
)


def seal_import(home: Path, table: Any, *, name: str, sha256: str) -> Path:
    """Write an Arrow table of reads as a partition; see :func:`experiments.events.lake.add_import`."""
    if not name or not all(c.isalnum() or c in "_-" for c in name) or len(sha256) != 64:
        raise DataError(f"import '{name}' cannot be sealed.", "A name holds letters, digits, _ and -; sha256 is 64 hex characters.")
    if (path := sealed_as(home, sha256)) is not None:
        return path
    table = _shaped(table, name)
    path = home / "lake" / f"{name}-{sha256[:12]}.parquet"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(path, table, {"imported": sha256, "source": "import"})
    return path


def sealed_as(home: Path, sha256: str) -> Path | None:
    """Return the partition that was sealed under ``sha256``, if there is one and it is whole."""
    for path in _partitions(home):
        manifest = _manifest(path)
        if manifest["imported"] == sha256 and _whole(path, manifest):
            return path
    return None


def imports(home: Path, *, but: str = "") -> list[Path]:
    """Return the partitions of imports, without the one sealed under ``but``; its name ends with 12 characters of its sha256."""
    return [path for path in _partitions(home) if _manifest(path)["imported"] != but]


def without_rows_of(partitions: Sequence[Path], table: Any) -> Any:
    """Return the reads of an Arrow table of which no partition holds one of the same reader, article and moment, in their order."""
    keys = ["reader", "article", "at"]
    span = pc.min_max(table["at"]).as_py()
    rest = table.select(keys).append_column("row", pa.array(range(len(table)), pa.int64()))
    for path in partitions:
        manifest = _manifest(path)
        if len(table) and manifest["from"] <= span["max"] and manifest["to"] >= span["min"]:
            sealed = pq.read_table(path, columns=keys, filters=[("at", ">=", span["min"]), ("at", "<=", span["max"])])
            rest = rest.join(sealed, keys, join_type="left anti")
    return table if len(rest) == len(table) else table.take(rest.sort_by("row")["row"])


def remove_import(path: Path) -> None:
    """Remove a partition: its manifest first, without which it is none."""
    path.with_suffix(".json").unlink()
    path.unlink()
    fsync_folder(path.parent)


def sealed_reads(home: Path, *, since_us: int, until_us: int) -> list[Any]:
    """Return the reads of every partition in ``[since_us, until_us)`` as Arrow tables."""
    out = []
    for path in _partitions(home):
        manifest = json.loads(path.with_suffix(".json").read_text("utf-8"))
        if path.stat().st_size != manifest["bytes"]:
            raise DataError(
                f"partition {path.name} has {path.stat().st_size} bytes, its manifest says {manifest['bytes']}.", "Import it again."
            )
        if manifest["from"] < until_us and manifest["to"] >= since_us:
            out.append(_whole_rows(pq.read_table(path, filters=[("at", ">=", since_us), ("at", "<", until_us)])))
    return out


def _whole_rows(table: Any) -> Any:
    """Return a partition's rows with every column of :data:`READS`; what was sealed before a column existed has empty words there."""
    for name in SAID:
        if name not in table.column_names:
            table = table.append_column(name, pa.array([""] * len(table), pa.string()))
    return table.select(READS.names).cast(READS)


def remove_reader(home: Path, reader: str) -> int:
    """Rewrite every partition that holds ``reader`` without them; return the number of rows removed."""
    removed = 0
    for path in _partitions(home):
        table = pq.read_table(path)
        rest = table.filter(pc.not_equal(table["reader"], reader))
        if len(rest) < len(table):
            removed += len(table) - len(rest)
            kept = {key: _manifest(path)[key] for key in ("imported", "source")}
            _write(path, rest, kept)
    return removed


def _partitions(home: Path) -> list[Path]:
    """Partitions that are complete: the manifest is written last."""
    return sorted(path.with_suffix(".parquet") for path in (home / "lake").glob("*.json"))


def _shaped(table: Any, name: str) -> Any:
    faults = []
    for column in ("reader", "article", "at"):
        if column not in table.column_names:
            faults.append(f"column '{column}' is missing")
        elif table[column].null_count:
            faults.append(f"column '{column}' has {table[column].null_count} empty values")
    if faults:
        raise DataError(f"import '{name}' cannot be sealed:", "Give reader, article (text) and at (int64, UTC microseconds).", faults)
    columns = {column: table[column] for column in ("reader", "session", "article", "at", *SAID) if column in table.column_names}
    columns["weight"] = table["weight"] if "weight" in table.column_names else pa.array([1.0] * len(table), pa.float64())
    columns["seq"] = pa.array([-1] * len(table), pa.int64())
    try:
        return _whole_rows(pa.table(columns))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"import '{name}' has a column of another type: {error}.", "at must be int64 microseconds.") from error


def _manifest(path: Path) -> dict[str, Any]:
    return json.loads(path.with_suffix(".json").read_text("utf-8"))  # type: ignore[no-any-return]


def _whole(path: Path, manifest: dict[str, Any]) -> bool:
    return path.exists() and path.stat().st_size == manifest["bytes"]


def _write(path: Path, table: Any, facts: dict[str, str]) -> None:
    """Replace partition, then manifest; killed in between, the two do not fit and reading says so."""
    hidden, note = path.with_suffix(".tmp"), path.with_suffix(".note")
    pq.write_table(table, hidden)
    data = hidden.read_bytes()
    times = pc.min_max(table["at"]).as_py() if len(table) else {"min": 0, "max": -1}
    said = {"rows": len(table), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "from": times["min"], "to": times["max"]}
    note.write_text(json.dumps(facts | said, indent=1, sort_keys=True), "utf-8")
    for written, final in ((hidden, path), (note, path.with_suffix(".json"))):
        _sync(written)
        os.replace(written, final)
    fsync_folder(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
