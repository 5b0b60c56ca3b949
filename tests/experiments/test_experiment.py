"""A plan is checked when it is built."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.errors import ExperimentError
from experiments.experiment import Arm, Experiment

ARMS = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5))


def plan(**changes: Any) -> Experiment:
    return Experiment(**{"name": "related", "question": "Does it pay?", "control": "status_quo", "arms": ARMS, **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"arms": (Arm("status_quo", "status_quo", 0.6), Arm("front", "heuristic", 0.5))}, "shares add up to 1.1, they must add up to 1."),
        ({"control": "frnt"}, "control 'frnt' is not one of the arms: status_quo, front."),
        ({"arms": ARMS[:1]}, "at least two arms"),
        ({"arms": (*ARMS, ARMS[0])}, "named twice"),
        ({"name": "a b"}, "letters, digits"),
        ({"planned_days": 7.0}, "planned_days 7 is below minimum_days 14"),
        ({"level": 1.0}, "level must lie"),
        ({"window_days": 40.0}, "window_days must be positive"),
        ({"guardrails": {"bounce_rate": -1.0}}, "guardrails: every margin must be above 0"),
    ],
)
def test_a_plan_that_cannot_run_is_refused_in_words(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ExperimentError) as refused:
        plan(**changes)
    assert says in str(refused.value)


def test_all_faults_of_a_plan_are_listed_at_once() -> None:
    with pytest.raises(ExperimentError) as refused:
        plan(control="x", level=2.0)
    assert len(refused.value.faults) == 2


def test_a_plan_survives_json_unchanged() -> None:
    one = plan(guardrails={"bounce_rate": 0.02}, shadow=("ranked",))
    assert Experiment.from_dict(one.to_dict()) == one


def test_an_unknown_key_is_named_with_the_known_ones() -> None:
    with pytest.raises(ExperimentError, match="unknown key goaal"):
        Experiment.from_dict({**plan().to_dict(), "goaal": "x"})


def test_an_arm_with_an_unknown_key_is_refused() -> None:
    with pytest.raises(ExperimentError, match="unknown key weight"):
        Experiment.from_dict({**plan().to_dict(), "arms": [{"name": "a", "kind": "model", "weight": 1}]})


def test_one_arm_for_agreed_readers_makes_it_an_experiment_for_agreed_readers() -> None:
    assert plan().audience == "all"
    assert plan(arms=(ARMS[0], Arm("als", "model", 0.5, "agreed"))).audience == "agreed"
