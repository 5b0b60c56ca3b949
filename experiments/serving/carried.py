"""Signals of one catalogue, said of the next: until they are computed anew, readers get what is known of the articles there were."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.serving.pair_rows import PairRows
from experiments.serving.recommender import Catalogue
from experiments.serving.signals import Signals

__all__ = ["carried"]

Ints = npt.NDArray[np.int32]


def carried(signals: Signals, catalogue: Catalogue) -> Signals:
    """Return ``signals`` with the positions of ``catalogue``; an article that is new has no reads yet.

    Both catalogues are in order of their ids, so what ascends still does. Without one of the former articles there is nothing to
    carry: the result is empty, as of the same moment.
    """
    places = [catalogue.positions.get(identity) for identity in signals.catalogue.ids]
    if None in places:
        return Signals.empty(catalogue, signals.at)
    place, n = np.array(places, np.int32), len(catalogue)
    co = _rows(PairRows(signals.co_indptr, signals.co_articles, signals.co_weights, signals.co_total), place, n)
    typical = dict(zip(signals.catalogue.sections, signals.typical.tolist(), strict=True))
    least = min(typical.values(), default=0.0)  # on credit of a section that is new, too
    found = replace(
        signals,
        catalogue=catalogue,
        heat=_spread(signals.heat, place, n),
        reads_in=_spread(signals.reads_in, place, n),
        onward_in=_spread(signals.onward_in, place, n),
        co_indptr=co.indptr,
        co_articles=co.articles,
        co_total=co.total,
        typical=np.array([typical.get(section, least) for section in catalogue.sections], np.float32),
        near=_rows(signals.near, place, n),
        following=_rows(signals.following, place, n),
        by_level=replace(signals.by_level, articles=place[signals.by_level.articles]),
        text_rows=place[signals.text_rows],
    )
    _ = found.site_reads, found.site_onward, found.most_read_from  # computed here, not in the first request
    return found


def _spread(values: npt.NDArray[Any], place: Ints, n: int) -> npt.NDArray[Any]:
    """(..., n) with ``values`` at ``place`` of the last axis and 0 elsewhere."""
    found = np.zeros((*values.shape[:-1], n), values.dtype)
    found[..., place] = values
    return found


def _rows(rows: PairRows, place: Ints, n: int) -> PairRows:
    lengths = _spread(np.diff(rows.indptr), place, n)
    return PairRows(np.append(0, lengths.cumsum()).astype(np.int32), place[rows.articles], rows.weights, _spread(rows.total, place, n))
