"""Parquet files of sealed events: how they are laid out, made durable, read for one reader and rewritten without one."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import file_digest
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from experiments.events.sealed import Partition, sealed_folder, shard_of
from experiments.events.sqlite_store import WHOLE
from experiments.events.tail import FACTS
from experiments.events.wire import COLUMNS
from experiments.files import sync_folder

__all__ = ["ENVELOPE", "events_of", "exposures_of", "facts_of", "publish", "schema", "views_after", "without", "write"]

ROWS_A_GROUP = 131_072
ENVELOPE = ("seq", "shard", *COLUMNS)


def facts_of(kind: str) -> dict[str, Any]:
    """Return name -> column of what is read from the body of a kind when it is sealed."""
    return {column.name: column for column in FACTS.get(kind, ()) if column.name not in ENVELOPE and not column.sealed}


def schema() -> Any:
    """Return the columns of a file: every column of the store, the reader's shard, and what analyses read from bodies.

    A fact that a kind does not have is null in its rows. Rows are sorted by kind, shard, reader and time, so that little
    has to be read for one kind, some of the readers, or one.
    """
    fields = {name: pa.int64() if name in WHOLE | {"shard"} else pa.binary(16) if name == "id" else pa.string() for name in ENVELOPE}
    for kind in FACTS:
        fields |= {name: pa.string() if column.type == "text" else pa.int64() for name, column in facts_of(kind).items()}
    return pa.schema(list(fields.items()))


def write(path: Path, batches: Iterable[Any], layout: Any = None) -> None:
    """Write record batches as one file, in groups of rows that are worth skipping."""
    layout = layout or schema()
    plain = ("id", "page_view", "body")  # hardly ever repeated
    dictionaries = [name for name in layout.names if name not in plain]
    with pq.ParquetWriter(path, layout, compression="zstd", use_dictionary=dictionaries) as writer:
        for group in _groups(batches):
            writer.write_table(group, row_group_size=ROWS_A_GROUP)


def _groups(batches: Iterable[Any]) -> Iterator[Any]:
    """The same rows as tables, each of one kind and of at most ROWS_A_GROUP rows."""
    waiting: list[Any] = []
    for batch in batches:
        waiting.append(batch)
        while waiting and (end := _end(rows := pa.Table.from_batches(waiting))):
            yield rows.slice(0, end)
            waiting = rows.slice(end).to_batches()
    if waiting:
        yield pa.Table.from_batches(waiting)


def _end(rows: Any) -> int:
    """After how many rows a group ends; 0 while more may follow.

    Many readers are worked through in parts of a power of two of shards (``lake_tables``). A group that holds the end of
    one part and the beginning of the next is unpacked for both, so it ends where the roundest number of shards ends.
    """
    kinds, shards = (pc.run_end_encode(rows[name].combine_chunks()) for name in ("kind", "shard"))
    one_kind = kinds.run_ends[0].as_py()
    if one_kind < len(rows) and one_kind <= ROWS_A_GROUP:
        return int(one_kind)
    if len(rows) <= ROWS_A_GROUP:
        return 0
    runs = zip(shards.run_ends.to_pylist(), shards.values.to_pylist()[1:], strict=False)
    ends = [(after & -after, end) for end, after in runs if ROWS_A_GROUP // 2 <= end <= ROWS_A_GROUP]
    return max(ends)[1] if ends else ROWS_A_GROUP


def publish(hidden: Path, name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Make a written file durable under its final name, its manifest after it; return the manifest.

    Killed at any point, there is a file nobody names, or a complete one with its manifest.
    """
    with hidden.open("rb+") as file:
        sha256 = file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    final = hidden.with_name(f"{name}-{sha256[:12]}.parquet")
    manifest = {**facts, "file": final.name, "bytes": hidden.stat().st_size, "sha256": sha256}
    note = hidden.with_suffix(".note")
    with note.open("w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.replace(hidden, final)
    os.replace(note, final.with_suffix(".json"))
    sync_folder(final.parent)
    return manifest


def events_of(partition: Partition, reader: str) -> list[dict[str, Any]]:
    """Return every event of a reader in a partition, as rows of the store with their sequence number."""
    wanted = [("shard", "=", shard_of(reader)), ("reader", "=", reader)]
    return pq.read_table(partition.path, columns=["seq", *COLUMNS], filters=wanted).to_pylist()  # type: ignore[no-any-return]


def exposures_of(partition: Partition, readers: Sequence[str]) -> Iterator[tuple[str, str, str, int, str, str, str]]:
    """Yield (reader, experiment, source, issued_at, page_view, arm, body) of some readers' counted exposures in a partition; of a damaged one none."""
    theirs = [("shard", "in", sorted(set(map(shard_of, readers)))), ("reader", "in", readers)]
    wanted = [("kind", "=", "exposure"), ("bot", "=", 0), ("late", "=", 0), *theirs]
    columns = ["reader", "experiment", "issued_at", "page_view", "arm", "body"]
    with suppress(OSError, pa.ArrowException):
        for row in pq.read_table(partition.path, columns=columns, filters=wanted).to_pylist():
            yield row["reader"], row["experiment"], partition.source, row["issued_at"], row["page_view"], row["arm"], row["body"]


def without(partition: Partition, readers: Sequence[str], *, home: Path) -> tuple[dict[str, Any], Counter[tuple[str, str]]] | None:
    """Write a partition again without some readers; return its manifest and the events left out per (kind, arm), None if there are none."""
    wanted = [("shard", "in", sorted(set(map(shard_of, readers)))), ("reader", "in", readers)]
    mine = pq.read_table(partition.path, columns=["kind", "arm"], filters=wanted).to_pylist()
    if not mine:
        return None
    hidden = sealed_folder(home) / ".erasing.tmp"
    theirs = pa.array(readers, pa.string())
    with pq.ParquetFile(partition.path) as file:
        layout = file.schema_arrow
        kept = (batch.filter(pc.invert(pc.is_in(batch["reader"], theirs))) for batch in file.iter_batches(batch_size=ROWS_A_GROUP))
        write(hidden, (batch for batch in kept if len(batch)), layout)
    gone = Counter((row["kind"], row["arm"]) for row in mine)
    facts = _manifest(partition)
    rows = Counter({(kind, arm): n for kind, arm, n in facts["rows"]})
    rows.subtract(gone)
    facts["rows"] = [(kind, arm, n) for (kind, arm), n in sorted(rows.items()) if n]
    return publish(hidden, partition.path.stem.rpartition("-")[0], facts), gone


def _manifest(partition: Partition) -> dict[str, Any]:
    """What stands beside a file; made anew where that is lost: the catalogue and the file itself say it, too."""
    try:
        return json.loads(partition.path.with_suffix(".json").read_text("utf-8"))  # type: ignore[no-any-return]
    except (OSError, ValueError):
        rows = Counter((row["kind"], row["arm"]) for row in pq.read_table(partition.path, columns=["kind", "arm"]).to_pylist())
        known = {"day": partition.day, "source": partition.source, "through_seq": partition.through_seq}
        return {**known, "rows": [(*cell, n) for cell, n in rows.items()]}


def views_after(found: Iterable[Partition], seq: int) -> Iterator[tuple[int, str, int, str, str, str]]:
    """Yield (seq, reader, issued_at, article or empty, device, referrer) of counted page views stored after ``seq``, in order of ``seq``."""
    columns = ["seq", "reader", "issued_at", "page_type", "article", "device", "referrer"]
    counted = [("kind", "=", "view"), ("bot", "=", 0), ("late", "=", 0), ("prefetch", "=", 0), ("reader", "!=", ""), ("seq", ">", seq)]
    tables = [pq.read_table(one.path, columns=columns, filters=counted) for one in found]
    for row in pa.concat_tables(tables).sort_by("seq").to_pylist() if tables else []:
        article = row["article"] if row["page_type"] == "article" else ""
        yield row["seq"], row["reader"], row["issued_at"], article, row["device"] or "", row["referrer"] or ""
