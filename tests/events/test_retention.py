from __future__ import annotations

from pathlib import Path

import pytest

from experiments.events.loader import Loader
from experiments.events.retention import expire
from experiments.events.store import balance
from tests.events.story import DAY, START, Story, send

pytestmark = pytest.mark.usefixtures("either_engine")


def test_events_past_their_time_go_and_the_balance_stays_exact(tmp_path: Path) -> None:
    story = Story()
    for day in (0, 1, 5):
        story.page("anna", day * 1440)
    send(tmp_path, story.events)
    with Loader(tmp_path, clock=lambda: START) as loader:
        said = expire(tmp_path, until_us=START + 6 * DAY, days=4, loader=loader)
    assert said == "2 events older than 4 days were deleted"
    assert [(row.received, row.stored, row.compacted, row.exact) for row in balance(tmp_path)] == [(3, 1, 2, True)]
