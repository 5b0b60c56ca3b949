"""What a report says of its belief: which arm is best, and whether another shape of the prior would change the advice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from analysis.bayes import Measured, Posterior, Prior, Shape
from analysis.fat_tails import fat_tailed
from analysis.roi import Roi, expected_worth
from analysis.verdict import Candidate, Verdict
from analysis.words import name
from experiments.experiment import Experiment
from experiments.metric import metric

__all__ = ["Belief", "believed", "finished_effects"]

Decide = Callable[[Sequence[Candidate]], Verdict]
ADVICE = {"ship": "ship", "keep": "keep", "equal": "take"}
OTHER = {"normal": "more common", "fat_tailed": "rarer"}  # shape of the prior -> large effects under the other one


@dataclass(frozen=True, slots=True)
class Belief:
    """What to believe after the test, beside the ranges.

    Parameters
    ----------
    p_best : arm -> chance that no other arm is better for the goal, whatever it costs.
    shape : of the prior behind it, ``normal`` or ``fat_tailed``. foretold : chance that the normal prior gave such effects.
    otherwise : the advice under the prior's other shape, where it differs; says tells it in words.
    measured : ``interest`` and ``learning`` -> (log ratio, its variance), for the prior of later tests.
    """

    p_best: Mapping[str, float]
    shape: Shape = "normal"
    foretold: float = 1.0
    otherwise: Verdict | None = None
    says: str = ""
    measured: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        other = {"key": self.otherwise.key, "arm": self.otherwise.arm} if self.otherwise else None
        measured = {key: {"log_ratio": ratio, "variance": variance} for key, (ratio, variance) in self.measured.items()}
        told = {"p_best": dict(self.p_best), "shape": self.shape, "foretold": self.foretold}
        return {**told, "otherwise": other, "says": self.says, "measured": measured}


def believed(
    experiment: Experiment,
    posterior: Posterior | None,
    prior: Prior,
    *,
    candidates: Sequence[Candidate],
    roi: Roi | None,
    decide: Decide,
    reach: Mapping[str, float] | None = None,
) -> Belief | None:
    """Return what is believed, or None where nothing was measured.

    Parameters
    ----------
    posterior : of the goal, under ``prior``.
    candidates : as the verdict saw them; only what they are worth is believed otherwise.
    decide : the rules of the verdict.
    reach : arm -> share of all views at which it brings its change, 0 to 1; all of them where not named.

    References
    ----------
    STATISTICS 9: Student's t with 3 degrees of freedom as a sensitivity.
    """
    if posterior is None or posterior.measured is None:
        return None
    better = metric(experiment.goal).direction
    seen = posterior.measured
    found = Belief(posterior.p_best(better=better), posterior.shape, seen.foretold(prior), measured=finished_effects(seen))
    if any(candidate.worth is not None for candidate in candidates):
        another = fat_tailed(seen, prior) if posterior.shape == "normal" else seen.given(prior)[0]
        now, then = (decide(_worth_under(shape, experiment, candidates, roi=roi, reach=reach or {})) for shape in (posterior, another))
        if (now.key, now.arm) != (then.key, then.arm) and then.key in ADVICE:
            advice = f"{ADVICE[then.key]} {name(then.arm or '')}"
            says = f"This hangs on how rare large effects are: were they {OTHER[posterior.shape]}, the advice would be to {advice}."
            return replace(found, otherwise=then, says=says)
    return found


def _worth_under(
    shape: Any, experiment: Experiment, candidates: Sequence[Candidate], *, roi: Roi | None, reach: Mapping[str, float]
) -> list[Candidate]:
    """The candidates with what they are worth under one shape of the belief; both shapes by the same formula."""
    direction, found = metric(experiment.goal).direction, []
    for candidate in candidates:
        worth = candidate.worth
        if worth is not None:
            mean = shape.shrunken(candidate.arm, experiment.control, level=experiment.level, better=direction).mean
            plain = reach.get(candidate.arm, 1.0) * (mean if direction == "up" else -mean)
            worth = expected_worth(roi.stakes, candidate.arm, roi.control, change=mean) if roi else plain
        found.append(replace(candidate, worth=worth))
    return found


def finished_effects(found: Measured) -> dict[str, tuple[float, float]]:
    """Return what a test measured of the two things the prior is about: (log ratio, its sampling variance) of each.

    ``interest`` is the first heuristic against the status quo, ``learning`` the first model against the first heuristic.
    """
    first = {kind: next((arm.name for arm in found.known if arm.kind == kind), None) for kind in ("status_quo", "heuristic", "model")}
    others = [arm.name for arm in found.known if arm.name != found.control]
    effects = {}
    for key, arm, against in (("interest", first["heuristic"], first["status_quo"]), ("learning", first["model"], first["heuristic"])):
        if arm is not None and against is not None:
            weight = np.array([float(other == arm) - float(other == against) for other in others])
            effects[key] = (float(weight @ found.logs), float(weight @ found.sampling @ weight))
    return effects
