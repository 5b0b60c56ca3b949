"""The report: plan, counts, trust, effects, money and verdict in one frozen value with one JSON shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis import shape, shape_beside
from analysis.bayes import Prior
from analysis.belief import Belief, believed
from analysis.candidates import candidates_of, money_of, with_reasons, worth_of
from analysis.checks import Check, Counted
from analysis.comparison import Comparisons, compare_all, pairs_of
from analysis.diversity import Diversity, diversity
from analysis.looks import Taken, plan_of, take
from analysis.moments import Totals
from analysis.novelty import late_belief
from analysis.observed import Observed
from analysis.own.effects import records, written
from analysis.own.price import at_cost
from analysis.roi import Roi, next_step
from analysis.saving import as_html, save
from analysis.segments import Segment, look_at
from analysis.sentences import describe, of_looks, tell
from analysis.stakes import reach_of
from analysis.trust import evidence, failed, trust
from analysis.verdict import EARLY, MOST_REASONS, Progress, Verdict, decide
from experiments.experiment import Experiment, Phase, utc

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Report", "build_report"]


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """Everything one look at an experiment says; :meth:`to_dict` is what pages, files and scripts read."""

    experiment: Experiment
    totals: Totals
    checks: tuple[Check, ...]
    compared: Comparisons
    roi: Roi | None
    roi_reason: str
    verdict: Verdict
    sentences: tuple[str, ...]
    progress: Progress
    start: datetime
    until: datetime
    state: str
    snapshot: str
    prior: Prior
    taken: tuple[Taken, ...] = ()
    evidence: Mapping[str, float] = field(default_factory=dict)
    segments: tuple[Segment, ...] = ()
    belief: Belief | None = None
    diversity: Diversity | None = None
    priced: Comparisons | None = None

    @property
    def shown(self) -> bool:
        """Whether effects may be shown: only from the planned end (or the stop) on."""
        return self.progress.ended

    def look(self) -> tuple[Taken, ...]:
        """Return the looks that may be taken at the goal now, one per comparison at most; whoever shows them must store them."""
        plan, found = plan_of(self.experiment, len(pairs_of(self.experiment))), []
        for effect in self.compared.effects:
            if effect.role == "goal" and not failed(self.checks):
                pair = (effect.arm, effect.against)
                sides = tuple(self.compared.values[effect.metric.name, arm] for arm in pair)
                seen = [look for look in self.taken if (look.arm, look.against) == pair]
                found.append(take(plan, effect.contrast, sides, pair=pair, day=self.progress.days, taken=seen))  # type: ignore[arg-type]
        return tuple(look for look in found if look is not None)

    @property
    def exit_status(self) -> int:
        """0 ready to decide, 3 not yet, 4 not trustworthy (``presslab experiment report --gate``)."""
        return {"do_not_use": 4, "wait": 3}.get(self.verdict.key, 0)

    def __repr__(self) -> str:
        """The verdict, what is not in order, the goal's changes and the next step, a line each."""
        wrong = [check.says for check in self.checks if check.state != "ok"]
        goal = [describe(e) for e in self.compared.effects if e.role == "goal"] if self.shown else []
        after = next_step(self.roi, trusted=not failed(self.checks)) if self.roi else self.roi_reason
        hangs = [self.belief.says] if self.belief and self.belief.says else []
        return "\n".join([self.verdict.sentence, *(wrong or ["Every trust check is in order."]), *goal, *hangs, after])

    def to_markdown(self) -> str:
        """Return the verdict, the trust checks and, from the planned end on, a table of effects, rounded for reading."""
        return written(self.verdict, self.checks, self.compared.effects if self.shown else ())

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def _repr_html_(self) -> str:
        return as_html(self.to_markdown(), self.compared.effects if self.shown else ())

    def to_frame(self) -> pd.DataFrame:
        """Return one row per effect in full precision; before the planned end there is none."""
        import pandas as pd

        return pd.DataFrame(records(self.compared.effects if self.shown else ()))

    def save(self, path: Path | str) -> None:
        """Write the report; the suffix says how: ``.html`` (one file), ``.md`` or ``.json`` (everything)."""
        save(self, Path(path))

    def price(self, *, value_per_view: float, cost: Mapping[str, float] | None = None, seed: int = 1) -> Roi | None:
        """Return what the arms are worth at another value of a view and other building costs; None before the planned end.

        Parameters
        ----------
        value_per_view : margin of one article view, in the experiment's currency.
        cost : arm -> what it still costs to build; arms not named keep theirs, names of no arm are refused.
        """
        arms = at_cost(self.experiment.arms, cost or {})
        plan = replace(self.experiment, value_per_view=value_per_view, arms=arms)
        return money_of(plan, self.priced or self.compared, self.progress, _views(self.totals, None), seed=seed)[0] if self.shown else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; what cannot be estimated is None beside a status and a reason, never NaN."""
        plan = self.experiment
        return {
            "experiment": plan.name,
            "control": plan.control,
            "level": plan.level,
            "snapshot": self.snapshot,
            "question": plan.question,
            "owner": plan.owner,
            "state": self.state,
            "goal": plan.goal,
            "dates": {
                "start": self.start.isoformat(),
                "until": self.until.isoformat(),
                "planned_end": (self.start + timedelta(days=plan.planned_days)).isoformat(),
                "days": self.progress.days,
                "planned_days": plan.planned_days,
            },
            "audience": plan.audience,
            "signals": "shared",
            "prior": {"interest": self.prior.interest, "learning": self.prior.learning, "tests": list(self.prior.tests)},
            "belief": self.belief.to_dict() if self.belief else None,
            "sentences": list(self.sentences),
            "verdict": shape.of_verdict(self.verdict),
            "checks": [shape.of_check(check) for check in self.checks],
            "arms": shape.of_arms(plan, self.totals),
            "effects": [shape.of_effect(effect, shown=self.shown) for effect in self.compared.effects],
            "segments": [shape_beside.of_segment(segment, shown=self.shown) for segment in self.segments],
            "diversity": shape_beside.of_diversity(self.diversity, level=plan.level) if self.diversity else None,
            "caps": dict(self.totals.caps),
            "looks": [look.to_dict() for look in self.taken],
            "evidence": dict(self.evidence),
            "dropped_phases": list(self.compared.dropped),
            "roi": shape.of_roi(self.roi, next_step(self.roi, trusted=not failed(self.checks))) if self.roi else None,
            "roi_reason": self.roi_reason,
        }


def build_report(
    experiment: Experiment,
    totals: Totals,
    balance: Sequence[Counted],
    *,
    start: datetime,
    until: datetime,
    state: str,
    snapshot: str,
    views_per_day: float | None = None,
    phases: Sequence[Phase] = (),
    prior: Prior = Prior(),
    taken: Sequence[Taken] = (),
    observed: Observed = Observed(),
    seed: int = 1,
) -> Report:
    """Return the report of one look at an experiment.

    Parameters
    ----------
    experiment : the plan in force.
    totals : moments and counts up to ``until`` (:func:`analysis.totals.totals`).
    balance : the event balance, one row per kind and arm.
    start, until : beginning of the test and data cut, aware UTC times.
    state : of the experiment: ``running``, ``stopped``, ``decided``, ``draft``.
    snapshot : names the data cut (``snapshot_seq``).
    views_per_day : article views of the site that the decision bears on; by default those counted.
    phases : allocations in force, when shares changed while running.
    prior : of the goal's effects.
    taken : looks at the goal shown so far.
    observed : what the trust checks know beside the totals.
    seed : of the draws behind the money.

    Notes
    -----
    Pure: the same arguments give the same bytes, in whatever order rows arrived.
    """
    progress = _progress(experiment, utc(start), until=utc(until), state=state, phases=phases)
    compared = compare_all(experiment, totals, prior=prior, taken=taken, day=progress.days)
    checks = trust(experiment, totals, balance, compared=compared, progress=progress, phases=phases, observed=observed)
    priced = replace(compared, belief=late_belief(experiment, observed.halves, prior=prior) or compared.belief)
    views = _views(totals, views_per_day)
    roi, reason = money_of(experiment, priced, progress, views, seed=seed) if progress.ended else (None, shape.EARLY)
    worths = worth_of(experiment, priced, roi, audience_share=totals.audience_share)
    candidates = candidates_of(experiment, compared, roi, worths=worths, early=not progress.ended, unpriced=reason)
    roi = roi and with_reasons(roi, candidates)
    rules = partial(decide, control=experiment.control, failed=failed(checks), progress=progress)
    verdict = rules(candidates)
    reach = reach_of(experiment, totals.audience_share)
    belief = (
        believed(experiment, priced.belief, prior, candidates=candidates, roi=roi, decide=rules, reach=reach) if progress.ended else None
    )
    if verdict.key == "wait" and taken:
        verdict = replace(verdict, reasons=(*of_looks(experiment, taken), *(r for r in verdict.reasons if r != EARLY))[:MOST_REASONS])
    shown = compared if progress.ended else None
    sentences = tell(experiment, verdict, compared=shown, roi=roi, next_step=next_step(roi) if roi else "")
    return Report(
        experiment, totals, checks, compared, roi, reason, verdict, sentences, progress, utc(start), utc(until), state, snapshot, prior,
        tuple(sorted(taken, key=lambda look: (look.day, look.arm, look.against))), evidence(experiment, totals, phases, observed),
        look_at(experiment, totals), belief, _diversity(experiment, totals, observed) if progress.ended else None, priced,
    )  # fmt: skip


def _views(totals: Totals, views_per_day: float | None) -> tuple[float, float]:
    """Article views of the site a day, and the share of them that the plan's audience opened."""
    return float(totals.counts.views_per_day) if views_per_day is None else views_per_day, totals.audience_share


def _diversity(experiment: Experiment, totals: Totals, observed: Observed) -> Diversity | None:
    if observed.articles is None:
        return None
    readers, phases = {arm: totals.readers().get(arm, 0) for arm in experiment.shares}, {phase for _, phase in totals.moments}
    return diversity(observed.articles, readers, pairs_of(experiment), level=experiment.level, phases=len(phases))


def _progress(experiment: Experiment, start: datetime, *, until: datetime, state: str, phases: Sequence[Phase]) -> Progress:
    days = max(0.0, (until - start) / timedelta(days=1))
    over = days >= experiment.planned_days or state not in ("draft", "running")
    halted = [arm for arm, share in phases[-1].shares if not share] if phases else []
    return Progress(days, experiment.planned_days, ended=over, long_enough=days >= experiment.minimum_days, halted=halted)
