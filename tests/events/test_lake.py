from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from experiments.errors import DataError, MetricError
from experiments.events import lake
from experiments.events.event import Event
from experiments.events.lake_values import values_of_events
from experiments.events.loader import Loader
from experiments.events.sealing import seal
from experiments.experiment import Arm, Experiment
from experiments.metric import Measure, Metric, built_in
from tests.events.story import DAY, MINUTE, START, Story, send
from tests.events.test_tail import degrade

PLAN = Experiment(
    "related",
    "Does it pay?",
    "status_quo",
    (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5)),
    window_days=1.0,
)
METRICS = tuple(built_in().values())
LATER = START + 30 * DAY


def measured(home: Path, measures: dict[str, Measure] | None = None, until: int = LATER, **more: Any) -> dict[str, dict[str, Any]]:
    """Reader -> row, with the columns of the given measures under the given names."""
    wanted = measures or {}
    metrics = [Metric(name, name, measure, Measure(count="reader")) for name, measure in wanted.items()]
    found = lake.reader_rows(home, PLAN, metrics or METRICS, until_us=until, source=more.pop("source", "live"), **more)
    names = {measure.key: name for name, measure in wanted.items()}
    return {row["reader"]: {names.get(key, key): value for key, value in row.items()} for row in found.table.to_pylist()}


ARTICLES = Measure(count="view", where={"page_type": "article"})
SESSIONS = Measure(count="session")
BOUNCES = Measure(count="bounce")
DWELL = Measure(sum="dwell.active_ms")


def test_three_readers_by_hand(tmp_path: Path) -> None:
    story = Story()
    # anna: two sessions (the gap is exactly 30 minutes), three articles and a front page
    story.exposed("anna", 0, "status_quo")
    story.page("anna", 10)
    story.page("anna", 39, "front")
    story.page("anna", 69)
    # ben: one session across a gap of 29.9 minutes, one click, dwell sent three times
    first = story.exposed("ben", 5, "front", body={"bucket": 8})
    story.add("impression", first, "ben", 5, arm="front", body={"slot": "article.related", "articles": ["a2"], "latency_us": 900})
    story.add("click", first, "ben", 5, arm="front", body={"slot": "article.related", "article": "a2"})
    for active_ms, depth in ((10_000, 20), (40_000, 95), (20_000, 30)):
        story.dwell(first, "ben", 5, active_ms, depth)
    story.page("ben", 34.9)
    # cleo: only looks
    story.exposed("cleo", 100, "status_quo")
    send(tmp_path, story.events)

    rows = measured(tmp_path)

    assert {reader: (row["arm"], row["phase"], row["bucket"]) for reader, row in rows.items()} == {
        "anna": ("status_quo", 0, 7),
        "ben": ("front", 0, 8),
        "cleo": ("status_quo", 0, 7),
    }
    columns = (
        "count_view_page_type_article",
        "count_session",
        "count_bounce",
        "sum_dwell_active_ms_page_type_article",
        "count_click",
        "count_impression",
    )
    assert [[rows[reader][column] for column in columns] for reader in ("anna", "ben", "cleo")] == [
        [3, 2, 1, 0, 0, 0],
        [2, 1, 0, 40_000, 1, 1],
        [1, 1, 1, 0, 0, 0],
    ]
    assert rows["ben"]["count_dwell_depth_percent___90_page_type_article"] == 1
    assert {row["count_reader"] for row in rows.values()} == {1}


def test_only_sessions_that_start_within_the_window_count_but_those_count_whole(tmp_path: Path) -> None:
    story = Story()
    story.exposed("anna", 0, "front")
    story.page("anna", 1439.99)
    story.page("anna", 1445)  # belongs to the session before
    story.exposed("ben", 0, "front")
    story.page("ben", 1440)  # a day later to the microsecond: outside
    send(tmp_path, story.events)
    rows = measured(tmp_path, {"articles": ARTICLES, "sessions": SESSIONS})
    assert (rows["anna"]["articles"], rows["anna"]["sessions"]) == (3, 2)
    assert (rows["ben"]["articles"], rows["ben"]["sessions"]) == (1, 1)


