from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.bayes import Prior, measured
from analysis.belief import believed, finished_effects
from analysis.fat_tails import CONFLICT, fat_tailed
from analysis.verdict import Candidate, Progress, decide
from experiments.experiment import Arm
from tests.analysis.tables import ARMS, plan
from tests.analysis.test_report import report, world

SURE = {"status_quo": 1e-6, "front": 1e-6, "als": 1e-6}


def rules(candidates):
    return decide(candidates, control="status_quo", failed=[], progress=Progress(14, 14, ended=True))


def test_a_report_says_how_likely_every_arm_is_best():
    found = report(world(front=1.4, als=1.9)).to_dict()["belief"]
    assert max(found["p_best"], key=found["p_best"].get) == "als"
    assert sum(found["p_best"].values()) == pytest.approx(1.0, abs=1e-3)
    assert set(found["p_best"]) == {"status_quo", "front", "als"}


def test_before_the_planned_end_no_belief_is_told():
    early = report(world(front=1.4), days=3.0, state="running")
    assert early.to_dict()["belief"] is None


def test_what_a_test_measured_of_interest_and_learning_by_hand():
    """Log ratios 0.2 and 0.5 against the status quo; their variances add up: 1 + 2 and 2 + 4."""
    values = {"status_quo": 1.0, "front": float(np.exp(0.2)), "als": float(np.exp(0.5))}
    found = measured(ARMS, "status_quo", values, log_variances={"status_quo": 1.0, "front": 2.0, "als": 4.0})
    assert found is not None
    effects = finished_effects(found)
    assert effects["interest"] == pytest.approx((0.2, 3.0))
    assert effects["learning"] == pytest.approx((0.3, 6.0))
    second = (Arm("front", "heuristic", 0.5), Arm("als", "model", 0.5))
    against = measured(second, "front", {"front": 1.0, "als": 2.0}, log_variances={"front": 1.0, "als": 1.0})
    assert against is not None
    assert list(finished_effects(against)) == ["learning"]


def two_arms(effect: float, spread: float):
    arms = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5))
    found = measured(arms, "status_quo", {"status_quo": 1.0, "front": float(np.exp(effect))},
                     log_variances={"status_quo": spread**2 / 2, "front": spread**2 / 2})  # fmt: skip
    assert found is not None
    return plan(arms), found


def hanging(effect: float, *, cost: float, believed_as=None):
    """The belief of a test of one arm with an uncertain large effect that has to earn ``cost`` (as a relative change)."""
    experiment, found = two_arms(effect, 0.06)
    posterior = believed_as or found.given(Prior())[0]
    base = report(world(front=1.4, als=1.4)).roi
    assert base is not None
    unit = base.stakes
    price = cost * unit.views_per_day * unit.effective_days * unit.value[1]
    stakes = replace(unit, build={"status_quo": 0.0, "front": price}, per_day={"status_quo": 0.0, "front": 0.0})
    candidate = Candidate("front", "heuristic", superior=True, worth=1.0)
    return believed(experiment, posterior, Prior(), candidates=[candidate], roi=replace(base, stakes=stakes), decide=rules)


def test_a_line_appears_only_where_fat_tails_change_the_advice():
    """Measured +0.35 ± 0.06: the normal prior of 0.05 pulls it to +15 %, fat tails leave +30 %; it must earn 5 %, 22 %, 60 %."""
    sure, hangs, never = (hanging(0.35, cost=cost) for cost in (0.05, 0.22, 0.6))
    assert (sure.says, sure.otherwise, never.says) == ("", None, "")
    assert (hangs.otherwise.key, hangs.otherwise.arm) == ("ship", "front")
    assert hangs.says == "This hangs on how rare large effects are: were they more common, the advice would be to ship front."


def test_where_effects_are_larger_than_the_prior_held_possible_the_line_names_the_other_side():
    """Measured +0.35 ± 0.06 and believed with fat tails: +30 % earns 22 %; the normal prior's +15 % would not."""
    _, found = two_arms(0.35, 0.06)
    assert found.foretold(Prior()) < CONFLICT
    hangs = hanging(0.35, cost=0.22, believed_as=fat_tailed(found, Prior()).normal())
    assert (hangs.shape, hangs.foretold) == ("fat_tailed", found.foretold(Prior()))
    assert (hangs.otherwise.key, hangs.otherwise.arm) == ("keep", "status_quo")
    assert hangs.says == "This hangs on how rare large effects are: were they rarer, the advice would be to keep status quo."


def test_a_rule_that_changed_nothing_is_not_sure_to_earn_money_because_the_model_did():
    found = report(world(seed=3, als=1.5)).to_dict()
    money = {scenario["arm"]: scenario["p_positive"] for scenario in found["roi"]["scenarios"]}
    assert found["belief"]["shape"] == "fat_tailed"
    assert money["als"] > 0.99
    assert money["front"] < 0.9


def test_nothing_is_said_where_nothing_was_measured():
    experiment, _ = two_arms(0.1, 0.01)
    assert believed(experiment, None, Prior(), candidates=[], roi=None, decide=rules) is None
