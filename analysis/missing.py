"""Does one arm lose more of its readers' traces than another? Beacons, degraded pages, late and bot-marked exposures.

While a test runs a sign is judged by an e-process on the readers who carry it: arms are drawn when a reader comes, so
whoever turns out to carry a sign that has nothing to do with the arm is split as planned. Once the test has ended, the
rates themselves are compared, once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from scipy.stats import hypergeom

from analysis.checks import SPLIT_BLOCK, SPLIT_WARN, Check, State, how_often, splits_evidence
from analysis.words import name, percent

__all__ = ["SIGNS", "alike", "rates_p_value"]

PerArm = Mapping[int, Mapping[str, int]]
Shares = Mapping[int, Mapping[str, float]]
SIGNS = {
    "no_beacon": "Readers whose first page with a slot told nothing after loading",
    "degraded": "Readers whose first page with a slot came too late and showed today's site",
    "late": "Readers with events that arrived a day late",
    "bots": "Readers marked as robots",
    "erased": "Readers who had what is held about them erased",
}
NONE = {
    "no_beacon": "Every first page with a slot told how long it was visible.",
    "degraded": "No reader's first page with a slot came too late.",
    "late": "No events of the slot arrived a day late.",
    "bots": "No reader in the test was marked as a robot.",
    "erased": "No reader of the test had what is held about them erased.",
}
CAUSES = {
    "no_beacon": "a script that fails in one arm, or lost events",
    "degraded": "an arm that slows the page down",
    "late": "a web process that stood still",
    "bots": "robots that found one arm's links",
    "erased": "something in one arm that drives readers away; those who stay do not speak for them",
}
OBJECTIONS = "Readers who object leave no id, so nobody can know how many object per arm."


def rates_p_value(readers: PerArm, marked: PerArm) -> float:
    """Chance of rates at least this unequal when the sign has nothing to do with the arm; to be looked at once.

    Exact for any number of readers: each arm of each phase against the rest of its phase by the hypergeometric
    distribution, both tails, the smallest times how many were tried.

    Examples
    --------
    >>> round(rates_p_value({0: {"a": 10, "b": 10}}, {0: {"a": 5, "b": 0}}), 4)
    0.0325
    """
    found = []
    for phase, arms in sorted(readers.items()):
        whole, signs = sum(arms.values()), sum(marked.get(phase, {}).get(arm, 0) for arm in arms)
        shown = [arm for arm in sorted(arms) if arms[arm]]
        compared = shown[:1] if len(shown) == 2 else shown if len(shown) > 2 else []  # of two arms one says it all
        for arm in compared:
            law = hypergeom(whole, signs, arms[arm])
            k = marked.get(phase, {}).get(arm, 0)
            found.append(min(1.0, 2 * float(min(law.cdf(k), law.sf(k - 1)))))
    return min(1.0, len(found) * min(found)) if found else 1.0


def alike(title: str, sign: Any, shares: Shares, *, most_evidence: float = 0.0, ended: bool = False) -> Check:
    """Check that a sign is as frequent in every arm; blocks below one in a thousand.

    Parameters
    ----------
    title : one of :data:`SIGNS`.
    sign : ``readers`` looked at and ``marked`` ones, phase -> arm -> count.
    most_evidence : the largest log E of earlier looks.
    ended : the test is over; this is the look that was planned.
    """
    p = math.exp(-max(0.0, splits_evidence(sign.marked, shares), most_evidence))
    once = rates_p_value(sign.readers, sign.marked)
    p = min(p, once) if ended else p
    rates = _rates(sign.readers, sign.marked)
    tail = f" {OBJECTIONS}" if title == "bots" else ""
    if not any(rates.values()) and p >= SPLIT_WARN:
        return Check(title, "ok", 0.0, SPLIT_BLOCK, p, NONE[title] + tail)
    state: State = "block" if p < SPLIT_BLOCK else "warn" if p < SPLIT_WARN else "ok"
    says = f"{SIGNS[title]}: " + ", ".join(f"{percent(rate)} with {name(arm)}" for arm, rate in rates.items())
    if state == "ok":
        says += "; chance explains the gap."
    else:
        says += f". Chance alone does this {how_often(p)}. Likely causes: {CAUSES[title]}."
    return Check(title, state, max(rates.values(), default=0.0) - min(rates.values(), default=0.0), SPLIT_BLOCK, p, says + tail)


def _rates(readers: PerArm, marked: PerArm) -> dict[str, float]:
    """Share of readers with the sign per arm, over all phases; arms nobody was looked at in are left out."""
    arms = sorted({arm for phase in readers.values() for arm, n in phase.items() if n})
    total = {arm: sum(phase.get(arm, 0) for phase in readers.values()) for arm in arms}
    return {arm: sum(phase.get(arm, 0) for phase in marked.values()) / total[arm] for arm in arms}
