"""Protocol C: what readers go on to read in the week after a cut, among the articles that were out by then.

RECOMMENDING §10. A cut every 14 days; a ranking sees the log before the cut and nothing else. Wanted: articles that were seen
before the cut and that the reader opens for the first time in the seven days after it. Candidates: every article seen before the
cut that the reader has not read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.errors import DataError
from recsys.importers.log import LogFile
from recsys.recall import Asked, at_ten, compare_recall
from recsys.weekly_log import FIRST_CUT_H, WEEK_DAYS, Log, Ranking, log_of, weeks
from recsys.weekly_rankings import RANKINGS, weekly_rankings

__all__ = ["weekly", "weekly_ranks"]

Floats = npt.NDArray[np.float64]


def weekly_ranks(
    log: Log, rankings: Mapping[str, Ranking], *, since_h: float = FIRST_CUT_H, until_h: float | None = None
) -> tuple[dict[str, Floats], Asked, dict[str, float]]:
    """Return per ranking the rank of every article wanted, what was asked, and the seconds of processor time.

    Raises
    ------
    DataError
        No cut lies in the span, or nobody reads on after one.
    """
    found: dict[str, list[Floats]] = {name: [] for name in rankings}
    seconds = dict.fromkeys(rankings, 0.0)
    queries, readers, cuts, cold = [], [], [], []
    asked = 0
    for cut in weeks(log, since_h, until_h):
        for name, ranking in rankings.items():
            started = time.process_time()
            found[name].append(cut.ranks(ranking))
            seconds[name] += time.process_time() - started
        queries.append(cut.row + asked)
        readers.append(cut.readers)
        cuts.append(np.full(len(cut.readers), cut.at))
        cold.append(np.bincount(cut.past.reader, minlength=log.shape[0])[cut.readers] == 0)
        asked += len(cut.readers)
    if not asked:
        told = (
            f"no week after hour {since_h:g} holds a read of an article that was out before; the log ends at hour {log.day[-1] * 24:,.0f}."
        )
        raise DataError(told, "Choose an earlier --from or a later --to.")
    unknown = np.concatenate(cold)
    told_of = Asked(np.concatenate(queries), np.concatenate(readers), np.concatenate(cuts), {"cold": unknown, "warm": ~unknown})
    return {name: np.concatenate(parts) for name, parts in found.items()}, told_of, seconds


def weekly(log: LogFile, arms: Sequence[str] | None, since: float | None, until: float | None) -> dict[str, Any]:
    """Return protocol C on a log file, as ``evaluate --json`` prints it.

    Parameters
    ----------
    arms : of :data:`recsys.weekly_rankings.RANKINGS`, or ``heat_72`` for heat with a half-life of 72 hours.
    since, until : hours from the first event: the first cut, and where the last week must have ended.
    """
    rankings = weekly_rankings(arms or RANKINGS)
    data = log_of(log.parsed.table)
    since_h = FIRST_CUT_H if since is None else since
    ranks, asked, seconds = weekly_ranks(data, rankings, since_h=since_h, until_h=until)
    told = compare_recall(ranks, asked)
    cuts = np.unique(asked.cut)
    for row in told["arms"]:
        recall = at_ten(ranks[row["arm"]], asked.query)[0]
        row["by_cut"] = [float(recall[asked.cut == cut].mean()) for cut in cuts]
        row["seconds"] = round(seconds[row["arm"]], 3)
    counts = {name: int(inside.sum()) for name, inside in asked.slices.items()}
    head = {"protocol": "weekly", "split": "time", "log": log.name, "from": since_h, "to": float((cuts[-1] + WEEK_DAYS) * 24)}
    return {**head, "queries": len(asked.reader), "cuts": cuts.tolist(), "slices": counts, **told}
