"""Does a new arm cost views? May be asked after every reader, while the arm climbs to its full share.

Compared is what readers do in the hour after they first met the test. It only stops an arm; a verdict needs the report.
What fails is counted by :mod:`analysis.failing`.
"""

from __future__ import annotations

from dataclasses import dataclass

from analysis.comparison import contrast_of, planned_of, value_of
from analysis.effect import interval_at, phase_shares
from analysis.moments import Totals
from analysis.sequential import LEAST_READERS, anytime_critical
from experiments.experiment import Experiment
from experiments.metric import metric

__all__ = ["HARM", "VIEWS_ALPHA", "Change", "change_of"]

VIEWS_ALPHA = 0.02  # chance of a false stop over all looks
HARM = 0.02  # a smaller loss of views is no reason to stop at once
METRIC = "views_per_session"


@dataclass(frozen=True, slots=True)
class Change:
    """Relative change of views against the control, with a range that holds at all looks together.

    Parameters
    ----------
    readers : in the arm and in the control. estimate, low, high : fractions; None while nothing can be said, for ``reason``.
    """

    readers: tuple[int, int]
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    @property
    def harmful(self) -> bool:
        """Whether the arm loses views for certain, and more than a little."""
        return self.high is not None and self.estimate is not None and self.high < 0 and self.estimate < -HARM


def change_of(experiment: Experiment, totals: Totals, arm: str) -> Change:
    """Return what the arm did to views per session, for one-sided decisions at :data:`VIEWS_ALPHA`.

    Parameters
    ----------
    totals : of ``experiment``, whose goal is views per session.
    """
    pair, goal, level = (arm, experiment.control), metric(METRIC), 1 - 2 * VIEWS_ALPHA
    shares, _ = phase_shares(totals.moments, pair)
    values = {(goal.name, one): value_of(experiment, totals, goal, one, shares) for one in pair}
    sides = values[goal.name, arm], values[goal.name, experiment.control]
    contrast = contrast_of(totals, goal, pair, values, level=level)
    if contrast.absolute is None or contrast.relative is None:
        return Change(contrast.n, reason=contrast.reason or "views cannot be compared")
    if min(contrast.n) < LEAST_READERS:
        return Change(contrast.n, reason=f"{min(contrast.n)} readers in the smaller arm, {LEAST_READERS} are needed")
    n_star = planned_of(sides, alpha=2 * VIEWS_ALPHA)
    critical = anytime_critical(sum(contrast.n), n_star, alpha=2 * VIEWS_ALPHA)
    wide = interval_at(contrast, *sides, level=level, critical=critical).relative
    if wide is None:
        return Change(contrast.n, reason="a relative change cannot be estimated yet")
    return Change(contrast.n, wide.estimate, wide.low, wide.high)
