"""Days that went into files are still there: the same rows, the same counts, whatever is killed in between."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from experiments.errors import BusyError, DataError
from experiments.events import lake, sealed_days, sealed_files, sealing
from experiments.events.engine import ADD_OUTCOME
from experiments.events.erase import erase_reader
from experiments.events.event import Event
from experiments.events.export import export_reader
from experiments.events.lake_shown import clicks_without_exposure, exposure_groups, exposures_left_out
from experiments.events.lake_tables import _cursor, arrow, evaluate, query
from experiments.events.loader import MOST, Loaded, Loader
from experiments.events.outbox import Outbox
from experiments.events.retention import expire
from experiments.events.salvage import salvage
from experiments.events.sealed import Partition, partitions, sealed_folder
from experiments.events.sealing import seal
from experiments.events.store import balance, read_store, store_path
from experiments.events.tail import FACTS, open_tail
from experiments.experiment import Arm, Experiment
from experiments.metric import built_in
from tests.events.story import DAY, MINUTE, SMALL, START, Story, send, view
from tests.events.test_erase import hits
from tests.events.test_tail import degrade

EITHER_ENGINE = pytest.mark.usefixtures("either_engine")
EITHER_ENGINE_LONG = pytest.mark.usefixtures("either_engine_long")  # with PostgreSQL only when there is time
ARMS = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5))
PLAN = Experiment("related", "Does it pay?", "status_quo", ARMS, window_days=1.0)
METRICS = tuple(built_in()[name] for name in ("views_per_session", "dwell_per_view", "click_through"))
LATER = START + 12 * DAY
MIDDAY = 2160  # of the second day, in minutes after START
DAYS = 3


def a_week(seed: int) -> list[Event]:
    """Readers over eight days with everything in it: crossings, bots, late rows, late pages, beacons, orders, other sources."""
    chance, story = random.Random(seed), Story()
    for number in range(14):
        reader, minute = f"reader-{number:02d}-9f3c7a51d2e84b60", chance.uniform(0, 2_500)
        while minute < (DAYS - 0.01) * 1440:
            arm = "front" if chance.random() < 0.02 else ("status_quo", "front")[number % 2]
            page = story.exposed(reader, minute, arm, bot=chance.random() < 0.03, body={"bucket": number * 7, "phase": int(minute > 2_800)})
            shown = {"slot": "article.related", "articles": ["a1"] * chance.randrange(2), "latency_us": chance.randrange(9_000)}
            story.add("impression", page, reader, minute, arm=arm, body=shown)
            if chance.random() < 0.3:
                story.add("click", page, reader, minute, arm=arm, body={"slot": "article.related", "article": "a1"})
            for _ in range(chance.randrange(4)):
                story.dwell(page, reader, minute, chance.randrange(100_000), chance.randrange(101))
            if chance.random() < 0.05:
                degrade(story, page, reader, minute, arm)
            if chance.random() < 0.1:
                story.page(reader, minute + 1, late_minutes=chance.choice([0, 3_000]), body={"agreed": chance.random() < 0.5})
            minute += chance.choice([0.2, 5, 29, 31, 300, 900, 1_440])
    story.source = "simulated"
    story.exposed("reader-00", 3, "front")
    chance.shuffle(story.events)
    return story.events


def everything(home: Path) -> Any:
    """All that is made of the events."""
    rows, counted = lake.rows_and_counts(home, PLAN, METRICS, until_us=LATER, source="live")
    pairs = lake.distinct_rows(rows, "count_click", "count_impression")
    read = [
        lake.reads(home, until_us=LATER),
        lake.reads(home, until_us=LATER, agreement=True),
        lake.reads(home, until_us=LATER, source="simulated"),
    ]
    return [rows.table, counted, lake.moments(rows), pairs, *read, *stored(home)]


def stored(home: Path) -> Any:
    """All events as analyses see them (of visible time what counts of it), and what is left out."""
    with open_tail(home, until_us=LATER, source=None, experiment=PLAN.name) as tail:
        events = {kind: sorted(map(tuple, map(dict.values, arrow(tail, kind).to_pylist()))) for kind in FACTS if kind != "dwell"}
        times = query(
            tail, "SELECT page_view, reader, max(active_ms), max(depth_percent) FROM dwell GROUP BY ALL ORDER BY ALL", {"dwell": ()}
        )
        mine = [event for event in export_reader(home, "reader-03-9f3c7a51d2e84b60") if event["kind"] != "dwell"]
        return events, times, exposure_groups(tail), exposures_left_out(tail), clicks_without_exposure(tail), mine, tail.last_seq


Known = tuple[Path, Any, Any]  # a home, what it holds, its balance


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Known:
    home = tmp_path_factory.mktemp("week")
    send(home, a_week(2))
    return home, stored(home), accounted(home)


def copied(week: Known, home: Path) -> tuple[Any, Any]:
    """The week, loaded into this home; what is made of it must be what SQLite makes of it."""
    if store_path(home).exists():
        send(home, a_week(2))
    else:
        shutil.copytree(week[0], home, dirs_exist_ok=True)
    return week[1:]


def accounted(home: Path) -> list[tuple[Any, ...]]:
    rows = balance(home)
    assert all(row.exact for row in rows)
    return [(row.kind, row.arm, row.received, row.stored + row.compacted) for row in rows]


def sealed_until(home: Path, days: int) -> str:
    """Seal what happened in the first ``days`` days."""
    with Loader(home, clock=lambda: START) as loader:
        return seal(home, until_us=START + (days + 1) * DAY, loader=loader)


def files(home: Path) -> tuple[Partition, ...]:
    with closing(read_store(store_path(home))) as store:
        return partitions(store, home)


def kept(home: Path) -> int:
    with closing(read_store(store_path(home))) as store:
        return int(store.execute("SELECT count(*) FROM event").fetchone()[0])


@EITHER_ENGINE
def test_events_that_come_while_a_day_is_cleared_do_not_wait_for_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    send(tmp_path, [view(n) for n in range(90)])
    monkeypatch.setattr(sealing, "CHUNK", 20)
    outbox, cleared = Outbox(tmp_path / "outbox", clock=lambda: START, limits=SMALL), []

    class Visited(Loader):
        """Somebody opens a page whenever events are loaded."""

        def load(self, *, most: int = MOST) -> Loaded:
            outbox.append([view(1_000 + len(cleared))])
            loaded = super().load(most=most)
            cleared.append(loaded.stored)
            return loaded

    with Visited(tmp_path, clock=lambda: START) as loader:
        sealed_folder(tmp_path).mkdir(parents=True)
        sealed_days.write_days(tmp_path, LATER)
        assert len(sealing.adopt(tmp_path, loader)) == 1
        assert sealing.clear(loader) == 90
    outbox.close()
    assert cleared == [1] * 5  # after each chunk


@settings(max_examples=1, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**16), steps=st.lists(st.integers(1, DAYS), min_size=1, max_size=2))
def test_any_sealed_beginning_gives_the_same_rows_counts_and_balance_to_the_bit(tmp_path: Path, seed: int, steps: list[int]) -> None:
    home = tmp_path / f"{seed}-{'-'.join(map(str, steps))}"
    shutil.rmtree(home, ignore_errors=True)
    send(home, a_week(seed))
    before, balanced = everything(home), accounted(home)
    for days in sorted(steps):
        sealed_until(home, days)
        assert everything(home) == before
        assert accounted(home) == balanced
        assert max(one.day for one in files(home)) == START // DAY + days - 1


@EITHER_ENGINE_LONG
def test_many_events_are_worked_through_in_parts_with_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    send(tmp_path, a_week(1))
    sealed_until(tmp_path, 2)
    before = everything(tmp_path)
    monkeypatch.setattr("experiments.events.lake_tables.EVENTS_AT_ONCE", 100)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("at_once", [8_000_000, 100], ids=["in one part", "in many parts"])
def test_sealed_events_of_objectors_of_other_tests_and_after_the_cut_count_no_more_than_fresh_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    story = Story(events=a_week(4), pages=10_000)
    for minute in range(0, 2 * 1440, 97):
        for reader, experiment in (("", "related"), (f"reader-{minute % 14:02d}-9f3c7a51d2e84b60", "other")):
            page = story.exposed(reader, minute, "front", experiment=experiment)
            story.add("click", page, reader, minute, arm="front", experiment=experiment, body={"slot": "article.related", "article": "a1"})
            story.dwell(page, reader, minute, 9_000)
    page = story.exposed("reader-00-9f3c7a51d2e84b60", MIDDAY, "front")  # at the very cut
    story.add("click", page, "reader-00-9f3c7a51d2e84b60", MIDDAY, arm="front", body={"slot": "article.related", "article": "a1"})
    send(tmp_path, story.events)
    fresh = until_midday(tmp_path)
    sealed_until(tmp_path, 2)
    monkeypatch.setattr("experiments.events.lake_tables.EVENTS_AT_ONCE", at_once)
    assert until_midday(tmp_path) == fresh


def until_midday(home: Path) -> Any:
    """What is made of the events until the middle of the second day."""
    cut = START + MIDDAY * MINUTE
    rows, counted = lake.rows_and_counts(home, PLAN, METRICS, until_us=cut, source="live")
    with open_tail(home, until_us=cut, source="live", experiment=PLAN.name) as tail:
        seen = [sorted(map(tuple, map(dict.values, arrow(tail, kind).to_pylist()))) for kind in ("view", "exposure", "click")]
        return [rows.table, counted, *seen, exposure_groups(tail), clicks_without_exposure(tail), lake.reads(home, until_us=cut)]


def test_no_part_of_the_readers_unpacks_rows_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight parts of eight shards each: every group of rows lies in one of them, is of one kind, and not small."""
    monkeypatch.setattr(sealed_files, "ROWS_A_GROUP", 64)
    rows = sorted((kind, shard, number) for kind in ("dwell", "view") for shard in range(64) for number in range(9 + shard % 3))
    known = {"kind": [row[0] for row in rows], "shard": [row[1] for row in rows], "seq": [row[2] for row in rows]}
    table = pa.table({field.name: pa.array(known.get(field.name, [None] * len(rows)), field.type) for field in sealed_files.schema()})
    sealed_files.write(tmp_path / "day.parquet", table.to_batches(max_chunksize=50))
    with pq.ParquetFile(tmp_path / "day.parquet") as file:
        assert file.read().equals(table)
        groups = [file.read_row_group(i, columns=["kind", "shard"]).to_pylist() for i in range(file.num_row_groups)]
    assert all(len({(row["kind"], row["shard"] // 8) for row in group}) == 1 for group in groups)
    assert all(32 <= len(group) <= 64 for group in groups)


def test_what_does_not_fit_the_memory_is_worked_through_in_smaller_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every page view takes a megabyte of the text of its reader; all readers together take more than there is."""
    story = Story()
    for i in range(120):
        story.page(f"reader{i}", i)
    send(tmp_path, story.events)
    sealed_until(tmp_path, 1)
    monkeypatch.setattr("experiments.events.lake_tables.MEMORY", "100MB")
    long = "SELECT reader, strlen(string_agg(repeat(page_view, 30000), '')) AS n FROM \"view\" GROUP BY reader"
    with open_tail(tmp_path, until_us=LATER, source="live") as tail:
        found = evaluate(tail, long, {"view": ("page_view", "reader")})
        assert sorted(found["reader"].to_pylist()) == sorted(f"reader{i}" for i in range(120))
        with pytest.raises(DataError, match="the events could not be read: Out of Memory"):
            evaluate(tail, long.replace("30000", "30000000"), {"view": ("page_view", "reader")})


def test_a_day_is_sealed_two_days_later_and_said_so(tmp_path: Path) -> None:
    story = Story()
    for minute in (0, 1439.99, 1440):
        story.page("anna", minute)
    send(tmp_path, story.events)
    with Loader(tmp_path, clock=lambda: START) as loader:
        assert seal(tmp_path, until_us=START + 2 * DAY - 1, loader=loader) == "no day was due; 0 files checked, 0 events in all"
        assert kept(tmp_path) == 3
        said = seal(tmp_path, until_us=START + 2 * DAY, loader=loader)
    assert said == "2026-01-01 (live): 2 events; 1 file checked, 2 events in all"
    assert kept(tmp_path) == 1


def test_nothing_is_sealed_while_an_outbox_file_cannot_be_read(tmp_path: Path) -> None:
    """Its events may be of the day that is due: in the file they would be missing for ever."""
    story = Story()
    story.page("anna", 0)
    send(tmp_path, story.events)
    (tmp_path / "outbox" / "broken-1.db").write_bytes(b"this is no database" * 100)
    with Loader(tmp_path, clock=lambda: START) as loader:
        for _ in range(2):  # the loader tells of a file once
            said = seal(tmp_path, until_us=START + 2 * DAY, loader=loader)
            assert said.startswith("nothing was sealed: events are waiting in files that could not be read; presslab data salvage")
        assert files(tmp_path) == ()
        assert kept(tmp_path) == 1
        salvage(tmp_path, loader)
        assert seal(tmp_path, until_us=START + 2 * DAY, loader=loader).startswith("2026-01-01 (live): 1 event")


def test_no_day_goes_into_a_home_while_the_files_of_others_lie_elsewhere(tmp_path: Path) -> None:
    story = Story()
    for day in (0, 1):
        story.page("anna", 1440 * day)
    send(tmp_path, story.events)
    sealed_until(tmp_path, 1)
    (first,) = files(tmp_path)
    first.path.rename(tmp_path / "elsewhere.parquet")
    with Loader(tmp_path, clock=lambda: START) as loader, pytest.raises(DataError, match=first.path.name):
        seal(tmp_path, until_us=START + 3 * DAY, loader=loader)
    assert list(sealed_folder(tmp_path).glob("*.parquet")) == []


@EITHER_ENGINE
def test_of_a_page_view_one_report_of_visible_time_stays_with_the_largest_values(tmp_path: Path) -> None:
    story = Story()
    page = story.page("anna", 0)
    for active_ms, depth in ((10_000, 20), (40_000, 30), (20_000, 95)):
        story.dwell(page, "anna", 0, active_ms, depth)
    send(tmp_path, story.events)
    sealed_until(tmp_path, 1)
    (dwell,) = [event for event in export_reader(tmp_path, "anna") if event["kind"] == "dwell"]
    assert dwell["body"] == {"active_ms": 40_000, "depth_percent": 95}
    row = next(row for row in balance(tmp_path) if row.kind == "dwell")
    assert (row.received, row.stored, row.compacted, row.exact) == (3, 1, 2, True)


@EITHER_ENGINE
def test_what_arrives_for_a_sealed_day_is_kept_as_late_and_changes_no_figure(tmp_path: Path) -> None:
    story = Story()
    story.exposed("anna", 0, "front")
    story.exposed("ben", 1, "front")
    send(tmp_path, story.events[:2])
    sealed_until(tmp_path, 1)
    before = lake.reader_rows(tmp_path, PLAN, METRICS, until_us=LATER, source="live").table
    loaded = send(tmp_path, story.events)
    assert (loaded.stored, loaded.late) == (4, 4)
    assert send(tmp_path, story.events).duplicate == 4
    rows, counted = lake.rows_and_counts(tmp_path, PLAN, METRICS, until_us=LATER, source="live")
    assert rows.table == before
    assert (counted.exposures["front"], counted.late["front"]) == (1, 2)
    assert [(row.kind, row.received, row.stored, row.duplicate, row.exact) for row in balance(tmp_path)] == [
        ("exposure", 5, 3, 2, True),
        ("view", 5, 3, 2, True),
    ]
    assert "no day was due" in sealed_until(tmp_path, 1)


class KilledError(Exception):
    pass


def at_once(*_: Any, **__: Any) -> Any:
    raise KilledError


CUTS: dict[str, tuple[Any, str]] = {
    "while the file is written": (sealed_days, "_compare"),
    "before it has its name": (sealed_days, "publish"),
    "between the file and its manifest": (sealed_files, "sync_folder"),
    "before the catalogue names it": (sealing, "_name"),
    "before the rows are deleted": (sealing, "clear"),
    "before old files are swept": (sealing, "sweep"),
}


@EITHER_ENGINE_LONG
@pytest.mark.parametrize("cut", CUTS)
def test_killed_anywhere_nothing_is_lost_or_counted_twice_and_the_next_run_ends_it(
    tmp_path: Path, cut: str, week: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, balanced = copied(week, tmp_path)
    with monkeypatch.context() as killed:
        killed.setattr(*CUTS[cut], at_once)
        with pytest.raises(KilledError):
            sealed_until(tmp_path, 2)
    assert stored(tmp_path) == before
    assert accounted(tmp_path) == balanced
    sealed_until(tmp_path, 2)
    assert stored(tmp_path) == before
    assert accounted(tmp_path) == balanced
    named = {name for one in files(tmp_path) for name in (one.path.name, f"{one.path.stem}.json")}
    assert {path.name for path in sealed_folder(tmp_path).iterdir()} == {*named, "lock"}


@EITHER_ENGINE_LONG
def test_killed_between_two_chunks_of_deleted_rows_nothing_is_counted_twice(
    tmp_path: Path, week: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, balanced = copied(week, tmp_path)
    rows = kept(tmp_path)
    monkeypatch.setattr(sealing, "clear", at_once)
    with pytest.raises(KilledError):
        sealed_until(tmp_path, 2)
    with Loader(tmp_path, clock=lambda: START) as loader, loader.transaction() as store:
        store.execute("DELETE FROM event WHERE seq IN (SELECT seq FROM event EXCEPT SELECT seq FROM fresh LIMIT 7)")
    assert kept(tmp_path) == rows - 7
    assert stored(tmp_path) == before
    assert accounted(tmp_path) == balanced


@EITHER_ENGINE_LONG
def test_what_a_killed_process_spilled_from_memory_goes_and_what_a_living_one_did_stays(tmp_path: Path) -> None:
    send(tmp_path, a_week(3)[:5])
    gone = subprocess.Popen(["true"])
    gone.wait()
    for process in (gone.pid, os.getpid()):
        (tmp_path / "lake" / f"spill-{process}").mkdir(parents=True)
    sealed_until(tmp_path, 1)
    assert [path.name for path in (tmp_path / "lake").glob("spill-*")] == [f"spill-{os.getpid()}"]


@EITHER_ENGINE
def test_a_file_that_a_killed_sealing_began_goes_also_when_days_were_dropped(tmp_path: Path) -> None:
    """It holds readers who may be erased since."""
    story = Story()
    story.page("anna", 0)
    send(tmp_path, story.events)
    sealed_until(tmp_path, 3)
    (begun := sealed_folder(tmp_path) / ".sealing.tmp").write_bytes(b"anna")
    with Loader(tmp_path, clock=lambda: START) as loader:
        expire(tmp_path, until_us=START + 9 * DAY, days=4, loader=loader)
    assert not begun.exists()


def written_with_one_of_two_events(home: Path) -> Story:
    """A day that was written, and not adopted yet, when only the first of its events had come; returns all of them."""
    story = Story()
    story.page("anna", 0)
    story.page("ben", 1)
    send(home, story.events[:1])
    sealed_folder(home).mkdir(parents=True)
    sealed_days.write_days(home, START + 2 * DAY)
    return story


@EITHER_ENGINE
def test_events_that_came_or_went_while_a_day_was_written_put_it_off(tmp_path: Path) -> None:
    story = written_with_one_of_two_events(tmp_path)
    send(tmp_path, story.events)
    with Loader(tmp_path, clock=lambda: START) as loader:
        assert sealing.adopt(tmp_path, loader) == []
        assert list(sealed_folder(tmp_path).iterdir()) == []
        assert "2 events" in seal(tmp_path, until_us=START + 2 * DAY, loader=loader)


@EITHER_ENGINE
def test_an_event_that_came_does_not_stand_for_one_that_went_while_a_day_was_written(tmp_path: Path) -> None:
    story = written_with_one_of_two_events(tmp_path)
    with Loader(tmp_path, clock=lambda: START) as loader, loader.transaction() as store:
        store.execute("DELETE FROM event")  # an erasure, up to the sealed files that it has to wait for
        store.executemany(ADD_OUTCOME, [("view", "", "erased", 1)])
    send(tmp_path, story.events[1:])
    with Loader(tmp_path, clock=lambda: START) as loader:
        assert sealing.adopt(tmp_path, loader) == []
        erase_reader(tmp_path, "anna", until_us=START, loader=loader)
    (row,) = balance(tmp_path)
    assert (row.received, row.stored, row.erased, row.exact) == (2, 1, 1, True)


@EITHER_ENGINE_LONG
def test_a_file_that_differs_from_the_store_is_refused(tmp_path: Path, week: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    before, _ = copied(week, tmp_path)
    whole = sealed_days._batches
    monkeypatch.setattr(sealed_days, "_batches", lambda store, of: (batch.slice(1) for batch in whole(store, of)))
    with pytest.raises(DataError, match="same events of kind 'click'"):
        sealed_until(tmp_path, 2)
    assert stored(tmp_path) == before
    assert files(tmp_path) == ()


def damage(path: Path, how: str) -> None:
    data, other = path.read_bytes(), min(path.parent.glob("*.parquet")).read_bytes()
    {
        "replaced": lambda: path.write_bytes(other),
        "gone": path.unlink,
        "cut": lambda: path.write_bytes(data[:-9]),
        "overwritten": lambda: path.write_bytes(b"\0" * len(data)),
    }[how]()


def test_events_that_are_written_anew_while_they_are_read_are_told_from_damaged_ones(tmp_path: Path) -> None:
    send(tmp_path, a_week(5)[:100])
    sealed_until(tmp_path, 2)
    with open_tail(tmp_path, until_us=LATER, source="live") as tail:
        with Loader(tmp_path, clock=lambda: START) as loader:
            expire(tmp_path, until_us=START + 9 * DAY, days=4, loader=loader)
        with pytest.raises(BusyError, match="written anew while they were read"):
            query(tail, 'SELECT count(*) FROM "view"', {"view": ("issued_at",)})
    lake.reads(tmp_path, until_us=LATER)


@pytest.mark.parametrize("how", ["gone", "cut", "overwritten", "replaced"])
@pytest.mark.parametrize(
    "ask",
    [
        lambda home: lake.counts(home, PLAN, until_us=LATER, source="live"),
        lambda home: lake.reads(home, until_us=LATER),
    ],
)
def test_a_damaged_file_is_named_and_nothing_is_counted(tmp_path: Path, how: str, ask: Callable[[Path], Any]) -> None:
    send(tmp_path, a_week(5)[:100])
    sealed_until(tmp_path, 2)
    damage(files(tmp_path)[-1].path, how)
    with pytest.raises(DataError) as caught:
        ask(tmp_path)
    assert len(caught.value.faults) == 1
    assert str(sealed_folder(tmp_path) / "2026-01-0") in caught.value.faults[0]


def test_one_changed_byte_in_a_sealed_file_is_found_by_the_next_sealing(tmp_path: Path) -> None:
    send(tmp_path, a_week(6))
    sealed_until(tmp_path, 2)
    path = files(tmp_path)[1].path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        sealed_until(tmp_path, 3)
    assert caught.value.faults == (f"{path}: other bytes than were sealed",)


@EITHER_ENGINE_LONG
@pytest.mark.parametrize("cut", [None, "before the rows are deleted"])
def test_an_erased_reader_is_in_no_file_and_everybody_else_is_as_before(
    tmp_path: Path, cut: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, reader = a_week(7), "reader-07-9f3c7a51d2e84b60"
    send(tmp_path, events)
    with monkeypatch.context() as killed:
        if cut:
            killed.setattr(*CUTS[cut], at_once)
            with pytest.raises(KilledError):
                sealed_until(tmp_path, 2)
        else:
            sealed_until(tmp_path, 2)
    held = len(export_reader(tmp_path, reader))
    others = lake.reads(tmp_path, until_us=LATER).to_pylist()
    assert erase_reader(tmp_path, reader, until_us=START).rows == held > 5
    assert hits(tmp_path, reader) == []
    assert set(sealed_folder(tmp_path).glob("*.parquet")) == {one.path for one in files(tmp_path)}
    assert all(reader not in pq.read_table(one.path)["reader"].to_pylist() for one in files(tmp_path))
    assert export_reader(tmp_path, reader) == []
    assert lake.reads(tmp_path, until_us=LATER).to_pylist() == [row for row in others if row["reader"] != reader]
    rows = balance(tmp_path)
    assert all(row.exact for row in rows)
    assert sum(row.erased for row in rows) == held
    assert "events in all" in sealed_until(tmp_path, 3)


@pytest.mark.parametrize("how", ["gone", "cut", "overwritten"])
def test_a_reader_goes_from_all_sealed_files_that_can_be_read_and_the_others_are_named(tmp_path: Path, how: str) -> None:
    story = Story()
    for day in (0, 1):
        story.page("anna-9f3c7a51d2e84b60", 1440 * day)
        story.page("b", 1440 * day)
    send(tmp_path, story.events)
    sealed_until(tmp_path, 2)
    lost, whole = (one.path for one in files(tmp_path))
    damage(lost, how)
    with pytest.raises(DataError, match=r"1 sealed day\(s\) of events cannot be read") as told:
        erase_reader(tmp_path, "anna-9f3c7a51d2e84b60", until_us=START)
    assert lost.name in str(told.value.faults)
    assert "Copy each, and its .json, from lake/events of the last backup" in told.value.hint
    assert pq.read_table(files(tmp_path)[1].path)["reader"].to_pylist() == ["b"]
    assert not whole.exists()
    assert all(row.exact for row in balance(tmp_path))


@pytest.mark.parametrize("how", ["torn", "gone"])
def test_what_stands_beside_a_sealed_file_may_be_lost(tmp_path: Path, how: str) -> None:
    story = Story()
    for reader in ("anna-9f3c7a51d2e84b60", "b"):
        story.page(reader, 0)
    send(tmp_path, story.events)
    sealed_until(tmp_path, 1)
    beside = files(tmp_path)[0].path.with_suffix(".json")
    beside.unlink() if how == "gone" else beside.write_bytes(beside.read_bytes()[:9])
    assert "no day was due; 1 file checked" in sealed_until(tmp_path, 1)
    assert erase_reader(tmp_path, "anna-9f3c7a51d2e84b60", until_us=START).rows == 1
    assert hits(tmp_path, "anna-9f3c7a51d2e84b60") == []
    assert "1 file checked, 1 events in all" in sealed_until(tmp_path, 1)
    assert all(row.exact for row in balance(tmp_path))


@EITHER_ENGINE
def test_a_day_that_is_dropped_while_a_reader_is_erased_from_its_file_is_counted_once_and_stays_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story()
    story.page("anna", 0)
    story.page("bert", 1)
    send(tmp_path, story.events)
    sealed_until(tmp_path, 3)
    without = sealed_files.without
    with Loader(tmp_path, clock=lambda: START) as loader:
        dropping = threading.Thread(target=expire, args=[tmp_path], kwargs={"until_us": START + 9 * DAY, "days": 4, "loader": loader})

        def meanwhile(*args: Any, **more: Any) -> Any:
            dropping.start()
            dropping.join(timeout=0.5)  # it waits, or it is done
            return without(*args, **more)

        monkeypatch.setattr(sealed_files, "without", meanwhile)
        erase_reader(tmp_path, "anna", until_us=START + 9 * DAY, loader=loader)
        dropping.join()
    assert files(tmp_path) == ()
    assert [(row.received, row.stored, row.erased, row.compacted) for row in balance(tmp_path)] == [(2, 0, 1, 1)]


def test_what_is_held_is_told_also_while_a_sealed_file_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story()
    story.page("anna", 0)
    story.page("anna", 8 * 1440)
    send(tmp_path, story.events)
    sealed_until(tmp_path, 3)
    events_of = sealed_files.events_of

    def meanwhile(*args: Any) -> Any:
        monkeypatch.setattr(sealed_files, "events_of", events_of)
        with Loader(tmp_path, clock=lambda: START) as loader:
            expire(tmp_path, until_us=START + 9 * DAY, days=4, loader=loader)
        return events_of(*args)

    monkeypatch.setattr(sealed_files, "events_of", meanwhile)
    assert [event["issued_at"] for event in export_reader(tmp_path, "anna")] == [START + 8 * DAY]


@EITHER_ENGINE
def test_old_days_are_dropped_whole_and_the_balance_says_compacted(tmp_path: Path) -> None:
    story = Story()
    for day in (0, 1, 5):
        story.page("anna", day * 1440)
    send(tmp_path, story.events)
    sealed_until(tmp_path, 6)
    with Loader(tmp_path, clock=lambda: START) as loader:
        assert (
            expire(tmp_path, until_us=START + 6 * DAY, days=4, loader=loader)
            == "2 events and 0 dead letters older than 4 days were deleted"
        )
    assert [(row.received, row.stored, row.compacted, row.exact) for row in balance(tmp_path)] == [(3, 1, 2, True)]
    assert [path.name[:10] for path in sorted(sealed_folder(tmp_path).glob("*.parquet"))] == ["2026-01-06"]
    assert len(lake.reads(tmp_path, until_us=LATER)) == 1
    assert send(tmp_path, [replace(story.events[0], reader="ben", id=bytes(16))]).late == 1


def test_a_store_of_the_old_layout_is_upgraded_by_migrate_alone(tmp_path: Path, week: Known) -> None:
    from experiments.migrate import migrate

    before, _ = copied(week, tmp_path)
    with closing(sqlite3.connect(store_path(tmp_path))) as store:
        store.executescript("DROP VIEW fresh; DROP TABLE sealed; DROP TABLE sealed_count; PRAGMA user_version=1")
    with pytest.raises(DataError, match="presslab migrate"):
        lake.reads(tmp_path, until_us=LATER)
    migrate(tmp_path)
    assert stored(tmp_path) == before
    sealed_until(tmp_path, 2)
    assert stored(tmp_path) == before


def test_the_footers_of_sealed_files_are_read_once_for_all_queries(tmp_path: Path) -> None:
    with _cursor(tmp_path / "spill") as engine:
        assert engine.sql("SELECT current_setting('parquet_metadata_cache')").fetchall() == [(True,)]