def test_a_session_that_began_before_the_first_exposure_does_not_count_unless_asked(tmp_path: Path) -> None:
    story = Story()
    story.page("anna", 0, "front")
    story.exposed("anna", 2, "front")
    story.page("anna", 500)
    send(tmp_path, story.events)
    measures = {"articles": ARTICLES, "sessions": SESSIONS, "bounces": BOUNCES}
    strict, wide = measured(tmp_path, measures)["anna"], measured(tmp_path, measures, session_of_exposure=True)["anna"]
    assert (strict["articles"], strict["sessions"], strict["bounces"]) == (1, 1, 1)
    assert (wide["articles"], wide["sessions"], wide["bounces"]) == (2, 2, 1)
    assert strict["exposed_at"] == wide["exposed_at"] == START + 2 * MINUTE


def test_a_reader_without_a_counted_session_stays_in_with_zeros(tmp_path: Path) -> None:
    story = Story()
    story.page("anna", 0, "front")
    story.exposed("anna", 2, "front")
    send(tmp_path, story.events)
    assert measured(tmp_path, {"sessions": SESSIONS, "dwell": DWELL})["anna"]["sessions"] == 0


def test_sessions_that_began_in_the_fourteen_days_before_and_were_over_are_covariates(tmp_path: Path) -> None:
    story = Story()
    story.page("anna", -14 * 1440 - 0.01)  # a moment too old
    story.page("ben", -14 * 1440)
    story.page("cleo", -30)  # over at the first exposure to the microsecond
    story.page("dora", -29.99)  # her session goes on
    for reader in ("anna", "ben", "cleo", "dora"):
        story.exposed(reader, 0, "front")
    send(tmp_path, story.events)
    rows = measured(tmp_path)
    names = ("pre:count_view_page_type_article", "pre:count_session", "has_pre")
    assert {reader: tuple(row[name] for name in names) for reader, row in rows.items()} == {
        "anna": (0, 0, 0),
        "ben": (1, 1, 1),
        "cleo": (1, 1, 1),
        "dora": (0, 0, 0),
    }


def test_a_reader_matures_when_the_window_has_passed_to_the_microsecond(tmp_path: Path) -> None:
    story = Story()
    story.exposed("anna", 0, "front")
    send(tmp_path, story.events)
    assert list(measured(tmp_path, until=START + DAY)) == ["anna"]
    assert list(measured(tmp_path, until=START + DAY - 1)) == []


def test_the_first_exposure_decides_and_crossing_is_counted(tmp_path: Path) -> None:
    story = Story()
    story.exposed("anna", 200, "status_quo", body={"phase": 0})
    story.exposed("anna", 100, "front", body={"phase": 3})
    story.exposed("ben", 5, "front")
    story.exposed("ben", 50, "front")
    send(tmp_path, story.events)
    found = lake.reader_rows(tmp_path, PLAN, METRICS, until_us=LATER, source="live")
    assert found.crossed == 1
    anna = found.table.to_pylist()[0]
    assert (anna["arm"], anna["phase"], anna["exposed_at"]) == ("front", 3, START + 100 * MINUTE)


def test_at_the_same_microsecond_the_smaller_page_view_decides(tmp_path: Path) -> None:
    story = Story()
    one = story.page("anna", 10)
    two = story.page("anna", 10)
    story.expose(two, "anna", 10, "front")
    story.expose(one, "anna", 10, "status_quo")
    send(tmp_path, story.events)
    assert measured(tmp_path)["anna"]["arm"] == "status_quo"


