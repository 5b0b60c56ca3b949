"""Dead letters are tried again: what is good now is stored exactly once, and nothing else changes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal, get_args

import msgspec
import pytest
from msgspec.structs import replace

from experiments.errors import BusyError
from experiments.events import replay as replaying
from experiments.events import wire
from experiments.events.asking import answer_requests, replay_anywhere
from experiments.events.erased_readers import refuse
from experiments.events.event import KINDS, Event
from experiments.events.loader import Loader
from experiments.events.replay import Replayed, dead_letters, replay
from experiments.events.store import balance, read_store, store_path
from tests.events.story import START, send, view
from tests.events.test_erase import READER, hits
from tests.faults.harness import killed_at, start, strace, until_it_dies, verdict

pytestmark = pytest.mark.usefixtures("either_engine_long")
LATER = START + 99
BROKEN = replace(view(90), kind="click", body={"slot": "s"})  # no article: bad by today's rules as well


def refused_once(home: Path, events: Sequence[Event], *, kind: str = "view") -> None:
    """Have the events arrive at an older program, which knows no such kind."""
    known = Literal[tuple(one for one in KINDS if one != kind)]  # type: ignore[valid-type]
    envelope = tuple[known, *get_args(wire.Envelope)[1:]]  # type: ignore[misc]
    with pytest.MonkeyPatch.context() as older:
        older.setattr(wire, "_envelope", msgspec.json.Decoder(envelope).decode)
        send(home, events)


def again(home: Path, **asked: object) -> Replayed:
    with Loader(home, clock=lambda: LATER) as loader:
        return replay(loader, **asked)  # type: ignore[arg-type]


def rows(home: Path, query: str) -> list[tuple[object, ...]]:
    with closing(read_store(store_path(home))) as store:
        return store.execute(query).fetchall()


def cells(home: Path) -> list[tuple[str, str, int, int, int, bool]]:
    return [(row.kind, row.arm, row.received, row.stored, row.dead, row.exact) for row in balance(home)]


def test_what_is_good_now_is_stored_once_and_the_balance_is_exact_before_and_after(tmp_path: Path) -> None:
    events = [view(n, arm="als" if n % 3 else "front") for n in range(30)]
    refused_once(tmp_path, events)
    assert cells(tmp_path) == [("view", "als", 20, 0, 20, True), ("view", "front", 10, 0, 10, True)]
    assert again(tmp_path) == Replayed(tried=30, stored=30)
    assert cells(tmp_path) == [("view", "als", 20, 20, 0, True), ("view", "front", 10, 10, 0, True)]
    assert rows(tmp_path, "SELECT id FROM event ORDER BY id") == [(id_,) for id_ in sorted(event.id for event in events)]
    assert dead_letters(tmp_path) == []


def test_a_second_replay_changes_nothing(tmp_path: Path) -> None:
    refused_once(tmp_path, [*map(view, range(5)), BROKEN])
    again(tmp_path)
    before = cells(tmp_path), dead_letters(tmp_path)
    assert again(tmp_path) == Replayed(tried=1, dead=1)
    assert (cells(tmp_path), dead_letters(tmp_path)) == before


def test_what_stays_dead_has_the_reason_of_today_and_the_time_of_its_death(tmp_path: Path) -> None:
    refused_once(tmp_path, [BROKEN], kind="click")
    assert [letter.reason for letter in dead_letters(tmp_path)] == ["unknown kind or source"]
    again(tmp_path)
    (letter,) = dead_letters(tmp_path)
    assert (letter.reason, letter.kind, letter.n, letter.first_us) == ("click: bad article", "click", 1, START)


def test_only_letters_with_the_named_reason_are_tried(tmp_path: Path) -> None:
    refused_once(tmp_path, [view(1)])
    send(tmp_path, [BROKEN, replace(view(2), body={"dead": "expired"})])
    assert {letter.reason for letter in dead_letters(tmp_path)} == {"unknown kind or source", "click: bad article", "expired"}
    assert again(tmp_path, reason="expired") == Replayed(tried=1, dead=1)
    assert again(tmp_path, reason="unknown kind or source") == Replayed(tried=1, stored=1)
    assert again(tmp_path, reason="never heard of") == Replayed()


def test_a_dry_run_says_what_would_happen_and_changes_nothing(tmp_path: Path) -> None:
    refused_once(tmp_path, [*map(view, range(5)), BROKEN])
    before = cells(tmp_path), dead_letters(tmp_path)
    assert again(tmp_path, dry_run=True) == Replayed(tried=6, stored=5, dead=1)
    assert (cells(tmp_path), dead_letters(tmp_path)) == before
    assert rows(tmp_path, "SELECT count(*) FROM event") == [(0,)]


def test_an_event_that_came_again_meanwhile_is_a_duplicate_and_another_payload_a_conflict(tmp_path: Path) -> None:
    refused_once(tmp_path, [view(1), view(2)])
    send(tmp_path, [view(1), replace(view(2), body={"page_type": "front"})])
    assert again(tmp_path) == Replayed(tried=2, duplicate=1, conflict=1)
    (row,) = balance(tmp_path)
    assert (row.received, row.stored, row.duplicate, row.conflict, row.dead, row.exact) == (4, 2, 1, 1, 0, True)


def test_erased_readers_stay_erased(tmp_path: Path) -> None:
    refused_once(tmp_path, [view(1, READER), view(2, "other-1"), view(3, READER)])
    with Loader(tmp_path, clock=lambda: START) as loader:
        refuse(tmp_path, loader, [READER])  # killed here: the letters were not deleted yet
    assert again(tmp_path) == Replayed(tried=3, stored=1, erased=2)
    assert hits(tmp_path, READER) == []
    (row,) = balance(tmp_path)
    assert (row.received, row.stored, row.erased, row.dead, row.exact) == (3, 1, 2, 0, True)


def test_every_letter_is_tried_once_however_many_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaying, "AT_ONCE", 7)
    broken = [replace(BROKEN, id=view(n).id) for n in range(100, 130)]
    for part in range(3):  # in several outboxes
        refused_once(tmp_path, [*map(view, range(part * 10, part * 10 + 10)), *broken[part::3]])
    assert again(tmp_path) == Replayed(tried=60, stored=30, dead=30)
    assert cells(tmp_path) == [("click", "", 30, 0, 30, True), ("view", "", 30, 30, 0, True)]


@pytest.mark.skipif(bool(strace()), reason=strace() or "available")
@pytest.mark.parametrize(("syscall", "n"), [("fdatasync", 2), ("pwrite64", 9), ("pwrite64", 30)])
def test_killed_at_any_call_every_letter_is_in_one_place(tmp_path: Path, either_engine_long: str, syscall: str, n: int) -> None:
    events = [view(n) for n in range(20)]
    refused_once(tmp_path, [*events, BROKEN])
    killed = start("replaying", tmp_path, tracing=killed_at(syscall if either_engine_long == "sqlite" else "sendto", n))
    until_it_dies(killed)
    assert killed.returncode != 0
    found = verdict(tmp_path, [])
    assert (found.exact, found.integrity) == (True, "ok")
    again(tmp_path)
    assert cells(tmp_path) == [("click", "", 1, 0, 1, True), ("view", "", 20, 20, 0, True)]


def test_the_worker_does_it_when_one_runs(tmp_path: Path) -> None:
    refused_once(tmp_path, list(map(view, range(4))))
    over = threading.Event()

    def work() -> None:
        with Loader(tmp_path, clock=lambda: LATER) as loader:
            ready.set()
            while not over.wait(0.01):
                loader.load()
                answer_requests(tmp_path, loader)

    ready, worker = threading.Event(), threading.Thread(target=work)
    worker.start()
    ready.wait()
    try:
        assert replay_anywhere(tmp_path, at_us=LATER, dry_run=True) == Replayed(tried=4, stored=4)
        assert replay_anywhere(tmp_path, at_us=LATER) == Replayed(tried=4, stored=4)
    finally:
        over.set()
        worker.join()
    assert cells(tmp_path) == [("view", "", 4, 4, 0, True)]
    assert list((tmp_path / "replay").iterdir()) == []


def test_a_worker_that_does_not_answer_finds_the_request_later(tmp_path: Path) -> None:
    refused_once(tmp_path, [view(1)])
    with Loader(tmp_path, clock=lambda: LATER) as loader:
        with pytest.raises(BusyError, match="did not answer") as caught:
            replay_anywhere(tmp_path, at_us=LATER, wait_s=0.1)
        assert caught.value.exit_status == 75
        answer_requests(tmp_path, loader)
    assert cells(tmp_path) == [("view", "", 1, 1, 0, True)]


def test_a_home_without_a_store_has_no_dead_letters(tmp_path: Path) -> None:
    assert dead_letters(tmp_path) == []
