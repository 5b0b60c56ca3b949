"""Whose events are refused for ever, by a keyed hash alone, and how many of them every arm of every test had.

An arm whose readers go away looks better or worse by those who stay; the counts let a report see it. They say nothing of
any one reader.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from experiments.events.engine import ERASED_READER, Store
from experiments.events.loader import Loader
from experiments.events.sealed import Partition, locked, partitions, sealed_folder
from experiments.events.store import erase_key, reader_key

__all__ = ["per_arm", "refuse"]

ADD = """INSERT INTO erased_reader VALUES (?, ?, ?, ?, ?) ON CONFLICT(experiment, source, phase, arm)
DO UPDATE SET n = erased_reader.n + excluded.n"""
FRESH = """SELECT reader, experiment, source, issued_at, page_view, arm, body FROM fresh
WHERE kind = 'exposure' AND bot = 0 AND late = 0 AND reader IN ({})"""
AT_ONCE = 500  # readers in one statement
Exposure = tuple[str, str, str, int, str, str, str]  # the columns of FRESH


def refuse(home: Path, loader: Loader, readers: Collection[str]) -> None:
    """Refuse what comes from these readers from now on, and count them in the arms of their first exposures; once for each reader.

    Call it before their events are deleted.
    """
    key = erase_key(home)
    with locked(home) if sealed_folder(home).exists() else nullcontext():
        with loader.transaction() as store:
            known = {one for (one,) in store.execute("SELECT key FROM erased")}
            new = [reader for reader in readers if reader_key(key, reader) not in known]
            shown, files = [*_fresh(store, new)], partitions(store, home)
        shown += _sealed(files, new)
        at = loader.clock()
        with loader.transaction() as store:
            store.executemany("INSERT INTO erased VALUES (?, ?) ON CONFLICT DO NOTHING", [(reader_key(key, one), at) for one in new])
            if counts := _first(shown):
                if not store.has("erased_reader"):  # stores of before have none
                    store.execute(ERASED_READER)
                store.executemany(ADD, [(*cell, n) for cell, n in sorted(counts.items())])


def per_arm(store: Store, experiment: str, source: str | None) -> Mapping[int, Mapping[str, int]]:
    """Return phase -> arm -> readers of a test who were erased; ``source`` None means every one but canaries."""
    found: dict[int, dict[str, int]] = {}
    if store.has("erased_reader"):
        for of, phase, arm, n in store.execute("SELECT source, phase, arm, n FROM erased_reader WHERE experiment = ?", (experiment,)):
            if of == source or (source is None and of != "canary"):
                found.setdefault(phase, {})[arm] = found.get(phase, {}).get(arm, 0) + n
    return found


def _fresh(store: Store, readers: list[str]) -> Iterator[Exposure]:
    for start in range(0, len(readers), AT_ONCE):
        some = readers[start : start + AT_ONCE]
        yield from store.execute(FRESH.format(", ".join("?" * len(some))), some)


def _sealed(files: Iterable[Partition], readers: list[str]) -> Iterator[Exposure]:
    from experiments.events.sealed_files import exposures_of  # Arrow is loaded only where sealed files exist

    for one in files if readers else ():
        yield from exposures_of(one, readers)


def _first(shown: Iterable[Exposure]) -> Counter[tuple[str, str, int, str]]:
    """Count readers by the experiment, source, phase and arm of their first exposure, as analyses do."""
    first: dict[tuple[str, str, str], tuple[Any, ...]] = {}
    for reader, experiment, source, at, page_view, arm, body in shown:
        said = json.loads(body)
        if said.get("reason") != "forced":
            place, entry = (reader, experiment, source), (at, page_view, arm, said.get("phase", 0))
            first[place] = min(first.get(place, entry), entry)
    return Counter((experiment, source, phase, arm) for (_, experiment, source), (_, _, arm, phase) in first.items())
