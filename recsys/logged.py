"""A log of what was shown with which probability, and a policy that would have shown something else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from experiments.errors import DataError
from recsys.importers.source import Source, column_names, read_source, texts

__all__ = ["Logged", "Policy", "read_logged", "read_policy", "share_of"]

NAMES = {  # role -> names it goes by, the first is ours
    "article": ("article_id", "article", "item_id"),
    "slot": ("slot", "position"),
    "reward": ("click", "clicked", "reward"),
    "propensity": ("propensity", "propensity_score"),
    "probability": ("probability", "target_propensity"),
    "reader": ("reader_id", "reader", "user_id"),
}
SHOWN = 20
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Logged:
    """Shown articles, arrays of equal length.

    Parameters
    ----------
    article, slot : codes into ``articles`` and ``slots``. reward : 0 or 1 (or any number). reader : codes, one per row without readers.
    propensity : logged probability of this article in this slot; NaN where missing.
    """

    article: Ints
    slot: Ints
    reward: Floats
    propensity: Floats
    reader: Ints
    articles: tuple[str, ...]
    slots: tuple[str, ...]

    def rows(self, chosen: npt.NDArray[Any]) -> Logged:
        """Return the chosen rows (repeated ones count as often), with readers numbered anew."""
        reader = np.unique(self.reader[chosen], return_inverse=True)[1]
        return Logged(
            self.article[chosen], self.slot[chosen], self.reward[chosen], self.propensity[chosen], reader, self.articles, self.slots
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy to value: either its whole table, or its probability of what each row of the log showed.

    Parameters
    ----------
    table : (articles, slots), columns add up to 1. shown : (rows,) probabilities.
    """

    table: Floats | None = None
    shown: Floats | None = None

    def of(self, log: Logged) -> Floats:
        """Return (rows,) the probability that the policy shows what the row shows."""
        if self.table is not None:
            return np.asarray(self.table[log.article, log.slot])
        assert self.shown is not None
        return self.shown


def read_logged(path: Path) -> Logged:
    """Read a log of impressions: article, slot, click and propensity per row, optionally reader.

    Raises
    ------
    DataError
        A column is missing, or a row lacks its article, its slot or its click (lines are listed).
    """
    names = _columns(path, ("article", "slot", "reward", "propensity"), ("reader",))
    source = read_source(path, [names[role] for role in ("article", "slot", "reward", "propensity")], [names.get("reader", "")])
    values = {role: _numbers(source.table[names[role]]) for role in ("reward", "propensity")}
    article, articles = _coded(source, names["article"])
    slot, slots = _coded(source, names["slot"])
    wrong = {"article is missing": article < 0, "slot is missing": slot < 0, "click is no number": ~np.isfinite(values["reward"])}
    missing = np.any(list(wrong.values()), axis=0)
    said = {i: " and ".join(says for says, rows in wrong.items() if rows[i]) for i in np.flatnonzero(missing)[:SHOWN].tolist()}
    faults = [*source.refused, *((int(source.lines[i]), says) for i, says in said.items())]
    if faults:
        told = [f"line {line}: {reason}" for line, reason in sorted(faults)[:SHOWN]]
        more = int(missing.sum()) + len(source.refused)
        raise DataError(f"{path.name}: {more:,} rows cannot be used; a value from the others would be of another log.", faults=told)
    reader = np.arange(len(article)) if "reader" not in names else _coded(source, names["reader"])[0]
    return Logged(article, slot, values["reward"], values["propensity"], _own(reader), articles, slots)


def read_policy(path: Path, log: Logged) -> Policy:
    """Read the policy to value.

    A file with a probability per article and slot is the whole policy; one with a probability and as many rows as the log, but no
    article, speaks of the log's rows; a log without probabilities stands for what it showed: its add-one-smoothed share per slot.
    An empty log gets an empty policy: it is refused whatever the target says.

    Raises
    ------
    DataError
        Probabilities are missing, negative, or do not add up to 1 in a slot, or a log shows nothing in a slot.
    """
    roles = _found(column_names(path))
    if not len(log.reward):
        return Policy(shown=np.zeros(0))
    if "probability" not in roles:
        shown_by = _on(read_source(path, [_need(path, roles, role) for role in ("article", "slot")]), roles, log, path)
        if absent := sorted(set(log.slots) - {log.slots[code] for code in shown_by.slot}):
            raise DataError(f"{path.name}: shows nothing in slot {', '.join(absent)} of the log; nothing is known of the policy there.")
        return share_of(shown_by, log)
    if "article" not in roles:
        shown = _numbers(read_source(path, [roles["probability"]]).table[roles["probability"]])
        if len(shown) != len(log.reward) or not ((shown >= 0) & (shown <= 1)).all():
            raise DataError(f"{path.name}: needs one probability between 0 and 1 for each of the {len(log.reward):,} rows of the log.")
        return Policy(shown=shown)
    source = read_source(path, [roles["article"], _need(path, roles, "slot"), roles["probability"]])
    probability = _numbers(source.table[roles["probability"]])
    told = probability != 0  # what is never shown need not be known to the log
    source = replace(source, table=source.table.filter(pa.array(told)), lines=source.lines[told])
    probability = probability[told]
    return Policy(_table(_on(source, roles, log, path), probability, path))


