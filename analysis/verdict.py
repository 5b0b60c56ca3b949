"""The decision: one pure function with a truth table, and the sentence people read first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from analysis.words import days, name, percent
from experiments.experiment import Kind

__all__ = ["EARLY", "LEAST_SHARE", "MOST_REASONS", "UNPRICED", "Candidate", "Guardrail", "Key", "Progress", "Verdict", "decide"]

Key = Literal["ship", "keep", "wait", "equal", "do_not_use"]
Guardrail = Literal["holds", "unclear", "worse", "broke"]
LEAST_SHARE = 0.10  # below it an arm is for guardrails, not for verdicts (STATISTICS 3)
MOST_REASONS = 4
UNPRICED = "nobody has stated what an article view is worth"
HALTED = "was taken from all its readers while the test ran"
EARLY = "Effects are shown once, at the planned end, so that looking early cannot mislead."


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is known about one arm against the control.

    Parameters
    ----------
    superior : the whole range of the goal, wide enough for all comparisons together, is an improvement.
    alone : the range of this comparison by itself is an improvement.
    harmful : the whole range of the goal is a harm.
    within : the whole range of the goal lies inside the limit of "no practical difference".
    guardrails : metric -> ``holds`` (no harm beyond the margin), ``unclear`` (cannot be excluded yet), ``worse`` (some
        harm is certain, within the margin), ``broke`` (harm is certain and beyond the margin cannot be excluded).
    worth : expected net benefit beyond the control, or None when it has no price; ``unpriced`` says why.
    cost : over the horizon, beyond the control.
    earns : chance that it earns money, 0 to 1, or None when nobody has stated what a view is worth.
    unknown : why the goal has no number, empty when it has one.
    unpriced : why an improvement has no price, where it has none.
    halted : it was taken from all its readers while the test ran.
    """

    arm: str
    kind: Kind
    share: float = 0.5
    superior: bool = False
    alone: bool = False
    harmful: bool = False
    within: bool = False
    guardrails: Mapping[str, Guardrail] = field(default_factory=dict)
    worth: float | None = None
    cost: float = 0.0
    earns: float | None = None
    unknown: str = ""
    unpriced: str = UNPRICED
    halted: bool = False

    @property
    def unharmed(self) -> bool:
        """No deterioration, every guardrail is shown to hold, and nobody had to take it from its readers."""
        return not self.halted and not self.harmful and all(state == "holds" for state in self.guardrails.values())

    @property
    def eligible(self) -> bool:
        """STATISTICS 5: superior on the goal, every guardrail holds, no deterioration, enough readers."""
        return self.superior and self.unharmed and self.share >= LEAST_SHARE

    @property
    def broken(self) -> tuple[str, ...]:
        return tuple(metric for metric, state in self.guardrails.items() if state == "broke")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the test is, in days. ``long_enough``: no shorter than the shortest length the plan accepts.

    ``halted`` : arms that were taken from all their readers while it ran, by a guardrail or a person.
    """

    days: float
    planned_days: float
    ended: bool
    long_enough: bool = True
    halted: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision, the arm it names, its sentence, and at most four rules that fired.

    ``about`` : the arm whose figures the sentence speaks of, if it is of one other than the control.
    """

    key: Key
    arm: str | None
    sentence: str
    reasons: tuple[str, ...] = ()
    about: str | None = None


