"""Can the numbers be trusted? Each check gives a figure, its limit, a state and a sentence; ``block`` stops the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from scipy.special import gammaln
from scipy.stats import binom, chi2

from analysis.words import count, name, percent
from analysis.words import days as in_words
from experiments.errors import ExperimentError

__all__ = ["Check", "Counted", "State", "balanced", "before", "exposure", "fallback", "heavy_reader", "how_often", "ran_long_enough"]
__all__ += ["split", "split_evidence", "split_p_value", "splits_evidence"]

State = Literal["ok", "warn", "block"]
STRENGTH = 1000.0  # of the Dirichlet prior of the split test: how closely the plan is believed
SPLIT_BLOCK, SPLIT_WARN, EXPECTED_LEAST = 0.001, 0.01, 5.0
CROSSED_BLOCK, CROSSED_WARN = 0.01, 0.001
FALLBACK_BLOCK, FALLBACK_WARN = 0.02, 0.005
FALLBACK_LEAST = 100  # exposures per arm; below, one single fallback would be a point or more
HEAVY_WARN = 0.5
BEFORE_BLOCK = 0.001


@dataclass(frozen=True, slots=True)
class Check:
    """One line of "can we trust it?".

    ``p`` is None for counts that must simply be right; ``threshold`` is the limit beyond which the check blocks (or
    warns, if it never blocks).
    """

    name: str
    state: State
    figure: float | None
    threshold: float | None
    p: float | None
    says: str


class Counted(Protocol):
    """One line of the event balance, per kind and arm (:func:`experiments.events.store.balance`)."""

    @property
    def kind(self) -> str: ...
    @property
    def arm(self) -> str: ...
    @property
    def received(self) -> int: ...
    @property
    def duplicate(self) -> int: ...
    @property
    def pending(self) -> int: ...
    @property
    def exact(self) -> bool: ...


def _strangers(counts: Mapping[str, int], shares: Mapping[str, float]) -> list[str]:
    return sorted(arm for arm, n in counts.items() if n and not shares.get(arm, 0.0))


def _planned(counts: Mapping[str, int], shares: Mapping[str, float]) -> tuple[list[int], list[float]]:
    strangers = _strangers(counts, shares)
    if strangers:
        raise ExperimentError(f"readers were counted in {', '.join(strangers)}, which the plan gives no share.")
    arms = [arm for arm, share in shares.items() if share > 0]
    total = math.fsum(shares[arm] for arm in arms)
    return [counts.get(arm, 0) for arm in arms], [shares[arm] / total for arm in arms]


def split_p_value(counts: Mapping[str, int], shares: Mapping[str, float]) -> float:
    """Chance of a split at least this uneven when assignment works as planned; to be looked at once, at the end.

    Parameters
    ----------
    counts : readers per arm.
    shares : planned share per arm; shares of 0 leave both the sum and the degrees of freedom.

    Raises
    ------
    ExperimentError
        Readers were counted in an arm that the plan gives no share.

    References
    ----------
    Pearson's chi-squared test; the exact binomial one of every arm where fewer than five readers are expected in one.

    Examples
    --------
    >>> round(split_p_value({"a": 821588, "b": 815482}, {"a": 0.5, "b": 0.5, "c": 0.0}), 7)
    1.8e-06
    """
    return _at_once({0: counts}, {0: shares})


def split_evidence(counts: Mapping[str, int], shares: Mapping[str, float]) -> float:
    """Return log E against the planned split; 1 / E is a p-value that may be looked at after every reader.

    References
    ----------
    Lindon & Malek (2022); STATISTICS 6, with a Dirichlet prior of strength 1,000 around the plan.

    Examples
    --------
    >>> split_evidence({"a": 0, "b": 0}, {"a": 0.5, "b": 0.5})
    0.0
    """
    n, p = (np.array(x, dtype=np.float64) for x in _planned(counts, shares))
    prior = STRENGTH * p
    whole = gammaln(STRENGTH) - gammaln(STRENGTH + n.sum())
    return float(whole + (gammaln(prior + n) - gammaln(prior)).sum() - (n * np.log(p)).sum())


def splits_evidence(counts: Mapping[int, Mapping[str, int]], shares: Mapping[int, Mapping[str, float]]) -> float:
    """Return log E against the planned splits of all phases together (phase -> arm -> readers, planned share).

    Readers in an arm without a share are left out: they block whatever the evidence.
    """
    planned = {phase: {arm: n for arm, n in counts[phase].items() if shares[phase].get(arm, 0.0) > 0} for phase in sorted(counts)}
    return math.fsum(split_evidence(planned[phase], shares[phase]) for phase in planned)


def _at_once(counts: Mapping[int, Mapping[str, int]], shares: Mapping[int, Mapping[str, float]]) -> float:
    """Chance of splits at least this uneven over all phases together: statistics and degrees of freedom add up.

    Where an arm expects few readers, the smallest exact chance of all arms, times their number.
    """
    planned = [(sum(n), n, p) for n, p in (_planned(arms, shares[phase]) for phase, arms in counts.items()) if sum(n) and len(n) > 1]
    cells = [(x, total, q) for total, n, p in planned for x, q in zip(n, p, strict=True)]
    if cells and min(total * q for _, total, q in cells) < EXPECTED_LEAST:
        tails = [min(binom.cdf(x, total, q), binom.sf(x - 1, total, q)) for x, total, q in cells]
        tried = sum(1 if len(n) == 2 else len(n) for _, n, _ in planned)  # of two arms one says it all
        return min(1.0, 2 * float(min(tails)) * tried)
    statistic = math.fsum((x - total * q) ** 2 / (total * q) for x, total, q in cells)
    return float(chi2.sf(statistic, sum(len(n) - 1 for _, n, _ in planned))) if cells else 1.0


def split(
    title: str,
    counts: Mapping[int, Mapping[str, int]],
    shares: Mapping[int, Mapping[str, float]],
    *,
    most_evidence: float = 0.0,
    ended: bool = False,
) -> Check:
    """Check that readers were split as planned; safe to look at any number of times.

    While a test runs the evidence is an e-process, which may be looked at daily but sees little in few readers. Once it
    has ended, one look at the chi-squared test is added: both together raise a false alarm in at most 2 of 1,000 tests.

    Parameters
    ----------
    title : ``split`` for exposed readers, ``split_matured`` for those in the analysis.
    counts : phase -> arm -> readers.
    shares : phase -> arm -> planned share.
    most_evidence : the largest log E of earlier looks, if they were kept.
    ended : the test is over; this is the look that was planned.

    Readers in an arm that their phase gives no share block at once.
    """
    lost = {arm: counts[phase][arm] for phase in sorted(counts) for arm in _strangers(counts[phase], shares[phase])}
    if lost:
        who = ", ".join(f"{count(n, 'reader')} got {name(arm)}" for arm, n in lost.items())
        return Check(title, "block", float(sum(lost.values())), SPLIT_BLOCK, 0.0, f"{who}, which had no share of the traffic then.")
    if not any(sum(arms.values()) for arms in counts.values()):
        return Check(title, "ok", None, SPLIT_BLOCK, 1.0, f"Traffic split: no reader{'' if title == 'split' else ' in the analysis'} yet.")
    p = math.exp(-max(0.0, splits_evidence(counts, shares), most_evidence))
    once = _at_once(counts, shares)
    p = min(p, once) if ended else p
    arm, seen, planned = _furthest(counts, shares)
    state: State = "block" if p < SPLIT_BLOCK else "warn" if p < SPLIT_WARN else "ok"
    chance = f"Chance alone does this {how_often(once)}."
    who = "readers" if title == "split" else "readers in the analysis"
    if state == "ok":
        says = f"Traffic split: {percent(seen)} of {who} got {name(arm)}, {percent(planned)} were planned; chance explains that."
    else:
        says = f"{seen * 100:.1f}% of {who} got {name(arm)}; {planned * 100:.1f}% were planned. {chance}"
        says += " Likely causes: shares changed while running, lost events, or an arm that fails."
    return Check(title, state, seen - planned, SPLIT_BLOCK, p, says)


def _furthest(counts: Mapping[int, Mapping[str, int]], shares: Mapping[int, Mapping[str, float]]) -> tuple[str, float, float]:
    seen: dict[str, float] = {}
    planned: dict[str, float] = {}
    for phase, arms in counts.items():
        n, whole = sum(arms.values()), math.fsum(shares[phase].values())
        for arm, share in shares[phase].items():
            seen[arm] = seen.get(arm, 0.0) + arms.get(arm, 0)
            planned[arm] = planned.get(arm, 0.0) + n * share / whole
    total = sum(seen.values())
    arm = max(planned, key=lambda a: (abs(seen[a] - planned[a]), a))
    return arm, seen[arm] / total, planned[arm] / total


def how_often(p: float) -> str:
    """Say how often chance alone does this.

    Examples
    --------
    >>> how_often(0.004), how_often(0.0004)
    ('about 4 times in 1,000 tests', 'less than once in 1,000 tests')
    """
    times = round(p * 1000)
    return "less than once in 1,000 tests" if p < 0.001 else f"about {'once' if times == 1 else f'{times} times'} in 1,000 tests"


def exposure(*, crossed: int, exposed: int, unknown_arms: int, clicks_without_exposure: int) -> tuple[Check, ...]:
    """Check that one reader saw one arm, that every arm is planned, and that no click came from nowhere."""
    share = crossed / exposed if exposed else 0.0
    state: State = "block" if share >= CROSSED_BLOCK else "warn" if share >= CROSSED_WARN else "ok"
    who = "every reader saw one arm only" if not crossed else f"{crossed:,} of {count(exposed, 'reader')} saw two arms"
    return (
        Check("one_arm", state, share, CROSSED_BLOCK, None, f"Shown is what was assigned: {who}."),
        _none("unknown_arms", unknown_arms, "exposures to an arm that the plan does not have"),
        _none("clicks_without_exposure", clicks_without_exposure, "clicks without an exposure"),
    )


def _none(title: str, n: int, what: str) -> Check:
    return Check(title, "block" if n else "ok", float(n), 0.0, None, f"{n:,} {what}." if n else f"No {what}.")


def balanced(rows: Sequence[Counted]) -> Check:
    """Check that every event that was received is accounted for, per kind and arm, to the last one; one sent again counts once."""
    received, pending = sum(row.received - row.duplicate for row in rows), sum(row.pending for row in rows)
    if off := [row for row in rows if not row.exact]:
        where = ", ".join(f"{row.kind} of {name(row.arm)}" if row.arm else row.kind for row in off[:3])
        return Check("nothing_lost", "block", float(len(off)), 0.0, None, f"Events do not add up for {where}. Run presslab doctor.")
    late = f"; {pending:,} not loaded yet" if pending else ""
    says = f"Nothing was lost: {count(received, 'event')} received, all accounted for{late}."
    return Check("nothing_lost", "warn" if pending else "ok", 0.0, 0.0, None, says)


def fallback(exposures: Mapping[str, int], fallen: Mapping[str, int]) -> Check:
    """Check that the arms fell back on the ladder, or came too late, about equally often (gate G6).

    Below 100 exposures in an arm the gate only warns.

    Parameters
    ----------
    exposures : per arm (count).
    fallen : exposures per arm that were filled by the ladder or left as in the status quo because of a fault.
    """
    rates = {arm: fallen.get(arm, 0) / n for arm, n in exposures.items() if n}
    if len(rates) < 2:
        return Check("fallbacks", "ok", None, FALLBACK_BLOCK, None, "No arm has fallen back: fewer than two arms were shown.")
    worst, best = max(rates, key=lambda arm: (rates[arm], arm)), min(rates.values())
    gap = rates[worst] - best
    enough = min(n for n in exposures.values() if n) >= FALLBACK_LEAST
    state: State = "ok" if gap < FALLBACK_WARN else "block" if gap >= FALLBACK_BLOCK and enough else "warn"
    says = f"{name(worst)} was replaced on {percent(rates[worst])} of its pages, another arm on {percent(best)}."
    says = says if rates[worst] else "No arm was replaced on any of its pages."
    return Check("fallbacks", state, gap, FALLBACK_BLOCK, None, says[0].upper() + says[1:])


def ran_long_enough(*, days: float, planned_days: float, minimum_days: float, running: bool) -> Check:
    """Say how long the test ran; it never blocks, because a short test is unready rather than wrong."""
    done = days >= planned_days
    whole_weeks = abs(days / 7 - round(days / 7)) < 1e-9
    if done:
        weeks = "" if whole_weeks else " These are not whole weeks, so weekdays do not count equally."
        says = f"Ran {in_words(days)}; {planned_days:g} were planned.{weeks}"
    elif running:
        says = f"{days:.3g} of {planned_days:g} planned days are over."
    else:
        says = f"Stopped after {days:.3g} of {planned_days:g} days, so the measured effect may be too large."
    return Check("ran_long_enough", "ok" if done else "warn", days, planned_days if running else minimum_days, None, says)


def before(p_values: Mapping[str, float], *, running: bool = False) -> Check:
    """Check that the arms' readers did not differ before they saw anything.

    Parameters
    ----------
    p_values : of every comparison of what was measured before the first exposure, by words; the smallest counts, times
        how many there are.
    running : the test is not over; p-values may be looked at daily, and there are none before a hundred readers an arm.
    """
    if not p_values:
        says = "Too few readers so far, or nothing is known of them before" if running else "Nothing is known about readers before"
        return Check("before", "ok", None, BEFORE_BLOCK, None, f"{says} their first exposure.")
    what, smallest = min(p_values.items(), key=lambda item: (item[1], item[0]))
    p = min(1.0, smallest * len(p_values))
    if p >= BEFORE_BLOCK:
        return Check("before", "ok", p, BEFORE_BLOCK, p, "Before their first exposure the readers of all arms were alike.")
    says = f"The arms already differed before anything was shown: {what}. Chance does that once in {1 / max(p, 1e-12):,.0f} tests."
    return Check("before", "block", p, BEFORE_BLOCK, p, says)


def heavy_reader(shift: float, se: float) -> Check:
    """Say how far the single most active reader moves the result, in standard errors of it."""
    figure = shift / se if se > 0 else 0.0
    says = f"Leaving out any one reader moves the result by at most {percent(figure)} of its uncertainty."
    return Check("heavy_reader", "warn" if figure > HEAVY_WARN else "ok", figure, HEAVY_WARN, None, says)