@pytest.mark.parametrize(
    "left_out",
    [
        {"body": {"reason": "forced"}},
        {"bot": True},
        {"late_minutes": 1441},
        {"arm": "als"},
        {"page": {"prefetch": True}},
        {"experiment": "another"},
    ],
)
def test_exposures_that_do_not_count_do_not_enter_a_reader(tmp_path: Path, left_out: dict[str, Any]) -> None:
    story = Story()
    story.exposed("anna", 10, **({"arm": "front"} | left_out))
    story.exposed("anna", 300, "status_quo")
    send(tmp_path, story.events)
    rows = measured(tmp_path)
    assert [(row["arm"], row["exposed_at"]) for row in rows.values()] == [("status_quo", START + 300 * MINUTE)]


def test_pages_of_bots_prefetches_and_other_sources_are_not_views(tmp_path: Path) -> None:
    story, simulated = Story(), Story(source="simulated", pages=500)
    story.exposed("anna", 0, "front")
    story.page("anna", 3, body={"prefetch": True})
    story.page("anna", 4, bot=True)
    story.page("", 5)
    simulated.exposed("anna", 6, "status_quo")
    send(tmp_path, story.events + simulated.events)
    assert measured(tmp_path, {"articles": ARTICLES})["anna"]["articles"] == 1
    assert measured(tmp_path, {"articles": ARTICLES}, source="simulated")["anna"]["arm"] == "status_quo"


def test_visible_time_is_the_largest_heartbeat_capped_at_thirty_minutes(tmp_path: Path) -> None:
    story = Story()
    page = story.exposed("anna", 0, "front")
    other = story.page("anna", 5)
    story.dwell(page, "anna", 0, 5_000_000)
    story.dwell(page, "anna", 0, 5)
    story.dwell(other, "anna", 5, 7)
    story.dwell(other, "ben", 5, 900)  # another reader's beacon for this page
    send(tmp_path, story.events)
    assert measured(tmp_path, {"dwell": DWELL})["anna"]["dwell"] == 1_800_000 + 7


def test_a_blank_slot_is_no_impression(tmp_path: Path) -> None:
    story = Story()
    for minute, articles in ((0, []), (2, ["a1", "a2"])):
        page = story.exposed("anna", minute, "status_quo")
        story.add("impression", page, "anna", minute, arm="status_quo", body={"slot": "article.related", "articles": articles})
    send(tmp_path, story.events)
    assert measured(tmp_path, {"impressions": Measure(count="impression")})["anna"]["impressions"] == 1


def test_values_of_events_are_those_of_readers_whose_window_is_over(tmp_path: Path) -> None:
    story = Story()
    for reader, minute, latency in (("anna", 0, 900), ("anna", 3, 900), ("ben", 5, 70), ("late", 1.5 * 1440, 5)):
        page = story.exposed(reader, minute, "front")
        body = {"slot": "article.related", "articles": ["a2"], "latency_us": latency}
        story.add("impression", page, reader, minute, arm="front", body=body)
    send(tmp_path, story.events)
    (cell,) = values_of_events(tmp_path, PLAN, Measure(sum="impression.latency_us"), until_us=START + 2 * DAY, source="live")
    assert (cell.arm, cell.phase, cell.readers.tolist(), cell.values.tolist(), cell.events.tolist()) == (
        "front",
        0,
        [0, 1],
        [900, 70],
        [2, 1],
    )


