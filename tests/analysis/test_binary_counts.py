"""Which metrics are yes or no per reader, and the whole answer where few of them say yes."""

from __future__ import annotations

import math

import pytest

from analysis.effect import Contrast
from analysis.score_test import difference_interval, fisher_mid_p, ratio_interval, score_p
from analysis.small_counts import EXACT, FEW, NO_CONTROL_EVENT, REACHES_ZERO, binary_counts, share_contrast, small_count_contrast
from experiments.errors import DataError, ExperimentError
from tests.analysis.tables import SESSIONS, VIEWS, moments


def counted(table: list[tuple[int, int]]) -> tuple[int, int] | None:
    return binary_counts({("als", 1): moments(table)}, "als", numerator=VIEWS, denominator=SESSIONS)


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ([(1, 1), (0, 1)], (1, 2)),
        ([(0, 1)] * 50 + [(1, 1)] * 50, (50, 100)),
        ([(1, 1)] * 7, (7, 7)),
        ([(2, 1), (0, 1)], None),
        ([(2, 1)] + [(0, 1)] * 99, None),
        ([(1, 1), (0, 2)], None),
        ([(1, 2), (0, 2)], None),
        ([(1, 1)], None),
    ],
)
def test_a_metric_is_yes_or_no_when_every_reader_has_nought_or_one_of_one(table, found):
    assert counted(table) == found


def test_a_house_rule_for_the_least_number_of_readers_holds_for_shares_too():
    plain = Contrast((70, 80), (0.8, 0.6), df=140.0)
    found = share_contrast((56, 70), (48, 80), plain=plain, level=0.95, least=71)
    assert (found.status, found.reason) == ("insufficient", "an arm has 70 readers, at least 71 are needed")
    assert share_contrast((56, 70), (48, 80), plain=plain, level=0.95, least=70).status == "ok"


# Rare events in full; nothing is remembered from one test to the next


def test_a_rare_event_by_the_score_test_in_full():
    """9 of 100 against 20 of 100: 14.5 expected in every cell, so the exact test is not asked."""
    found = small_count_contrast((9, 100), (20, 100), level=0.9)
    low, high = difference_interval((9, 100), (20, 100), level=0.9)
    least, most = ratio_interval((9, 100), (20, 100), level=0.9)
    assert (found.status, found.reason, found.n, found.values) == ("ok", FEW, (100, 100), (0.09, 0.2))
    assert found.absolute.estimate == pytest.approx(-0.11)
    assert found.absolute.se == pytest.approx(math.sqrt(29 / 200 * 171 / 100 / 100 * 200 / 199), rel=1e-12)
    assert (found.absolute.low, found.absolute.high, found.absolute.p) == (low, high, score_p((9, 100), (20, 100)))
    assert (found.relative.estimate, found.relative.low, found.relative.high) == (pytest.approx(-0.55), least - 1, most - 1)
    assert high < 0
    assert found.log_variance == (pytest.approx(91 / 100 / 9), pytest.approx(80 / 100 / 20))
    assert math.isnan(found.df)


def test_a_rarer_event_asks_the_exact_test_too_in_full():
    """7 of 34 against 1 of 34: 4 expected."""
    found = small_count_contrast((7, 34), (1, 34), level=0.95)
    p = max(score_p((7, 34), (1, 34)), fisher_mid_p((7, 34), (1, 34)))
    assert (found.status, found.reason, found.absolute.p) == ("ok", EXACT, p)
    assert p < 0.05
    assert (round(found.absolute.low, 7), round(found.absolute.high, 7)) == (0.0270416, 0.3452912)
    assert found.relative.estimate == pytest.approx(6.0)


@pytest.mark.parametrize(("treated", "control"), [((7, 10), (2, 10)), ((2, 10), (7, 10))])
def test_where_only_the_score_test_excludes_zero_both_ranges_reach_it(treated, control):
    """Score p .028, mid-p .054."""
    found = small_count_contrast(treated, control, level=0.95)
    assert found.reason == EXACT + REACHES_ZERO
    assert found.absolute.p == fisher_mid_p(treated, control) > 0.05 > score_p(treated, control)
    ends = (found.absolute.low, found.absolute.high)
    whole, ratio = difference_interval(treated, control, level=0.95), ratio_interval(treated, control, level=0.95)
    assert ends == ((0.0, whole[1]) if treated > control else (whole[0], 0.0))
    assert (found.relative.low, found.relative.high) == ((0.0, ratio[1] - 1) if treated > control else (ratio[0] - 1, 0.0))


def test_where_both_tests_keep_zero_nothing_is_stretched():
    found = small_count_contrast((5, 34), (4, 34), level=0.95)
    assert found.reason == EXACT
    assert (found.absolute.low, found.absolute.high) == difference_interval((5, 34), (4, 34), level=0.95)
    assert (found.relative.low + 1, found.relative.high + 1) == pytest.approx(ratio_interval((5, 34), (4, 34), level=0.95), rel=1e-12)


