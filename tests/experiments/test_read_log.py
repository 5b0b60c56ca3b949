"""The worker's log of recent views agrees with the lake on every session."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.events import lake
from experiments.events.event import Event
from experiments.events.ids import PageViews, event_id
from experiments.events.loader import Loader
from experiments.events.outbox import Outbox
from experiments.events.sealed_files import views_after
from experiments.events.sealing import seal
from experiments.serving.level_shares import levels_of
from experiments.serving.read_log import ReadLog
from experiments.serving.recommender import Catalogue
from recsys.interactions import to_reads
from tests.conftest import NOW

HOUR_US = 3_600_000_000


def store(home: Path, views: list[tuple[str, int, str]]) -> None:
    """Append views of (reader, microseconds before NOW, article or page type) and load them."""
    outbox, page_views = Outbox(home / "outbox", clock=lambda: 0), PageViews()
    events = []
    for reader, before_us, article in views:
        at = round(NOW.timestamp() * 1e6) - before_us
        page_view = page_views(at)
        body = {
            "page_type": "article" if article.startswith("a") else "front",
            "article": article if article.startswith("a") else "",
            "prefetch": False,
            "referrer": ("external", "internal", "")[before_us % 3],
        }
        device = ("phone", "desktop")[before_us % 2]
        events.append(Event(event_id(page_view, "view"), "view", page_view, reader, at, at, body, device=device))
    outbox.append(events, timeout_s=30)
    outbox.close()
    with Loader(home, clock=lambda: 0) as loader:
        loader.drain()


def test_log_and_lake_give_the_same_reads_and_sessions(home: Path, catalogue: Catalogue) -> None:
    rng = np.random.default_rng(3)
    pages = ["front", *(f"a{i:03d}" for i in range(10))]
    views = [(f"r{rng.integers(8)}", int(rng.integers(0, 30 * HOUR_US)), pages[rng.integers(len(pages))]) for _ in range(400)]
    store(home, views)
    log = ReadLog(home)
    assert log.catch_up() == 400
    at = NOW.timestamp() + 1
    mine, lakes = log.reads(catalogue, at=at), to_reads(lake.reads(home, until_us=round(at * 1e6)), catalogue)
    assert len(mine) == len(lakes) > 200
    assert np.array_equal(mine.at, lakes.at)
    assert np.array_equal(mine.article, lakes.article)
    assert np.array_equal(mine.levels, lakes.levels)
    assert set(mine.levels[:, 1].tolist()) == {levels_of("phone", word)[1] for word in ("external", "internal", "")}
    for one, other in ((mine.session, lakes.session), (mine.reader, lakes.reader)):
        pairs = set(zip(one.tolist(), other.tolist(), strict=True))
        assert len(pairs) == len(set(one.tolist())) == len(set(other.tolist()))


def test_after_a_restart_views_are_read_out_of_sealed_days_too(home: Path, catalogue: Catalogue) -> None:
    views = [("r", hours * HOUR_US, f"a00{number}") for number, hours in enumerate((100, 80, 60, 1))]
    store(home, views)
    whole, running = ReadLog(home), ReadLog(home, sealed=views_after)
    whole.catch_up()
    store(home, [("s", 70 * HOUR_US, "a009")])
    with Loader(home, clock=lambda: 0) as loader:
        assert "4 events" in seal(home, until_us=round(NOW.timestamp() * 1e6), loader=loader)
    running.last_seq = whole.last_seq
    assert running.catch_up() == 1
    again = ReadLog(home, sealed=views_after)
    assert again.catch_up() == 5
    found = again.reads(catalogue, at=NOW.timestamp())
    assert found.article.tolist() == [0, 1, 9, 2, 3]
    lakes = to_reads(lake.reads(home, until_us=round(NOW.timestamp() * 1e6)), catalogue)
    assert np.array_equal(found.levels, lakes.levels)
    assert found.levels[:, 0].all()


def test_what_comes_later_is_added_and_what_is_old_is_forgotten(home: Path, catalogue: Catalogue) -> None:
    store(home, [("r", 121 * HOUR_US, "a001"), ("r", HOUR_US, "a002")])
    log = ReadLog(home)
    log.catch_up()
    assert log.reads(catalogue, at=NOW.timestamp()).article.tolist() == [2]
    store(home, [("s", HOUR_US // 2, "a003")])
    assert log.catch_up() == 1
    assert log.reads(catalogue, at=NOW.timestamp()).article.tolist() == [2, 3]


def test_an_erased_reader_is_counted_no_more_and_their_id_is_not_kept(home: Path, catalogue: Catalogue) -> None:
    store(home, [("r", 3 * HOUR_US, "a001"), ("s", 2 * HOUR_US, "a002"), ("r", HOUR_US, "a003")])
    log = ReadLog(home)
    log.catch_up()
    log.forget(["r", "never seen"])
    assert log.reads(catalogue, at=NOW.timestamp()).article.tolist() == [2]
    assert names(log) == {"s"}
    store(home, [("t", HOUR_US // 2, "a004")])
    log.catch_up()
    found = log.reads(catalogue, at=NOW.timestamp())
    assert (found.article.tolist(), len(set(found.reader.tolist()))) == ([2, 4], 2)


def test_readers_who_came_long_ago_are_not_kept_and_those_who_come_later_are_others(home: Path, catalogue: Catalogue) -> None:
    store(home, [("old", 121 * HOUR_US, "a001"), ("r", 2 * HOUR_US, "a002")])
    log = ReadLog(home)
    log.catch_up()
    log.reads(catalogue, at=NOW.timestamp())
    assert names(log) == {"r"}
    store(home, [("s", HOUR_US, "a003"), ("r", HOUR_US // 2, "a004")])
    log.catch_up()
    assert reader_pattern(log.reads(catalogue, at=NOW.timestamp()).reader.tolist()) == [0, 1, 0]


def test_a_clock_that_was_ahead_and_is_back_finds_every_read_again(home: Path, catalogue: Catalogue) -> None:
    store(home, [("r", 40 * HOUR_US, "a001"), ("r", HOUR_US, "a002")])
    with Loader(home, clock=lambda: 0) as loader:
        assert "1 events" in seal(home, until_us=round(NOW.timestamp() * 1e6), loader=loader)
    log, at = ReadLog(home, sealed=views_after), NOW.timestamp()
    for ahead_h, found in ((0, [1, 2]), (10 * 24, []), (0, [1, 2])):
        now = at + ahead_h * 3_600
        log.catch_up(since_us=round((now - 120 * 3_600) * 1e6))
        assert log.reads(catalogue, at=now).article.tolist() == found
    begun_ahead = ReadLog(home, sealed=views_after)
    begun_ahead.catch_up(since_us=round((at + 5 * 24 * 3_600) * 1e6))
    assert begun_ahead.reads(catalogue, at=at).article.tolist() == [1, 2]


def names(log: ReadLog) -> set[str]:
    """Readers whose id the log holds."""
    return set(log._codes)


def reader_pattern(codes: list[int]) -> list[int]:
    return [codes.index(code) for code in codes]
