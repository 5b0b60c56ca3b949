"""Stopping an arm whose readers meet failures: rarely without a cause, soon with one."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.failing import COUNT_ALPHA, LEFT, TOLERATED, Met, failing, failing_evidence

NOBODY = Met()


def test_evidence_by_hand() -> None:
    by_hand = np.mean([t**2 / (1 + 0.5 * (t - 1)) ** 3 for t in (1.5, 2, 4, 8, 16, 32)])
    assert failing_evidence(2, 3, 0.5) == pytest.approx(by_hand, rel=1e-12)
    assert failing_evidence(10**6, 10**6, 0.01) > 1 / COUNT_ALPHA  # no overflow
    assert failing_evidence(0, 10**7, 0.5) < 1e-6


@pytest.mark.parametrize("share", [TOLERATED, LEFT, 1 / 3, 0.5])
def test_an_arm_like_the_others_is_stopped_at_no_look_in_99_of_100_tests(share: float) -> None:
    """By Ville's inequality at most 1 of 100; 1,500 tests with a look after each of 600 readers who count."""
    affected = np.cumsum(np.random.default_rng(5).random((1_500, 600)) < share, axis=1)
    factors, n = np.array([1.5, 2, 4, 8, 16, 32])[:, None, None], np.arange(1, 601)
    evidence = np.exp(affected * np.log(factors) - n * np.log1p(share * (factors - 1))).mean(axis=0)
    assert evidence[3, -1] == pytest.approx(failing_evidence(int(affected[3, -1]), 600, share))
    assert (evidence.max(axis=1) > 1 / COUNT_ALPHA).mean() < COUNT_ALPHA + 0.008  # three simulation errors


def test_each_failure_has_its_own_count_and_the_reason_names_it() -> None:
    others = Met(300, failed=1, late=20, fallback=21)
    assert failing(Met(300, failed=14, late=20, fallback=34), others, 0.5).startswith("14 of 300 met an error of the arm; of other arms")
    assert failing(Met(300, failed=1, late=60, fallback=61), others, 0.5).startswith("60 of 300 met a list that was not ready in time")
    assert failing(Met(300, failed=2, late=22, fallback=70), others, 0.5).startswith("70 of 300 met a fallback or a degraded page")
    assert failing(Met(300, failed=2, late=22, fallback=25), others, 0.5) == ""


def test_a_few_failures_among_many_readers_do_not_stop_an_arm_although_the_others_have_none() -> None:
    assert failing(Met(45_000, late=12, fallback=12), Met(45_000), 0.5) == ""
    assert failing(Met(4_500, late=12, fallback=12), Met(4_500), 0.5).startswith("12 of 4,500 met a list that was not ready in time")


def test_where_no_other_arm_ranks_one_reader_in_a_hundred_may_meet_a_failure() -> None:
    assert failing(Met(2_000, failed=22, fallback=22), NOBODY, 1.0) == ""
    assert "tolerated is 1 %" in failing(Met(2_000, failed=60, fallback=60), NOBODY, 1.0)


def test_an_arm_that_shows_nothing_of_its_own_is_stopped_and_one_that_sometimes_has_nothing_to_say_is_not() -> None:
    for others, share in ((NOBODY, 1.0), (Met(12), 0.5)):
        assert failing(Met(12, nothing=12), others, share).startswith("12 of 12 were shown nothing the arm chose itself")
        assert failing(Met(1_000, nothing=200), others + others, share) == ""  # a fifth, though the others never have nothing
    assert failing(Met(40, nothing=40), Met(40, nothing=40), 0.5) == ""  # the signals are gone: no arm has anything to say


def test_one_withdrawn_article_is_one_too_many() -> None:
    assert failing(Met(900, withdrawn=1), Met(900), 0.5) == "1 of 900 were shown a withdrawn article; none may be"