def test_measures_filter_by_fields_of_the_event_and_of_its_page(tmp_path: Path) -> None:
    story = Story()
    first = story.exposed("anna", 0, "front", body={"outcome": "fallback"}, page={"section": "city"})
    second = story.page("anna", 3, body={"section": "science", "referrer": "slot"})
    story.add("click", first, "anna", 0, arm="front", body={"slot": "article.related", "article": "a2"})
    story.dwell(first, "anna", 0, 100, 89)
    story.dwell(second, "anna", 3, 1_000, 90)
    send(tmp_path, story.events)
    measures = {
        "science": Measure(count="view", where={"section": "science"}),
        "from_slot": Measure(count="view", where={"referrer": "slot", "page_type": "article"}),
        "science_ms": Measure(sum="dwell.active_ms", where={"section": "science"}),
        "to_end": Measure(count="dwell", where={"depth_percent": ">=90"}),
        "fallbacks": Measure(count="exposure", where={"outcome": "fallback"}),
        "clicks": Measure(count="click", where={"slot": "article.related"}),
        "elsewhere": Measure(count="click", where={"slot": "front.lead"}),
    }
    row = measured(tmp_path, measures)["anna"]
    assert [row[name] for name in measures] == [1, 1, 1_000, 1, 1, 1, 0]


def test_coming_back_and_paying_are_measured(tmp_path: Path) -> None:
    plan = replace(PLAN, window_days=3.0)
    story = Story()
    story.exposed("anna", 0, "front")
    story.page("anna", 1440)
    story.exposed("ben", 0, "front")
    story.page("ben", 1439)
    for reader, minute, value, name in (("anna", 20, 499, "order"), ("anna", 30, 1, "letter"), ("ben", 5000, 900, "order")):
        order, at = bytes(8) + minute.to_bytes(8, "big"), START + minute * MINUTE
        story.events.append(Event(order, "conversion", "", reader, at, at, {"value": value, "currency": "EUR", "name": name}))
    send(tmp_path, story.events)
    measures = (
        Measure(count="returned"),
        Measure(sum="conversion.value"),
        Measure(count="conversion"),
        Measure("conversion", where={"name": "letter"}),
    )
    metrics = [Metric("x", "x", measure, Measure(count="reader")) for measure in measures]
    for _ in range(2):
        found = lake.reader_rows(tmp_path, plan, metrics, until_us=LATER, source="live").table.to_pylist()
        assert [[row["reader"], *(row[measure.key] for measure in measures)] for row in found] == [
            ["anna", 1, 500, 2, 1],
            ["ben", 0, 0, 0, 0],
        ]
        with Loader(tmp_path, clock=lambda: LATER) as loader:
            seal(tmp_path, until_us=LATER, loader=loader)


@pytest.mark.parametrize("measure", [Measure(count="click", where={"depth_percent": ">=5"}), Measure(count="session", where={"slot": "x"})])
def test_a_filter_that_cannot_work_is_refused_by_name(tmp_path: Path, measure: Measure) -> None:
    with pytest.raises(MetricError, match=measure.key):
        measured(tmp_path, {"x": measure})


def test_an_empty_home_has_no_reader_and_no_number(tmp_path: Path) -> None:
    rows = lake.reader_rows(tmp_path, PLAN, METRICS, until_us=LATER, source="live")
    assert (len(rows.table), lake.moments(rows), rows.snapshot_seq) == (0, [], 0)
    counted = lake.counts(tmp_path, PLAN, until_us=LATER, source="live")
    assert counted.exposed == {"status_quo": 0, "front": 0}
    assert len(lake.reads(tmp_path, until_us=LATER)) == 0


def a_week(seed: int) -> list[Event]:
    """Twenty readers with everything in it: crossings, bots, late rows, heartbeats."""
    chance, story = random.Random(seed), Story()
    for number in range(20):
        reader, minute = f"reader-{number:02d}", chance.uniform(0, 3000)
        for _ in range(chance.randrange(1, 12)):
            minute += chance.choice([0.2, 5, 29, 31, 300, 900])
            arm = "front" if chance.random() < 0.02 else ("status_quo", "front")[number % 2]
            page = story.exposed(reader, minute, arm, bot=chance.random() < 0.03, body={"bucket": number * 7})
            if chance.random() < 0.3:
                story.add("click", page, reader, minute, arm=arm, body={"slot": "article.related", "article": "a1"})
            for _ in range(chance.randrange(3)):
                story.dwell(page, reader, minute, chance.randrange(100_000), chance.randrange(101))
            if chance.random() < 0.05:
                story.page(reader, minute + 1, late_minutes=3000)
    return story.events


