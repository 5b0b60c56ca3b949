"""What is shown beside an effect and decides nothing: heavy readers, totals without a ceiling, payers; and quantiles per arm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.effect import Contrast
from analysis.influence import HeavyReaders, heavy_readers
from analysis.moments import Totals
from analysis.quantile import Quantile, quantile_value
from analysis.winsor import BothWays, Decomposition, both_ways, decomposition
from experiments.metric import Metric

__all__ = ["Beside", "beside", "quantile_of"]

FINE = 2**20  # weights of phases are rounded to this part of the largest one


@dataclass(frozen=True, slots=True)
class Beside:
    """What else to know about one comparison.

    Parameters
    ----------
    heavy : how far single readers move the difference, and what the average reader says.
    uncut : the comparison without and with the ceiling, for totals that have one.
    parts : the change of such a total as more payers and as more per payer.
    """

    heavy: HeavyReaders | None = None
    uncut: BothWays | None = None
    parts: Decomposition | None = None


def beside(totals: Totals, metric: Metric, pair: tuple[str, str], *, contrast: Contrast, level: float) -> Beside | None:
    """Return what stands beside a comparison; None when there is nothing.

    Parameters
    ----------
    pair : (treated, control).
    contrast : the comparison itself.
    level : of all intervals, 0 to 1.
    """
    distinct, uncut, cap = totals.distinct.get(metric.name), totals.uncut.get(metric.name), totals.caps.get(metric.name)
    heavy = heavy_readers(distinct, pair, contrast, level=level) if distinct else None
    known = {row.arm for row in uncut or ()}
    both = both_ways(uncut, pair, cap=cap, level=level) if uncut and cap and known >= set(pair) else None
    parts = decomposition(uncut, pair, level=level) if uncut and both else None
    return Beside(heavy, both, parts) if heavy or both or parts else None


def quantile_of(totals: Totals, metric: Metric, arm: str, *, shares: Mapping[int, float], level: float) -> Quantile:
    """Return a quantile of an arm's events, in the metric's unit; phases weigh as in every other metric.

    Parameters
    ----------
    metric : with a quantile.
    shares : weight of each phase (adds up to 1); events of other phases are left out.
    level : of its interval, 0 to 1.
    """
    found = [e for e in totals.events.get(metric.name, ()) if e.arm == arm and shares.get(e.phase) and (arm, e.phase) in totals.moments]
    # a reader of phase s stands for w_s / n_s of the readers of all phases
    each = [shares[e.phase] / totals.moments[arm, e.phase].n for e in found]
    whole = [max(1, round(FINE * one / max(each))) for one in each] if len(each) > 1 else [1] * len(each)
    offsets = np.cumsum([0, *(int(e.readers.max()) + 1 for e in found)])
    return quantile_value(
        np.concatenate([np.zeros(0, np.int64), *(e.readers + offsets[i] for i, e in enumerate(found))]),
        np.concatenate([np.zeros(0), *(e.values / metric.divide_by for e in found)]),
        q=metric.quantile or 0.5,
        level=level,
        count=np.concatenate([np.zeros(0, np.int64), *(e.events for e in found)]),
        weight=np.concatenate([np.zeros(0, np.int64), *(np.full(len(e.events), whole[i]) for i, e in enumerate(found))]),
    )
