"""Protocol D: Deskdrop as published, a random split. Its order of rankings is not the order that readers would see.

RECOMMENDING §10. Readers with at least five articles; a pair's strength is ``log2(1 + summed event weights)``; a fifth of each
reader's pairs is hidden, drawn at random; a hidden article is a hit when it ranks among the first ten beside 100 articles the reader
never opened. Models see the other pairs and nothing else (the published popularity was counted on the whole log).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from experiments.errors import DataError
from recsys.collaborative import strengths
from recsys.importers.log import LogFile
from recsys.published_rankings import RANKINGS, Model, Training, published_rankings
from recsys.recall import Asked, compare_recall, places_of

__all__ = ["WARNING", "Split", "published", "published_ranks", "split_of"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
LEAST_ARTICLES, HIDDEN_SHARE, NEVER_READ, SEED = 5, 0.2, 100, 42
MOST_CELLS = 50_000_000
WARNING = (
    "random split: models learn from reads that happened after the ones they are asked for, and news that nobody has read yet never "
    "comes up. The order of rankings reverses when the log is split by time; compare with --protocol weekly before deciding."
)


@dataclass(frozen=True, slots=True)
class Split:
    """The pairs that models see and the ones that are hidden.

    Parameters
    ----------
    training : what models see. reader, article : (n,) codes of the hidden pairs.
    never : (readers, articles) True where the reader opened the article at no time, hidden pairs included.
    """

    training: Training
    reader: Ints
    article: Ints
    never: npt.NDArray[np.bool_]

    def ranks(self, model: Model) -> Floats:
        """(n,) rank of each hidden article beside 100 that its reader never opened, drawn with a fixed seed."""
        scores, rng = model(self.training), np.random.default_rng(SEED)
        found = np.empty(len(self.reader))
        for start in range(0, len(found), 1_000):
            reader, article = self.reader[start : start + 1_000], self.article[start : start + 1_000]
            order = np.where(self.never[reader], rng.random((len(reader), self.never.shape[1])), 2.0)
            beside = np.argpartition(order, NEVER_READ, axis=1)[:, :NEVER_READ]
            line = scores[reader[:, None], np.column_stack([article, beside])]
            rows = np.arange(len(line))
            found[start : start + 1_000] = places_of(line, rows, np.zeros(len(rows), np.int64))
        return found


def split_of(table: Any) -> Split:
    """Return the published split of a parsed log (reader, article, at, weight).

    Raises
    ------
    DataError
        No reader has five articles, a reader has fewer than 101 left to draw from, or the log is too large for a table.
    """
    reader, article = _codes(table["reader"]), _codes(table["article"])
    shape = (int(reader.max(initial=-1)) + 1, int(article.max(initial=-1)) + 1)
    if shape[0] * shape[1] > MOST_CELLS:
        told = f"{shape[0]:,} readers x {shape[1]:,} articles are more than this protocol holds in memory ({MOST_CELLS:,} cells)."
        raise DataError(told, "Use --protocol next-click for a log of this size.")
    day = table["at"].to_numpy() / 8.64e10
    whole = strengths(reader, article, table["weight"].to_numpy(), shape=shape)
    kept = np.flatnonzero(np.diff(whole.indptr) >= LEAST_ARTICLES)
    if not len(kept):
        raise DataError(f"no reader of this log has {LEAST_ARTICLES} articles.")
    matrix = whole[kept].tocoo()
    never = whole[kept].toarray() == 0
    if never.sum(axis=1).min() <= NEVER_READ:
        raise DataError(f"a reader has opened all but {never.sum(axis=1).min()} articles; {NEVER_READ + 1} must be left to draw from.")
    first = np.full(shape, np.inf)
    np.minimum.at(first, (reader, article), day - day.min(initial=np.inf))
    seen, hidden = _drawn(matrix.row)
    row, column = matrix.row.astype(np.int64), matrix.col.astype(np.int64)
    training = Training(row[seen], column[seen], matrix.data[seen], first[kept][row[seen], column[seen]], never.shape)
    return Split(training, row[hidden], column[hidden], never)


def _codes(column: Any) -> Ints:
    """Codes in the order of the ids: of numbers when all ids are, because the draw depends on the order of the rows."""
    values = column.combine_chunks()
    try:
        values = pc.cast(values, pa.int64())
    except pa.ArrowInvalid:
        values = pc.cast(values, pa.string())
    return np.unique(values.to_numpy(zero_copy_only=False), return_inverse=True)[1].astype(np.int64)


def _drawn(reader: npt.NDArray[Any]) -> tuple[Ints, Ints]:
    from sklearn.model_selection import train_test_split

    seen, hidden = train_test_split(np.arange(len(reader)), stratify=reader, test_size=HIDDEN_SHARE, random_state=SEED)
    return seen, hidden


def published_ranks(split: Split, models: Mapping[str, Model]) -> tuple[dict[str, Floats], Asked, dict[str, float]]:
    """Return per model the rank of every hidden article, what was asked, and the seconds of processor time."""
    ranks, seconds = {}, {}
    for name, model in models.items():
        started = time.process_time()
        ranks[name] = split.ranks(model)
        seconds[name] = time.process_time() - started
    n = len(split.reader)
    return ranks, Asked(np.arange(n), split.reader, np.zeros(n)), seconds


def published(log: LogFile, arms: Sequence[str] | None, since: float | None, until: float | None) -> dict[str, Any]:
    """Return protocol D on a log file, as ``evaluate --json`` prints it, with its warning.

    Parameters
    ----------
    arms : of :data:`recsys.published_rankings.RANKINGS`. since, until : must be None, a random split has no hours.
    """
    if since is not None or until is not None:
        raise DataError("--protocol published splits at random and has no hours; leave --from and --to out.")
    models = published_rankings(arms or RANKINGS)
    split = split_of(log.parsed.table)
    ranks, asked, seconds = published_ranks(split, models)
    told = compare_recall(ranks, asked)
    for row in told["arms"]:
        row["seconds"] = round(seconds[row["arm"]], 3)
    head = {"protocol": "published", "split": "random", "warning": WARNING, "log": log.name, "from": None, "to": None}
    sizes = {"readers": split.never.shape[0], "articles": split.never.shape[1], "pairs_seen": len(split.training.reader)}
    return {**head, "queries": len(split.reader), **sizes, **told}
