"""Does a new arm harm readers? Two questions that may be asked after every reader, while it climbs to its full share.

What fails is counted (readers who met a fallback or a degraded page), what readers do is compared (views in the hour
after they first met the test). Both only stop an arm; a verdict needs the report.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from analysis.comparison import contrast_of, planned_of, value_of
from analysis.effect import interval_at, phase_shares
from analysis.moments import Totals
from analysis.sequential import LEAST_READERS, anytime_critical
from experiments.experiment import Experiment
from experiments.metric import metric

__all__ = ["COUNT_ALPHA", "HARM", "TOLERATED", "VIEWS_ALPHA", "Change", "change_of", "failing_evidence"]

FACTORS = (1.5, 2.0, 4.0, 8.0, 16.0, 32.0)
COUNT_ALPHA, VIEWS_ALPHA = 0.01, 0.02  # chance of a false stop over all looks
TOLERATED = 0.01  # share of readers who may meet a fallback where no other arm ranks to compare with
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


def failing_evidence(affected: int, of: int, share: float) -> float:
    """Return the evidence that ``affected`` of ``of`` are more than ``share``; 1 / alpha is enough to stop, at any time.

    Parameters
    ----------
    affected : of the arm's readers, met a fallback. of : affected readers of the arm and of those it is compared with,
        or, where there are none, all readers of the arm. share : of the arm's readers among all of these, or the tolerated one.

    References
    ----------
    OPERATIONS 3: mean over theta of theta^x1 / (1 + pi (theta - 1))^(x1 + x0), an e-process under the null.

    Examples
    --------
    >>> failing_evidence(0, 0, 0.5), round(failing_evidence(5, 5, 0.5)), failing_evidence(3, 300, 0.01) < 1
    (1.0, 14, True)
    """
    logs = [affected * math.log(factor) - of * math.log1p(share * (factor - 1)) for factor in FACTORS]
    top = max(logs)
    return math.exp(min(top, 700.0)) * math.fsum(math.exp(log - top) for log in logs) / len(FACTORS)


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
