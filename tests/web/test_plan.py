"""What the plan command says: which measure asks for the readers, what the planned days bring, what the past was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from analysis.arrivals import Arrivals
from analysis.planning import Spread, forecast
from experiments.experiment import Experiment
from tests.analysis.test_planning import PLAN, said

SPREADS = {"views_per_session": Spread(2.0, 0.5), "bounce_rate": Spread(0.3, 2.0)}


def steady(rate: float) -> tuple[Arrivals, Arrivals]:
    return (Arrivals(np.array([]), 0.0, rate),) * 2


def told(experiment: Experiment, rate: float, **more: Any) -> dict[str, Any]:
    found = forecast(experiment, SPREADS, steady(rate)).to_dict()
    return {"experiment": "next", "goal": experiment.goal, "history": {"readers": 0, "days": 0}, **found, **more}


# The length of the plan


def test_a_plan_that_is_long_enough_to_the_day_is_not_called_too_short(capsys: pytest.CaptureFixture[str]) -> None:
    """The last reader needed comes after 28.5 days and is followed for one: thirty days do, though whole weeks are five."""
    needed = told(PLAN, 100.0)["readers"]
    for planned, short in ((29.4, True), (30.0, False)):
        found = told(replace(PLAN, planned_days=planned), needed / 28.5)
        assert found["weeks"] == (5, 5)
        assert found["ends"] == pytest.approx((29.5, 29.5))
        assert ("too short" in said(capsys, found)) is short


def test_a_plan_of_one_week_is_too_short_when_the_readers_come_in_the_second(capsys: pytest.CaptureFixture[str]) -> None:
    week = replace(PLAN, planned_days=7.0, minimum_days=7.0)
    found = told(week, told(week, 100.0)["readers"] / 10)
    assert found["planned"]["readers"] == pytest.approx(found["readers"] * 0.6)
    assert f"The plan says 7 days, which is too short: by then {found['readers'] * 0.6:,.0f} readers find changes of 13" in said(
        capsys, found
    )
