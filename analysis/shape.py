"""The JSON shape of a report (DESIGN 8). Scripts rely on it: keys may be added, none may go."""

from __future__ import annotations

from typing import Any

from analysis.adjustment import Adjusted
from analysis.bayes import Shrunken
from analysis.checks import Check
from analysis.comparison import Anytime, Effect
from analysis.effect import Contrast
from analysis.moments import Totals
from analysis.roi import Roi, Scenario
from analysis.sentences import describe
from analysis.shape_beside import EARLY, absolute, number, of_beside, relative
from analysis.verdict import Verdict
from experiments.experiment import Experiment

__all__ = ["EARLY", "number", "of_arms", "of_check", "of_effect", "of_roi", "of_verdict"]


def of_verdict(verdict: Verdict) -> dict[str, Any]:
    return {"key": verdict.key, "arm": verdict.arm, "sentence": verdict.sentence, "reasons": list(verdict.reasons)}


def of_check(check: Check) -> dict[str, Any]:
    return {
        "name": check.name,
        "state": check.state,
        "figure": number(check.figure),
        "threshold": number(check.threshold),
        "p": number(check.p),
        "says": check.says,
    }


def of_arms(experiment: Experiment, totals: Totals) -> list[dict[str, Any]]:
    """Return one entry per arm of the plan: readers exposed and matured, planned and seen share, exposures, faults."""
    counts, matured = totals.counts, totals.readers()
    exposed = sum(int(counts.exposed.get(arm, 0)) for arm in experiment.shares)
    return [
        {
            "name": arm.name,
            "kind": arm.kind,
            "readers": int(counts.exposed.get(arm.name, 0)),
            "share": int(counts.exposed.get(arm.name, 0)) / exposed if exposed else None,
            "planned_share": arm.share,
            "audience": arm.audience,
            "matured": matured.get(arm.name, 0),
            "exposures": int(counts.exposures.get(arm.name, 0)),
            "fallbacks": int(counts.fallbacks.get(arm.name, 0)),
            "degraded": int(counts.degraded.get(arm.name, 0)),
            "build": arm.build,
            "per_day": arm.per_day,
        }
        for arm in experiment.arms
    ]


def of_effect(effect: Effect, *, shown: bool) -> dict[str, Any]:
    """Return one comparison; before the planned end only counts and ranges that are safe to look at."""
    contrast = effect.contrast
    if not shown:
        contrast = Contrast(contrast.n, (None, None), status="insufficient", reason=EARLY)
    sides = (effect.arm, effect.against)
    return {
        "metric": effect.metric.name,
        "role": effect.role,
        "arm": effect.arm,
        "against": effect.against,
        "method": effect.method,
        "says": describe(effect) if shown else f"{effect.metric.says}: not yet, {EARLY}.",
        "direction": effect.metric.direction,
        "unit": effect.metric.unit,
        "n": dict(zip(sides, contrast.n, strict=True)),
        "values": dict(zip(sides, map(number, contrast.values), strict=True)),
        "absolute": absolute(contrast),
        "relative": relative(contrast),
        "family": _family(effect) if shown else None,
        "anytime": _anytime(effect.anytime),
        "adjusted": _adjusted(effect.adjusted) if shown else None,
        "q": number(effect.q) if shown else None,
        "adjusted_reason": _adjusted_reason(effect, shown=shown),
        "posterior": _posterior(effect.shrunken) if shown else None,
        "margin": effect.margin,
        "margin_unit": effect.metric.unit if effect.metric.quantile is not None else "",
        "beside": of_beside(effect.beside, sides) if shown else None,
        "status": contrast.status,
        "reason": contrast.reason,
    }


def _anytime(found: Anytime | None) -> dict[str, Any]:
    names = ("low", "high", "p", "difference_low", "difference_high")
    return {name: getattr(found, name) if found else None for name in names}


def _adjusted(found: Adjusted | None) -> dict[str, Any] | None:
    """The difference in the metric's unit; unlike the unadjusted one it leaves out what readers did before."""
    absolute = found.contrast.absolute if found and found.contrast else None
    if found is None or found.contrast is None or absolute is None:
        return None
    return {
        "estimate": absolute.estimate,
        "se": absolute.se,
        "low": absolute.low,
        "high": absolute.high,
        "p": absolute.p,
        "variance_removed": found.variance_removed,
        "relative": relative(found.contrast),
        "covariates": list(found.used),
        "dropped": dict(found.dropped),
    }


def _adjusted_reason(effect: Effect, *, shown: bool) -> str:
    if not shown:
        return EARLY
    if effect.adjusted is not None:
        return effect.adjusted.reason
    return "no covariate is known" if effect.role == "goal" else "only the goal is adjusted"


def _family(effect: Effect) -> dict[str, Any] | None:
    family = effect.family
    return {"level": family.level, "low": family.low, "high": family.high} if family else None


def _posterior(found: Shrunken | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"mean": found.mean, "low": found.low, "high": found.high, "p_better": found.p_better, "expected_loss": found.expected_loss}


def of_roi(roi: Roi, next_step: str) -> dict[str, Any]:
    """Return the money part; amounts in the plan's currency over its horizon."""
    low, middle, high = roi.stakes.value
    return {
        "currency": roi.currency,
        "horizon_days": roi.horizon_days,
        "control": roi.control,
        "views_per_day": roi.stakes.views_per_day,
        "bears_on": list(roi.stakes.bears_on),
        "value_per_view": {"low": low, "middle": middle, "high": high},
        "scenarios": [_scenario(scenario, roi) for scenario in roi.scenarios],
        "evpi": roi.evpi,
        "unknowns": [{"name": u.name, "evppi": u.evppi, "share_of_variance": dict(u.share_of_variance)} for u in roi.unknowns],
        "studies": [{"name": s.name, "days": s.days, "evsi": s.evsi, "cost": s.cost, "enbs": s.enbs} for s in roi.studies],
        "ruled_out": list(roi.ruled_out),
        "unpriced": dict(roi.unpriced),
        "least_net": roi.least_net,
        "next": next_step,
    }


def _scenario(scenario: Scenario, roi: Roi) -> dict[str, Any]:
    return {
        "arm": scenario.arm,
        "expected": scenario.expected,
        "low": scenario.low,
        "high": scenario.high,
        "p_positive": scenario.p_positive,
        "p_best": scenario.p_best,
        "regret": scenario.regret,
        "loss_if_wrong": scenario.loss_if_wrong,
        "cost": scenario.cost,
        "build": roi.stakes.build[scenario.arm],
        "per_day": roi.stakes.per_day[scenario.arm],
        "views_per_day": roi.stakes.views_of(scenario.arm),
        "quantiles": list(scenario.quantiles),
    }
