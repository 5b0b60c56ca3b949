from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from experiments.events.loader import Loader
from experiments.events.replay import dead_letters
from experiments.events.retention import expire
from experiments.events.sealing import seal
from experiments.events.store import balance
from tests.events.story import DAY, START, Story, send, view

pytestmark = pytest.mark.usefixtures("either_engine")


def test_events_past_their_time_go_and_the_balance_stays_exact(tmp_path: Path) -> None:
    story = Story()
    for day in (0, 1, 5):
        story.page("anna", day * 1440)
    send(tmp_path, story.events)
    with Loader(tmp_path, clock=lambda: START) as loader:
        said = expire(tmp_path, until_us=START + 6 * DAY, days=4, loader=loader)
    assert said == "2 events and 0 dead letters older than 4 days were deleted"
    assert [(row.received, row.stored, row.compacted, row.exact) for row in balance(tmp_path)] == [(3, 1, 2, True)]


def test_dead_letters_go_with_the_events_they_arrived_with(tmp_path: Path) -> None:
    bad = {"kind": "click", "arm": "als", "body": {"slot": "s"}}
    for day in (0, 1, 5):
        send(tmp_path, [replace(view(day), **bad)], at=START + day * DAY)
    with Loader(tmp_path, clock=lambda: START) as loader:
        said = expire(tmp_path, until_us=START + 6 * DAY, days=4, loader=loader)
        again = expire(tmp_path, until_us=START + 6 * DAY, days=4, loader=loader)
    assert said.endswith("and 2 dead letters older than 4 days were deleted")
    assert again.endswith("and 0 dead letters older than 4 days were deleted")
    assert [(letter.reason, letter.n, letter.last_us) for letter in dead_letters(tmp_path)] == [("click: bad article", 1, START + 5 * DAY)]
    (clicks,) = [row for row in balance(tmp_path) if row.kind == "click"]
    assert (clicks.arm, clicks.received, clicks.dead, clicks.compacted, clicks.exact) == ("als", 3, 1, 2, True)


@pytest.mark.parametrize("sealed", [False, True])
def test_what_came_exactly_so_long_ago_is_kept_another_day_and_a_microsecond_before_goes(tmp_path: Path, sealed: bool) -> None:
    bad = {"kind": "click", "body": {"slot": "s"}}
    for day, past in ((0, 0), (1, 1)):
        at = START + 2 * DAY - past
        send(tmp_path, [replace(view(day * 86_400_000), received_at=at)])
        send(tmp_path, [replace(view(day), **bad)], at=at)
    with Loader(tmp_path, clock=lambda: START) as loader:
        if sealed:
            seal(tmp_path, until_us=START + 5 * DAY, loader=loader)
        said = expire(tmp_path, until_us=START + 6 * DAY, days=4, loader=loader)
    assert said == "1 events and 1 dead letter older than 4 days were deleted"
    assert [(row.kind, row.stored, row.dead, row.compacted, row.exact) for row in balance(tmp_path)] == [
        ("click", 0, 1, 1, True),
        ("view", 1, 0, 1, True),
    ]
