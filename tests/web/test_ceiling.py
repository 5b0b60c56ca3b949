"""The ceiling of a reader's total is found once and then kept, whatever is paid later."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.experiment import Experiment
from experiments.lifecycle import Step, audit_faults, caps_of, draft, start
from experiments.migrate import migrate
from experiments.tables import control_engine
from tests.analysis.test_metrics_from_events import ARMS, paid
from tests.events.story import Story, send
from tests.web.stored_report import stored
from tests.web.test_daily_looks import BEGAN
from web.reporting import report_path

PLAN = Experiment("related", "Does it pay?", "status_quo", ARMS, window_days=1.0, planned_days=14.0, secondary=("revenue_per_reader",))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    migrate(tmp_path)
    engine, story = control_engine(tmp_path), Story()
    draft(engine, PLAN, Step("test", BEGAN, "draft"))
    start(engine, "related", Step("test", BEGAN, "start"))
    for i in range(80):
        story.exposed(f"r{i:02d}", 10 * i, ARMS[i % 2].name)
        paid(story, f"r{i:02d}", 10 * i + 1, 500 + i)
    send(tmp_path, story.events)
    return tmp_path


def test_the_ceiling_is_kept_from_the_first_result_on(home: Path) -> None:
    engine = control_engine(home)
    assert stored(home, 7.5)["caps"] == caps_of(engine, "related") == {"revenue_per_reader": 579}
    later = Story()
    later.exposed("rich", 8 * 1440, "front")
    paid(later, "rich", 8 * 1440 + 1, 10**7)
    send(home, later.events)
    report_path(home, "related").unlink()
    ended = stored(home, 15.0)
    assert ended["caps"] == {"revenue_per_reader": 579}
    effect = next(effect for effect in ended["effects"] if effect["metric"] == "revenue_per_reader")
    assert effect["beside"]["uncut"]["above"] == {"front": 1, "status_quo": 0}
    assert audit_faults(engine) == []
