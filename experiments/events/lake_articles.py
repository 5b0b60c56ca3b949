"""Which articles every arm showed, counted per bucket of readers, and whose readers opened what all arms learn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from experiments.events.lake_rules import BUCKETS, needed, reads_by_arm, slots_filled
from experiments.events.lake_shown import first_exposure
from experiments.events.lake_tables import compiled, evaluate, query
from experiments.events.tail import open_tail
from experiments.experiment import Experiment
from experiments.metric import Measure

__all__ = ["Shown", "articles_shown", "reads_of_arms"]

# The bucket of the assignment will not do: readers of one such bucket mostly have the same arm, so that an arm with a
# hundredth of the readers would have two of them. MD5 spreads the readers of every arm over all buckets, on any machine.
PER_BUCKET = """SELECT arm, bucket, article, count(*) AS places FROM (
    SELECT arm, ('0x' || left(md5(reader), 8))::UBIGINT % {buckets} AS bucket, unnest(from_json(articles, '["VARCHAR"]')) AS article
    FROM ({slots})) GROUP BY ALL"""
EXPOSED = ("page_view", "reader", "issued_at", "arm", "phase", "bucket", "reason", "outcome")
OPENED = """SELECT DISTINCT article FROM "view" WHERE page_type = 'article' AND prefetch = 0 AND article <> '' AND issued_at >= {since}"""


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """Places in filled slots of matured readers.

    Parameters
    ----------
    arms : arm -> its rows as three integer arrays of equal length: bucket of the reader (0 to 199), article (a code, the
        same in all arms), places (how often the article was shown to readers of this bucket).
    catalogue : articles that were shown by some arm, or opened by any reader since the first exposure (count).
    buckets : how many there are.
    """

    arms: Mapping[str, tuple[Any, Any, Any]] = field(default_factory=dict)
    catalogue: int = 0
    buckets: int = BUCKETS


def articles_shown(home: Path, experiment: Experiment, *, until_us: int, source: str) -> Shown:
    """Return how often every arm showed which article, to the readers and in the windows of :func:`experiments.events.lake.reader_rows`.

    Parameters
    ----------
    until_us : data cut, UTC microseconds, exclusive.
    """
    needs = needed([Measure(count="impression")])
    needs["impression"] |= {"articles"}
    with open_tail(home, until_us=until_us, source=source, experiment=experiment.name) as tail:
        since = first_exposure(tail)
        if since is None:
            return Shown()
        slots = compiled(slots_filled(experiment, until_us=until_us))
        found = evaluate(tail, PER_BUCKET.format(buckets=BUCKETS, slots=slots), needs)
        viewed = {"view": ("article", "page_type", "prefetch", "issued_at")}
        opened = {article for (article,) in query(tail, OPENED.format(since=since), viewed)}
    order = [(name, "ascending") for name in ("arm", "bucket", "article")]
    table = found.group_by(["arm", "bucket", "article"]).aggregate([("places", "sum")]).sort_by(order)
    known = pa.array(sorted(opened | set(table["article"].unique().to_pylist())), pa.string())
    article = pc.index_in(table["article"], value_set=known).to_numpy()
    arm, bucket, places = (table[name].to_numpy() for name in ("arm", "bucket", "places_sum"))
    return Shown({one: (bucket[arm == one], article[arm == one], places[arm == one]) for one in sorted(set(arm.tolist()))}, len(known))


def reads_of_arms(home: Path, experiment: Experiment, *, until_us: int, source: str) -> dict[str, int]:
    """Return how many articles the readers of every arm opened from their first exposure on; under "" what all others opened meanwhile."""
    needs = {"view": ("reader", "issued_at", "page_type", "prefetch"), "exposure": EXPOSED}
    with open_tail(home, until_us=until_us, source=source, experiment=experiment.name) as tail:
        since = first_exposure(tail)
        if since is None:
            return {}
        found = evaluate(tail, reads_by_arm(experiment, since_us=since), needs)
    reads = found.group_by("arm").aggregate([("reads", "sum")]).sort_by("arm")
    return dict(zip(reads["arm"].to_pylist(), reads["reads_sum"].to_pylist(), strict=True))
