"""The calibration once more from requests: what comes out of a report is what the arrays say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from analysis.calibration.arrays import from_requests, largest_gap
from analysis.calibration.requests import draw_visitors, path_row
from analysis.comparison import compare_all
from analysis.effect import arm_value, compare
from analysis.moments import Moments
from analysis.totals import totals
from experiments.experiment import Arm
from tests.web.site_fixture import NOW, PHONE, Stand

TWO = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5))


def test_every_figure_of_a_report_is_that_of_the_arrays(tmp_path: Path) -> None:
    figures = from_requests(tmp_path, np.random.default_rng(1))
    titles = " ".join(title for title, _, _ in figures)
    for process in (
        "views_per_session",
        "returned",
        "dwell_per_view",
        "slot_latency_p95",
        "family of three",
        "adjusted",
        "look on day 8",
        "split",
    ):
        assert process in titles
    assert sum(seen == seen for _, seen, _ in figures) > 100
    assert [(title, seen, ours) for title, seen, ours in figures if largest_gap([(title, seen, ours)]) > 1e-12] == []


def test_a_figure_that_only_one_side_has_is_no_agreement() -> None:
    assert largest_gap([("a", float("nan"), 1.0)]) == np.inf
    assert largest_gap([]) == np.inf


def test_a_replicate_goes_through_stores_of_its_own() -> None:
    row = path_row(np.random.default_rng(1), readers=80, runs=1)
    assert (row.readers, row.coverage in (0.0, 1.0)) == (80, True)


def test_visitors_do_what_their_columns_say() -> None:
    found = draw_visitors(np.random.default_rng(1), 500, ratio=1.2, days=3)
    assert (found.views >= found.sessions).all()
    assert (found.sessions >= 1).all()
    assert not found.late[found.sessions == 1].any()
    assert set(found.day.tolist()) == {0, 1, 2}


@pytest.fixture
def asked(tmp_path: Path) -> tuple[Stand, dict[str, tuple[int, int]]]:
    """140 readers (30 of an arm are enough to judge it; chance gives fewer once in 10^11) with an article page each, more of them in half of the readers, and a second visit of every fourth reader."""
    stand, pages = Stand(tmp_path, TWO), {}
    clients = [stand.client() for _ in range(140)]
    for client in clients:
        client.get("/en/", headers=PHONE)
    for visit, who in enumerate((clients, clients[::4])):
        stand.advance(40 * 60)
        for i, client in enumerate(who):
            for _ in range(1 if visit else 1 + 2 * (i % 2)):
                stand.advance(1)
                assert client.get(f"/en/article/{stand.article}", headers=PHONE).status_code == 200
    for i, client in enumerate(clients):
        cookie = client.get_cookie("pl_id")
        assert cookie is not None
        reader = (stand.site.tokens.unsign("id", cookie.value) or "").partition(".")[0]
        pages[reader] = (1 + 2 * (i % 2) + (i % 4 == 0), 1 + (i % 4 == 0))
    return stand, pages


def test_requests_of_browsers_become_the_effect_one_computes_from_what_was_requested(
    asked: tuple[Stand, dict[str, tuple[int, int]]],
) -> None:
    stand, pages = asked
    rows = stand.events()
    arms = {row["reader"]: row["arm"] for row in rows if row["kind"] == "exposure"}
    assert Counter(arms.values()).total() == 140
    found = totals(stand.home, stand.plan, until_us=round(NOW.timestamp() * 1e6) + 10 * 86_400_000_000, source="live")
    effect = compare_all(stand.plan, found).of("views_per_session", "front", "status_quo")
    assert effect is not None
    cells = {
        (arm, 0): Moments.from_rows([pages[reader] for reader, own in arms.items() if own == arm], ("views", "sessions"))
        for arm in ("front", "status_quo")
    }
    sides = [arm_value(cells, arm, numerator="views", denominator="sessions", shares={0: 1.0}) for arm in ("front", "status_quo")]
    ours = compare(*sides, level=stand.plan.level)
    assert effect.contrast.absolute is not None
    assert ours.absolute is not None
    assert effect.contrast.n == ours.n
    for part in ("estimate", "se", "low", "high"):
        assert getattr(effect.contrast.absolute, part) == pytest.approx(getattr(ours.absolute, part), rel=1e-12)
