from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import chi2
from statsmodels.stats.oneway import anova_generic

from analysis.beside import quantile_of
from analysis.effect import Absolute, Contrast
from analysis.moments import Totals
from analysis.segments import MOST_GROUPS, OTHER, interaction, look_at
from experiments.events.lake_values import EventValues
from experiments.metric import metric
from tests.analysis.tables import crowd, plan, totals_of

ARMS = ("status_quo", "front", "als")


def groups(rng: np.random.Generator, sizes: dict[str, int], **gains: float) -> Totals:
    """Readers of every group, of whom those of a named group gain with front."""
    found = {
        name: totals_of({(arm, 1): crowd(rng, n, views=gains.get(name, 1.0) if arm == "front" else 1.0) for arm in ARMS})
        for name, n in sizes.items()
    }
    return Totals({}, None, segments={"section": found})


def test_three_groups_by_hand():
    found = interaction([Contrast((50, 50), (d, 0.0), Absolute(d, se, d - se, d + se, 0.5)) for d, se in ((0, 1), (2, 1), (5, 2))])
    mean = (0 + 2 + 5 / 4) / (1 + 1 + 1 / 4)
    statistic = mean**2 + (2 - mean) ** 2 + (5 - mean) ** 2 / 4
    assert (found.statistic, found.df) == (pytest.approx(statistic), 2)
    assert found.p == pytest.approx(chi2.sf(statistic, 2))


def test_groups_that_start_elsewhere_and_gain_alike_do_not_differ():
    def contrast(level: float) -> Contrast:
        low, high = level, 1.2 * level
        return Contrast((900, 900), (high, low), Absolute(high - low, 0.02 * level, 0, 1, 0.5), log_variance=(1e-4, 1e-4))

    found = interaction([contrast(1.0), contrast(8.0)])
    assert (found.scale, found.p) == ("relative", pytest.approx(1.0))


def test_one_group_alone_cannot_differ():
    one = Contrast((50, 50), (1.0, 0.0), Absolute(1.0, 1.0, -1, 3, 0.3))
    found = interaction([one, Contrast((3, 4), (None, None), status="insufficient", reason="few")])
    assert (found.statistic, found.p, found.status) == (None, None, "insufficient")


def test_many_groups_are_the_largest_and_the_rest_together():
    sizes = {f"s{i:02d}": 40 + i for i in range(12)}
    found = look_at(plan(segments=("section",)), groups(np.random.default_rng(1), sizes))[0]
    assert [group.name for group in found.groups] == [*(f"s{i:02d}" for i in range(5, 12)), OTHER]
    assert len(found.groups) == MOST_GROUPS
    assert found.groups[-1].contrast.n == (sum(range(40, 45)),) * 2


def test_q_counts_every_group_of_every_comparison():
    found = look_at(plan(segments=("section",)), groups(np.random.default_rng(2), {"city": 400, "sport": 400}, sport=1.5))
    ps = {(s.arm, s.against, g.name): (g.contrast.absolute.p, g.q) for s in found for g in s.groups}
    smallest = min(ps, key=lambda key: ps[key][0])
    assert smallest[2] == "sport"
    assert ps[smallest][1] >= ps[smallest][0] * len(ps) / len([p for p, _ in ps.values() if p <= ps[smallest][0] * len(ps)])
    assert all(q >= p for p, q in ps.values())
    assert len(ps) == 6


def false_alarms(runs: int, *, groups: int, readers: int) -> float:
    """How often groups seem to differ though the same gain holds in all of them."""
    rng, seen = np.random.default_rng(5), 0
    experiment = plan(segments=("section",))
    for _ in range(runs):
        parts = {f"s{k}": totals_of({(arm, 1): crowd(rng, readers) for arm in ("status_quo", "front")}) for k in range(groups)}
        found = look_at(experiment, Totals({}, None, segments={"section": parts}))[0]
        seen += found.interaction.p is not None and found.interaction.p < 0.05
    return seen / runs


@pytest.mark.slow
@pytest.mark.parametrize(("groups", "readers"), [(2, 30), (4, 40), (6, 60), (3, 400)])
def test_groups_that_do_not_differ_seem_to_as_rarely_as_promised(groups, readers):
    assert abs(false_alarms(1000, groups=groups, readers=readers) - 0.05) < 3 * (0.05 * 0.95 / 1000) ** 0.5


def test_few_readers_make_the_test_more_careful():
    def with_df(df: float) -> float:
        effects = [Contrast((50, 50), (d, 0.0), Absolute(d, 1.0, d - 1, d + 1, 0.5), df=df) for d in (0.0, 2.5, 4.0)]
        return interaction(effects).p

    equal = f_oneway_p(df=9)
    assert with_df(9) == pytest.approx(equal)
    assert with_df(9) > with_df(90) > with_df(math.inf)


def f_oneway_p(df: int) -> float:
    """Welch's analysis of variance as statsmodels has it, for means 0, 2.5 and 4 with standard error 1."""
    n = df + 1
    return float(anova_generic(np.array([0.0, 2.5, 4.0]), np.full(3, float(n)), np.full(3, n), use_var="unequal").pvalue)


def test_phases_of_unequal_size_weigh_in_a_quantile_as_in_every_metric():
    cells = totals_of({("front", 0): [(1, 1, 0, 0)] * 100, ("front", 1): [(1, 1, 0, 0)] * 10})
    events = tuple(
        EventValues("front", phase, np.arange(n), np.where(np.arange(n) < n / 2, 1000, 2000) + 2000 * phase, np.ones(n, int))
        for phase, n in ((0, 100), (1, 10))
    )
    totals = Totals(cells.moments, None, events={"slot_latency_p95": events})
    wanted = metric("slot_latency_p95")

    def found(shares: dict[int, float]) -> float | None:
        return quantile_of(totals, wanted, "front", shares=shares, level=0.95).estimate

    assert found({0: 0.99, 1: 0.01}) == 2.0
    assert found({0: 0.5, 1: 0.5}) == 4.0
    assert found({0: 1.0}) == 2.0