@pytest.mark.parametrize(("events", "asked"), [(9, True), (10, False)])
def test_the_exact_test_is_asked_below_five_expected(events, asked):
    """(8 + 1) / 2 = 4.5 and (9 + 1) / 2 = 5 expected in equal arms; mirrored, those without the event are the few."""
    reasons = [small_count_contrast(*pair, level=0.95).reason for pair in (((events, 40), (1, 360)), ((40 - events, 40), (359, 360)))]
    assert all(reason.startswith(EXACT) for reason in reasons)  # a tenth of the readers are in the smaller arm
    even = small_count_contrast((events - 1, 40), (1, 40), level=0.95)
    mirrored = small_count_contrast((41 - events, 40), (39, 40), level=0.95)
    assert even.reason.startswith(EXACT if asked else FEW)
    assert mirrored.reason.startswith(EXACT if asked else FEW)


def test_too_few_readers_in_full():
    found = small_count_contrast((3, 9), (0, 0), level=0.95)
    assert (found.n, found.values, found.status) == ((9, 0), (1 / 3, None), "insufficient")
    assert found.reason == "an arm has 0 readers, at least 2 are needed"
    assert small_count_contrast((0, 0), (3, 9), level=0.95).values == (None, 1 / 3)
    assert small_count_contrast((0, 0), (3, 9), level=0.95, least=0).reason == "an arm has 0 readers, at least 1 are needed"
    assert small_count_contrast((1, 1), (0, 1), level=0.95, least=1).status == "not_estimable"
    assert small_count_contrast((1, 1), (0, 1), level=0.95).status == "insufficient"


@pytest.mark.parametrize(("treated", "control", "who"), [((0, 20), (0, 30), "no"), ((20, 20), (30, 30), "every")])
def test_nobody_or_everybody_in_full(treated, control, who):
    found = small_count_contrast(treated, control, level=0.95)
    assert (found.n, found.values) == ((20, 30), (treated[0] / 20, control[0] / 30))
    assert (found.status, found.reason, found.absolute) == ("no_variation", f"{who} reader of either arm has an event", None)


@pytest.mark.parametrize(("treated", "control"), [((1, 20), (0, 20)), ((9, 20), (9, 20)), ((20, 20), (0, 20)), ((19, 20), (20, 20))])
def test_any_difference_between_readers_is_variation(treated, control):
    assert small_count_contrast(treated, control, level=0.95).absolute is not None


def test_no_event_in_the_control_in_full():
    found = small_count_contrast((4, 40), (0, 40), level=0.95)
    assert (found.status, found.reason, found.relative, found.values) == ("not_estimable", NO_CONTROL_EVENT, None, (0.1, 0.0))
    assert found.absolute.estimate == pytest.approx(0.1)


@pytest.mark.parametrize(("treated", "control"), [((0, 40), (4, 40)), ((40, 40), (4, 40)), ((4, 40), (40, 40))])
def test_without_events_or_without_exceptions_the_logarithm_has_no_variance(treated, control):
    assert small_count_contrast(treated, control, level=0.95).log_variance is None


def test_one_event_or_one_exception_is_enough_for_the_logarithm():
    assert small_count_contrast((1, 40), (1, 50), level=0.95).log_variance == (pytest.approx(39 / 40), pytest.approx(49 / 50))
    assert small_count_contrast((39, 40), (49, 50), level=0.95).log_variance == (pytest.approx(1 / 40 / 39), pytest.approx(1 / 50 / 49))


@pytest.mark.parametrize("level", [0.0, 1.0, 1.5, -0.5])
def test_a_level_that_is_no_chance_is_refused(level):
    with pytest.raises(ExperimentError, match="must lie between 0 and 1"):
        small_count_contrast((4, 40), (3, 40), level=level)


def test_impossible_counts_come_with_what_to_do():
    with pytest.raises(DataError) as error:
        small_count_contrast((41, 40), (3, 40), level=0.95)
    assert (error.value.what, error.value.hint) == ("41 of 40 readers have an event.", "Give (events, readers), events from 0 to readers.")


def test_only_without_any_event_there_is_no_ratio():
    assert ratio_interval((0, 20), (0, 30), level=0.95) == (None, None)
    assert ratio_interval((0, 20), (3, 30), level=0.95)[0] == 0.0
    assert ratio_interval((3, 20), (0, 30), level=0.95)[1] is None
    assert score_p((0, 20), (0, 30)) == 1.0
    low, high = ratio_interval((1, 20), (1, 30), level=0.95)
    assert 0 < low < 1.5 < high
