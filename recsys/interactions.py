"""Reads as arrays and as a reader x article matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from experiments.errors import DataError
from experiments.serving.level_shares import LEVELS, level
from experiments.serving.recommender import Catalogue
from experiments.serving.signals import HOUR, Reads

__all__ = ["Interactions", "interactions", "to_reads"]

COLUMNS = ("reader", "session", "article", "at")


@dataclass(frozen=True, slots=True)
class Interactions:
    """Who read what, as of one moment.

    Parameters
    ----------
    matrix : (readers, articles) float32 CSR, summed weights; columns are catalogue positions.
    readers : (rows,) int64, reader code of each row.
    until : unix seconds, exclusive.
    """

    matrix: Any
    readers: npt.NDArray[np.int64]
    until: float


def to_reads(table: Any, catalogue: Catalogue) -> Reads:
    """Turn lake rows into arrays; reads of articles the catalogue does not have are left out.

    Parameters
    ----------
    table : pyarrow.Table with reader, session, article (text) and at (int64 UTC µs); device and referrer (text) are optional.

    Raises
    ------
    DataError
        A column is missing.

    Examples
    --------
    >>> rows = {"reader": ["r"], "session": ["s"], "article": ["unknown"], "at": [1]}
    >>> len(to_reads(pa.table(rows), Catalogue([])))
    0
    """
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise DataError(f"the table of reads lacks {', '.join(missing)}; it has {', '.join(table.column_names)}.")
    ids = pa.array(catalogue.ids, pa.string())
    found = pc.index_in(table["article"].combine_chunks().cast(pa.string()), ids)
    kept = np.flatnonzero(np.asarray(pc.is_valid(found)))
    at = table["at"].to_numpy()[kept]
    order = kept[np.argsort(at, kind="stable")]
    article = np.asarray(pc.fill_null(found, -1))[order].astype(np.int32)
    reader, session = (_codes(table[name])[order] for name in ("reader", "session"))
    levels = np.stack([_levels(table, name)[order] for name in LEVELS], axis=1)
    return Reads(reader, session, article, table["at"].to_numpy()[order] / 1e6, levels)


def _levels(table: Any, column: str) -> npt.NDArray[np.int64]:
    if column not in table.column_names:
        return np.zeros(table.num_rows, np.int64)
    encoded = pc.dictionary_encode(pc.fill_null(table[column].combine_chunks().cast(pa.string()), ""))
    numbers = np.array([level(column, word) for word in encoded.dictionary.to_pylist()], np.int64)
    return np.asarray(numbers[np.asarray(encoded.indices)])


def _codes(column: Any) -> npt.NDArray[np.int64]:
    array = column.combine_chunks()
    encoded = array if pa.types.is_dictionary(array.type) else pc.dictionary_encode(array)
    return np.asarray(encoded.indices).astype(np.int64)


def interactions(reads: Reads, n_articles: int, *, until: float, window_h: float, half_life_h: float) -> Interactions:
    """Sum decayed reads per reader and article.

    A read ``age`` hours before ``until`` weighs ``0.5 ** (age / half_life_h)``; reads outside
    ``[until - window_h, until)`` do not count.

    Examples
    --------
    >>> codes = np.array([0, 0])
    >>> twice = Reads(codes, codes, np.array([1, 1], np.int32), np.array([0.0, 3600.0]))
    >>> interactions(twice, 2, until=7200.0, window_h=24, half_life_h=1).matrix.toarray().tolist()
    [[0.0, 0.75]]
    """
    past = reads.before(until, until - window_h * HOUR)
    weight = 0.5 ** ((until - past.at) / HOUR / half_life_h)
    readers, rows = np.unique(past.reader, return_inverse=True)
    matrix = sp.coo_matrix((weight, (rows, past.article)), shape=(len(readers), n_articles)).tocsr()
    return Interactions(matrix.astype(np.float32), readers, until)
