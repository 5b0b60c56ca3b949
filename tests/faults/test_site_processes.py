"""The site's own processes: started, reloaded, replaced, orphaned, and told to stop an experiment."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path

import pytest

from experiments.lifecycle import Step, publish_plan, stop
from tests.faults.harness import ROOT, verdict
from tests.faults.site import ARTICLES, Visitor, begin, children, enrolled, serving, wait_until, with_experiment

TWO_CORES = pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs Linux and two cores")
GENTLE_S = 10  # what gunicorn grants connections that are merely kept open


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("preload", [False, True])
def test_d20_a_site_starts_and_keeps_events_with_and_without_preload(home: Path, preload: bool) -> None:
    check_start(home, preload=preload)


@pytest.mark.slow
@pytest.mark.parametrize("preload", [False, True])
def test_d20_twenty_starts_of_twenty_serve(tmp_path: Path, preload: bool) -> None:
    for number in range(20):
        check_start(tmp_path / str(number), preload=preload)


def check_start(home: Path, *, preload: bool) -> None:
    with_experiment(home)
    with serving(home, preload_app=preload) as (master, port):
        visitor = Visitor(port)
        for article in ARTICLES[:8]:
            visitor.read(article)
        check_that_children_end_with_their_master(master, port)
    found = verdict(home, visitor.acknowledged)
    assert (found.lost, found.duplicates, found.exact, visitor.failed + visitor.errors) == (0, 0, True, 0)
    assert len(visitor.acknowledged) == 24


def check_that_children_end_with_their_master(master: subprocess.Popen[bytes], port: int) -> None:
    """Also while a browser keeps its connection open, which alone would hold the port for ten seconds."""
    kept = HTTPConnection("127.0.0.1", port)
    kept.request("GET", "/-/live", headers={"Connection": "keep-alive"})
    kept.getresponse().read()
    assert wait_until(lambda: len(children(master.pid)) == 2)  # gunicorn begins the second up to 100 ms after the first
    master.kill()
    assert wait_until(lambda: port_is_free(port), seconds=GENTLE_S / 2)
    kept.close()


@TWO_CORES
def test_as_many_processes_as_cores_keep_to_one_each_and_so_does_one_that_takes_the_place_of_another(home: Path) -> None:
    cores = sorted(os.sched_getaffinity(0))
    with serving(settled(home), workers=len(cores)) as (master, _):
        assert wait_until(lambda: kept_to(master) == [{core} for core in cores])
        os.kill(killed := children(master.pid)[0], signal.SIGKILL)
        assert wait_until(lambda: killed not in children(master.pid))
        assert wait_until(lambda: kept_to(master) == [{core} for core in cores])


@TWO_CORES
def test_fewer_processes_than_cores_may_use_all_of_them(home: Path) -> None:
    with serving(settled(home), workers=1) as (master, _):
        assert kept_to(master) == [os.sched_getaffinity(0)]


def settled(home: Path) -> Path:
    with_experiment(home)
    return home


def kept_to(master: subprocess.Popen[bytes]) -> list[set[int]]:
    """The cores that each web process may use, the lowest first."""
    return sorted((os.sched_getaffinity(pid) for pid in children(master.pid)), key=min)


@pytest.mark.long
def test_d21_reloading_replacing_and_ending_fail_no_reader_and_lose_nothing(home: Path) -> None:
    check_reloads(home, pages=50, each=50, most=30)


@pytest.mark.slow
def test_d21_under_many_reloads(home: Path) -> None:
    check_reloads(home, pages=3_000, each=100, most=50)


def check_reloads(home: Path, *, pages: int, each: int, most: int) -> None:
    with_experiment(home)
    with serving(home, max_requests=most) as (master, port):
        visitors = [Visitor(port) for _ in range(3)]
        before = set(children(master.pid))
        for visitor in visitors:
            visitor.start()
        for n in range(pages // each):
            assert wait_until(lambda n=n: sum(v.pages for v in visitors) > each * n, seconds=120)  # type: ignore[misc]
            master.send_signal(signal.SIGHUP)
        assert wait_until(lambda: sum(v.pages for v in visitors) > pages, seconds=120)
        assert before.isdisjoint(children(master.pid))
        for visitor in visitors:
            visitor.over.set()  # what fails from here on fails because the site ends
        master.send_signal(signal.SIGTERM)
        for visitor in visitors:
            visitor.join(timeout=60)
        master.wait(timeout=60)
    assert [(visitor.failed, visitor.errors) for visitor in visitors] == [(0, 0)] * 3
    found = verdict(home, [one for visitor in visitors for one in visitor.acknowledged])
    assert (found.lost, found.exact, found.integrity) == (0, True, "ok")


@pytest.mark.long
def test_a_stop_reaches_every_process_also_one_that_nobody_has_asked_yet(home: Path) -> None:
    engine = with_experiment(home)
    with serving(home) as (_, port):
        stop(engine, "related", Step("test", datetime.now(UTC), "a test"))
        publish_plan(home, engine, at=datetime.now(UTC))
        time.sleep(1)
        assert not [article for article in ARTICLES[:12] if 'class="slot"' in Visitor(port).read(article)]
        begin(home, engine, "another")
        check_the_command(home, enrolled(port))


def check_the_command(home: Path, visitor: Visitor) -> None:
    visitor.start()
    command = [sys.executable, "-m", "web", "experiment", "stop", "another", "--home", str(home), "--reason", "a test"]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    published_s = (home / "plan" / "current.json").stat().st_mtime
    seen = visitor.pages
    assert wait_until(lambda: visitor.pages > seen + 40)
    visitor.over.set()
    visitor.join(timeout=60)
    assert visitor.last_slot_s < published_s + 5
    assert 'class="slot"' not in visitor.read(ARTICLES[0])