def everything(home: Path) -> Any:
    rows = lake.reader_rows(home, PLAN, METRICS, until_us=LATER, source="live")
    counted = lake.counts(home, PLAN, until_us=LATER, source="live")
    views = lake.reads(home, until_us=LATER).drop_columns(["seq"]).to_pylist()
    pairs = lake.distinct_rows(rows, "count_click", "count_session")
    return lake.moments(rows), pairs, rows.table.to_pylist(), replace(counted, snapshot_seq=0), views


def test_shuffled_and_repeated_events_give_identical_moments(tmp_path: Path) -> None:
    events = a_week(3)
    send(tmp_path / "once", events)
    expected = everything(tmp_path / "once")
    assert len(expected[0]) == 2
    for seed in range(2):
        chance = random.Random(seed)
        shuffled = [event for event in events for _ in range(chance.randrange(1, 4))]
        chance.shuffle(shuffled)
        home = tmp_path / f"again-{seed}"
        for start in range(0, len(shuffled), 400):
            send(home, shuffled[start : start + 400])
        assert everything(home) == expected


def test_moments_are_the_sums_of_the_rows(tmp_path: Path) -> None:
    send(tmp_path, a_week(4))
    rows = lake.reader_rows(tmp_path, PLAN, METRICS, until_us=LATER, source="live")
    for moment in lake.moments(rows):
        own = [row for row in rows.table.to_pylist() if row["arm"] == moment.arm]
        assert moment.n == len(own)
        assert moment.sums == tuple(sum(row[key] for row in own) for key in rows.keys)
        assert moment.products == tuple(tuple(sum(row[a] * row[b] for row in own) for b in rows.keys) for a in rows.keys)
    parts = lake.moments(rows, by_bucket=True)
    assert sum(part.n for part in parts) == len(rows.table)
    assert all(part.bucket is not None and 0 <= part.bucket < 200 for part in parts)


def test_moments_of_huge_values_are_exact() -> None:
    table = pa.table({"arm": ["a"] * 3, "phase": [0] * 3, "bucket": [1] * 3, "x": pa.array([2**60, 2**60 + 1, -5], pa.int64())})
    moment = lake.moments(lake.ReaderRows(table, ("x",), 0, 0, "live", 0))[0]
    assert moment.sums == (2**61 - 4,)
    assert moment.products == ((2**120 + (2**60 + 1) ** 2 + 25,),)


def test_distinct_rows_give_back_every_reader(tmp_path: Path) -> None:
    send(tmp_path, a_week(5))
    rows = lake.reader_rows(tmp_path, PLAN, METRICS, until_us=LATER, source="live")
    pairs = lake.distinct_rows(rows, "count_view_page_type_article", "count_session")
    assert sum(count for *_, count in pairs) == len(rows.table)
    assert sum(n * count for _, n, _, count in pairs) == sum(rows.table["count_view_page_type_article"].to_pylist())
    assert len({pair[:3] for pair in pairs}) == len(pairs)


