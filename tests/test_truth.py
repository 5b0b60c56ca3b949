"""Do the ranges hold the truth? Readers of a known world are split, estimated, and compared with what is true for all of them.

``make calibrate`` runs 20 seeds of each world; the fast suite runs three.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import pytest

from analysis.comparison import compare_all
from analysis.moments import Moments, Totals
from experiments.assignment import allocation, assign, reader_key
from experiments.experiment import Arm, Experiment
from experiments.metric import metric
from fixtures.truth import Stage, live
from fixtures.worlds import world_called
from tests.fixtures.town import EXPERIMENT_DAYS, Town

GOAL = metric("views_per_session")
KEYS = (GOAL.numerator.key, GOAL.denominator.key)
ARMS = (Arm("status_quo", "status_quo", 1 / 3), Arm("front", "heuristic", 1 / 3), Arm("als", "model", 1 / 3, "agreed"))


class Outcome(NamedTuple):
    """Per arm against the status quo: does the range hold the truth; is any arm called better?"""

    held: dict[str, bool]
    win: bool


@cache
def outcome(world: str, seed: int) -> Outcome:
    """Split the readers of one world by the real assignment and analyse them as a report would."""
    town = Town(world_called(world), seed=seed)
    stage = Stage(town.library, town.visit, town.front, town.start, EXPERIMENT_DAYS, 1.0, town.history)
    plan = Experiment("truth", "?", "status_quo", ARMS, window_days=1.0, salt=f"seed {seed}")
    served = allocation(plan)
    totals = {arm.name: [0, 0] for arm in ARMS}
    rows: dict[str, list[tuple[int, int]]] = {arm.name: [] for arm in ARMS}
    for reader in (r for r in town.readers if r.measured and r.agrees):
        given = assign(served, reader_key(f"{seed}/{reader.key}"))
        assert given is not None
        for arm in ARMS:
            tally = live(reader, town.world, stage, arm=arm.name, seed=seed)
            if not tally.readers:
                continue
            totals[arm.name][0] += tally.views
            totals[arm.name][1] += tally.sessions
            if arm.name == given.arm:
                rows[arm.name].append((tally.views, tally.sessions))
    moments = {(arm, 0): Moments.from_rows(values, KEYS) for arm, values in rows.items()}
    compared = compare_all(plan, Totals(moments, None))
    true = {arm: views / sessions for arm, (views, sessions) in totals.items()}
    held, win = {}, False
    for arm in ("front", "als"):
        effect = compared.of(GOAL.name, arm, "status_quo")
        assert effect is not None
        assert effect.contrast.relative is not None
        held[arm] = effect.contrast.relative.low <= true[arm] / true["status_quo"] - 1 <= effect.contrast.relative.high
        win |= effect.family is not None and effect.family.low > 0
    return Outcome(held, win)


@pytest.mark.long
def test_in_three_worlds_where_the_model_wins_most_ranges_hold_the_truth() -> None:
    found = [outcome("model_wins", seed) for seed in range(3)]
    assert sum(held for one in found for held in one.held.values()) >= 4  # of 6; 0.95 each: fewer has a chance of 1 in 12,000
    assert any(one.win for one in found)


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["front", "als"])
def test_over_twenty_seeds_at_least_seventeen_ranges_hold_the_truth(arm: str) -> None:
    assert sum(outcome("model_wins", seed).held[arm] for seed in range(20)) >= 17


@pytest.mark.slow
def test_over_twenty_seeds_no_difference_is_called_a_win_at_most_twice() -> None:
    assert sum(outcome("no_difference", seed).win for seed in range(20)) <= 2
