"""What a training learns from: the reads of those who agreed, and everybody's for the signals."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from experiments.errors import DataError
from experiments.serving.signals import HOUR, Reads, SignalRules, Texts
from experiments.serving.slate import SlateRules
from recsys.interactions import to_reads
from recsys.requests import Site
from recsys.text import fit_texts

__all__ = ["Source", "read_source"]

HISTORY_H = 800.0  # the longest window of a recipe, before the longest test stretch, and the five days the signals look back


@dataclass(frozen=True, slots=True)
class Source:
    """What is learned from.

    Parameters
    ----------
    reads : of readers who agreed (an arm with their own history learns from nobody else).
    site : everybody's reads, for the signals. data_sha256 : of the reads. last_offset : highest event number.
    """

    reads: Reads
    site: Site
    data_sha256: str
    last_offset: int


def read_source(home: Path, *, until_us: int, agreed_only: bool, texts: bool = True) -> Source:
    """Read the catalogue and the reads a recipe can look at; ``texts`` False leaves the vectors of words out, which take seconds.

    Raises
    ------
    DataError
        The site has no article or no read in the window.
    """
    from experiments.content import load_catalogue
    from experiments.events import lake
    from experiments.settings import load_settings

    settings, catalogue = load_settings(home), load_catalogue(home)
    since_us = until_us - round(HISTORY_H * HOUR * 1e6)
    table = lake.reads(home, until_us=until_us, since_us=since_us, agreement=agreed_only)
    mine = table.filter(table["agreed"]) if agreed_only else table
    everybody = to_reads(table, catalogue)
    reads = everybody if len(mine) == len(table) else to_reads(mine, catalogue)
    if not len(reads):
        whose = "readers who agreed to personal choice have" if agreed_only else "readers have"
        raise DataError(f"{whose} read nothing in the last {HISTORY_H:.0f} h.", "Wait for readers, or import a log.")
    rules = SignalRules(settings.half_life_hours, co_read_sessions=settings.co_read_sessions, fresh_h=settings.pool_hours)
    words = fit_texts(catalogue, until=until_us / 1e6, window_h=HISTORY_H) if texts else Texts.none()
    site = Site(catalogue, everybody, rules, SlateRules(pool_h=settings.pool_hours), texts=words)
    offsets = table["seq"].to_numpy()
    return Source(reads, site, _digest(mine), int(offsets.max(initial=-1)))


def _digest(reads: Any) -> str:
    """Return the sha256 of readers, articles and times, each written line by line."""
    digest, some = hashlib.sha256(), 1 << 20  # fewer than would fill an Arrow text
    for name in ("reader", "article", "at"):
        for start in range(0, len(reads), some):
            words = pc.cast(reads[name].slice(start, some), pa.string()).combine_chunks()
            digest.update(b"\n" if start else b"")
            digest.update(pc.binary_join(pa.ListArray.from_arrays([0, len(words)], words), "\n")[0].as_buffer())
    return digest.hexdigest()