def test_counts_say_who_was_seen_and_what_was_left_out(tmp_path: Path) -> None:
    story = Story()
    page = story.exposed("anna", 0, "front", body={"outcome": "fallback"})
    story.exposed("anna", 2, "front", body={"outcome": "degraded"})
    story.exposed("ben", 0, "status_quo")
    story.exposed("ben", 3, "front", body={"phase": 1})
    story.exposed("cleo", 29 * 1440 + 700, "front", body={"phase": 1})
    story.exposed("dora", 4, "front", bot=True)
    story.exposed("emil", 4, "front", body={"reason": "forced"})
    story.exposed("finn", 4, "als")
    story.exposed("gina", 4, "front", late_minutes=2000)
    story.add("click", page, "anna", 0, arm="front", body={"slot": "article.related", "article": "a2"})
    story.add("click", page, "ben", 1, key="copied", arm="front", body={"slot": "article.related", "article": "a2"})
    send(tmp_path, story.events)
    counted = lake.counts(tmp_path, PLAN, until_us=LATER, source="live")
    assert counted.exposed == {"status_quo": 1, "front": 2}
    assert counted.matured == {"status_quo": 1, "front": 1}
    assert counted.exposed_by_phase == {0: {"status_quo": 1, "front": 1}, 1: {"status_quo": 0, "front": 1}}
    assert counted.sessions == {"status_quo": 1, "front": 1}
    assert counted.exposures == {"status_quo": 1, "front": 4}
    assert (counted.fallbacks["front"], counted.degraded["front"]) == (1, 1)
    assert (counted.bots["front"], counted.forced["front"], counted.late["front"]) == (1, 1, 1)
    assert (counted.crossed, counted.unknown_arms, counted.clicks_without_exposure) == (1, {"als": 1}, 1)
    assert counted.views_per_day == pytest.approx(8 / 30)  # eight pages of people, thirty days since the first exposure


def test_views_of_readers_who_agreed_are_counted_apart_where_an_arm_is_for_them_only(tmp_path: Path) -> None:
    """Five pages of people: two say that the reader agreed, one says nothing but its reader is in the test, two say no."""
    story = Story()
    story.exposed("anna", 0, "front", page={"agreed": 1}, body={"audience": "agreed"})
    story.page("anna", 5, body={"agreed": 1})
    story.exposed("ben", 6, "status_quo", body={"audience": "agreed"})
    story.page("cleo", 7, body={"agreed": 0})
    story.page("cleo", 8, body={"agreed": 0})
    story.page("dora", 9, body={"agreed": 1}, bot=True)
    send(tmp_path, story.events)
    agreed = replace(PLAN, arms=(PLAN.arm("status_quo"), replace(PLAN.arm("front"), audience="agreed")))

    def shares() -> list[float]:
        return [lake.rows_and_counts(tmp_path, one, (), until_us=LATER, source="live")[0].audience_share for one in (agreed, PLAN)]

    assert shares() == [pytest.approx(3 / 5), 1.0]
    with Loader(tmp_path, clock=lambda: LATER) as loader:
        seal(tmp_path, until_us=LATER, loader=loader)
    assert shares() == [pytest.approx(3 / 5), 1.0]


def test_every_click_on_a_page_without_this_readers_exposure_counts_as_one_without_exposure(tmp_path: Path) -> None:
    story, slot = Story(), {"slot": "article.related", "article": "a2"}
    twice, bare, late = story.exposed("anna", 0, "front"), story.page("ben", 1), story.exposed("cleo", 2, "front", late_minutes=2000)
    degrade(story, twice, "anna", 0, "front")
    for page, reader, clicks in ((twice, "anna", 3), (bare, "ben", 2), (late, "cleo", 1), (twice, "ben", 4)):
        for i in range(clicks):
            story.add("click", page, reader, 3, key=f"{reader}{i}", arm="front", body=slot)
    story.add("click", bare, "ben", 3, key="a robot's", arm="front", bot=True, body=slot)
    send(tmp_path, story.events)
    assert lake.counts(tmp_path, PLAN, until_us=LATER, source="live").clicks_without_exposure == 2 + 4


def test_reads_are_article_views_with_their_sessions_sorted_by_time(tmp_path: Path) -> None:
    story = Story()
    front = story.page("anna", 0, "front")
    story.page("anna", 10, body={"article": "a2"})
    later = story.page("anna", 60, body={"article": "a3"})
    story.page("ben", 5, bot=True)
    story.page("", 6)
    send(tmp_path, story.events)
    table = lake.reads(tmp_path, until_us=LATER)
    assert [(row["article"], row["session"], row["at"], row["weight"]) for row in table.to_pylist()] == [
        ("a2", front, START + 10 * MINUTE, 1.0),
        ("a3", later, START + 60 * MINUTE, 1.0),
    ]
    some = lake.reads(tmp_path, until_us=START + 60 * MINUTE, since_us=START + 10 * MINUTE)
    assert some["article"].to_pylist() == ["a2"]