def decide(
    candidates: Sequence[Candidate], *, control: str, failed: Sequence[str], progress: Progress, control_cost: float = 0.0
) -> Verdict:
    """Return the verdict; the first rule that matches wins (SCREENS 3).

    1. a trust check fails: ``do_not_use``; 2. the planned end is not reached: ``wait``, or ``keep`` when every arm breaks
    a guardrail (guardrails may be looked at early) or was halted; 3. an arm is eligible, earns
    more than the control and than any other eligible arm: ``ship``; 4. every range lies inside the limit of no practical difference: ``equal``, take the
    cheapest that hurts nothing and had readers enough; 5. else
    ``keep`` the control. A broken guardrail takes an arm out of rule 3, and ends in ``keep`` if no other arm ships; so does a halt.

    Parameters
    ----------
    candidates : every arm but the control.
    failed : the trust checks that block, in words.
    control_cost : what dropping to the control saves or costs over the horizon; normally 0.

    Examples
    --------
    >>> arm = Candidate("front", "heuristic", superior=True, guardrails={"bounce_rate": "holds"}, worth=100.0)
    >>> decide([arm], control="status_quo", failed=[], progress=Progress(14, 14, ended=True)).sentence
    'Ship front: it brings more than it costs and hurts nothing we guard.'
    """
    if failed:
        return Verdict("do_not_use", None, f"Do not use these numbers: {failed[0]}.", tuple(failed[:MOST_REASONS]))
    candidates = [replace(c, halted=c.arm in progress.halted) for c in candidates]
    if not progress.ended and not (candidates and all(c.broken or c.halted for c in candidates)):
        says = f"Keep running: {progress.days:.3g} of {progress.planned_days:g} planned days are over."
        return Verdict("wait", None, says, (EARLY, *(_why_not(c) for c in candidates if c.broken or c.halted))[:MOST_REASONS])
    chosen = _best(candidates) if progress.long_enough else None
    if chosen is not None:
        return Verdict("ship", chosen.arm, _ship_sentence(chosen), _ship_reasons(chosen, candidates), chosen.arm)
    if progress.long_enough and candidates and all(c.within and not c.broken for c in candidates):
        return _equal(candidates, control, control_cost)
    return _keep(candidates, control, progress)


def _best(candidates: Sequence[Candidate]) -> Candidate | None:
    earning = [c for c in candidates if c.eligible and c.worth is not None and c.worth > 0]
    return max(earning, key=lambda c: (c.worth or 0.0, c.kind == "heuristic", -c.cost, c.arm), default=None)


def _equal(candidates: Sequence[Candidate], control: str, control_cost: float) -> Verdict:
    free = [(i + 1, c) for i, c in enumerate(candidates) if c.unharmed and c.share >= LEAST_SHARE]
    cost, _, taken = min([(control_cost, 0, control), *((c.cost, i, c.arm) for i, c in free)])
    cheaper = [f"{_title(c.arm)} is cheaper, but {_held(c)}." for c in candidates if c.cost < cost]
    what = f"{name(taken)}, the cheapest that may be shipped" if cheaper else f"the cheapest, {name(taken)}"
    reasons = ("Every difference is smaller than the level called irrelevant.", *cheaper)
    return Verdict("equal", taken, f"No practical difference: take {what}.", reasons[:MOST_REASONS])


def _ship_sentence(chosen: Candidate) -> str:
    guarded = bool(chosen.guardrails)
    if chosen.earns is not None and chosen.earns < 0.5:  # a few very good outcomes carry the mean
        says = "on average it brings more than it costs, but in most outcomes it loses money."
        return f"Ship {name(chosen.arm)}: {says} {'It hurts nothing we guard.' if guarded else 'No guardrail was set.'}"
    return f"Ship {name(chosen.arm)}: it brings more than it costs{' and hurts nothing we guard' if guarded else '; no guardrail was set'}."


def _ship_reasons(chosen: Candidate, candidates: Sequence[Candidate]) -> tuple[str, ...]:
    others = [c for c in candidates if c is not chosen]
    reasons = [f"{_title(chosen.arm)} improves the goal and earns more than {_less(chosen, others)}."]
    if chosen.guardrails:
        reasons.append("No harm beyond the agreed limit on " + ", ".join(name(metric) for metric in chosen.guardrails) + ".")
    for other in others:
        judged = not (other.unknown or other.halted or other.broken) and other.worth is not None
        if other.kind == "model" and chosen.kind == "heuristic" and judged and (other.worth or 0.0) <= (chosen.worth or 0.0):
            reasons.append(f"Keep the heuristic: {name(other.arm)} does not beat {name(chosen.arm)} by more than it costs.")
        elif not other.eligible or other.worth is None:
            reasons.append(_why_not(other, than=chosen.worth or 0.0))
    return tuple(reasons[:MOST_REASONS])


def _less(chosen: Candidate, others: Sequence[Candidate]) -> str:
    """What is worth less than the arm that is shipped, as far as that is known."""
    worths = [other.worth for other in others if other.worth is not None]
    if not worths:
        return "it costs"
    if max(worths) > (chosen.worth or 0.0):
        return "the other arms that may be shipped"
    return "the other arms" if len(worths) == len(others) else "the other arms that have a price"