def share_of(log: Logged, valued: Logged | None = None) -> Policy:
    """Return how often a log showed each article per slot, each that the log to be ``valued`` (or this one) shows there counted once more."""
    table = np.zeros((len(log.articles), len(log.slots)))
    known = valued or log
    table[known.article, known.slot] = 1.0
    np.add.at(table, (log.article, log.slot), 1.0)
    return Policy(table / table.sum(axis=0))


def _table(rows: Logged, probability: Floats, path: Path) -> Floats:
    table = np.zeros((len(rows.articles), len(rows.slots)))
    np.add.at(table, (rows.article, rows.slot), probability)
    sums = table.sum(axis=0)
    faults = [f"slot {slot}: {total:.4f}" for slot, total in zip(rows.slots, sums.tolist(), strict=True) if not abs(total - 1) < 1e-6]
    if faults or not (probability >= 0).all():
        raise DataError(f"{path.name}: the probabilities of a slot must not be negative and add up to 1.", faults=faults)
    return table


def _on(source: Source, roles: dict[str, str], log: Logged, path: Path) -> Logged:
    """Speak of another file's articles and slots by the log's codes."""
    codes = []
    for role, known in (("article", log.articles), ("slot", log.slots)):
        words = texts(source.table[roles[role]], roles[role])
        found = np.asarray(pc.fill_null(pc.index_in(words, pa.array(known, pa.string())), -1)).astype(np.int64)
        if (found < 0).any():
            lines = [f"line {int(source.lines[i])}: {words[int(i)].as_py()!r}" for i in np.flatnonzero(found < 0)[:SHOWN]]
            raise DataError(f"{path.name}: names {role}s the log never shows; nothing is known about them.", faults=lines)
        codes.append(found)
    empty = np.zeros(len(codes[0]))
    return Logged(codes[0], codes[1], empty, empty, np.arange(len(empty)), log.articles, log.slots)


def _columns(path: Path, wanted: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, str]:
    roles = _found(column_names(path))
    names = {role: _need(path, roles, role) for role in wanted}
    return names | {role: roles[role] for role in optional if role in roles}


def _found(known: list[str]) -> dict[str, str]:
    return {role: next(name for name in names if name in known) for role, names in NAMES.items() if set(names) & set(known)}


def _need(path: Path, roles: dict[str, str], role: str) -> str:
    if role not in roles:
        raise DataError(f"{path.name}: no column holds the {role}.", f"Call it {' or '.join(map(repr, NAMES[role]))}.")
    return roles[role]


def _numbers(column: Any) -> Floats:
    """Numbers, NaN where there is none."""
    array = column.combine_chunks()
    if pa.types.is_string(array.type):
        whole = pc.match_substring_regex(pc.utf8_trim_whitespace(array), r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")
        array = pc.if_else(pc.fill_null(whole, False), pc.utf8_trim_whitespace(array), pa.scalar(None, pa.string()))
    try:
        return np.asarray(pc.fill_null(pc.cast(array, pa.float64()), np.nan))
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise DataError(f"a column of clicks or probabilities holds {array.type}.", "Write it as numbers.") from error


def _coded(source: Source, name: str) -> tuple[Ints, tuple[str, ...]]:
    encoded = pc.dictionary_encode(texts(source.table[name], name))
    return np.asarray(pc.fill_null(encoded.indices, -1)).astype(np.int64), tuple(encoded.dictionary.to_pylist())


def _own(reader: Ints) -> Ints:
    """Rows without a reader count as a reader each."""
    nobody = reader < 0
    return np.where(nobody, int(reader.max(initial=-1)) + 1 + np.cumsum(nobody), reader) if nobody.any() else reader
