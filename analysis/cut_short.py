"""What is shown of an arm that was taken from its readers while the test ran is thinned by the days they went on without it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from analysis.checks import Check
from analysis.words import days as in_words
from analysis.words import name
from experiments.experiment import Experiment, Phase

__all__ = ["cut_short"]

DAY = timedelta(days=1)


def cut_short(experiment: Experiment, phases: Sequence[Phase], *, until: datetime) -> tuple[Check, ...]:
    """Return a warning for each arm that readers lost before ``until``, with how much of the days they are followed they had it.

    Its figure is that share (0 to 1), for readers who came evenly: of T days and a window of w, T / 2 or, where T > w, w - w^2 / 2T.

    Examples
    --------
    >>> from datetime import UTC
    >>> from experiments.experiment import Arm
    >>> plan = Experiment("t", "Q?", "a", (Arm("a", "status_quo", 0.5), Arm("b", "heuristic", 0.5)), window_days=7.0)
    >>> begin = datetime(2026, 1, 1, tzinfo=UTC)
    >>> phases = [Phase(0, begin, (("a", 0.5), ("b", 0.5))), Phase(1, begin + 3 * DAY, (("a", 0.5), ("b", 0.0)))]
    >>> [check] = cut_short(plan, phases, until=begin + 21 * DAY)
    >>> round(check.figure, 3), check.says.partition(":")[0]
    (0.214, 'Readers lost b after 3 days')
    """
    found, window = [], experiment.window_days
    for arm in (arm for arm, share in phases[-1].shares if not share) if phases else ():
        had = [dict(phase.shares).get(arm, 0.0) > 0 for phase in phases]
        if not any(had):
            continue
        last = len(had) - 1 - had[::-1].index(True)
        gone = phases[last + 1].at
        days = (gone - phases[had.index(True)].at) / DAY
        mean = days / 2 if days <= window else window - window**2 / (2 * days)
        if until > gone and mean < window:
            says = (
                f"Readers lost {name(arm)} after {in_words(days)}: they had it for about {mean:.2g} of the {in_words(window)} over which "
                "each of them is followed. Its effects are thinned by the days without it and do not say what it does while it is shown."
            )
            found.append(Check("cut_short", "warn", mean / window, 1.0, None, says))
    return tuple(found)
