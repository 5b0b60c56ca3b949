"""What is handed to other tools and how their answers are judged; the tools themselves are not needed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from analysis.calibration.peers import PeerSet, draw, our_cases, peer_sets, standing
from analysis.calibration.readers import ARTICLES, RARE, VISITS, value
from analysis.effect import compare
from analysis.moments import Moments
from experiments.errors import ConfigError, DataError
from web.cli.calibration_page import markdown
from web.cli.peers import Peers, beside_peers, parse_peers

SMALL = PeerSet(VISITS, (60, 50), 1.2)
LOOKED = PeerSet(ARTICLES, (60, 60), 1.1, looks=3, planned=True)


def answer(lines):
    """The same lines for both parts: (runs, looks, 4)."""
    table = np.array(lines, dtype=float).reshape(len(lines), -1, 4)
    return {f"{which}/{part}": table for which in ("null", "effect") for part in ("absolute", "relative")}


def test_the_sums_handed_over_give_our_own_ranges_back():
    sums, ours = draw(SMALL, runs=3, seed=7)
    for run in range(3):
        sides = []
        for arm in ("treated", "control"):
            n, a, b, aa, ab, ba, bb = sums[f"effect/{arm}"][run, 0].tolist()
            sides.append(value(Moments.from_sums(n, ("numerator", "denominator"), (a, b), ((aa, ab), (ba, bb)))))
        found = compare(*sides, level=0.95).absolute
        assert ours["effect/absolute"][run, 0] == pytest.approx([found.estimate, found.low, found.high, found.p], rel=1e-12)
    assert [sums[f"null/{arm}"][0, 0, 0] for arm in ("treated", "control")] == [60, 50]


def test_readers_with_a_past_come_with_its_sums():
    sums, ours = draw(PeerSet(VISITS, (80, 80), 1.2, past=True), runs=2, seed=1)
    assert sums["null/treated"].shape == (2, 1, 1 + 4 + 16)
    table = sums["null/treated"][0, 0, 5:].reshape(4, 4)
    assert (table == table.T).all()
    assert np.isfinite(ours["null/relative"]).all()


def test_looks_see_all_readers_so_far_and_claim_nothing_below_a_hundred():
    sums, ours = draw(LOOKED, runs=2, seed=1)
    assert sums["null/control"][0, :, 0].tolist() == [60, 120, 180]
    assert (np.diff(sums["null/control"][:, :, 1], axis=1) > 0).all()
    assert np.isnan(ours["null/absolute"][:, 0]).all()
    assert np.isfinite(ours["null/absolute"][:, 1:]).all()


def test_the_same_seed_draws_the_same_readers():
    one, two = (draw(SMALL, runs=2, seed=3)[0]["null/treated"] for _ in range(2))
    assert (one == two).all()


def test_a_tool_is_judged_by_hand():
    """Truth 0.5 in the unit of the difference (2.5 times 20 %), 0.2 relative: two miss below, one above, one has no range."""
    none = (np.nan,) * 4
    found = standing(SMALL, answer([(0, -3, -1, 0.01), (0, -2, 0.1, 0.5), (0, 0.1, 1, 0.01), (0, 0.9, 2, 0.01), none]))
    assert (found["absolute_down"], found["absolute_up"], found["absolute_power"]) == (0.2, 0.4, 0.4)
    assert (found["absolute_coverage"], found["relative_coverage"]) == (0.25, 0.25)


def test_an_alarm_at_any_look_counts_and_so_does_a_miss():
    quiet, alarm = [(0, -1, 9, 0.5)] * 3, [(0, -1, 9, 0.5), (0, 0.1, 9, 0.01), (0, -1, 9, 0.5)]
    found = standing(LOOKED, answer([quiet, alarm]))
    assert (found["absolute_up"], found["absolute_coverage"]) == (0.5, 1.0)
    late = [(0, -1, 9, 0.5), (0, -1, 9, 0.5), (0, -1, 0.01, 0.5)]
    assert standing(LOOKED, answer([quiet, late]))["absolute_coverage"] == 0.5


def test_an_answer_of_another_shape_is_refused_and_no_answer_has_no_figures():
    with pytest.raises(DataError, match="another shape"):
        standing(LOOKED, answer([(0, 0, 0, 0)]))
    assert set(standing(SMALL, {}).values()) == {None}


def test_every_process_of_the_gate_that_other_tools_know_is_handed_over():
    assert {chosen.process.name for chosen in peer_sets()} >= {"views per session", "dwell per view", "conversion", "rare event"}
    assert RARE.zero_or_one
    assert len({chosen.title for chosen in peer_sets()}) == len(peer_sets())


def test_where_tools_differ_our_side_makes_one_decision_and_keeps_its_digits():
    said = our_cases()
    assert said["one decision"] == "difference 0.29 (0.0454 to 0.535), p = 0.02; relative 0.707 (0.0941 to 1.71), p = 0.02"
    assert said["offset"] == "1"
    assert said["nobody"].startswith("0.03 (0.02")


def test_a_peer_needs_a_known_name_and_an_interpreter():
    assert parse_peers([f"gbstats={sys.executable}"]) == {"gbstats": Path(sys.executable)}
    with pytest.raises(ConfigError) as said:
        parse_peers(["nobody=python", "gbstats=/nowhere/python"])
    assert "the tools are gbstats, spotify-confidence, tea-tasting" in str(said.value)
    assert "there is no interpreter '/nowhere/python'" in str(said.value)


def test_a_tool_that_is_not_installed_is_named():
    with pytest.raises(DataError, match="tea-tasting did not answer: exit status 1") as said:
        beside_peers({"tea-tasting": Path(sys.executable)}, seed=1, runs=2)
    assert "ModuleNotFoundError: No module named 'tea_tasting'" in said.value.faults


def test_a_tool_that_fails_is_quoted_with_its_last_lines(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nfor i in 1 2 3 4 5 6 7 8; do echo line $i >&2; done\nexit 3\n")
    python.chmod(0o700)
    with pytest.raises(DataError, match=r"gbstats did not answer: exit status 3\. Its last lines:") as said:
        beside_peers({"gbstats": python}, seed=1, runs=2)
    assert said.value.faults == ("line 4", "line 5", "line 6", "line 7", "line 8")


def test_a_tool_that_is_killed_is_told_from_one_that_fails(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -9 $$\n")
    python.chmod(0o700)
    with pytest.raises(DataError, match="gbstats did not answer: killed by signal 9") as said:
        beside_peers({"gbstats": python}, seed=1, runs=2)
    assert said.value.faults == ("it said nothing",)


def test_the_page_shows_every_tool_and_what_it_refused():
    found = standing(SMALL, answer([(0, -3, -1, 0.01), (0, -2, 1, 0.5)]))
    page = markdown(
        [], [], command="presslab calibrate", peers=Peers([("one", [("Presslab", found)])], ["x has no y: one."], [("case", {"x": "1"})])
    )
    assert "| Presslab | 50.00% | 0.00% | 50.00% | 0.00% |" in page
    assert "- x has no y: one." in page
    assert "- x: 1" in page
