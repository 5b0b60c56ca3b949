"""Why arms fail: the words of the error, or of the late list, that most of their readers met."""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import closing
from pathlib import Path

from experiments.events.store import read_store, store_path

__all__ = ["why_failed"]

NEWEST = 50_000  # impressions that are looked through: an answer within a tenth of a second, on a site of any size
LEAST_READERS = 3  # whom the same words must reach: they stay in the record for ever, where a reader's own data may not
REPLACED = """SELECT arm, reader, body FROM (SELECT arm, reader, body FROM event WHERE kind || '' = 'impression' AND issued_at >= ? ORDER BY seq DESC LIMIT ?)
AS newest WHERE body NOT LIKE '%"cause":""%' AND body LIKE '%"cause":%'"""


def why_failed(home: Path, *, since_us: int) -> dict[str, str]:
    """Return per arm, for each cause, the reason that most readers met since then, in words; ``""`` is what readers get outside of tests.

    Raises
    ------
    StoreDownError
        The database of the events is away.
    """
    met: defaultdict[tuple[str, str], defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    if not store_path(home).exists():
        return {}
    with closing(read_store(store_path(home))) as store:
        for arm, reader, text in store.execute(REPLACED, (since_us, NEWEST)):
            body = json.loads(text)
            if body.get("reason"):
                met[arm, body["cause"]][body["reason"]].add(reader)
    said: defaultdict[str, list[str]] = defaultdict(list)
    for (arm, cause), reasons in sorted(met.items()):
        reason, readers = max(reasons.items(), key=lambda one: len(one[1]))
        if len(readers) >= LEAST_READERS:
            said[arm].append(f"{cause}: {reason} ({len(readers):,} readers)")
    return {arm: "; ".join(words) for arm, words in said.items()}
