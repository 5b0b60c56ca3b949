"""Coverage and the Gini coefficient: by hand, against counting out every draw, by simulation, and where they cannot be told."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from analysis.calibration.diversity import diversity_rows
from analysis.diversity import coverage, diversity, gini, jackknife, within
from analysis.shape_beside import of_diversity
from experiments.errors import DataError
from experiments.events.lake_articles import Shown


def shown(catalogue=20, **arms):
    """Arms given as lists of (bucket, article, places)."""
    return Shown({arm: tuple(np.array(column) for column in zip(*rows, strict=True)) for arm, rows in arms.items()}, catalogue)


def evenly(articles, *, places=1, each=3):
    """Every bucket shows so many articles, the next one begins where the last one ended."""
    return [(bucket, (bucket * each + k) % articles, places) for bucket in range(200) for k in range(each)]


def found(given, readers=400, **more):
    pairs = [("als", "front")]
    return diversity(given, dict.fromkeys(("status_quo", "front", "als"), readers), pairs, level=0.95, **more)


@pytest.mark.parametrize("counts", [(4, 1, 1), (3, 3), (1, 1, 1, 1, 2), (6,)])
@pytest.mark.parametrize("places", [1, 2, 5])
def test_coverage_is_the_mean_over_all_ways_to_draw_so_many_places(counts, places):
    bag = [article for article, n in enumerate(counts) for _ in range(n)]
    draws = [len({bag[i] for i in draw}) for draw in combinations(range(len(bag)), places)]
    assert coverage(counts, places=places, catalogue=10) == pytest.approx(np.mean(draws) / 10, rel=1e-12)


def test_gini_is_the_mean_difference_of_two_articles_over_twice_the_mean():
    counts = [7, 1, 0, 0, 4]
    apart = [abs(a - b) for a in counts for b in counts]
    assert gini([7, 1, 4], catalogue=5) == pytest.approx(np.mean(apart) / (2 * np.mean(counts)), rel=1e-12)


def test_the_jackknife_of_a_mean_is_its_ordinary_variance():
    rows = np.array([[2], [4], [9], [1]])
    value = jackknife(rows, lambda c: c[..., 0] / 4, readers=50)
    left_out = [(16 - x) / 4 for x in (2, 4, 9, 1)]  # the statistic divides by 4 also when a bucket is gone
    assert (value.estimate, value.n, value.parts[0][1]) == (4.0, 50, 3)
    assert value.variance == pytest.approx(3 / 4 * sum((x - np.mean(left_out)) ** 2 for x in left_out))


def test_an_arm_that_shows_twice_the_articles_covers_more_and_shows_them_more_evenly():
    result = found(shown(front=evenly(5), als=evenly(10)))
    varied = {arm.arm: arm for arm in result.arms}
    assert (varied["front"].articles, varied["als"].articles, varied["als"].places, result.compared_at) == (5, 10, 600, 150)
    assert varied["als"].coverage.estimate == pytest.approx(10 / 20)
    assert varied["front"].gini.estimate == pytest.approx(0.75)  # fifteen of twenty articles have nothing
    assert [(p.measure, p.arm, p.against) for p in result.pairs] == [("coverage", "als", "front"), ("gini", "als", "front")]


def test_broader_taste_is_told_from_narrower_taste():
    rng = np.random.default_rng(2)
    result = found(shown(catalogue=400, front=drawn(rng, 3_000, narrow=1.7), als=drawn(rng, 3_000, narrow=1.4)))
    cover, uneven = (pair.contrast for pair in result.pairs)
    assert cover.relative.low > 0.2
    assert uneven.absolute.high < 0


def drawn(rng, places, *, narrow):
    return [(int(b), int(a), 1) for b, a in zip(rng.integers(0, 200, places), rng.zipf(narrow, places) % 400, strict=True)]


def test_the_size_of_an_arm_does_not_make_its_articles_more_varied():
    rng = np.random.default_rng(1)
    result = found(shown(catalogue=400, front=drawn(rng, 1_000, narrow=1.3), als=drawn(rng, 9_000, narrow=1.3)))
    assert result.arms[2].articles > 1.9 * result.arms[1].articles
    cover, uneven = (pair.contrast for pair in result.pairs)
    assert cover.absolute.low < 0 < cover.absolute.high
    assert (uneven.absolute, uneven.reason) == (None, "one arm filled 9 times as many places as the other")


def test_an_arm_with_empty_slots_has_no_number_and_is_compared_with_nobody():
    said = of_diversity(found(shown(front=evenly(5))), level=0.95)
    arm = said["arms"][0]
    assert (arm["articles"], arm["coverage"]["estimate"], arm["coverage"]["status"]) == (0, None, "undefined_for_arm")
    assert said["pairs"] == []


@pytest.mark.parametrize(
    ("given", "readers", "more", "status", "reason"),
    [
        (shown(front=evenly(5), als=evenly(9)), 29, {}, "insufficient", "an arm has 29 readers, at least 30 are needed"),
        (shown(front=[(3, 1, 9)], als=[(3, 2, 9)]), 30, {}, "insufficient", "too few places were filled"),
        (shown(front=evenly(5), als=evenly(9)), 400, {"phases": 2}, "not_estimable", "the shares changed while the test ran"),
        (shown(front=[(b, 1, 1) for b in range(200)], als=[(b, 2, 1) for b in range(200)]), 400, {}, "no_variation", "no reader differs"),
    ],
)
def test_what_cannot_be_told_has_a_reason(given, readers, more, status, reason):
    contrast = found(given, readers, **more).pairs[0].contrast
    assert (contrast.absolute, contrast.status) == (None, status)
    assert contrast.reason.startswith(reason)


def test_nothing_shown_is_no_error():
    result = found(Shown())
    assert (result.catalogue, result.compared_at, result.pairs) == (0, 0, ())


def test_ranges_of_an_arm_stay_between_nought_and_one():
    values = [arm.coverage for arm in found(shown(catalogue=5, front=evenly(5), als=evenly(5, places=2))).arms]
    assert within(values[0], level=0.95) is None
    low, high = within(values[1], level=0.95)
    assert 0 <= low <= values[1].estimate <= high <= 1
    assert math.isclose(values[1].estimate, 1, abs_tol=1e-9)


def test_buckets_beyond_those_there_are_are_refused():
    with pytest.raises(DataError, match="buckets reach from 200 to 200"):
        found(shown(front=[(200, 1, 1)]))


@pytest.mark.slow
def test_ranges_by_jackknife_raise_no_more_false_alarms_than_promised():
    for number, row in enumerate(diversity_rows(readers=300, runs=400)):
        result = row(np.random.default_rng(number))
        assert result.passed, result
        assert result.false_positive > 0.01, "a range that never errs is far too wide"
