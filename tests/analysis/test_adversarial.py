"""The adversarial table of the statistics charter: what readers, files and events may do, and what comes of it."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from analysis.comparison import Comparisons, compare_all
from analysis.moments import Totals
from analysis.own.data import analyse
from analysis.own.plan import wanted
from analysis.report import Report, build_report
from analysis.totals import totals
from experiments.clock import moment
from experiments.errors import DataError
from experiments.events.event import Event
from experiments.events.store import balance
from experiments.experiment import Arm, Experiment, Phase
from tests.analysis.tables import SESSIONS, START, VIEWS, Line, totals_of
from tests.events import story
from tests.events.story import DAY, Story, send

TWO = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5))
PLAN = Experiment("related", "Does it pay?", "status_quo", TWO, window_days=1.0, planned_days=14.0, salt="s", segments=("device",))
KEYS = (VIEWS, SESSIONS)
Table = list[tuple[int, int]]  # (views, sessions) per reader


def found(treated: Table, control: Table) -> Totals:
    return totals_of({("front", 1): np.array(treated), ("status_quo", 1): np.array(control)}, keys=KEYS)


def report(known: Totals, experiment: Experiment = PLAN, **how: object) -> Report:
    until = START + timedelta(days=14)
    return build_report(experiment, known, (Line(),), start=START, until=until, state="stopped", snapshot="1", **how)


def skewed(n: int, seed: int = 1) -> Table:
    return [(int(x), 1) for x in 1 + 10 * np.random.default_rng(seed).lognormal(0, 1.2, n)]


EVEN: Table = [(1, 1), (3, 1)] * 100

# name, treated arm, control arm, status, whether there is (a difference, a relative change)
ROWS: list[tuple[str, Table, Table, str, tuple[bool, bool]]] = [
    ("one reader in an arm", [(2, 1)], EVEN, "insufficient", (False, False)),
    ("29 readers in an arm", EVEN[:29], EVEN, "insufficient", (False, False)),
    ("40 readers against 40", EVEN[:40], EVEN[:40], "ok", (True, True)),
    ("40 skewed readers against 4,000", skewed(40), skewed(4000, 2), "guarded", (True, True)),
    ("one in a hundred readers, skewed", skewed(100), skewed(9900, 2), "guarded", (True, True)),
    ("nobody differs", [(2, 1)] * 40, [(2, 1)] * 40, "no_variation", (False, False)),
    ("nobody opens anything", [(0, 1)] * 40, [(0, 1)] * 40, "no_variation", (False, False)),
    ("only the treated open anything", EVEN, [(0, 1)] * 200, "not_estimable", (True, False)),
    ("the control may be zero", EVEN, [(1, 1), *[(0, 1)] * 199], "not_estimable", (True, False)),
    ("the control may be zero and is smaller", EVEN, [(1, 1), *[(0, 1)] * 99], "not_estimable", (False, False)),
    ("an arm without a session", [(0, 0)] * 40, EVEN, "undefined_denominator", (False, False)),
]


@pytest.mark.parametrize(("treated", "control", "status", "exist"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_cannot_be_estimated_has_a_status_and_a_reason_in_the_report(treated, control, status, exist):
    told = report(found(treated, control)).to_dict()
    effect = told["effects"][0]
    assert effect["status"] == status
    assert (effect["absolute"]["estimate"] is not None, effect["relative"]["estimate"] is not None) == exist
    assert all((effect["absolute"][key] is not None) == exist[0] for key in ("se", "low", "high", "p"))
    assert all((effect["relative"][key] is not None) == exist[1] for key in ("low", "high"))
    assert math.isfinite(sum(value or 0.0 for value in (*effect["absolute"].values(), *effect["relative"].values())))
    assert bool(effect["reason"]) == (status != "ok")
    assert effect["n"] == {"front": len(treated), "status_quo": len(control)}
    assert told["verdict"]["key"] != "ship" or status in ("ok", "guarded")


def test_what_does_not_vary_still_shows_its_values():
    effect = report(found([(2, 1)] * 40, [(3, 1)] * 40)).to_dict()["effects"][0]
    assert effect["values"] == {"front": 2.0, "status_quo": 3.0}
    assert (effect["status"], effect["absolute"]["p"]) == ("no_variation", None)


@pytest.mark.long
def test_a_guarded_arm_of_one_in_a_hundred_errs_rarely_in_either_tail():
    """The plain range misses far more often in one tail (STATISTICS 3: coverage 0.84 to 0.90)."""
    rng, runs, low, high = np.random.default_rng(3), 150, 0, 0
    for _ in range(runs):
        small, large = (1 + 10 * rng.lognormal(0, 1.2, n) for n in (40, 3960))
        table = [[(int(x), 1) for x in side] for side in (small, large)]
        relative = compare_all(PLAN, found(*table)).effects[0].contrast.relative
        assert relative is not None
        low, high = low + (relative.low > 0), high + (relative.high < 0)
    assert max(low, high) / runs < 0.025 + 3 * math.sqrt(0.025 * 0.975 / runs)


def test_one_reader_with_thirty_percent_of_the_views_is_flagged():
    crowd = [(1, 1), (2, 1), (3, 1)] * 100
    heavy = [(int(0.3 / 0.7 * 600), 1), *crowd]
    checks = {check.name: check.state for check in report(found(heavy, crowd)).checks}
    assert checks["heavy_reader"] == "warn"
    assert {check.name: check.state for check in report(found(crowd, crowd)).checks}["heavy_reader"] == "ok"


@pytest.mark.parametrize("bad", ["nan", "inf", "-inf", ""])
def test_values_that_are_no_numbers_are_refused_with_their_arms(tmp_path: Path, bad):
    lines = ["uid,arm,views,visits", *(f"r{i},{'ab'[i % 2]},{bad if i in (3, 5, 8) else i},1" for i in range(80))]
    (tmp_path / "own.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"(not a finite number|empty) in 3 rows \(a: 1, b: 2\)"):
        analyse(tmp_path / "own.csv", [wanted("goal=views/visits")], reader="uid", arm="arm", control="a")


# Large numbers


def test_an_offset_of_a_hundred_million_leaves_the_difference_and_its_spread():
    rng = np.random.default_rng(4)
    one, other = ([(int(x), 1) for x in rng.integers(0, 2, 500)] for _ in range(2))
    plain, far = (
        compare_all(PLAN, found([(v + offset, d) for v, d in one], [(v + offset, d) for v, d in other])).effects[0].contrast
        for offset in (0, 10**8)
    )
    assert far.absolute.estimate == pytest.approx(plain.absolute.estimate, abs=1e-7)  # the difference of two floats near 1e8
    reference = [np.var([v for v, _ in side], ddof=1) / len(side) for side in (one, other)]
    assert far.absolute.se == pytest.approx(math.sqrt(sum(reference)), rel=1e-9)


def test_a_thousand_million_readers_of_whole_numbers_keep_their_digits():
    """Half of them open 1, half 3: mean 2, variance 1 up to n / (n - 1); the treated one in a million more."""
    n = 10**9

    def cells(more: int) -> Totals:
        from analysis.moments import Moments

        first, squares = 2 * n + more, 5 * n + 7 * more
        known = Moments.from_sums(n, KEYS, (first, n), ((squares, first), (first, n)))
        return replace(found(EVEN, EVEN), moments={("front", 1): known, ("status_quo", 1): plain}, distinct={}) if more else known

    plain = cells(0)
    contrast = compare_all(PLAN, cells(1000)).effects[0].contrast
    assert contrast.absolute.estimate == pytest.approx(1e-6, rel=1e-9)
    assert contrast.absolute.se == pytest.approx(math.sqrt(2 / n), rel=1e-5)
    assert contrast.status == "ok"


# Arms and shares that change


def ramp() -> Totals:
    """No effect: but on busy days, when front holds half of all readers, everybody opens more."""
    quiet, busy = [(2, 1), (4, 1)], [(8, 1), (10, 1)]
    cells = {("status_quo", 0): quiet * 450, ("front", 0): quiet * 50, ("status_quo", 1): busy * 500, ("front", 1): busy * 500}
    return totals_of({cell: np.array(table) for cell, table in cells.items()}, keys=KEYS)


def test_a_ramp_lends_no_busy_days_to_an_arm():
    phases = [
        Phase(0, START, (("status_quo", 0.9), ("front", 0.1))),
        Phase(1, START + timedelta(days=7), (("status_quo", 0.5), ("front", 0.5))),
    ]
    told = report(ramp(), phases=phases)
    effect = told.to_dict()["effects"][0]
    assert effect["absolute"]["estimate"] == pytest.approx(0, abs=1e-12)
    assert effect["absolute"]["low"] < 0 < effect["absolute"]["high"]
    pooled = {arm: ramp().moments[arm, 0].merge(ramp().moments[arm, 1]).mean[0] for arm in ("front", "status_quo")}
    assert pooled["front"] - pooled["status_quo"] > 2
    assert next(check.state for check in told.checks if check.name == "split") == "ok"


def test_an_arm_added_on_the_way_is_compared_with_those_who_came_after_it_was():
    """Before it was there everybody opened ten times as much; that phase counts for nobody."""
    three = replace(PLAN, arms=(*(replace(arm, share=1 / 3) for arm in TWO), Arm("als", "model", 1 / 3)))
    early = {(arm, 0): np.array([(20, 1), (40, 1)]).repeat(100, axis=0) for arm in ("front", "status_quo")}
    late = {(arm, 1): np.array(EVEN) for arm in ("front", "status_quo", "als")}
    compared = compare_all(three, totals_of(early | late, keys=KEYS))
    assert compared.dropped == (0,)
    effect = compared.of("views_per_session", "als", "status_quo")
    assert (effect.contrast.values, effect.contrast.absolute.estimate, effect.contrast.n) == ((2.0, 2.0), 0.0, (200, 200))


# Through outbox and loader


def told_story(*, phones: bool = True) -> list[Event]:
    """40 readers an arm on consecutive minutes; front opens one article more; a click and visible time on every page."""
    written = Story()
    for i in range(80):
        arm, minute = ("status_quo", "front")[i % 2], 3 * i
        page = written.page(f"r{i:02d}", minute, device="phone" if phones else "desktop")
        written.expose(page, f"r{i:02d}", minute, arm)
        written.dwell(page, f"r{i:02d}", minute, 5_000 + 10 * i)
        for k in range(i // 2 % 3 + i % 2):
            written.page(f"r{i:02d}", minute + 1 + k)
    return written.events


def from_events(home: Path, events: list[Event], experiment: Experiment = PLAN) -> Report:
    send(home, events)
    until = story.START + 15 * DAY
    known = totals(home, experiment, until_us=until, source="live")
    start = moment(story.START)
    return build_report(experiment, known, balance(home), start=start, until=moment(until), state="stopped", snapshot="1")


def essence(told: Report) -> list[dict[str, object]]:
    return told.to_dict()["effects"]


@pytest.fixture(scope="module")
def faultless(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return from_events(tmp_path_factory.mktemp("faultless"), told_story())


def checks_of(told: Report) -> dict[str, str]:
    return {check.name: check.state for check in told.checks}


def test_without_faults_everything_counts(faultless: Report):
    effect = essence(faultless)[0]
    assert effect["n"] == {"front": 40, "status_quo": 40}
    assert effect["absolute"]["estimate"] == pytest.approx(1.0)


def test_events_that_come_twice_count_once(tmp_path: Path, faultless: Report):
    events = told_story()
    twice = [event for pair in zip(events, events, strict=True) for event in pair] + events[::-3]
    told = from_events(tmp_path, twice)
    assert essence(told) == essence(faultless)
    assert checks_of(told)["nothing_lost"] == "ok"


def test_events_in_any_order_tell_the_same(tmp_path: Path, faultless: Report):
    events = told_story()
    order = np.random.default_rng(6).permutation(len(events))
    assert essence(from_events(tmp_path, [events[i] for i in order])) == essence(faultless)


def test_clocks_of_readers_change_no_number(tmp_path: Path, faultless: Report):
    """Ten years early and late, and never set at all."""
    years = 10 * 365 * DAY
    wrong = itertools.cycle([story.START - years, story.START + years, 0])
    events = [structs.replace(event, client_at=next(wrong), sent_at=next(wrong)) for event in told_story()]
    assert essence(from_events(tmp_path, events)) == essence(faultless)


def test_what_a_server_receives_more_than_a_day_late_counts_for_no_arm(tmp_path: Path, faultless: Report):
    late = [
        structs.replace(event, id=bytes(15) + bytes([i]), reader=f"late{i}", page_view=f"{i:032x}", received_at=event.issued_at + 2 * DAY)
        for i, event in enumerate(event for event in told_story() if event.kind == "exposure")
    ]
    told = from_events(tmp_path, told_story() + late[:40])
    assert essence(told) == essence(faultless)
    assert dict(told.totals.counts.late) == {"front": 20, "status_quo": 20}


def test_a_group_of_readers_that_nobody_belongs_to_or_only_few_has_a_status(tmp_path: Path):
    events = told_story()
    rare = [structs.replace(event, device="tablet") if event.reader in ("r00", "r01", "r02") else event for event in events]
    segments = from_events(tmp_path, rare).to_dict()["segments"]
    groups = {group["group"]: group for group in segments[0]["groups"]} if segments else {}
    assert "desktop" not in groups
    assert groups["tablet"]["status"] == "insufficient"
    assert groups["tablet"]["reason"]
    assert groups["phone"]["status"] == "ok"


def test_a_phase_with_an_empty_arm_is_left_out_and_nobody_else_is_lost():
    cells = {("front", 0): np.array(EVEN), ("status_quo", 0): np.array(EVEN), ("status_quo", 1): np.array([(50, 1), (70, 1)])}
    compared: Comparisons = compare_all(PLAN, totals_of(cells, keys=KEYS))
    assert (compared.dropped, compared.effects[0].contrast.values) == ((1,), (2.0, 2.0))