def _keep(candidates: Sequence[Candidate], control: str, progress: Progress) -> Verdict:
    reasons = (
        []
        if progress.long_enough or not progress.ended
        else [f"Stopped after {days(progress.days)}: too short for this plan to change anything."]
    )
    for candidate in candidates:
        reasons.append(_why_not(candidate))
    why, about = _why_keep(candidates, progress)
    return Verdict("keep", control, f"Keep {name(control)}: {why}.", tuple(reasons[:MOST_REASONS]), about.arm if about else None)


def _why_keep(candidates: Sequence[Candidate], progress: Progress) -> tuple[str, Candidate | None]:
    """Why nothing changes, and the arm this is about, if it is about one; of arms that do not pay that is the best."""
    broken = next((c for c in candidates if c.broken), None)
    eligible = max((c for c in candidates if c.eligible), key=lambda c: math.inf if c.worth is None else c.worth, default=None)
    halted = next((c for c in candidates if c.halted), None)
    held = next((c for c in candidates if c.superior and not c.eligible), None)
    gone = bool(candidates) and all(c.broken or c.halted for c in candidates)
    if progress.ended and not progress.long_enough and not gone:
        return "the test was stopped before it could tell", None
    if eligible is not None and eligible.worth is None:
        return f"{name(eligible.arm)} improves the goal, but {eligible.unpriced}", eligible
    if eligible is not None:
        return f"{name(eligible.arm)} does not earn what it costs", eligible
    if broken is not None:
        return f"{name(broken.arm)} {_hurts(broken.broken[:1])}", broken
    if halted is not None:
        return f"{name(halted.arm)} {HALTED}", halted
    if held is not None:
        return f"{name(held.arm)} improves the goal, but {_held(held)}", held
    if candidates and all(c.unknown for c in candidates):
        return "no other arm could be judged", None
    return "no other arm is shown to be better", None


def _why_not(candidate: Candidate, *, than: float = 0.0) -> str:
    """Why this arm may not be shipped; ``than`` is what the arm that is shipped instead is worth."""
    who = _title(candidate.arm)
    if candidate.broken:
        return f"{who} {_hurts(candidate.broken)}."
    if candidate.halted:
        return f"{who} {HALTED}; the record says why."
    if candidate.unknown:
        return f"{who} could not be judged: {candidate.unknown}."
    if candidate.harmful:
        return f"{who} makes the goal worse."
    if not candidate.superior:
        if candidate.alone:
            return f"{who} looks better by itself, but not where all comparisons and looks are judged together."
        if (candidate.worth or 0.0) > than > 0:
            return f"{who} would pay more on average, but chance alone may explain that."
        likely = (candidate.worth or 0.0) > 0
        return f"{who} would pay on average, but chance alone may explain that." if likely else f"{who} is not shown to improve the goal."
    if not candidate.eligible:
        return f"{who} improves the goal, but {_held(candidate)}."
    if candidate.worth is None:
        return f"{who} improves the goal, but costs cannot be weighed: {candidate.unpriced}."
    if candidate.worth <= 0:
        return f"{who} improves the goal, but costs more than it brings."
    return f"{who} looks better, but so short a test cannot tell."  # else it would be shipped


def _held(candidate: Candidate) -> str:
    """What keeps an arm from its readers although the goal does not: a halt, harm, or few readers."""
    if candidate.halted:
        return HALTED
    if candidate.broken:
        return _hurts(candidate.broken)
    some = {state: [name(m) for m, found in candidate.guardrails.items() if found == state] for state in ("worse", "unclear")}
    says = [f"hurts {', '.join(some['worse'])}, though within the agreed limit"] if some["worse"] else []
    says += [f"harm to {', '.join(some['unclear'])} cannot be excluded"] if some["unclear"] else []
    return ", and ".join(says) or f"had less than the {percent(LEAST_SHARE)} of readers that a decision needs"


def _hurts(metrics: Sequence[str]) -> str:
    return f"hurts {', '.join(map(name, metrics))}, and more harm than the agreed limit cannot be excluded"


def _title(arm: str) -> str:
    words = name(arm)
    return words[0].upper() + words[1:]