def test_reads_of_agreed_readers_follow_their_latest_choice(tmp_path: Path) -> None:
    story = Story()
    story.page("anna", 0, body={"agreed": True})
    story.page("anna", 5)
    story.page("ben", 0, body={"agreed": True})
    story.page("ben", 5, body={"agreed": False})
    story.page("cleo", 0)
    story.exposed("dora", 0, "front", body={"audience": "agreed"})
    send(tmp_path, story.events)
    table = lake.reads(tmp_path, until_us=LATER, agreement=True)
    told = sorted(zip(table["reader"].to_pylist(), table["agreed"].to_pylist(), strict=True))
    assert told == [("anna", True), ("anna", True), ("ben", False), ("ben", False), ("cleo", False), ("dora", True)]
    assert table.drop_columns("agreed").equals(lake.reads(tmp_path, until_us=LATER))


def imported() -> pa.Table:
    return pa.table(
        {"reader": ["u1", "u1", "u2", "u1"], "article": ["x", "y", "x", "z"], "at": [START + m * MINUTE for m in (0, 10, 12, 90)]}
    )


def test_an_import_becomes_reads_with_sessions_and_the_same_file_again_changes_nothing(tmp_path: Path) -> None:
    path = lake.add_import(tmp_path, imported(), name="globo", sha256="a" * 64)
    before = path.read_bytes()
    assert lake.add_import(tmp_path, imported(), name="globo", sha256="a" * 64) == path
    table = lake.reads(tmp_path, until_us=LATER)
    assert path.read_bytes() == before
    assert table["article"].to_pylist() == ["x", "y", "x", "z"]
    assert len(set(table["session"].to_pylist())) == 3
    assert set(table["seq"].to_pylist()) == {-1}
    assert len(lake.reads(tmp_path, until_us=START + 12 * MINUTE)) == 2
    assert len(lake.reads(tmp_path, until_us=LATER, source="live")) == 0


def test_given_sessions_and_weights_of_an_import_are_kept(tmp_path: Path) -> None:
    table = imported().append_column("session", pa.array(["s1", "s1", "s2", "s1"])).append_column("weight", pa.array([1.0, 0.5, 1.0, 2.0]))
    lake.add_import(tmp_path, table, name="globo", sha256="b" * 64)
    found = lake.reads(tmp_path, until_us=LATER)
    assert found["session"].to_pylist() == ["s1", "s1", "s2", "s1"]
    assert found["weight"].to_pylist() == [1.0, 0.5, 1.0, 2.0]


def test_an_import_with_faults_is_refused_with_all_of_them(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        lake.add_import(tmp_path, pa.table({"reader": ["u1", None], "at": [1, 2]}), name="bad", sha256="c" * 64)
    assert caught.value.faults == ("column 'reader' has 1 empty values", "column 'article' is missing")
    with pytest.raises(DataError, match="another type"):
        lake.add_import(
            tmp_path,
            imported().set_column(2, "at", pa.array(["now"] * 4)).append_column("session", pa.array(["s"] * 4)),
            name="bad",
            sha256="c" * 64,
        )


def test_a_damaged_partition_is_refused_and_can_be_imported_again(tmp_path: Path) -> None:
    path = lake.add_import(tmp_path, imported(), name="globo", sha256="a" * 64)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="Import it again"):
        lake.reads(tmp_path, until_us=LATER)
    lake.add_import(tmp_path, imported(), name="globo", sha256="a" * 64)
    assert len(lake.reads(tmp_path, until_us=LATER)) == 4
