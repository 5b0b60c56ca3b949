"""What the demo compares, and what it says the pieces cost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from experiments.experiment import Arm, Experiment
from fixtures.worlds import World

__all__ = ["Plan", "first_experiment", "second_experiment", "served_shares"]

VALUE_PER_VIEW = 0.04  # EUR of margin; the demo's newspaper is small, and so are its euros


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for: see ``presslab demo --help``. ``world`` is empty when it is to be drawn; ``now`` is when the story ends."""

    home: Path
    now: datetime
    readers: int = 1_500
    days: int = 14
    seed: int = 1
    port: int = 8750
    world: str = ""
    leave: bool = False


def first_experiment(days: int) -> Experiment:
    """Status quo, heuristic, model: does recommending pay, and does the model add to the rule?"""
    return Experiment(
        "related",
        "Should we recommend under articles, and does a model do it better than a rule?",
        "status_quo",
        (
            Arm("status_quo", "status_quo", 1 / 3),
            Arm("front", "heuristic", 1 / 3, build=100.0, per_day=0.10),
            Arm("als", "model", 1 / 3, "agreed", build=600.0, per_day=1.00),
        ),
        guardrails={"dwell_per_view": 0.15},
        secondary=("bounce_rate", "click_through", "read_to_end"),
        window_days=1.0,
        planned_days=float(days),
        minimum_days=float(days),
        smallest_uplift=0.02,
        value_per_view=VALUE_PER_VIEW,
        salt="related-1",
        shadow=("ranked",),
    )


def second_experiment() -> Experiment:
    """The next question, started on the last day: does the two-stage ranker beat the rule?"""
    return Experiment(
        "related-ranked",
        "Does the two-stage ranker beat the rule?",
        "front",
        (Arm("front", "heuristic", 0.5, build=100.0, per_day=0.10), Arm("ranked", "model", 0.5, "agreed", build=900.0, per_day=1.50)),
        guardrails={"dwell_per_view": 0.15},
        secondary=("bounce_rate", "click_through"),
        window_days=1.0,
        value_per_view=VALUE_PER_VIEW,
        salt="related-2",
    )


def served_shares(experiment: Experiment, world: World) -> dict[str, dict[str, float]]:
    """Return the shares really served; they depart from the plan only in a world whose split is broken."""
    if world.share_fault == 1.0:
        return {}
    *others, last = experiment.arms
    return {experiment.name: {**{arm.name: arm.share / world.share_fault for arm in others}, last.name: last.share}}
