"""How long a fault may be felt, as EVENTS section 12 says it; bounds are generous where a busy machine decides."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from analysis.checks import split_p_value
from experiments.clock import FileClock, to_us
from experiments.migrate import migrate
from experiments.tables import control_engine
from tests.faults.harness import ROOT, injected, strace
from tests.faults.site import wait_until
from tests.faults.test_arms_and_plans import Broken
from tests.faults.test_disk_full import Reading, wait_for
from tests.web.site_fixture import PHONE, Stand
from web.demo.newspaper import build_newspaper
from web.jobs import HOUR, job_named, last_runs
from web.worker import Worker

pytestmark = pytest.mark.slow
SLACK = 5.0  # times the figure of an idle machine
READERS = 50_000
TICKS = os.sysconf("SC_CLK_TCK")
NOW = datetime(2026, 11, 20, 12, 0, 30, tzinfo=UTC)


@pytest.mark.skipif(bool(strace()), reason=strace() or "available")
def test_d05_a_site_keeps_events_again_soon_after_there_is_room(home: Path) -> None:
    reading = Reading(Stand(home))
    reading.open()
    with injected("pwrite64:error=ENOSPC", process=os.getpid()):
        assert wait_for(lambda: reading.tell().status_code == 503)
    begun = time.monotonic()
    assert wait_for(lambda: reading.tell().status_code == 202)
    took = time.monotonic() - begun
    reading.stand.site.close()
    assert took < 2 * SLACK


def used(process: int) -> tuple[float, float]:
    """Seconds of CPU (without children) and resident MB of a process."""
    words = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS, int(words[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def worker_of(home: Path) -> Iterator[int]:
    environment = {**os.environ, "PRESSLAB_PROFILE": "demo", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "web", "worker", "--home", str(home)], env=environment)
    yield process.pid
    process.terminate()
    assert process.wait(30) == 0


def test_d16_a_clock_that_jumps_costs_a_worker_one_catch_up_and_then_nothing(home: Path) -> None:
    migrate(home)
    build_newspaper(home, NOW)
    clock, engine = FileClock(home / "clock"), control_engine(home)
    clock.set(to_us(NOW))

    def signals() -> list[str]:
        return [row.state for row in last_runs(engine, each=1_000).get("signals", [])]

    with worker_of(home) as worker:
        assert wait_until(lambda: signals() == ["done"])
        time.sleep(5)
        before_mb = used(worker)[1]
        for number, jump in enumerate((timedelta(hours=-2), timedelta(days=1), timedelta(days=200 * 365), timedelta(0))):
            clock.set(to_us(NOW + jump))
            time.sleep(5)
            cpu_s, begun = used(worker)[0], time.monotonic()
            time.sleep(5)
            assert (used(worker)[0] - cpu_s) / (time.monotonic() - begun) < 0.5
            assert len(signals()) <= 2 + number
        assert used(worker)[1] - before_mb < 20
    engine.dispose()


@pytest.mark.parametrize(("trouble", "longest_s"), [("dies", 60), ("hangs", 1), ("grows", 60)])
def test_d17_a_trainer_in_trouble_is_on_the_page_soon(home: Path, trouble: str, longest_s: int) -> None:
    stand = Stand(home)
    client, worker = stand.reader_in("front"), Worker(stand.site.settings)
    job = replace(job_named(worker.jobs, "als"), every_s=HOUR, command=("tests.faults.job_that", trouble), most_mb=300, longest_s=longest_s)
    begun = time.monotonic()
    worker.run_due(job)
    assert "failed" in client.get("/console/en/jobs", headers=PHONE).text
    took = time.monotonic() - begun
    worker.close()
    stand.site.close()
    assert took < 10 * SLACK


@pytest.mark.parametrize("hangs", [False, True], ids=["raises", "hangs"])
def test_d19_pages_of_a_broken_arm_are_in_time_and_the_split_of_50_000_readers_stays_as_planned(home: Path, hangs: bool) -> None:
    stand, arm = Stand(home, deadline_ms=30), Broken("front", hangs=hangs)
    stand.site.published = replace(stand.site.published, arms={**stand.site.published.arms, "front": arm})  # type: ignore[dict-item]
    took, now_s = [], stand.clock() // 1_000_000
    for reader in range(READERS):
        client = stand.client()
        client.set_cookie("pl_id", stand.site.tokens.sign("id", f"{reader:032x}.{now_s}.l"))
        begun = time.monotonic()
        assert client.get(f"/en/article/{stand.article}", headers=PHONE).status_code == 200
        took.append(time.monotonic() - begun)
    arm.let_go.set()
    stand.site.close()
    exposed = [(event["arm"], event["body"]["outcome"]) for event in stand.events() if event["kind"] == "exposure"]
    assert len(exposed) == READERS
    assert {outcome for name, outcome in exposed if name == "front"} == {"fallback"}
    assert split_p_value(Counter(name for name, _ in exposed), {one.name: 1 / 3 for one in stand.plan.arms}) > 1e-3
    assert sorted(took)[int(0.99 * len(took))] < 0.120 * SLACK
