"""A process says what it serves, and nothing after it has been closed."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.web.site_fixture import Stand, until
from web.confirmed import Serving, confirmed

PLAN = {"plan": "one", "bundles": {}, "withdrawn": 0}


def test_closing_waits_for_what_is_just_being_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the words go into whichever file has the number of the closed one by then."""
    serving, real, begun, closed = Serving(tmp_path), os.pwrite, threading.Event(), threading.Event()
    serving.tell("one", {})
    failures: list[OSError] = []

    def slow(descriptor: int, content: bytes, offset: int) -> int:
        begun.set()
        closed.wait(0.3)
        return real(descriptor, content, offset)

    def telling() -> None:
        try:
            serving.tell("another", {})
        except OSError as error:
            failures.append(error)

    monkeypatch.setattr("web.confirmed.os.pwrite", slow)
    thread = threading.Thread(target=telling)
    thread.start()
    begun.wait(5)
    serving.close()
    closed.set()
    thread.join(5)
    assert not failures
    assert not list((tmp_path / "serving").iterdir())


def test_what_could_not_be_told_is_told_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serving = Serving(tmp_path)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("web.confirmed.os.pwrite", full)
        with pytest.raises(OSError, match="No space"):
            serving.tell("one", {})
    assert not list((tmp_path / "serving").iterdir())
    serving.tell("one", {})
    assert confirmed(tmp_path, lambda told: told == PLAN).confirmed == 1
    serving.close()


def test_a_process_that_cannot_say_what_it_serves_still_takes_over_what_is_published(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    (tmp_path / "serving").write_text("a file where a folder belongs")
    stand.site.watch(0.01)
    until(lambda: "published" in stand.site.published.faults)
    (tmp_path / "serving").unlink()
    until(lambda: "published" not in stand.site.published.faults)
    assert confirmed(tmp_path, lambda told: told["plan"] == stand.site.published.plan).confirmed == 1
