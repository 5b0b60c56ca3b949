"""Looks at a running test: rare enough, stored once, and paid for at the end."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from analysis.boundaries import critical_values
from analysis.looks import Taken, plan_of
from analysis.report import Report
from analysis.spending import obrien_fleming
from tests.analysis.tables import crowd, plan, totals_of
from tests.analysis.test_report import report

PLAN = plan(smallest_uplift=0.07, planned_days=28.0)
PAIRS = [("front", "status_quo"), ("als", "status_quo"), ("als", "front")]


def running(day: float, *, n: int = 900, front: float = 1.0, taken: tuple[Taken, ...] = (), state: str = "running") -> Report:
    rng = np.random.default_rng(7)
    sizes = {"status_quo": n * 4 // 3, "front": n, "als": n}
    totals = totals_of({(arm, 1): crowd(rng, size, views=front if arm == "front" else 1.0) for arm, size in sizes.items()})
    return report(totals, experiment=PLAN, days=day, state=state, taken=taken)


def test_the_first_look_comes_on_day_seven_once_a_fifth_is_known() -> None:
    assert running(6.0).look() == ()
    assert running(7.0, n=60).look() == ()
    assert [(look.arm, look.against) for look in running(7.0).look()] == PAIRS


def test_no_look_is_taken_while_the_numbers_cannot_be_trusted() -> None:
    rng = np.random.default_rng(7)
    broken = totals_of({("status_quo", 1): crowd(rng, 2_000), ("front", 1): crowd(rng, 600), ("als", 1): crowd(rng, 900)})
    assert report(broken, experiment=PLAN, days=8.0, state="running").look() == ()


def test_looks_pay_from_the_error_of_their_own_comparison() -> None:
    found: tuple[Taken, ...] = ()
    for day, n in ((7.0, 700), (9.0, 900), (12.0, 1_200)):
        found += running(day, n=n, taken=found).look()
    ours = [look for look in found if (look.arm, look.against) == PAIRS[0]]
    alpha = plan_of(PLAN, 3).alpha
    assert alpha == pytest.approx(1 - 0.95 ** (1 / 3), rel=1e-9)
    day = {look.time: look.day for look in ours}
    clock = lambda time, alpha: obrien_fleming(min(time, day[time] / 28), alpha)  # noqa: E731
    assert [look.critical for look in ours] == pytest.approx(critical_values(list(day), alpha=alpha, spending=clock), rel=1e-9)
    assert all(early.spent < late.spent < alpha for early, late in pairwise(ours))


def test_a_look_shows_a_wider_range_than_one_look_at_the_end_would() -> None:
    seen = running(9.0)
    look, effect = seen.look()[0], seen.compared.effects[0]
    assert effect.contrast.absolute is not None
    assert effect.family is not None
    assert look.difference_low < effect.family.low < effect.contrast.absolute.low
    assert look.critical > 2.4


def test_a_look_allows_for_a_spread_that_is_estimated_too() -> None:
    seen = running(9.0, n=500)
    look, contrast = seen.look()[0], seen.compared.effects[0].contrast
    assert contrast.absolute is not None
    reach = (look.difference_high - look.difference_low) / (2 * contrast.absolute.se)
    assert reach == pytest.approx(stats.t.isf(stats.norm.sf(look.critical), contrast.df), rel=1e-9)
    assert reach > 1.001 * look.critical


def test_whoever_looked_decides_at_the_end_with_the_error_that_is_left() -> None:
    looks = running(9.0).look()
    never, looked = running(28.0, n=2_500, state="stopped"), running(28.0, n=2_500, taken=looks, state="stopped")
    plain, paid = never.compared.effects[0].family, looked.compared.effects[0].family
    assert plain is not None
    assert paid is not None
    assert paid.low < plain.low < plain.high < paid.high
    assert looked.compared.effects[0].contrast == never.compared.effects[0].contrast  # what is shown at 95 % stays


def test_a_test_stopped_on_the_day_of_a_look_is_decided_by_that_look() -> None:
    looks = running(20.0, n=1_500).look()
    family = running(20.5, n=1_500, taken=looks, state="stopped").compared.effects[0].family  # half a day brought nothing new
    assert family is not None
    assert (family.low, family.high) == (looks[0].difference_low, looks[0].difference_high)


def test_a_look_that_spent_all_error_by_an_older_rule_still_decides() -> None:
    looks = tuple(replace(look, final=True) for look in running(9.0).look())
    family = running(28.0, n=2_500, taken=looks, state="stopped").compared.effects[0].family
    assert family is not None
    assert (family.low, family.high) == (looks[0].difference_low, looks[0].difference_high)


def test_the_same_stored_looks_give_the_same_report_again() -> None:
    looks = running(9.0).look()
    one, two = (running(13.0, n=1_200, taken=order) for order in (looks, looks[::-1]))
    assert one.to_dict() == two.to_dict()
    assert [Taken.from_dict(look) for look in one.to_dict()["looks"]] == sorted(looks, key=lambda look: (look.day, look.arm, look.against))


def test_a_clear_look_is_told_while_the_test_goes_on() -> None:
    early = running(9.0, front=1.6)
    told = running(9.5, front=1.6, taken=early.look())
    assert told.verdict.key == "wait"
    assert told.verdict.reasons[0].startswith("Looked at on day 9: Articles opened per session: ")
    assert "enough to stop" not in told.verdict.reasons[0]  # the plan accepts nothing shorter than fourteen days
    assert all(effect["absolute"]["low"] is None for effect in told.to_dict()["effects"] if effect["role"] == "goal")
    late = running(15.0, front=1.6)
    assert "enough to stop" in running(15.5, front=1.6, taken=late.look()).verdict.reasons[0]


@pytest.mark.long
def test_alarms_without_any_effect_stay_as_rare_as_promised_over_all_looks_and_the_end() -> None:
    """Readers arrive day by day; two arms; one comparison. Naive looks would call twice as many."""
    two = plan(arms=(replace(PLAN.arms[0], share=0.5), replace(PLAN.arms[1], share=0.5)), smallest_uplift=0.15, planned_days=14.0)
    called = naive = 0
    runs, rng = 50, np.random.default_rng(11)
    for _ in range(runs):
        tables = [crowd(rng, 14 * 50) for _ in range(2)]
        taken: tuple[Taken, ...] = ()
        alarm = naively = False
        for day in range(7, 15):
            totals = totals_of({("status_quo", 1): tables[0][: day * 50], ("front", 1): tables[1][: day * 50]})
            ended = day == 14
            found = report(totals, experiment=two, days=float(day), state="stopped" if ended else "running", taken=taken)
            effect = found.compared.effects[0]
            assert effect.contrast.absolute is not None
            naively |= effect.contrast.absolute.p < 0.05
            ranges = [(effect.family.low, effect.family.high)] if ended and effect.family else []
            new = () if ended else found.look()
            alarm |= any(low > 0 or high < 0 for low, high in [*ranges, *((look.difference_low, look.difference_high) for look in new)])
            taken += new
        called, naive = called + alarm, naive + naively
    assert called / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    assert naive > called
